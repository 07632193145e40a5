"""Train a rival generator on the pairs that our denoiser learns from: one loop for all of them, which resumes.

run(preset_named("wgan", minutes=3), shards, folder)     # shards: see ecg_gym.datasets.transitions
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.io import write_json, write_text
from ecg_gym.world_model.conditioning import FeatureScale
from training import loop, model_card, run_record
from training.loop import Logs
from training.revision import git_revision
from training.rivals.adversary import Rival
from training.rivals.catalogue import BaselinePreset, described, network, words_of
from training.rivals.layers import Shape
from training.rivals.pairs import Pairs, batches, read_pairs, scale_of
from training.rivals.world import KIND, WEIGHTS

LICENCE = "made by this package (Apache-2.0)"


def train(
    preset: BaselinePreset, pairs: Pairs, folder: Path, scale: FeatureScale | None = None, show: bool = True
) -> Iterator[tuple[int, Logs, Rival]]:
    """Yields ``(step, logs, averaged rival)`` of all stages; resumes from ``folder``. Minutes are of this CPU."""
    scale = scale or scale_of(pairs)
    rival = network(preset.name, shape_of(preset, pairs, scale), preset.loop.seed)
    draw = batches(pairs, scale, preset.batch)
    for stage in range(1, rival.stages + 1):
        config = _share(preset.loop, rival.stages)
        place = folder if stage == rival.stages else folder / f"stage{stage}"
        state = run_record.resume(rival.of_stage(stage), config, place)
        state.clock = time.process_time
        averaged: Rival = state.ema  # type: ignore[assignment]
        steps = loop.train(state, draw, place)
        title = f"{preset.name}, stage {stage} of {rival.stages}"
        for step, logs in loop.report(steps, config, title, place) if show else steps:
            yield step, logs, averaged
        rival.load_state_dict(averaged.state_dict())


def shape_of(preset: BaselinePreset, pairs: Pairs, scale: FeatureScale) -> Shape:
    """The sizes of a rival for these pairs."""
    _, channels, columns = pairs.beats.shape
    return Shape(channels, columns, len(scale.names), preset.width, preset.condition)


def run(preset: BaselinePreset, shards: Path, folder: Path, show: bool = True) -> Path:
    """Train (or go on training) in ``folder``, write weights and their card; returns the path of the weights."""
    pairs = read_pairs(shards)
    scale, averaged, logs = scale_of(pairs), None, Logs()
    for _, logs, averaged in train(preset, pairs, folder, scale, show):  # noqa: B007
        pass
    if averaged is None:  # everything was trained before, only the weights were not written
        averaged = finished(preset, pairs, folder, scale)
    path = folder / WEIGHTS
    write(path, preset, averaged, scale, pairs, logs)
    return path


def finished(preset: BaselinePreset, pairs: Pairs, folder: Path, scale: FeatureScale) -> Rival:
    """The averaged rival of a run whose last step was done."""
    rival = network(preset.name, shape_of(preset, pairs, scale), preset.loop.seed)
    state = loop.resume(rival.of_stage(rival.stages), _share(preset.loop, rival.stages), folder)
    return state.ema  # type: ignore[return-value]


def write(path: Path, preset: BaselinePreset, rival: Rival, scale: FeatureScale, pairs: Pairs, logs: Logs) -> None:
    """Weights as safetensors, and beside them the card as JSON and Markdown, which names every deviation."""
    words, updates = words_of(preset.name), len(loop.losses(path.parent))
    features = {"names": list(scale.names), "offset": scale.offset.tolist(), "scale": scale.scale.tolist()}
    config = {**described(preset.name, shape_of(preset, pairs, scale)), "features": features}
    source = {"source": "virtual trials (ecg_gym.datasets.transitions)", "licence": LICENCE, "pairs": len(pairs)}
    budget = {"cpu_minutes": None if preset.loop.seconds is None else preset.loop.seconds / 60, "updates": updates}
    checkpoint.save(
        path, KIND, rival.state_dict(), config, data={"sources": [source]}, metrics={"train": logs}, half=False,
        training={"batch": preset.batch, "learning_rate": preset.loop.learning_rate, **budget},
        limits=list(words.deviations), after=words.source, title=words.title,
        revision=git_revision(), version=ecg_gym.__version__,
    )  # fmt: skip
    write_text(path.with_suffix(".md"), model_card.card(path))
    numbers = sum(weight.numel() for weight in rival.parameters())
    card: dict[str, Any] = {
        "name": preset.name, "title": words.title, "source": words.source, "deviations": list(words.deviations),
        "parameters": numbers, "pairs": len(pairs), **budget, "weights_sha256": checkpoint.sha256(path),
    }  # fmt: skip
    write_json(path.with_suffix(".json"), card)


def _share(config: loop.LoopConfig, stages: int) -> loop.LoopConfig:
    """The budget of one of so many stages."""
    seconds = None if config.seconds is None else config.seconds / stages
    return replace(config, steps=max(1, config.steps // stages), seconds=seconds)
