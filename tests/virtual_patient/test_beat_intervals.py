"""What beats show: the table beside the beats it was measured on, and the measured beats beside laws they must keep."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import draw_heart
from ecg_gym.virtual_patient.beat_intervals import ShownIntervals, measured_beats, shown_intervals
from ecg_gym.virtual_patient.beat_spectra import KINDS, TERRITORIES, Shapes
from ecg_gym.virtual_patient.beat_targets import BeatTargets, targets_of

CASES = 96


def people() -> tuple[tuple[np.ndarray, ...], BeatTargets, np.ndarray]:
    """Pose, scar, injury, path and fusion of some hearts, what makes them show their intervals, and APDs [ms]."""
    rng = np.random.default_rng(5)
    hearts = [draw_heart(rng) for _ in range(CASES)]
    pose = np.array([heart.pose for heart in hearts])
    scar, injury = (np.array([TERRITORIES.index(getattr(h, n)) for h in hearts]) for n in ("scar", "injury"))
    kind = np.array([KINDS.index(heart.conduction) for heart in hearts])
    fusion = np.where(kind == KINDS.index("preexcited"), rng.choice([20.0, 60.0, 120.0], CASES), 0.0)
    change = Modulation(conduction=rng.uniform(0.8, 1, CASES), tpeak_tend_ms=rng.gamma(2, 6, CASES))  # type: ignore[arg-type]
    return (pose, scar, injury, kind, fusion), targets_of(hearts, change), rng.uniform(180, 330, CASES)


def exactly(where: tuple[np.ndarray, ...], targets: BeatTargets, mean_ms: np.ndarray) -> ShownIntervals:
    return measured_beats(Shapes(*where, targets.slowness, targets.phase3_ms, targets.dispersion), mean_ms)


def from_table(where: tuple[np.ndarray, ...], targets: BeatTargets, mean_ms: np.ndarray) -> ShownIntervals:
    return shown_intervals(*where, targets.slowness, targets.x, targets.t_gain, mean_ms)


def test_the_table_says_what_the_beats_show() -> None:
    table, exact = from_table(*people()), exactly(*people())
    for name, usual_ms, rare_ms in (("onset_ms", 0.1, 0.5), ("qrs_ms", 0.3, 2.5), ("qt_ms", 0.6, 3.0)):
        error = np.abs(getattr(table, name) - getattr(exact, name))
        assert np.isfinite(error).mean() > 0.95, name
        error = error[np.isfinite(error)]
        assert np.median(error) < usual_ms, name
        assert np.quantile(error, 0.95) < rare_ms, name
    assert abs(np.nanmean(table.qt_ms - exact.qt_ms)) < 1.0


def test_a_row_of_the_table_does_not_depend_on_the_others() -> None:
    where, targets, mean_ms = people()
    together = from_table(where, targets, mean_ms)
    for i in (0, 7, CASES - 1):
        rows = [part[i : i + 1] for part in where]
        own = [part[i : i + 1] for part in (targets.slowness, targets.x, targets.t_gain)]
        assert shown_intervals(*rows, *own, mean_ms[i : i + 1]).qt_ms[0] == together.qt_ms[i]


def test_a_normal_heart_shows_what_is_asked_of_it() -> None:
    rng = np.random.default_rng(0)
    hearts = [draw_heart(rng, rhythm="sinus", conduction="normal", scar="", healthy=True) for _ in range(32)]
    targets = targets_of(hearts, REST)
    none = np.zeros(32, np.int64)
    where = (np.array([heart.pose for heart in hearts]), none, none, none, np.zeros(32))
    beats = from_table(where, targets, targets.mean_ms)
    np.testing.assert_allclose(beats.qrs_ms, [heart.qrs_ms for heart in hearts], atol=1.0)
    np.testing.assert_allclose(beats.qt_ms, [heart.qtcf_ms for heart in hearts], atol=3.0)
    np.testing.assert_allclose(beats.tpeak_tend_ms, [heart.tpeak_tend_ms for heart in hearts], atol=3.0)


@pytest.mark.parametrize("path", ["lbbb", "ectopic_lv", "paced"])
def test_abnormal_paths_show_wider_beats_than_are_asked_for(path: str) -> None:
    heart = draw_heart(np.random.default_rng(1), rhythm="sinus", conduction="normal", scar="", healthy=True)
    targets = targets_of([heart], REST)
    none = np.zeros(1, np.int64)
    where = (np.array([heart.pose]), none, none, none + KINDS.index(path), np.zeros(1))
    assert from_table(where, targets, targets.mean_ms).qrs_ms[0] > heart.qrs_ms + 20
