"""Train inverse dynamics on virtual trials: which drug was given between two strips of one person, and how much.

    run(PRESETS["default"], trials, folder)     # trials: a folder of shards, see ecg_gym.datasets.transitions

Rows are neighbouring strips of one living person between which nothing or one drug was given. What is reported is of
people in the test shards: top-1, 3 and 5 and the mechanism class, beside chance, the most frequent drug, and the drug
whose population effect lies nearest to what was seen. Doses that training does not meet are reported apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.core import WATCH, parse_dose
from ecg_gym.datasets.splits import shard_name
from ecg_gym.datasets.transitions import TrialDesign, Trials, make_shards, read_trials
from ecg_gym.executor import Executor
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.conditioning import EXPOSURE, OBSERVED, FeatureScale
from ecg_gym.world_model.vae import VAE
from planners.proposers.effects import EFFECTS, mahalanobis
from planners.proposers.inverse import (
    KIND,
    InverseConfig,
    InverseNet,
    dose_ratio,
    feature_names,
    pooled_latents,
    raw_features,
)
from training import loop, run_record
from training.loop import Batch, Logs, LoopConfig
from training.revision import git_revision

PACKAGED = "inverse.safetensors"
TOP = (1, 3, 5)


@dataclass(frozen=True)
class InversePreset:
    """One way of training it."""

    model: InverseConfig = field(default_factory=InverseConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 256
    latents: bool = True  # pooled latents of the first strip among the inputs
    shards: int = 200  # of virtual trials; every tenth is for testing
    design: TrialDesign = field(default_factory=lambda: TrialDesign(watch=(0.0, 0.2), pair=0.0))


PRESETS = {
    "tiny": InversePreset(  # seconds: proves that everything runs, learns little
        model=InverseConfig(width=32, layers=1),
        loop=LoopConfig(steps=40, warmup=5, learning_rate=5e-3, ema_decay=0.9, save_every=20),
        batch=32,
        shards=10,
        design=TrialDesign(patients=8, steps=(2,), watch=(0.0, 0.2), pair=0.0),
    ),
    "default": InversePreset(
        loop=LoopConfig(steps=6000, warmup=200, learning_rate=2e-3, ema_decay=0.998, weight_decay=0.03)
    ),
}


@dataclass(frozen=True)
class Pairs:
    """N pairs of strips and what was given between them."""

    raw: np.ndarray  # (N, F)
    label: np.ndarray  # (N,) int64: 0 is watching, then the formulary's drugs
    ratio: np.ndarray  # (N,) log dose over usual dose; 0 for watching
    change: np.ndarray  # (N, len(EFFECTS)) measured change, NaN where not known
    held_out: np.ndarray  # (N,) bool: a dose that training does not meet

    def __len__(self) -> int:
        return len(self.label)


def pairs_of(trials: Trials, codec: VAE | None) -> Pairs:
    """Neighbouring strips of one living person, nothing or one drug given between them."""
    columns = {name: i for i, name in enumerate(trials.columns)}
    observed = trials.observed[:, : len(OBSERVED)]
    if tuple(trials.columns[: len(OBSERVED)]) != OBSERVED or len(columns) < len(OBSERVED) + len(EXPOSURE):
        raise ValueError(
            f"the shards' columns begin with {trials.columns[:3]}; expected {OBSERVED[:3]}; make them with this version"
        )
    neighbours = np.flatnonzero(trials.patient[1:] == trials.patient[:-1])
    keep, labels, ratios = [], [], []
    for row in neighbours:
        words = str(trials.treatment[row + 1])
        doses = [] if words == str(WATCH) else words.split(" + ")
        if len(doses) > 1 or not trials.alive[row + 1]:
            continue
        keep.append(row)
        dose = parse_dose(doses[0]) if doses else None
        labels.append(0 if dose is None else 1 + FORMULARY.names.index(dose.drug))
        ratios.append(0.0 if dose is None else dose_ratio(dose))
    before = np.array(keep, dtype=int)
    places = [OBSERVED.index(name) for name in EFFECTS]
    later = observed[before + 1][:, places].astype(float)
    raw = raw_features(
        observed[before], later, trials.person[before], trials.hours[before + 1] - trials.hours[before],
        pooled_latents(codec, trials.strips[before]),
    )  # fmt: skip
    return Pairs(
        raw, np.array(labels, np.int64), np.array(ratios), later - observed[before][:, places],
        trials.held_out[before + 1],
    )  # fmt: skip


class InverseTrainer(nn.Module):
    """The network with its objective: what ``training.loop`` trains."""

    def __init__(self, network: InverseNet) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the drug and of the dose."""
        return self.network.loss(batch["features"], batch["label"], batch["ratio"])


