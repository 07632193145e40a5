"""Train the denoiser and the EPK projection on virtual trials: Algorithm 1 of ECG-WM, weighted to keep the spread.

The codec is frozen and every strip is encoded once. A batch hides things on purpose: covariates, measurements, leads
and the anchor are each unknown now and then, so that the model can do without them. Rollouts feed the model its own
latents; a little noise on the pre-dose latent prepares it for that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ecg_gym
from ecg_gym.core import INDEPENDENT_LEADS
from ecg_gym.datasets.trials import (
    TrialDesign,
    Trials,
    chains,
    concatenate,
    make_shards,
    read_trials,
    skipping,
    split_of,
)
from ecg_gym.world_model import checkpoint
from ecg_gym.world_model.anchor import ProjectionConfig, alignment_loss
from ecg_gym.world_model.conditioning import EPK_STRENGTH, FeatureScale
from ecg_gym.world_model.denoiser import DenoiserConfig
from ecg_gym.world_model.diffusion import add_noise, prior_weight, world_model_loss
from ecg_gym.world_model.forecaster import Forecaster, Known
from ecg_gym.world_model.model import WEIGHTS, WorldModel, save
from ecg_gym.world_model.vae import VAE
from training import loop
from training.loop import Batch, Logs, LoopConfig

LICENCE = "made by this package (Apache-2.0)"


@dataclass(frozen=True)
class Objective:
    """Eq. 30 and who listens to it."""

    c: float = 0.25  # weight of the physiological prior (the paper's lambda_EPK)
    weighting: str = "early"  # omega over tau; "paper" is Eq. 28 and collapses the samples
    joint_projection: bool = False  # True lets the diffusion loss train the projection too, as in the paper


@dataclass(frozen=True)
class Hiding:
    """How often something known is hidden from a row of a batch."""

    anchor: float = 0.15  # the anchor is off
    weak_anchor: float = 0.2  # the anchor has a strength between 0 and 1
    person: float = 0.15  # all covariates at once
    covariate: float = 0.1  # each covariate
    measurement: float = 0.05  # each measured interval
    leads: float = 0.1  # the pre-dose strip lacks some leads
    latent_noise: float = 0.1  # largest standard deviation of noise on the pre-dose latent


@dataclass(frozen=True)
class WorldModelPreset:
    """One way of training the world model."""

    width: int = 192
    blocks: int = 8
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    prediction: str = "v"  # of the layers inside; the denoiser returns z0hat
    objective: Objective = field(default_factory=Objective)
    hiding: Hiding = field(default_factory=Hiding)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 64
    shards: int = 140  # of virtual trials, `design.patients * design.steps` transitions each
    design: TrialDesign = field(default_factory=TrialDesign)


PRESETS = {
    "tiny": WorldModelPreset(  # a minute, most of it for the patients: proves that everything runs, learns little
        width=32,
        blocks=2,
        projection=ProjectionConfig(width=8, blocks=1),
        loop=LoopConfig(steps=30, warmup=5, ema_decay=0.9, save_every=15),
        batch=16,
        shards=10,
        design=TrialDesign(patients=4, steps=2),
    ),
    "default": WorldModelPreset(  # about 30 minutes on two quiet cores with bf16
        loop=LoopConfig(steps=8400, warmup=200, learning_rate=1e-3, ema_decay=0.999, bf16=True, save_every=200),
    ),
    "continued": WorldModelPreset(  # from other weights (--start), on new trials; 25 minutes on two quiet cores
        loop=LoopConfig(steps=12_600, warmup=200, learning_rate=7e-4, ema_decay=0.999, bf16=True, save_every=200),
    ),
    "paper": WorldModelPreset(  # its optimiser, epochs and weighting; its backbone and sizes are not published
        projection=ProjectionConfig(kernel=1, blocks=0),
        prediction="sample",
        objective=Objective(weighting="paper", joint_projection=True),
        hiding=Hiding(0, 0, 0, 0, 0, 0, 0),
        loop=LoopConfig(steps=80_000, learning_rate=5e-4, warmup=0, final_fraction=0.0, device="cuda"),
        batch=64,
    ),
}


@dataclass(frozen=True)
class LatentTrials:
    """Transitions as the codec sees them."""

    trials: Trials
    before: np.ndarray  # (N, 4, 128) float32
    after: np.ndarray  # (N, 4, 128) float32
    masked: np.ndarray  # (N, 4, 128) float32: `before` again, from a strip that lacks the `missing` leads
    missing: np.ndarray  # (N, 8) bool

    def __len__(self) -> int:
        return len(self.trials)


class WorldModelTrainer(nn.Module):
    """The forecaster with its objective: what ``training.loop`` trains."""

    def __init__(self, forecaster: Forecaster, objective: Objective) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.objective = objective

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 30 at a random ``tau`` per row, plus the projection's own loss; and their parts."""
        known, z0 = _known(batch), batch["after"]
        schedule, told = self.forecaster.schedule, self.objective
        tau = torch.randint(1, schedule.n + 1, (len(z0),), generator=rng, device=z0.device)
        noise = torch.randn(z0.shape, generator=rng, device=z0.device)
        anchor = self.forecaster.projection(known.trace, batch["has_trace"])
        heard = anchor if told.joint_projection else anchor.detach()
        active = known.strength > 0
        z0hat = self.forecaster.estimator(known, heard * active[:, None, None])(
            add_noise(z0, noise, tau, schedule), tau
        )
        weight = prior_weight(tau, schedule, told.weighting).to(z0.device) * active
        diffusion, parts = world_model_loss(z0, z0hat, heard, weight, told.c)
        alignment = alignment_loss(anchor, z0, batch["has_trace"])
        return diffusion + alignment, {**parts, "diffusion": diffusion, "alignment": alignment}


