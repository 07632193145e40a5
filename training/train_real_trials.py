"""Fine-tune the world model on real ECGs before and after a drug: first the interval model, then the denoiser.

Few people have been recorded, so both stages keep what did best on the people of the validation side, and what they
began with is among the candidates: on those people the result is never worse than the weights it started from.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.datasets.transitions import Trials, shard_paths
from ecg_gym.real_trials.manifest import Written, read_manifest, row_weights
from ecg_gym.world_model.codecs import Codec, load_codec
from ecg_gym.world_model.conditioning import FeatureScale
from ecg_gym.world_model.forecaster import Forecaster
from ecg_gym.world_model.interval_model import IntervalModel
from ecg_gym.world_model.model import CODEC, WEIGHTS, WorldModel, save
from training import loop, run_record, train_denoiser, train_interval_model
from training.data.pairs import Drawings, drawings_of
from training.data.real_trials import read_side, real_pairs, resample
from training.early_stopping import BestSoFar
from training.loop import LoopConfig
from training.revision import git_revision
from training.train_interval_model import IntervalModelPreset, IntervalModelTrainer, Pairs

INTERVAL_MODEL = "interval_model"  # folder of the first stage
LIMITS = (
    "Fine-tuned on {subjects} people of {sources}; of other drugs and hearts it knows what it knew before.",
    "Research only: nothing it draws may guide the care of a person.",
)
Scores = list[dict[str, float]]


@dataclass(frozen=True)
class RealPreset:
    """One way of fine-tuning."""

    interval_model: IntervalModelPreset
    loop: LoopConfig  # of the denoiser; 0 steps keep it as it is
    batch: int = 32
    looks: int = 20  # how often each stage is tried on the validation side


PRESETS = {
    "tiny": RealPreset(  # seconds: proves that everything runs
        IntervalModelPreset(
            batch=16, loop=LoopConfig(steps=8, warmup=2, learning_rate=1e-4, ema_decay=0.5, save_every=4)
        ),
        LoopConfig(steps=4, warmup=1, learning_rate=1e-4, ema_decay=0.5, save_every=4),
        batch=8,
        looks=2,
    ),
    "default": RealPreset(
        IntervalModelPreset(batch=256, loop=LoopConfig(steps=300, warmup=20, learning_rate=5e-5, ema_decay=0.99)),
        LoopConfig(steps=1500, warmup=100, learning_rate=2e-4, ema_decay=0.999, bf16=True, save_every=200),
        batch=64,
    ),
}


def preset_named(name: str, device: str | None = None) -> RealPreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)} with real trials; 'tiny' takes seconds")
    preset = PRESETS[name]
    if device is None:
        return preset
    inside = preset.interval_model
    return replace(
        preset,
        loop=replace(preset.loop, device=device),
        interval_model=replace(inside, loop=replace(inside.loop, device=device)),
    )


def run(
    preset: RealPreset, trials: Path, folder: Path, *,
    start: Path | None = None, vae: Path | None = None, show: bool = True,
) -> Path:  # fmt: skip
    """Fine-tune the weights at ``start`` (default the package's) and write ``world_model.safetensors`` to ``folder``.

    ``trials`` is a folder of real shards. Returns the path of the weights, beside which lies their codec. ValueError
    when the train or the validation side is empty, or when the weights have no interval model.
    """
    old = WorldModel.load(start)
    codec = vae or _codec_of(start)
    _check_codec(old, codec)
    manifest = read_manifest(trials)
    interval_model, scores = tune_interval_model(old.forecaster, trials, folder / INTERVAL_MODEL, preset, show)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(codec, folder / CODEC)
    tuned = with_interval_model(old.forecaster, interval_model)
    metrics: dict[str, Any] = {"interval_model": scores}
    if preset.loop.steps:
        tuned, metrics["denoiser"] = tune_denoiser(tuned, trials, folder, codec, preset, show)
    path = folder / WEIGHTS
    save(
        path, tuned, checkpoint.sha256(codec),
        data={"sources": sources(manifest)}, metrics=metrics, training=asdict(preset), limits=limits(manifest),
        revision=git_revision(), version=ecg_gym.__version__, started_from=old.sha256,
    )  # fmt: skip
    return path


def tune_interval_model(
    forecaster: Forecaster, trials: Path, folder: Path, preset: RealPreset, show: bool = True
) -> tuple[IntervalModel, Scores]:
    """The interval model that did best on the validation side, and the score of every look (the first: untouched)."""
    train, validation = read_side(trials, "train"), read_side(trials, "validation")
    pairs, weights = real_pairs(*train)
    learned = resample(pairs, weights, np.random.default_rng(preset.interval_model.loop.seed))
    validation_pairs, held_weights = real_pairs(*validation)
    return fit_interval_model(
        forecaster, (train[0], learned), (validation[0], validation_pairs, held_weights), folder, preset, show
    )


def fit_interval_model(
    forecaster: Forecaster, learned: tuple[Trials, Pairs], validation: tuple[Trials, Pairs, np.ndarray],
    folder: Path | None, preset: RealPreset, show: bool = True,
) -> tuple[IntervalModel, Scores]:  # fmt: skip
    """As :func:`tune_interval_model`, from pairs in memory; nothing is written without a ``folder``."""
    if forecaster.prognosis is None or forecaster.outlook is None:
        raise ValueError("these weights have no interval model; expected a world model of preset default; pass others")
    settings, features = preset.interval_model, forecaster.outlook
    model = copy.deepcopy(forecaster.prognosis).requires_grad_(True)
    trainer = IntervalModelTrainer(model, settings.objective)
    state = loop.start(trainer, settings.loop) if folder is None else run_record.resume(trainer, settings.loop, folder)
    averaged: IntervalModel = state.ema.prognosis  # type: ignore[assignment]

    def draw(rng: np.random.Generator) -> loop.Batch:
        return train_interval_model.draw_batch(rng, *learned, averaged, features, settings)

    score = likelihood(forecaster.prognosis, features, *validation)
    best = BestSoFar(folder, "interval_model", forecaster.prognosis, score)
    every = max(1, settings.loop.steps // preset.looks)
    steps = loop.train(state, draw, folder)
    for step, _ in loop.report(steps, settings.loop, "interval model", folder) if show else steps:
        if step % every == 0 or step == settings.loop.steps:
            best.look(step, averaged, likelihood(averaged, features, *validation))
    return best.model.requires_grad_(False).eval(), best.scores


@torch.inference_mode()
def likelihood(
    model: IntervalModel, features: FeatureScale, trials: Trials, pairs: Pairs, weights: np.ndarray
) -> float:
    """Weighted mean negative log-likelihood [nat] of the later strip's intervals and signs, given the earlier one."""
    batch = train_interval_model.batch_of(trials, pairs, features)
    model = copy.deepcopy(model).cpu().eval()
    parts = model.nll(batch["condition"], batch["base"], batch["target"], batch["signs"].long(), batch["survived"])
    each = (parts["intervals"] + parts["signs"]).numpy()
    return float(np.average(each, weights=weights))


def tune_denoiser(
    forecaster: Forecaster, trials: Path, folder: Path, codec: Path, preset: RealPreset, show: bool = True
) -> tuple[Forecaster, Scores]:
    """The forecaster whose denoiser did best on the validation side, and the score of every look."""
    network = load_codec(codec)
    data = {side: drawings(trials, side, network, codec, folder) for side in ("train", "validation")}
    settings = train_denoiser.WorldModelPreset(batch=preset.batch, loop=preset.loop, real=0.0)

    def score(forecaster: Forecaster) -> float:
        return train_denoiser.validate(forecaster, data["validation"])["estimate"]

    best = BestSoFar(folder, "denoiser", forecaster, score(forecaster))
    every = max(1, preset.loop.steps // preset.looks)
    for step, _, averaged in train_denoiser.train_from(forecaster, settings, data["train"], folder, show):
        if step % every == 0 or step == preset.loop.steps:
            best.look(step, averaged, score(averaged))
    return best.model.requires_grad_(False).eval(), best.scores


def drawings(trials: Path, side: str, vae: Codec, codec: Path, folder: Path) -> Drawings:
    """The encoded pairs of a side, kept under ``folder``; as often as their weights say."""
    cache = folder / f"drawings_{checkpoint.sha256(codec)[:12]}"
    data = drawings_of(shard_paths(trials, side), vae, cache, folder / "epk")
    weights = row_weights(*read_side(trials, side))[data.after]
    rows = resample(Pairs(data.before, data.after, data.place), weights, np.random.default_rng(0))
    return replace(data, before=rows.before, after=rows.after, place=rows.baseline)


def sources(manifest: Written) -> list[dict[str, Any]]:
    """The data as a checkpoint names them."""
    rows: list[Mapping[str, Any]] = list(manifest.about.get("sources", [])) or [
        {"source": "real trials", "licence": "unknown"}
    ]
    people = {side: manifest.subjects(side) for side in ("train", "validation", "test")}
    return [{**row, "profile": manifest.about.get("profile", ""), "people": people} for row in rows]


def limits(manifest: Written) -> list[str]:
    """What a card says of the weights."""
    names = ", ".join(str(row["source"]) for row in sources(manifest))
    notices = [str(notice) for notice in manifest.about.get("notices", [])]
    return [limit.format(subjects=manifest.subjects("train"), sources=names) for limit in LIMITS] + notices


def with_interval_model(forecaster: Forecaster, model: IntervalModel) -> Forecaster:
    """A copy of the forecaster that foretells by another interval model of the same size."""
    tuned = copy.deepcopy(forecaster)
    assert tuned.prognosis is not None
    tuned.prognosis.load_state_dict(model.state_dict())
    return tuned


def _codec_of(start: Path | None) -> Path:
    if start is None:
        return checkpoint.ASSETS / CODEC
    folder = start if start.is_dir() else start.parent
    return folder / CODEC if (folder / CODEC).is_file() else checkpoint.ASSETS / CODEC


def _check_codec(old: WorldModel, codec: Path) -> None:
    if old.metadata.get("vae_sha256") != checkpoint.sha256(codec):
        raise ValueError(
            f"the weights to begin with were trained with the codec {str(old.metadata.get('vae_sha256'))[:12]}...; "
            f"expected {codec}, {checkpoint.sha256(codec)[:12]}...; leave --codec out"
        )