def network_for(preset: InversePreset, pairs: Pairs, codec_sha256: str, latents: int) -> InverseNet:
    """An untrained network with the scale of its inputs, and the scatter of what each drug does."""
    names = feature_names(latents)
    config = replace(preset.model, features=names, drugs=FORMULARY.names, codec_sha256=codec_sha256)
    torch.manual_seed(preset.loop.seed)  # only for the first weights; all later randomness is per step
    network = InverseNet(config)
    scale = FeatureScale.fit(names, pairs.raw)
    network.offset.copy_(torch.from_numpy(scale.offset))
    network.scale.copy_(torch.from_numpy(scale.scale))
    network.covariance.copy_(torch.from_numpy(scatter(pairs)))
    return network


def scatter(pairs: Pairs) -> np.ndarray:
    """The covariance ``(E, E)`` of measured changes about the mean of their drug; unknown ones are left out."""
    finite = np.isfinite(pairs.change).all(axis=1)
    change, label = pairs.change[finite], pairs.label[finite]
    rest = change - class_means(change, label)[label]
    return np.cov(rest, rowvar=False) + np.eye(len(EFFECTS)) if len(rest) > 2 * len(EFFECTS) else np.eye(len(EFFECTS))


def class_means(change: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The mean change ``(1 + drugs, E)`` under each treatment; that of all where it was never given."""
    n = 1 + len(FORMULARY.names)
    every = change.mean(axis=0) if len(change) else np.zeros(len(EFFECTS))
    return np.stack([change[label == i].mean(axis=0) if (label == i).any() else every for i in range(n)])


def train(
    preset: InversePreset, pairs: dict[str, Pairs], folder: Path, codec_sha256: str, latents: int, show: bool = True
) -> Iterator[tuple[int, Logs]]:
    """Yields ``(step, logs)``; resumes from ``folder``. At the end ``folder/inverse.safetensors`` holds the weights."""
    network = network_for(preset, pairs["train"], codec_sha256, latents)
    learned = pairs["train"]
    tensors = {
        "features": torch.from_numpy(network.scaled(learned.raw)),
        "label": torch.from_numpy(learned.label),
        "ratio": torch.from_numpy(learned.ratio.astype(np.float32)),
    }

    state = run_record.resume(InverseTrainer(network), preset.loop, folder)
    steps = loop.train(state, loop.uniform_rows(tensors, preset.batch), folder)
    yield from loop.report(steps, preset.loop, "inverse dynamics", folder) if show else steps
    trained: InverseNet = state.ema.network.cpu().eval()  # type: ignore[assignment,union-attr]
    checkpoint.save(
        folder / PACKAGED, KIND, trained.state_dict(), trained.config,
        data={"sources": [{"source": "virtual trials", "licence": "made by this package (Apache-2.0)"}],
              "pairs": {name: len(part) for name, part in pairs.items()}},
        metrics=report(trained, pairs["train"], pairs["test"]), half=False, training=asdict(preset),
        revision=git_revision(), version=ecg_gym.__version__,
    )  # fmt: skip


@torch.no_grad()
def report(network: InverseNet, learned: Pairs, test: Pairs) -> dict[str, Any]:
    """Shares of test pairs with a drug whose drug is among the first 1, 3 or 5, with baselines; and the class.

    ``held_out`` is the same of doses that training does not meet. Pairs without a drug are left out: watching is the
    most frequent label and would flatter everybody.
    """
    logits, _ = network(torch.from_numpy(network.scaled(test.raw)))
    ranked = {
        "model": logits[:, 1:].numpy(),
        "majority": np.tile(np.bincount(learned.label, minlength=1 + len(FORMULARY.names))[1:], (len(test), 1)),
        "nearest mean effect": -nearest(learned, test),
    }
    drug = test.label > 0
    result: dict[str, Any] = {"chance": 1 / len(FORMULARY.names)}
    for name, mask in (("all doses", drug), ("held out", drug & test.held_out)):
        rows = {
            who: {f"top {k}": top_share(scores[mask], test.label[mask] - 1, k) for k in TOP}
            | {"class": class_share(scores[mask], test.label[mask] - 1)}
            for who, scores in ranked.items()
        }
        result[name] = {"pairs": int(mask.sum()), **rows}
    return result


def nearest(learned: Pairs, test: Pairs) -> np.ndarray:
    """Distances ``(N, drugs)`` of each test pair's change to the mean change under each drug; unknown ones count 0."""
    finite = np.isfinite(learned.change).all(axis=1)
    means, covariance = class_means(learned.change[finite], learned.label[finite]), scatter(learned)
    change = np.where(np.isfinite(test.change), test.change, 0.0)
    return np.stack([mahalanobis(change, mean, covariance) for mean in means[1:]], axis=1)


def top_share(scores: np.ndarray, label: np.ndarray, k: int) -> float | None:
    """The share of rows whose label is among the ``k`` highest of ``scores (N, D)``; None without rows."""
    if not len(label):
        return None
    better = (scores > np.take_along_axis(scores, label[:, None], axis=1)).sum(axis=1)
    return float((better < k).mean())


def class_share(scores: np.ndarray, label: np.ndarray) -> float | None:
    """The share of rows whose first drug is of the label's class in the formulary; None without rows."""
    classes = np.array(drug_classes())
    return float((classes[scores.argmax(axis=1)] == classes[label]).mean()) if len(label) else None


def drug_classes() -> Sequence[str]:
    """The class of each drug: Vaughan Williams' I to IV, or the formulary's words up to the first comma, semicolon or
    bracket (Vaughan Williams 1984 doi:10.1002/j.1552-4604.1984.tb01822.x).
    """
    kinds = [FORMULARY[name].kind for name in FORMULARY.names]
    return [_class_of(kind) for kind in kinds]


def _class_of(kind: str) -> str:
    match = re.match(r"class (III|II|IV|I)[abc]? ", kind)
    return f"class {match[1]}" if match else re.split(r"[,;(]", kind)[0].strip()


def run(
    preset: InversePreset, trials: Path, folder: Path, codec: Path | None = None, workers: Executor | None = None,
    show: bool = True,
) -> Path:  # fmt: skip
    """Make the preset's shards that are not in ``trials`` yet, train, and return the path of the weights."""
    missing = [shard for shard in range(preset.shards) if not (trials / shard_name(shard)).is_file()]
    for _ in make_shards(trials, missing, preset.design, workers=workers):
        pass
    path = codec or checkpoint.ASSETS / "vae.safetensors"
    vae = VAE.load(codec) if preset.latents else None
    pairs = {split: pairs_of(read_trials(trials, split), vae) for split in ("train", "test")}
    latents = pairs["train"].raw.shape[1] - len(feature_names(0))
    sha256 = checkpoint.sha256(path) if vae is not None else ""
    for _ in train(preset, pairs, folder, sha256, latents, show):
        pass
    return folder / PACKAGED


def preset_named(name: str, device: str | None = None) -> InversePreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'tiny' finishes in seconds")
    preset = PRESETS[name]
    return preset if device is None else replace(preset, loop=replace(preset.loop, device=device))