def draw_batch(rng: np.random.Generator, data: LatentTrials, features: FeatureScale, preset: WorldModelPreset) -> Batch:
    """A batch of transitions with something hidden here and there."""
    rows = rng.integers(len(data), size=preset.batch)
    hiding, names = preset.hiding, data.trials.feature_names
    raw = data.trials.features[rows].copy()
    has_trace = raw[:, names.index(EPK_STRENGTH)] > 0
    strength = np.where(rng.random(len(rows)) < hiding.weak_anchor, rng.random(len(rows)), 1.0)
    strength = np.where(rng.random(len(rows)) < hiding.anchor, 0.0, strength) * has_trace
    raw[:, names.index(EPK_STRENGTH)] = strength
    _hide_facts(rng, raw, names, hiding)
    lacks = rng.random(len(rows)) < hiding.leads
    raw[:, [names.index(f"missing.{lead}") for lead in INDEPENDENT_LEADS]] = data.missing[rows] & lacks[:, None]
    before = np.where(lacks[:, None, None], data.masked[rows], data.before[rows])
    amount = rng.uniform(0, hiding.latent_noise, size=(len(rows), 1, 1))
    columns = {
        "before": before + amount * rng.standard_normal(before.shape),
        "after": data.after[rows],
        "condition": features(raw, names),
        "trace": data.trials.trace[rows],
        "strength": strength,
    }
    batch = {name: torch.from_numpy(np.asarray(column, dtype=np.float32)) for name, column in columns.items()}
    return batch | {"has_trace": torch.from_numpy(has_trace)}


def _hide_facts(rng: np.random.Generator, raw: np.ndarray, names: tuple[str, ...], hiding: Hiding) -> None:
    """Makes covariates and measurements of some rows unknown, in place, each together with its flag."""
    nobody = rng.random(len(raw)) < hiding.person
    for flag, name in enumerate(names):
        if not name.startswith("known."):
            continue
        fact = name.removeprefix("known.")
        person = fact.startswith("person.")
        fact = {"person.sex": "person.female"}.get(fact, fact if person else f"measured.{fact}")
        hidden = rng.random(len(raw)) < (hiding.covariate if person else hiding.measurement)
        hidden |= nobody & person
        raw[hidden, names.index(fact)] = np.nan
        raw[hidden, flag] = 0.0


