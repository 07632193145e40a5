"""Real people, asked the same question as virtual ones: what will this baseline strip look like after that treatment?

A question is a trajectory's first baseline strip and one later strip of it. All doses of the arm are on the patient's
chart with their own hours, those between the two strips included, and nothing is given at the step itself. The answer
is what was recorded: intervals measured by our delineator, beside those that the trial published.

Beside the model's samples stand: no change; pharmacology alone (EPK without a network); the treatment's mean change in
the people that training knew; the model told of no drug at all (what it thinks of placebo); and the model told of
another arm's doses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecg_gym.core import WATCH, Administration, State, World, limb_from_independent
from ecg_gym.datasets.transitions import TRUTHS, Trials
from ecg_gym.real_trials.manifest import RealTrial, read_real, row_weights
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model.conditioning import OBSERVED
from training.evaluation import questions
from training.evaluation.questions import INTERVALS, Questions, futures, measure_step

CHUNK = 512  # rows whose intervals are drawn at once
RIVALS = ("no change", "pharmacology alone", "treatment mean", "nothing given", "wrong drug")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class RealQuestions:
    """N questions to real people, and what was recorded."""

    questions: Questions  # arms by "source: arm"; ``patient`` numbers subjects
    before: np.ndarray  # (N, 6) measured at the baseline strip, columns INTERVALS
    real: np.ndarray  # (N, 6) measured at the later strip
    published_before: np.ndarray  # (N, 6) by the trial's own readers; NaN where it has no table
    published: np.ndarray  # (N, 6)
    hours: np.ndarray  # (N,) [h] of the later strip on the clock of the doses
    weight: np.ndarray  # (N,) one over the replicates of the hour
    control: np.ndarray  # (N,) bool: placebo, or a drug without effect
    source: np.ndarray  # (N,) str

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, rows: np.ndarray) -> RealQuestions:
        rows = np.arange(len(self))[rows]
        columns = {name: value[rows] for name, value in vars(self).items() if name != "questions"}
        return RealQuestions(self.questions[rows], **columns)

    @property
    def subject(self) -> np.ndarray:
        """Numbers ``(N,)`` of the people: the clusters of a bootstrap."""
        return self.questions.patient

    @property
    def change(self) -> np.ndarray:
        """What really changed ``(N, 6)``, measured by us."""
        return self.real - self.before


@dataclass(frozen=True)
class Forecasts:
    """What was said about the questions: levels of the intervals after."""

    queries: RealQuestions
    samples: np.ndarray  # (K, N, 6) by the model
    points: Mapping[str, np.ndarray]  # (N, 6) of the rivals, by name

    @property
    def mean(self) -> np.ndarray:
        """The model's mean ``(N, 6)``; NaN where less than half of its samples could be measured."""
        return questions.mean_known(self.samples)


def ask(folder: Path, side: str, subjects: int | None = None, hours: Sequence[float] | None = None) -> RealQuestions:
    """The questions that the shards of a side hold, of all or the first so many ``subjects``, at all or some ``hours``.

    ValueError if there is none.
    """
    trials, trajectories = read_real(folder, side)
    return questions_of(trials, trajectories, subjects, hours)


def questions_of(
    trials: Trials,
    trajectories: Mapping[int, RealTrial],
    subjects: int | None = None,
    hours: Sequence[float] | None = None,
) -> RealQuestions:
    """As :func:`ask`, of strips in memory."""
    people = list(dict.fromkeys(trial.subject for trial in trajectories.values()))[:subjects]
    before: list[int] = []
    after: list[int] = []
    for number, trial in trajectories.items():
        rows = np.flatnonzero(trials.patient == number)
        baseline = rows[np.array(trial.baseline, dtype=bool)]
        if trial.subject not in people or not len(baseline):
            continue
        later = [row for row in rows if row not in baseline and (hours is None or trials.hours[row] in hours)]
        before += [int(baseline[0])] * len(later)
        after += [int(row) for row in later]
    if not after:
        raise ValueError(
            f"{len(trajectories)} trajectories hold no baseline strip with a later one; expected some; "
            "look at trials.json"
        )
    i, j = np.array(before), np.array(after)
    own = [trajectories[int(number)] for number in trials.patient[j]]
    start = State(
        limb_from_independent(trials.strips[i].astype(np.float32)),
        tuple(trial.patient for trial in own),
        tuple(trial.administrations for trial in own),
        trials.hours[i].copy(),
        np.ones(len(i), bool),
    )
    arms = np.array([f"{trial.source}: {trial.arm}" for trial in own])
    number_of = {name: n for n, name in enumerate(sorted({trial.subject for trial in trajectories.values()}))}
    queries = Questions(
        start, (WATCH,) * len(i), np.array([number_of[trial.subject] for trial in own]), arms,
        (trials.hours[j] - trials.hours[i]).round(6), np.zeros(len(i), bool),
    )  # fmt: skip
    return RealQuestions(
        queries, our_intervals(trials, i), our_intervals(trials, j), published_intervals(trials, i),
        published_intervals(trials, j), trials.hours[j], row_weights(trials, trajectories)[j],
        np.array([trial.control for trial in own]), np.array([trial.source for trial in own]),
    )  # fmt: skip


