"""Plans: their truth beside that of the slow way for the same beats."""

from __future__ import annotations

import numpy as np
import pytest
from slow_strips.findings import findings
from slow_strips.rhythm import Train
from slow_strips.strip import _marks, _truth, usual_beat

from ecg_gym.pharmacology.modulation import REST
from ecg_gym.virtual_patient import draw_heart
from ecg_gym.virtual_patient.beat_spectra import KINDS
from ecg_gym.virtual_patient.heart_arrays import HeartArrays
from ecg_gym.virtual_patient.strip import INTERVALS, marks_of
from ecg_gym.virtual_patient.strip_plan import LEAD_IN_S, StripPlan, inside, plan_strips, true_intervals
from ecg_gym.virtual_patient.true_findings import true_findings

SECONDS, ROWS = 10.0, 48


@pytest.fixture(scope="module")
def people() -> tuple[list, StripPlan]:
    rng = np.random.default_rng(4)
    hearts = [draw_heart(rng) for _ in range(ROWS)]
    return hearts, plan_strips(HeartArrays.of(hearts), REST, np.arange(ROWS, dtype=np.uint64), SECONDS)


def train_of(plan: StripPlan, row: int) -> Train:
    """The row's train on a clock on which its strip begins behind the lead-in."""
    trains, late = plan.trains, LEAD_IN_S - plan.start_s[row]
    n, m = trains.beats[row], trains.p_waves[row]
    kinds = tuple("torsade" if code < 0 else KINDS[code] for code in trains.kind[row, :n])
    waves = ("", "fibrillation", "flutter", "ventricular", "torsade")[trains.waves[row]]
    return Train(trains.qrs_s[row, :n] + late, kinds, trains.p_s[row, :m] + late, trains.pr_s[row, :n],
                 trains.fusion_ms[row, :n], waves)  # fmt: skip


def test_intervals_are_those_of_the_slow_truth(people: tuple[list, StripPlan]) -> None:
    hearts, plan = people
    named = true_intervals(plan).by_name()
    slow = [_truth(heart, REST, train_of(plan, i), plan.trains.mean_ms[i, : plan.trains.beats[i]], 512.0, SECONDS, None)
            for i, heart in enumerate(hearts)]  # fmt: skip
    for name, usual, rare in (("hr_bpm", 1e-6, 1e-6), ("pr_ms", 0.5, 1), ("qrs_ms", 0.5, 2.5), ("qtcf_ms", 1.0, 3.0)):
        error = np.abs(named[name] - [truth.intervals[name] for truth in slow])
        assert np.nanmedian(error) <= usual, name
        assert np.nanquantile(error, 0.95) <= rare, name
    assert set(named) == set(INTERVALS)


def test_findings_are_those_read_beat_by_beat(people: tuple[list, StripPlan]) -> None:
    hearts, plan = people
    intervals = true_intervals(plan)
    named, together = intervals.by_name(), true_findings(plan, intervals)
    for i, heart in enumerate(hearts):
        train = train_of(plan, i)
        beats, p = inside(plan, i)
        chosen = np.zeros(len(train.qrs_s), bool)
        chosen[beats] = True
        own = {name: values[i] for name, values in named.items()}
        np.testing.assert_array_equal(together[i], findings(heart, train.where(chosen, p, LEAD_IN_S), own))


def test_the_usual_beat_is_the_slow_ways(people: tuple[list, StripPlan]) -> None:
    _, plan = people
    truth = true_intervals(plan)
    for i in range(ROWS):
        train = train_of(plan, i)
        beats, p = inside(plan, i)
        chosen = np.zeros(len(train.qrs_s), bool)
        chosen[beats] = True
        kept = train.where(chosen, p, LEAD_IN_S)
        if len(kept.qrs_s) > 1:
            kind, fusion = usual_beat(kept)
            assert kind == ("torsade" if truth.usual[i] < 0 else KINDS[truth.usual[i]])
            assert fusion == truth.usual_fusion_ms[i]


def test_marks_lie_within_a_millisecond_of_the_slow_ones(people: tuple[list, StripPlan]) -> None:
    """But for half a millisecond by which the slow strips come early: they round events to their own grid."""
    hearts, plan = people
    errors: dict[str, list[float]] = {}
    for i, heart in enumerate(hearts):
        beats, _ = inside(plan, i)
        train, own = train_of(plan, i), marks_of(plan, i)
        at = np.arange(len(train.qrs_s))
        chosen = (at >= beats.start) & (at < beats.stop)
        start = (train.p_s >= LEAD_IN_S) & (train.p_s < LEAD_IN_S + SECONDS)
        mean_ms = plan.trains.mean_ms[i, beats]
        slow = _marks(heart, REST, train.where(chosen, start, LEAD_IN_S), mean_ms, 512.0)
        for name, times in own.items():
            errors.setdefault(name, []).extend(1000 * (times - slow[name]))
    assert np.abs(errors["p_end"]).max() < 2.0  # the edge of the slow way's window, on its grid of 2 ms
    for name in ("p_onset", "p_peak", "qrs_onset", "qrs_end", "r_peak", "t_peak", "t_end"):
        error = np.array(errors[name])
        # a P wave with a flat top peaks on this sample of the slow grid or on the next one
        assert np.nanmedian(np.abs(error)) < (1000 / 512 if name == "p_peak" else 1.0), name
        assert np.nanquantile(np.abs(error), 0.9) < 2.0, name


def test_bigeminy_is_read_from_the_conducted_beats() -> None:
    hearts = [draw_heart(np.random.default_rng(i), rhythm="bigeminy", conduction="normal") for i in range(8)]
    plan = plan_strips(HeartArrays.of(hearts), REST, np.arange(8, dtype=np.uint64), SECONDS)
    assert (true_intervals(plan).usual == KINDS.index("normal")).all()