def encode_trials(vae: VAE, trials: Trials, seed: int = 0, chunk: int = 128) -> LatentTrials:
    """Every strip through the frozen codec, the one before also with one to four of its leads missing."""
    rng = np.random.default_rng(seed)
    order = rng.random((len(trials), len(INDEPENDENT_LEADS))).argsort(axis=1)
    missing = order < rng.integers(1, 5, size=(len(trials), 1))
    everything = np.zeros_like(missing)
    before, after = (_encode(vae, strips, everything, chunk) for strips in (trials.before, trials.after))
    return LatentTrials(trials, before, after, _encode(vae, trials.before, missing, chunk), missing)


@torch.inference_mode()
def _encode(vae: VAE, strips: np.ndarray, missing: np.ndarray, chunk: int) -> np.ndarray:
    parts = [
        vae.encode(
            torch.from_numpy(strips[start : start + chunk].astype(np.float32)),
            torch.from_numpy(~missing[start : start + chunk]),
        ).numpy()
        for start in range(0, len(strips), chunk)
    ]
    return np.concatenate(parts).astype(np.float32)


def with_skips(data: LatentTrials) -> LatentTrials:
    """The transitions, and every run of consecutive ones told as one."""
    first, last = chains(data.trials)
    if not len(first):
        return data
    return LatentTrials(
        concatenate([data.trials, skipping(data.trials, first, last)]),
        np.concatenate([data.before, data.before[first]]),
        np.concatenate([data.after, data.after[last]]),
        np.concatenate([data.masked, data.masked[first]]),
        np.concatenate([data.missing, data.missing[first]]),
    )


def new_forecaster(preset: WorldModelPreset, data: LatentTrials) -> Forecaster:
    """An untrained forecaster whose features are scaled to the training data."""
    names = data.trials.feature_names
    features = FeatureScale.fit(names, data.trials.features)
    denoiser = DenoiserConfig(
        len(features.names), width=preset.width, blocks=preset.blocks, prediction=preset.prediction
    )
    torch.manual_seed(preset.loop.seed)  # only for the first weights; all later randomness is per step
    return Forecaster(denoiser, preset.projection, features)


def train(
    preset: WorldModelPreset, data: LatentTrials, folder: Path, show: bool = True, start: Path | None = None
) -> Iterator[tuple[int, Logs, Forecaster]]:
    """Yields ``(step, logs, averaged forecaster)``; resumes from ``folder`` if a run of this preset stopped there.

    ``start`` is a folder or file of weights to begin with instead of random ones; sizes and features are then theirs.
    """
    forecaster = new_forecaster(preset, data) if start is None else WorldModel.load(start).forecaster
    trainer = WorldModelTrainer(forecaster.requires_grad_(True).train(), preset.objective)
    features = trainer.forecaster.features
    state = loop.resume(trainer, preset.loop, folder)
    steps = loop.train(state, lambda rng: draw_batch(rng, data, features, preset), folder)
    averaged: Forecaster = state.ema.forecaster  # type: ignore[assignment]
    for step, logs in loop.report(steps, preset.loop, "world-model", folder) if show else steps:
        yield step, logs, averaged


@torch.inference_mode()
def validate(forecaster: Forecaster, data: LatentTrials, rows: int = 512, seed: int = 0) -> dict[str, float]:
    """Mean squared latent errors on held-out patients: of the estimate at random noise, and of what it must beat.

    ``copy`` repeats the pre-dose latent, ``zero`` is the mean latent, ``anchor`` the EPK alone. A sample's error is not
    here: beat timing is random, and two true strips of one heart differ as much (see ``training.studies.forecast``).
    """
    take = np.linspace(0, len(data) - 1, min(rows, len(data))).astype(int)
    trials = data.trials[take]
    strength = torch.from_numpy((trials.features[:, trials.feature_names.index(EPK_STRENGTH)] > 0).astype(np.float32))
    condition = torch.from_numpy(forecaster.features(trials.features, trials.feature_names))
    before, z0 = torch.from_numpy(data.before[take]), torch.from_numpy(data.after[take])
    known = Known(before, condition, torch.from_numpy(trials.trace.astype(np.float32)), strength)
    rng = torch.Generator().manual_seed(seed)
    schedule = forecaster.schedule
    tau = torch.randint(1, schedule.n + 1, (len(take),), generator=rng)
    noise = torch.randn(z0.shape, generator=rng)
    z0hat = forecaster.estimator(known)(add_noise(z0, noise, tau, schedule), tau)
    nothing = torch.full_like(tau, schedule.n)
    mean = forecaster.estimator(known)(noise, nothing)
    anchor = forecaster.anchor(known)
    errors = {
        "estimate": z0hat - z0,
        "conditional_mean": mean - z0,
        "copy": before - z0,
        "zero": z0,
        "anchor": (anchor - z0)[strength > 0],
    }
    return {name: float(error.square().mean()) for name, error in errors.items() if error.numel()}


