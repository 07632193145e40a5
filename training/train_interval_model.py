"""Train the first stage of the world model: the distribution of the next intervals, by maximum likelihood.

A row is a person's first strip, the strip before and a later one. Scheduled sampling (Bengio 2015): in a share of the
rows the measurement before is not the true one but one that the model itself drew for that hour, as in a rollout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ecg_gym.columns import once_per_object
from ecg_gym.datasets.transitions import Trials
from ecg_gym.look import log_odds
from ecg_gym.streams import Streams
from ecg_gym.world_model.conditioning import (
    OBSERVED,
    PEOPLE,
    PERSON,
    FeatureScale,
    Look,
    complete,
    feature_names,
    raw_features,
)
from ecg_gym.world_model.interval_model import Chance, Emission, IntervalModel, PrognosisConfig, base_of, target_of
from ecg_gym.world_model.memory import nothing, remembered
from training import loop, run_record
from training.loop import Batch, Logs, LoopConfig


@dataclass(frozen=True)
class Objective:
    """How the likelihood is asked for."""

    own: float = 0.3  # share of rows whose strip before is the model's own draw (scheduled sampling)
    own_from: float = 0.3  # of the training; earlier the model's draws are no use
    deaths: float = 1.0  # weight of the likelihood of dying
    person: float = 0.15  # all covariates unknown
    covariate: float = 0.1  # each covariate unknown
    measurement: float = 0.03  # each measured interval unknown
    open_from: float = 0.9  # of the training; from here on nothing is hidden
    findings: float = 2.0  # weight of the squared errors of the 17 findings
    judgement: float = 20.0  # weight of the squared error of what the risk makes of them


@dataclass(frozen=True)
class IntervalModelPreset:
    """One way of training the prognosis."""

    width: int = 256
    blocks: int = 2
    components: int = 6
    dropout: float = 0.1
    findings: int = 64  # units of the head that says the next findings; 0 has none
    batch: int = 512
    objective: Objective = field(default_factory=Objective)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=4000, warmup=200, learning_rate=1e-3, ema_decay=0.999, weight_decay=0.1, save_every=1000
        )
    )


@dataclass(frozen=True)
class Pairs:
    """Which strip is foretold from which: rows of a ``Trials``."""

    before: np.ndarray  # (N,)
    after: np.ndarray  # (N,)
    baseline: np.ndarray  # (N,)

    def __len__(self) -> int:
        return len(self.before)

    def __getitem__(self, rows: np.ndarray) -> Pairs:
        return Pairs(self.before[rows], self.after[rows], self.baseline[rows])


def pairs_of(trials: Trials, farthest: int = 4) -> Pairs:
    """Every strip and the next ``farthest`` ones of the same person; rows that nothing can be learned from left out.

    A death counts from the strip right before it only.
    """
    before, after = trials.pairs(farthest)
    measurable = np.isfinite(trials.observed[:, OBSERVED.index("hr_bpm")])
    usable = trials.alive[before] & measurable[before] & (measurable[after] | ~trials.alive[after])
    usable &= trials.alive[after] | (after == before + 1)
    baseline = trials.first()[before]
    usable &= measurable[baseline]
    return Pairs(before[usable], after[usable], baseline[usable])


def look(trials: Trials, rows: np.ndarray) -> Look:
    """What there is to know of these strips."""
    return Look(
        *(
            trials.observed[rows],
            trials.exposure[rows],
            trials.hours[rows],
            trials.findings[rows],
            trials.pressure[rows],
        )
    )


@once_per_object
def memories(trials: Trials) -> np.ndarray:
    """What is remembered at each strip of the person's earlier ones ``(S, len(MEMORY))``; worked out once."""
    first = trials.first()
    place, sums = np.arange(len(trials)) - first, nothing(len(trials))
    for step in range(1, int(place.max(initial=0)) + 1):
        rows = np.flatnonzero(place == step)
        sums[rows] = remembered(sums[rows - 1], look(trials, first[rows]), look(trials, rows - 1), look(trials, rows))
    return sums


def raw_of(trials: Trials, pairs: Pairs, before: Look | None = None, memory: np.ndarray | None = None) -> np.ndarray:
    """The raw features ``(N, F)`` of these pairs, columns ``feature_names()``; ``before`` and ``memory`` are the true
    ones unless given.
    """
    return raw_features(
        trials.person[pairs.after],
        look(trials, pairs.baseline),
        before or look(trials, pairs.before),
        memories(trials)[pairs.before] if memory is None else memory,
        trials.exposure[pairs.after],
        trials.hours[pairs.after],
        trials.ended[pairs.after] - trials.ended[pairs.before],
    )


