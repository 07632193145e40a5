"""Train the proposer on the oracle's rankings: how every item of the menu does in the virtual patient.

    run(PRESETS["default"], folder)         # makes or finds the rankings in folder/rankings, then trains

A shard of rankings is made from its number alone, so that making can be stopped and resumed. The oracle ranks in the
virtual patient itself, with the risk model that plans are made with; the proposer sees the strip and the card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.core import WATCH
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import load_scenarios, scenario_named
from ecg_gym.executor import Executor, completed, executor
from ecg_gym.io import write_npz
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model.conditioning import FeatureScale
from ecg_gym.world_model.vae import VAE
from planners import plan
from planners.proposers.learned import CARD, KIND, RankingConfig, RankingNet, latents_of, raw_card
from training import loop, run_record
from training.loop import Batch, Logs, LoopConfig
from training.revision import git_revision

PACKAGED = "proposer.safetensors"
LICENCE = "made by this package (Apache-2.0)"
TOP = (1, 4, 8)
LAST = 1e9


@dataclass(frozen=True)
class ProposerPreset:
    """One way of training it."""

    model: RankingConfig = field(default_factory=RankingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 128
    states: int = 20_000  # patients whose menu the oracle ranks
    per_shard: int = 50
    items: int = 40  # of the menu, drawn for each patient; 0 is all
    futures: int = 4  # of each item
    temperature: float = 0.02  # of the softmax over scores: items closer than this are equals
    seed: int = 11


PRESETS = {
    "tiny": ProposerPreset(  # a minute: proves that everything runs, learns nothing
        model=RankingConfig(width=16, queries=2, heads=2, layers=1),
        loop=LoopConfig(steps=20, warmup=2, learning_rate=3e-3, ema_decay=0.9, save_every=10),
        batch=4, states=6, per_shard=2, items=4, futures=2,
    ),
    "default": ProposerPreset(  # 4.5 CPU hours of ranking, then twenty minutes
        loop=LoopConfig(steps=4000, warmup=200, learning_rate=1e-3, ema_decay=0.998, weight_decay=0.05)
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Rankings:
    """N patients and what the oracle says of each item of the menu; columns follow ``menu_words``."""

    strips: np.ndarray  # (N, 12, 1024) float16 [mV]
    card: np.ndarray  # (N, len(CARD)) raw, NaN is unknown
    scores: np.ndarray  # (N, items) S, lower is better; NaN where forbidden or not drawn
    watching: np.ndarray  # (N,) S of watching

    def __len__(self) -> int:
        return len(self.scores)


COLUMNS = tuple(f.name for f in fields(Rankings))


def menu_words() -> tuple[str, ...]:
    """The menu as it is written, watching left out."""
    return tuple(str(treatment) for treatment in FORMULARY.menu() if treatment)


def make_rankings(folder: Path, preset: ProposerPreset, workers: Executor | None = None) -> Iterator[Path]:
    """The shards of rankings that are missing in ``folder``, one after the other."""
    shards = range(-(-preset.states // preset.per_shard))
    missing = [shard for shard in shards if not path_of(folder, shard).is_file()]
    for _, path in completed(workers or executor(0), partial(_make_shard, folder, preset), missing):
        yield path


def path_of(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"rankings_{shard:05d}.npz"


def _make_shard(folder: Path, preset: ProposerPreset, shard: int) -> Path:
    rng, rows = np.random.default_rng([preset.seed, shard]), []
    world, risk, names = VirtualPatient(), RiskModel.load(), list(load_scenarios())
    menu = [treatment for treatment in FORMULARY.menu() if treatment]
    place = {treatment: i for i, treatment in enumerate(menu)}
    for _ in range(preset.per_shard):
        state = start(world, scenario_named(names[int(rng.integers(len(names)))]), rng)
        if not state.alive[0]:
            continue
        few = rng.permutation(len(menu))[: preset.items or len(menu)]
        ranking = plan(world, state, [menu[i] for i in few], risk, k=preset.futures, seed=int(rng.integers(2**31)))
        scores = np.full(len(menu), np.nan)
        for row in ranking.candidates:
            if row.treatment != WATCH:
                scores[place[row.treatment]] = row.score
        watching = next(row.score for row in ranking.candidates if row.treatment == WATCH)
        rows.append((state.ecg[0].astype(np.float16), raw_card(state)[0], scores, watching))
    path = path_of(folder, shard)
    write_npz(path, {name: np.array(part) for name, part in zip(COLUMNS, zip(*rows))})
    return path


def read_rankings(folder: Path) -> dict[str, Rankings]:
    """Train and test: every fifth shard is for testing. ValueError where one of the two is empty."""
    parts: dict[str, list[Rankings]] = {"train": [], "test": []}
    for path in sorted(folder.glob("rankings_*.npz")):
        with np.load(path, allow_pickle=False) as file:
            part = Rankings(*(file[name] for name in COLUMNS))
        parts["test" if int(path.stem.split("_")[1]) % 5 == 1 else "train"].append(part)
    if not all(parts.values()):
        raise ValueError(
            f"{folder} holds {sum(map(len, parts.values()))} shards of rankings; expected two or more; "
            "run `ecg-gym train proposer`"
        )
    return {
        split: Rankings(*(np.concatenate([getattr(p, name) for p in some]) for name in COLUMNS))
        for split, some in parts.items()
    }


def target_of(scores: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The distribution ``(N, items)`` that the scores ask for, and which items are known."""
    finite = np.isfinite(scores)
    logits = np.where(finite, -np.where(finite, scores, 0) / temperature, -np.inf)
    highest = np.where(finite.any(1), np.max(np.where(finite, logits, -np.inf), axis=1, initial=-np.inf), 0)
    weights = np.exp(logits - highest[:, None])
    return weights / np.maximum(weights.sum(1, keepdims=True), 1e-30), finite