def make_trials(preset: WorldModelPreset, folder: Path) -> None:
    """Make the preset's shards of virtual trials that are not in ``folder`` yet (about 0.05 s a transition)."""
    for _ in make_shards(folder, range(preset.shards), preset.design):
        pass


def run(
    preset: WorldModelPreset, trials: Path, folder: Path, *,
    vae: Path | None = None, publish: Path | None = None, publish_every_s: float = 300.0, show: bool = True,
    start: Path | None = None,
) -> Path:  # fmt: skip
    """Train (or go on training) in ``folder`` and write ``world_model.safetensors``; returns its path.

    ``trials`` is a folder of shards; those of the preset that are missing are made first. With ``publish`` the averaged
    weights so far are also written there every few minutes (and entered into the manifest, if it is the package's
    assets), so that the best so far can be used. ``start``: see ``train``.
    """
    codec = vae or checkpoint.ASSETS / "vae.safetensors"
    make_trials(preset, trials)
    network = VAE.load(codec)
    data = {split: cached_latents(network, codec, trials, split, folder) for split in ("train", "validation")}
    last = time.monotonic()
    path = folder / WEIGHTS
    data["train"] = with_skips(data["train"])
    origin = {} if start is None else {"started_from": checkpoint.sha256(start / WEIGHTS if start.is_dir() else start)}
    for step, logs, averaged in train(preset, data["train"], folder, show, start):
        finished = step == preset.loop.steps
        if finished or time.monotonic() - last > publish_every_s:
            last = time.monotonic()
            metrics = {"step": step, "train": logs, "validation": validate(averaged, data["validation"])}
            _write(path, averaged, codec, preset, data, metrics, origin)
            if publish is not None:
                _write(publish, averaged, codec, preset, data, metrics, origin)
                if publish.parent.samefile(checkpoint.ASSETS):
                    checkpoint.add_to_manifest(publish)
            print(f"step {step}: {metrics['validation']}", flush=True)
    return path


def cached_latents(vae: VAE, codec: Path, trials: Path, split: str, folder: Path) -> LatentTrials:
    """The encoded trials of a split, kept in ``folder`` under the codec's hash and the number of transitions."""
    raw = read_trials(trials, split)
    path = folder / f"latents_{split}_{checkpoint.sha256(codec)[:12]}_{len(raw)}.npz"
    if not path.is_file():
        made = encode_trials(vae, raw)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, before=made.before, after=made.after, masked=made.masked, missing=made.missing)
    with np.load(path, allow_pickle=False) as file:
        return LatentTrials(raw, file["before"], file["after"], file["masked"], file["missing"])


def _write(
    path: Path, forecaster: Forecaster, codec: Path, preset: WorldModelPreset, data: dict[str, LatentTrials],
    metrics: dict[str, Any], origin: dict[str, str],
) -> None:  # fmt: skip
    source = {
        "source": "virtual trials (ecg_gym.datasets.trials)",
        "licence": LICENCE,
        "transitions": {split: len(encoded) for split, encoded in data.items()},
        "shards": {split: sum(split_of(s) == split for s in range(preset.shards)) for split in data},
    }
    save(
        path,
        forecaster,
        checkpoint.sha256(codec),
        data={"sources": [source]},
        metrics=metrics,
        training=asdict(preset),
        revision=loop.git_revision(),
        version=ecg_gym.__version__,
        **origin,
    )


def _known(batch: Batch) -> Known:
    return Known(batch["before"], batch["condition"], batch["trace"], batch["strength"])


def preset_named(name: str, device: str | None = None) -> WorldModelPreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'tiny' takes a minute")
    preset = PRESETS[name]
    return preset if device is None else replace(preset, loop=replace(preset.loop, device=device))