def our_intervals(trials: Trials, rows: np.ndarray) -> np.ndarray:
    """Intervals ``(N, 6)`` as our delineator measured them, columns ``INTERVALS``."""
    return trials.observed[rows][:, [OBSERVED.index(name) for name in INTERVALS]].astype(float)


def published_intervals(trials: Trials, rows: np.ndarray) -> np.ndarray:
    """Intervals ``(N, 6)`` as the trial published them, columns ``INTERVALS``; NaN where it did not."""
    column = {name: trials.truth[rows, i].astype(float) for i, name in enumerate(TRUTHS)}
    column["jtpeakc_ms"] = column["jtpeak_ms"] / (60 / column["hr_bpm"]) ** JTPEAK_EXPONENT
    return np.stack([column[name] for name in INTERVALS], axis=1)


def forecast(
    world: World, queries: RealQuestions, others: RealQuestions | None, k: int, draw_strips: bool = True,
    progress: Progress = lambda rows: None,
) -> Forecasts:  # fmt: skip
    """``k`` samples of the model for every question, and the rivals.

    ``others`` are people whom training knew, for the treatment mean (absent without them). With ``draw_strips``
    intervals are measured on drawn strips; otherwise the interval model's own draws are taken, which is much faster and
    needs a world model that has one.
    """
    draw = _intervals_of_strips if draw_strips else _intervals_only
    nothing = ((),) * len(queries)
    points = {
        "no change": queries.before,
        "pharmacology alone": questions.pharmacology_alone(queries.questions),
        "nothing given": questions.mean_known(draw(world, _with_doses(queries.questions, nothing), k, progress)),
        "wrong drug": questions.mean_known(
            draw(world, _with_doses(queries.questions, wrong_doses(queries)), k, progress)
        ),
    }
    if others is not None:
        points["treatment mean"] = queries.before + treatment_mean(others, queries)
    return Forecasts(queries, draw(world, queries.questions, k, progress), points)


def wrong_doses(queries: RealQuestions) -> list[tuple[Administration, ...]]:
    """For each question the doses of another arm of its trial that shares no drug with its own, if there is one."""
    schedules: dict[str, dict[str, tuple[Administration, ...]]] = {}
    for source, arm, doses in zip(queries.source, queries.questions.arm, queries.questions.start.doses):
        schedules.setdefault(str(source), {})[str(arm)] = doses
    wrong = []
    for source, doses in zip(queries.source, queries.questions.start.doses):
        mine = {a.dose.drug for a in doses}
        arms = sorted(schedules[str(source)].items())
        wrong.append(next((t for _, t in arms if t and mine.isdisjoint(a.dose.drug for a in t)), ()))
    return wrong


def treatment_mean(others: RealQuestions, queries: RealQuestions) -> np.ndarray:
    """The mean change ``(N, 6)`` in other people of the same arm at the same hour; 0 where there was nobody."""
    sums: dict[tuple[str, float], list[np.ndarray]] = {}
    for arm, hour, change in zip(others.questions.arm, others.hours, others.change):
        sums.setdefault((str(arm), float(hour)), []).append(change)
    mean = {key: questions.mean_known(np.array(rows), least=0.0) for key, rows in sums.items()}
    nobody = np.zeros(len(INTERVALS))
    changes = [mean.get((str(arm), float(hour)), nobody) for arm, hour in zip(queries.questions.arm, queries.hours)]
    return np.nan_to_num(np.array(changes))


def _with_doses(queries: Questions, doses: Sequence[tuple[Administration, ...]]) -> Questions:
    return replace(queries, start=replace(queries.start, doses=tuple(doses)))


def _intervals_of_strips(world: World, queries: Questions, k: int, progress: Progress) -> np.ndarray:
    """Intervals ``(K, N, 6)`` measured on drawn strips."""
    start = questions.observe_first(world, queries)
    return futures(world, start, queries, k, measure_step, progress=progress, keep=False)["intervals"]


def _intervals_only(world: World, queries: Questions, k: int, progress: Progress) -> np.ndarray:
    """Intervals ``(K, N, 6)`` as the interval model draws them before any strip."""
    if not questions.draws_intervals_first(world):
        raise ValueError(
            f"{type(world).__name__} draws strips only; expected a world model with an interval model; leave "
            "--intervals-only out"
        )
    start = questions.observe_first(world, queries)
    return futures(world, start, queries, k, questions.ordered, progress=progress, keep=False)["asked"]