class IntervalModelTrainer(nn.Module):
    """The prognosis with its likelihood: what ``training.loop`` trains."""

    def __init__(self, prognosis: IntervalModel, objective: Objective) -> None:
        super().__init__()
        self.prognosis, self.objective = prognosis, objective

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean negative log-likelihood [nat] and its parts."""
        parts = self.prognosis.nll(
            *(batch["condition"], batch["base"], batch["target"], batch["signs"].long(), batch["survived"]),
            *(batch["was"], batch["findings"], batch["cuff"], batch["next_cuff"]),
        )
        parts = {name: part.mean() for name, part in parts.items()}
        loss = parts["intervals"] + parts["signs"] + self.objective.deaths * parts["death"]
        if "findings" in parts:
            loss = loss + self.objective.findings * parts["findings"] + self.objective.judgement * parts["judgement"]
        return loss + parts.get("pressure", loss.new_zeros(())), parts


def new_prognosis(
    preset: IntervalModelPreset, trials: Trials, pairs: Pairs, start: tuple[IntervalModel, FeatureScale] | None = None
) -> tuple[IntervalModel, FeatureScale]:
    """An untrained prognosis, its features and surprises scaled to the training data; or one that begins as ``start``:
    the same answers, deaf at first to features that ``start`` did not have.
    """
    some = pairs[np.random.default_rng(0).permutation(len(pairs))[:40_000]]
    raw, names = complete(raw_of(trials, some), feature_names())
    features = FeatureScale.fit(names, raw)
    torch.manual_seed(preset.loop.seed)  # only for the first weights; all later randomness is per step
    if start is not None:
        return continued(*start, features, preset)
    prognosis = IntervalModel(
        PrognosisConfig(
            len(features.names),
            preset.width,
            preset.blocks,
            preset.components,
            preset.dropout,
            preset.findings,
            pressure=True,
        )
    )
    target, _ = target_of(trials.observed[some.after])
    base = base_of(raw, names)
    typical = np.nanmedian(target, axis=0)
    surprise = target - np.where(np.isfinite(base), base, typical)
    low, high = np.nanquantile(surprise, [0.16, 0.84], axis=0)
    prognosis.set_scale(typical, (high - low) / 2)
    return prognosis, features


def continued(
    old: IntervalModel, old_features: FeatureScale, features: FeatureScale, preset: IntervalModelPreset
) -> tuple[IntervalModel, FeatureScale]:
    """A prognosis with the features of a new table that answers as ``old`` does; its size is that of ``old``."""
    place = {name: i for i, name in enumerate(old_features.names)}
    offset, scale = features.offset.copy(), features.scale.copy()
    for i, name in enumerate(features.names):
        if name in place:
            offset[i], scale[i] = old_features.offset[place[name]], old_features.scale[place[name]]
    merged = FeatureScale(features.names, offset, scale)
    config = replace(
        old.config,
        n_features=len(features.names),
        dropout=preset.dropout,
        findings=old.config.findings or preset.findings,
        pressure=True,
    )
    new, old_state = IntervalModel(config), old.state_dict()
    column = torch.zeros(config.width, len(features.names))
    for i, name in enumerate(features.names):
        if name in place:
            column[:, i] = old_state["enter.weight"][:, place[name]]
    new.load_state_dict({**new.state_dict(), **old_state, "enter.weight": column})
    return new, merged


def draw_batch(
    rng: np.random.Generator, trials: Trials, pairs: Pairs, prognosis: IntervalModel, features: FeatureScale,
    preset: IntervalModelPreset, own: float = 0.0, hiding: bool = True,
) -> Batch:  # fmt: skip
    """A batch of pairs, something hidden here and there, some seen after a draw of the model's own."""
    rows = pairs[rng.integers(len(pairs), size=preset.batch)]
    before, memory = look(trials, rows.before), memories(trials)[rows.before]
    rolled = np.flatnonzero((rng.random(len(rows)) < own) & (rows.before > rows.baseline))
    if len(rolled):
        step = Pairs(rows.before[rolled] - 1, rows.before[rolled], rows.baseline[rolled])
        forecast = _draw(rng, trials, step, prognosis, features)
        observed, findings, memory = before.observed.copy(), before.findings.copy(), memory.copy()
        observed[rolled], findings[rolled], cuff = forecast.observed, forecast.findings, before.cuff.copy()
        cuff[rolled] = forecast.pressure
        before = Look(observed, before.exposure, before.hours, findings, cuff)
        memory[rolled] = remembered(
            memories(trials)[step.before], look(trials, step.baseline), look(trials, step.before), before[rolled]
        )
    raw = raw_of(trials, rows, before, memory)
    if hiding:
        _hide(rng, raw, preset.objective)
    return _batch(raw, trials, rows, features)


def _draw(
    rng: np.random.Generator, trials: Trials, step: Pairs, prognosis: IntervalModel, features: FeatureScale
) -> Emission:
    raw, names = complete(raw_of(trials, step), feature_names())
    base = torch.from_numpy(base_of(raw, names).astype(np.float32))
    chance = Chance.of(Streams.start(rng.integers(0, 2**64, (len(step), 2), dtype=np.uint64)))
    cuff = raw[:, names.index("expected_from_before.map_mmhg")]
    return prognosis.draw(torch.from_numpy(features(raw, names)), base, chance, trials.findings[step.before], cuff)


def batch_of(trials: Trials, pairs: Pairs, features: FeatureScale) -> Batch:
    """These pairs as the loss takes them, nothing hidden."""
    return _batch(raw_of(trials, pairs), trials, pairs, features)