class ProposerTrainer(nn.Module):
    """The network with its objective: what ``training.loop`` trains."""

    def __init__(self, network: RankingNet) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy to the oracle's soft ranking."""
        return self.network.loss(batch["latent"], batch["card"], batch["target"], batch["known"].bool()), {}


def train(
    preset: ProposerPreset, rankings: Mapping[str, Rankings], codec: VAE, codec_sha256: str, folder: Path,
    show: bool = True,
) -> Iterator[tuple[int, Logs]]:  # fmt: skip
    """Yields ``(step, logs)``; resumes from ``folder``, which at the end holds ``proposer.safetensors``."""
    latents = {split: latents_of(codec, part.strips.astype(np.float32)) for split, part in rankings.items()}
    channels, columns = latents["train"].shape[1:]
    torch.manual_seed(preset.loop.seed)  # only for the first weights; all later randomness is per step
    network = RankingNet(
        replace(
            preset.model, menu=menu_words(), card=CARD, channels=channels, columns=columns, codec_sha256=codec_sha256
        )
    )
    scale = FeatureScale.fit(CARD, rankings["train"].card)
    network.offset.copy_(torch.from_numpy(scale.offset))
    network.scale.copy_(torch.from_numpy(scale.scale))
    target, finite = target_of(rankings["train"].scores, preset.temperature)
    tensors = {
        "latent": torch.from_numpy(latents["train"]),
        "card": torch.from_numpy(network.scaled(rankings["train"].card)),
        "target": torch.from_numpy(target.astype(np.float32)),
        "known": torch.from_numpy(finite.astype(np.float32)),
    }

    state = run_record.resume(ProposerTrainer(network), preset.loop, folder)
    steps = loop.train(state, loop.uniform_rows(tensors, preset.batch), folder)
    yield from loop.report(steps, preset.loop, "proposer", folder) if show else steps
    trained: RankingNet = state.ema.network.cpu().eval()  # type: ignore[assignment,union-attr]
    checkpoint.save(
        folder / PACKAGED, KIND, trained.state_dict(), trained.config,
        data={"sources": [{"source": "rankings in the virtual patient", "licence": LICENCE}],
              "patients": {split: len(part) for split, part in rankings.items()}},
        metrics=report(trained, rankings["train"], rankings["test"], latents["test"]), half=False,
        training=asdict(preset), revision=git_revision(), version=ecg_gym.__version__,
    )  # fmt: skip


@torch.no_grad()
def report(network: RankingNet, learned: Rankings, test: Rankings, latents: np.ndarray) -> dict[str, Any]:
    """Recall of the oracle's best item within the first k, and regret, on test patients; beside chance and the mean
    score of each item in training, the same order for everybody."""
    card = torch.from_numpy(network.scaled(test.card))
    with np.errstate(invalid="ignore"):
        counts = np.isfinite(learned.scores).sum(0)
        means = np.where(counts > 0, np.nansum(learned.scores, 0) / np.maximum(counts, 1), np.inf)
    orders = {
        "model": -network(torch.from_numpy(latents), card).numpy(),
        "same for everybody": np.tile(means, (len(test), 1)),
    }
    return {f"k = {k}": {name: first_k(order, test.scores, k) for name, order in orders.items()} for k in TOP}


def first_k(order: np.ndarray, scores: np.ndarray, k: int) -> dict[str, float | None]:
    """Recall of the best item and mean regret of the best among the ``k`` that ``order (N, items)`` puts first.

    Only items that the oracle has scored take part; lower is better in both arrays.
    """
    has_score = np.isfinite(scores)
    some = has_score.any(axis=1)
    if not some.any():
        return {"recall": None, "regret": None}
    finite = np.nan_to_num(order, posinf=LAST)  # an item that training never met comes last of what is known
    places = np.argsort(np.where(has_score, finite, np.inf)[some], axis=1, kind="stable")[:, :k]
    filled = np.where(has_score, scores, np.inf)[some]
    best, reached = filled.min(axis=1), np.take_along_axis(filled, places, axis=1).min(axis=1)
    return {"recall": float((reached <= best).mean()), "regret": float((reached - best).mean())}


def run(
    preset: ProposerPreset, folder: Path, codec: Path | None = None, workers: Executor | None = None, show: bool = True
) -> Path:
    """Make the rankings that are missing, train, and return the path of the weights in ``folder``."""
    shards = folder / "rankings"
    for _ in make_rankings(shards, preset, workers):
        pass
    path = codec or checkpoint.ASSETS / "vae.safetensors"
    steps = train(preset, read_rankings(shards), VAE.load(codec), checkpoint.sha256(path), folder, show)
    for _ in steps:
        pass
    return folder / PACKAGED


def preset_named(name: str, device: str | None = None) -> ProposerPreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'tiny' finishes in seconds")
    preset = PRESETS[name]
    return preset if device is None else replace(preset, loop=replace(preset.loop, device=device))
