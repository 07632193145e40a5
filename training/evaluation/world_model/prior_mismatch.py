"""What a wrong prior does: the paper's Figure 9, asked of effects instead of spread.

What pharmacology says of the drugs on board is bent before the world hears it: scaled by 0 to 2, reversed, or exchanged
for what it says of another patient's drugs. Electrolytes and the chance that a rhythm ends stay right. The anchor alone
is scaled too (``epk_scale``). Everybody is given one treatment for one step and, with the same noise, nothing; what is
judged is the effect, the difference of the two.

    trust = sum (e(s) - e(1)) (p(s) - p(1)) / sum (p(s) - p(1))^2

is how much of what the prior p says is passed on to the effect e: 1 repeats it, 0 does not listen. The paper calls less
spread better; here the spread is listed beside the error, and the error of the bent prior itself beside both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import Administration, Patient, Randomness, State, Treatment, World
from ecg_gym.datasets.transitions import TrialDesign
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model import average_people, conditioning
from training.evaluation.questions import (
    INTERVALS,
    SHORT,
    Questions,
    fair_crps,
    futures,
    mean_known,
    measure_step,
    seen_by,
    transitions,
)
from training.evaluation.result import Size, document, estimate, mean_of, metric
from training.evaluation.trajectories import Progress
from training.evaluation.world_model.rollout_arms import population_forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=32, samples=8), Size(patients=5, samples=4)
FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, -1.0)  # on what pharmacology says; 1 is right
ANCHORS = (0.0, 0.25, 0.5)  # on the anchor; 1 is as trained
OTHERS = "another's"
SCORED = ("hr_bpm", "pr_ms", "qtcf_ms")

ALL_WORDS = tuple(f.name for f in fields(Modulation))
History = tuple[Administration, ...]
Bend = Callable[[History, Patient, float, Modulation], Modulation]


@contextmanager
def bent_pharmacology(bend: Bend) -> Iterator[None]:
    """Inside, the world model and its ``conditioning`` hear ``bend(history, patient, hours, modulation)`` of all.

    Electrolytes and the chance that a rhythm ends stay as they are. The virtual patient does not listen to
    ``conditioning`` and is not touched. ``WorldModel.believed`` bends exposures without knowing whose they are; here
    the clock's part stays right, and any world that asks ``conditioning`` can be misled.
    """
    original = average_people.follow

    def follow(
        histories: Sequence[History], patients: Sequence[Patient], start: np.ndarray, end: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        exposure, ended = original(histories, patients, start, end)
        there = zip(histories, patients, map(float, end), conditioning.modulations_of(exposure))
        bent_ones = [bend(*row) for row in there]
        words = [[getattr(one, word) for word in ALL_WORDS] for one in bent_ones]
        return np.concatenate([exposure[:, : -len(ALL_WORDS)], np.array(words, np.float32)], axis=1), ended

    average_people.follow = follow  # type: ignore[assignment]
    try:
        yield
    finally:
        average_people.follow = original


def scaled(factor: float) -> Bend:
    """What the doses change, times ``factor``: -1 says the opposite, 0 that they do nothing. The clock stays right."""

    def bend(history: History, patient: Patient, hours: float, now: Modulation) -> Modulation:
        free = _modulation((), patient, hours)
        return move(free, free, now, factor)

    return bend


def exchanged(instead: Mapping[History, History]) -> Bend:
    """What the doses of ``instead[history]`` change in this patient, where there is such an entry."""

    def bend(history: History, patient: Patient, hours: float, now: Modulation) -> Modulation:
        return _modulation(instead.get(history, history), patient, hours)

    return bend


@lru_cache(maxsize=4096)
def _modulation(history: History, patient: Patient, hours: float) -> Modulation:
    from ecg_gym.pharmacology import exposure, modulate

    return modulate(exposure(history, patient, hours), patient, clock_hours=hours)


def move(start: Modulation, free: Modulation, dosed: Modulation, factor: float) -> Modulation:
    """``start`` and ``factor`` times the way from ``free`` to ``dosed``; on a log scale for words that are factors.

    Hazards and blocks do not fall below 0, blocks do not rise above 1.
    """
    words = {}
    for f in fields(Modulation):
        a, b, c = (float(getattr(m, f.name)) for m in (start, free, dosed))
        if getattr(REST, f.name) == 1.0:
            words[f.name] = a * (c / b) ** factor
            continue
        value = a + factor * (c - b)
        if "block" in f.name:
            value = min(1.0, max(0.0, value))
        words[f.name] = max(0.0, value) if f.name.endswith("per_hour") else value
    return Modulation(**words)


@dataclass(frozen=True)
class Misled:
    """A world that is told something else than pharmacology says."""

    world: World
    bend: Bend

    @property
    def dt_hours(self) -> float:
        """Of the world."""
        return float(self.world.dt_hours)

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """Of the world; nobody has been given anything."""
        return self.world.initial(n, rng, **who)

    def observe(self, ecg: Any, patient: Patient, doses: Sequence[Administration] = ()) -> State:
        """Of the world."""
        return self.world.observe(ecg, patient, doses)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """A step of the world under bent pharmacology."""
        with bent_pharmacology(self.bend):
            return self.world.step(state, treatments, rng)


@dataclass(frozen=True)
class PriorResponse:
    """One wrong prior: effects of the treatment over placebo, a row per patient, columns ``INTERVALS``."""

    what: str  # "pharmacology" or "anchor"
    factor: float | str
    effect: np.ndarray  # (N, 6) mean over samples
    prior: np.ndarray  # (N, 6) what the bent prior alone says
    spread: np.ndarray  # (N, 6) SD over the samples of the dosed
    crps: np.ndarray  # (N, 6) of the dosed strips, against what happened


def rows_of(size: Size) -> int:
    """How many rows the study asks of the world, for the progress bar."""
    return (len(FACTORS) + 2 + 2 * len(ANCHORS)) * size.patients * size.samples * len(size.seeds)


def study(
    world: World, size: Size = USUAL, truth: World | None = None, progress: Progress = lambda rows: None
) -> dict[str, Any]:
    """The study's document; ``truth`` is where the patients live, by default the virtual patient.

    A world that does not ask ``world_model.conditioning`` what pharmacology says cannot be misled, and has no trust.
    """
    truth = truth or VirtualPatient(dt_hours=world.dt_hours)
    trials = [_trial(world, truth, size, seed, progress) for seed in size.seeds]
    true = np.concatenate([result for result, _ in trials])
    hidden = [_together([parts[i] for _, parts in trials]) for i in range(len(trials[0][1]))]
    patient = np.arange(len(true))
    return document(
        "prior-mismatch", world, len(true), size.seeds, _metrics(hidden, true, patient), _rows(hidden, true),
        samples=size.samples, dt_hours=float(world.dt_hours), scored=SCORED,
    )  # fmt: skip


def _trial(
    world: World, truth: World, size: Size, seed: int, progress: Progress
) -> tuple[np.ndarray, list[PriorResponse]]:
    """True effects ``(N, 6)``, and what the world makes of them under each prior."""
    design = TrialDesign(dt_hours=(float(world.dt_hours),), watch=(0.0,))
    queries = transitions(truth, size.patients, seed, steps=0, design=design)
    watched, k = queries.placebo, size.samples
    real = futures(truth, queries.start, queries, 1, measure_step, seed, "true")["intervals"][0]
    again = [
        futures(truth, queries.start, arm, k, measure_step, seed, "again")["intervals"] for arm in (queries, watched)
    ]
    view = seen_by(world, queries.start)

    def samples(place: World, arm: Questions) -> np.ndarray:
        return futures(place, view, arm, k, measure_step, seed, progress=lambda n: progress(n * k))["intervals"]

    def hidden(what: str, factor: float | str, dosed: np.ndarray, control: np.ndarray, bend: Bend) -> PriorResponse:
        with bent_pharmacology(bend):
            prior = _prior(queries)
        alike = dosed.reshape(k, -1), real.reshape(-1)
        spread = np.sqrt(mean_known((dosed - mean_known(dosed)) ** 2) * k / max(1, k - 1))
        return PriorResponse(
            what, factor, mean_known(dosed - control), prior, spread, fair_crps(*alike).reshape(real.shape)
        )

    row = [
        (*a, *(Administration(float(hour), dose) for dose in t.doses))
        for a, hour, t in zip(queries.start.doses, queries.start.hours, queries.treatments)
    ]
    instead = dict(zip(row, [*row[1:], row[0]]))
    bends: dict[float | str, Bend] = {**{f: scaled(f) for f in FACTORS}, OTHERS: exchanged(instead)}
    control = samples(world, watched)
    parts = [
        hidden("pharmacology", factor, samples(world if factor == 1.0 else Misled(world, bend), queries), control, bend)
        for factor, bend in bends.items()
    ]
    if is_dataclass(world) and "epk_scale" in {f.name for f in fields(world)}:
        for factor in ANCHORS:
            weaker: World = replace(world, epk_scale=factor)
            parts.append(hidden("anchor", factor, samples(weaker, queries), samples(weaker, watched), scaled(1.0)))
    return mean_known(again[0] - again[1]), parts


def _prior(queries: Questions) -> np.ndarray:
    """The effect of each treatment ``(N, 6)`` by pharmacology, with the distortion that is in force."""
    start, dt = queries.start, queries.dt_hours
    later = [
        replace(start, doses=histories, hours=start.hours + dt)
        for histories in (
            tuple(
                (*past, *(Administration(float(hour), dose) for dose in t.doses))
                for past, hour, t in zip(start.doses, start.hours, queries.treatments)
            ),
            start.doses,
        )
    ]
    result = population_forecast(start, later)
    return result[:, 0] - result[:, 1]


def _together(parts: Sequence[PriorResponse]) -> PriorResponse:
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("effect", "prior", "spread", "crps")
    }
    return replace(parts[0], **joined)


def trust(wrong: PriorResponse, right: PriorResponse, column: int) -> Callable[[np.ndarray], float]:
    """How much of the change of the prior is passed on to the effect, as a statistic over patients."""
    e, p = (wrong.effect - right.effect)[:, column], (wrong.prior - right.prior)[:, column]
    finite = np.isfinite(e) & np.isfinite(p)
    shared, square = np.where(finite, e * p, 0), np.where(finite, p**2, 0)

    def statistic(rows: np.ndarray) -> float:
        bottom = square[rows].sum()
        return float(shared[rows].sum() / bottom) if bottom > 0 else np.nan

    return statistic


def _metrics(responses: Sequence[PriorResponse], true: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    by = {(one.what, one.factor): one for one in responses}
    right = by["pharmacology", 1.0]
    metrics: dict[str, Any] = {}
    for name in SCORED:
        i, short, unit = INTERVALS.index(name), SHORT[name], name.rsplit("_", 1)[1]

        def wrong(values: np.ndarray, column: int = i) -> dict[str, Any]:
            return estimate(mean_of(np.abs(values - true)[:, column]), patient)

        nothing = wrong(np.zeros_like(true))
        metrics[f"effect_mae_{short}_{unit}"] = metric(
            wrong(right.effect), baselines={"no effect": nothing, "prior alone": wrong(right.prior)}
        )
        for factor, word in ((0.0, "silent"), (2.0, "doubled"), (-1.0, "reversed"), (OTHERS, "exchanged")):
            one = by["pharmacology", factor]
            beside = {"right prior": wrong(right.effect), "no effect": nothing, "prior alone": wrong(one.prior)}
            metrics[f"effect_mae_{short}_{unit}_{word}"] = metric(wrong(one.effect), baselines=beside)
        ends = {"repeats the prior": 1.0, "does not listen": 0.0}
        metrics[f"trust_{short}"] = metric(estimate(trust(by["pharmacology", 0.0], right, i), patient), baselines=ends)
        metrics[f"trust_{short}_reversed"] = metric(
            estimate(trust(by["pharmacology", -1.0], right, i), patient), baselines=ends
        )
    column = INTERVALS.index("qtcf_ms")
    for (what, factor), one in by.items():
        if (what, factor) in (("pharmacology", 0.0), ("pharmacology", -1.0), ("anchor", 0.0)):
            more = estimate(mean_of((one.spread - right.spread)[:, column]), patient)
            metrics[f"spread_qtcf_ms_{what}_x{factor:g}_beyond_right"] = metric(
                more, right=mean_of(right.spread[:, column])(patient)
            )
    if ("anchor", 0.0) in by:
        off = np.abs(by["anchor", 0.0].effect - true)[:, column]
        metrics["effect_mae_qtcf_ms_anchor_off"] = metric(
            estimate(mean_of(off), patient),
            baselines={"anchor on": estimate(mean_of(np.abs(right.effect - true)[:, column]), patient)},
        )
    return metrics


def _rows(responses: Sequence[PriorResponse], true: np.ndarray) -> list[dict[str, Any]]:
    """A row per prior and interval."""
    right = next(one for one in responses if one.factor == 1.0)
    every = np.arange(len(true))
    rows = []
    for one in responses:
        for name in SCORED:
            i = INTERVALS.index(name)
            rows.append(
                {
                    "what": one.what,
                    "factor": one.factor,
                    "interval": name,
                    "effect_mae": mean_of(np.abs(one.effect - true)[:, i])(every),
                    "prior_mae": mean_of(np.abs(one.prior - true)[:, i])(every),
                    "no_effect_mae": mean_of(np.abs(true)[:, i])(every),
                    "slope": _slope(one.effect[:, i], true[:, i]),
                    "spread": mean_of(one.spread[:, i])(every),
                    "crps": mean_of(one.crps[:, i])(every),
                    "trust": trust(one, right, i)(every) if one.what == "pharmacology" else np.nan,
                }
            )
    return rows


def _slope(effect: np.ndarray, true: np.ndarray) -> float:
    """Of the effect on the true one, through the origin: 1 is right, 0 is none, -1 is reversed."""
    finite = np.isfinite(effect) & np.isfinite(true)
    bottom = (true[finite] ** 2).sum()
    return float((effect[finite] * true[finite]).sum() / bottom) if bottom > 0 else np.nan


def summary(result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """All rows."""
    return list(result["rows"])


def figure(result: Mapping[str, Any]) -> Figure:
    """Error and spread against the mismatch, an interval per column; the error of the prior itself dashed."""
    import matplotlib.pyplot as plt

    scored = result["settings"]["scored"]
    samples, panels = plt.subplots(2, len(scored), figsize=(4 * len(scored), 6.2), squeeze=False)
    order = ["-1.0", "0.0", "0.25", "0.5", "1.0", "2.0", OTHERS]
    words = ["reversed", "x0", "x0.25", "x0.5", "right", "x2", OTHERS]
    for j, name in enumerate(scored):
        for what, colour in (("pharmacology", "C0"), ("anchor", "C1")):
            rows = {str(r["factor"]): r for r in result["rows"] if (r["what"], r["interval"]) == (what, name)}
            if what == "anchor":
                right = [
                    r for r in result["rows"] if (r["what"], r["interval"], r["factor"]) == ("pharmacology", name, 1.0)
                ]
                rows |= {"1.0": right[0]} if rows else {}
            place = [order.index(factor) for factor in order if factor in rows]
            for axes, column in ((panels[0, j], "effect_mae"), (panels[1, j], "spread")):
                axes.plot(place, _column(rows, order, column), "o-", color=colour, label=f"{what} bent")
            if what == "pharmacology":
                panels[0, j].plot(place, _column(rows, order, "prior_mae"), "--", color="C7", label="prior alone")
                panels[0, j].axhline(rows["1.0"]["no_effect_mae"], color="k", lw=0.8, ls=":", label="no effect")
        panels[0, j].set(title=f"{name}: error of the effect", ylim=(0, None))
        panels[1, j].set(title="spread of the samples", ylim=(0, None))
        for axes in panels[:, j]:
            axes.set_xticks(range(len(order)), words, rotation=45, ha="right")
            axes.legend(fontsize=7, frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
    samples.tight_layout()
    plt.close(samples)
    return samples


def _column(rows: Mapping[str, Mapping[str, Any]], order: Sequence[str], name: str) -> list[float]:
    return [np.nan if rows[f][name] is None else float(rows[f][name]) for f in order if f in rows]