def _batch(raw: np.ndarray, trials: Trials, pairs: Pairs, features: FeatureScale) -> Batch:
    raw, names = complete(raw, feature_names())
    target, signs = target_of(trials.observed[pairs.after])
    columns = {
        "condition": features(raw, names),
        "base": base_of(raw, names),
        "target": target,
        "signs": signs,
        "survived": trials.alive[pairs.after],
        "was": np.nan_to_num(log_odds(trials.findings[pairs.before])),
        "findings": np.nan_to_num(trials.findings[pairs.after]),
        "cuff": raw[:, names.index("expected_from_before.map_mmhg")],
        "next_cuff": trials.pressure[pairs.after],
    }
    return {name: torch.from_numpy(np.asarray(column, dtype=np.float32)) for name, column in columns.items()}


def _hide(rng: np.random.Generator, raw: np.ndarray, objective: Objective) -> None:
    """Makes covariates and measurements of some rows unknown, in place, each together with its flag."""
    names = feature_names()
    nobody = rng.random(len(raw)) < objective.person
    people = {f"known.{name}" for name in PEOPLE[: len(PERSON) + 1]}
    for flag, name in enumerate(names):
        if not name.startswith("known."):
            continue
        person = name in people
        hidden = rng.random(len(raw)) < (objective.covariate if person else objective.measurement)
        hidden |= nobody & person
        fact = name.removeprefix("known.")
        raw[hidden, names.index(fact if person else f"measured.{fact}")] = np.nan
        raw[hidden, flag] = 0.0


def train(
    preset: IntervalModelPreset,
    trials: Trials,
    folder: Path,
    show: bool = True,
    start: tuple[IntervalModel, FeatureScale] | None = None,
) -> Iterator[tuple[int, Logs, IntervalModel, FeatureScale]]:
    """Yields ``(step, logs, averaged prognosis, its features)``; resumes from ``folder``."""
    pairs = pairs_of(trials)
    prognosis, features = new_prognosis(preset, trials, pairs, start)
    trainer = IntervalModelTrainer(prognosis, preset.objective)
    state = run_record.resume(trainer, preset.loop, folder)
    averaged: IntervalModel = state.ema.prognosis  # type: ignore[assignment]

    def draw(rng: np.random.Generator) -> Batch:
        row, share = preset.objective, state.step / preset.loop.steps
        own = row.own if share >= row.own_from else 0.0
        return draw_batch(rng, trials, pairs, averaged, features, preset, own, hiding=share < row.open_from)

    steps = loop.train(state, draw, folder)
    for step, logs in loop.report(steps, preset.loop, "prognosis", folder) if show else steps:
        yield step, logs, averaged, features


def widen(prognosis: IntervalModel, features: FeatureScale, trials: Trials, steps: int = 60, rows: int = 8000) -> None:
    """Stores by how much components must widen to be right about these people, whom it has not learned from.

    One factor per interval, by maximum likelihood (temperature scaling, Guo 2017 arXiv 1706.04599, for densities): a
    network is a little too sure of what it has seen.
    """
    pairs = pairs_of(trials, farthest=1)
    pairs = pairs[trials.alive[pairs.after]]
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(rows, len(pairs))).astype(int)]
    batch = _batch(raw_of(trials, pairs), trials, pairs, features)
    row = (batch["condition"], batch["base"], batch["target"], batch["signs"].long(), batch["survived"])
    log_widening = torch.zeros_like(prognosis.widening, requires_grad=True)
    optimizer = torch.optim.Adam([log_widening], lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        prognosis.widening = log_widening.exp()
        prognosis.nll(*row)["intervals"].mean().backward()
        optimizer.step()
    prognosis.widening = log_widening.detach().exp()


@torch.inference_mode()
def validate(prognosis: IntervalModel, features: FeatureScale, trials: Trials, rows: int = 20_000) -> dict[str, float]:
    """Mean negative log-likelihood [nat] on held-out patients, by part, steps of one hour apart only."""
    pairs = pairs_of(trials, farthest=1)
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(rows, len(pairs))).astype(int)]
    batch = _batch(raw_of(trials, pairs), trials, pairs, features)
    parts = prognosis.nll(
        *(batch["condition"], batch["base"], batch["target"], batch["signs"].long(), batch["survived"]),
        *(batch["was"], batch["findings"], batch["cuff"], batch["next_cuff"]),
    )
    return {name: float(part.mean()) for name, part in parts.items()}


def finished(
    preset: IntervalModelPreset, trials: Trials, folder: Path, start: tuple[IntervalModel, FeatureScale] | None = None
) -> tuple[IntervalModel, FeatureScale]:
    """The averaged prognosis that a run in ``folder`` has reached, and its features."""
    prognosis, features = new_prognosis(preset, trials, pairs_of(trials), start)
    state = run_record.resume(IntervalModelTrainer(prognosis, preset.objective), preset.loop, folder)
    return state.ema.prognosis, features  # type: ignore[return-value]
