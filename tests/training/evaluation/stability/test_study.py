"""The study of stability on worlds whose answers are known in closed form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from linear_world import Linear
from typer.testing import CliRunner

from ecg_gym.core import ECG, Administration, Patient, Randomness, State, Treatment
from training.cli.app import app
from training.evaluation import questions
from training.evaluation.result import Size, write
from training.evaluation.stability import arms, flaws
from training.evaluation.stability import study as stability
from training.evaluation.stability.figure import figure
from training.evaluation.stability.measures import spread_and_error
from training.evaluation.stability.responses import halfway


@pytest.fixture(autouse=True)
def read_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy strips carry their intervals in the first samples of lead I, so that nothing hangs on the delineator."""

    def measured(ecg: np.ndarray) -> np.ndarray:
        six = ecg[:, 0, :6].astype(float)
        rr = 60_000 / six[:, :1]
        return np.concatenate([six, six[:, 3:4] * np.cbrt(rr / 1000), rr], axis=1)

    monkeypatch.setattr(questions, "intervals_of", lambda ecg: ecg[:, 0, :6].astype(float))
    monkeypatch.setattr(flaws, "readings_of", measured)


@dataclass(frozen=True)
class Strip(Linear):
    """The linear hearts with a strip without holes, which the next strip repeats ``stretch`` times (bar its label)."""

    stretch: float = 1.0
    bring_back: bool = False  # whether the dead rise

    def start_from(self, state: State) -> State:
        return replace(state, inner={**state.inner, "form": state.ecg[:, 1:].copy()})

    def _state(self, x: np.ndarray, hours: np.ndarray, taken: tuple[tuple[Administration, ...], ...]) -> State:
        state = super()._state(x, hours, taken)
        ecg = np.nan_to_num(state.ecg)
        return replace(state, ecg=ecg, inner={**state.inner, "form": ecg[:, 1:].copy()})

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        later = super().step(state, treatments, rng)
        form = self.stretch * state.inner["form"]
        ecg = later.ecg.copy()
        ecg[:, 1:] = form
        later = replace(later, ecg=ecg.astype(np.float32), inner={**later.inner, "form": form})
        return later if self.bring_back else later.where(state.alive, state)


def metrics_of(world: Any, truth: Any, patients: int = 6, k: int = 4, steps: int = 4) -> dict[str, Any]:
    return stability.study(world, Size(patients, k), truth=truth, steps=steps)["metrics"]


def test_a_world_that_is_the_truth_scores_as_the_truth_and_nothing_is_violated() -> None:
    result = metrics_of(Strip(), Strip())
    for name in ("crps_4_qtcf_ms", "crps_4_hr_bpm"):
        assert result[name]["value"] < result[name]["baselines"]["copy"]
        assert result[name]["value"] == pytest.approx(result[name]["baselines"]["told every 1"])  # nothing to remember
    assert result["open_over_told_4"]["value"] == pytest.approx(0, abs=1e-9)
    assert result["identical_twins_mv"]["value"] == 0
    assert result["violation_dead_percent"]["value"] == 0
    assert result["violation_hr_percent"]["value"] == 0


def test_a_drifting_world_is_caught_with_its_drift_per_hour() -> None:
    result = metrics_of(Strip(keep=1.0, drift=5.0, noise=0.5), Strip(keep=1.0, noise=0.5))
    assert result["drift_qtcf_ms_per_hour"]["value"] == pytest.approx(5, abs=0.5)
    assert result["drift_qtcf_ms_4"]["value"] == pytest.approx(20, abs=2)
    assert abs(result["drift_qtcf_ms_4"]["baselines"]["virtual patient"]) < 2
    assert result["drift_qtcf_ms_4"]["baselines"]["copy"] == pytest.approx(0, abs=2)
    growing = result["crps_4_qtcf_ms"]
    assert growing["value"] > 2 * growing["baselines"]["told every 1"]


@pytest.mark.parametrize("stretch", [1.0, 1.5, 0.5])
def test_twins_part_at_the_rate_the_world_was_made_with(stretch: float) -> None:
    result = metrics_of(Strip(keep=1.0, noise=0.0, stretch=stretch), Strip(keep=1.0))
    for nudge in ("1uv", "10uv"):
        assert result[f"twin_growth_{nudge}_per_hour"]["value"] == pytest.approx(np.log(stretch), abs=1e-3)
        assert result[f"twin_gain_{nudge}_first_step"]["value"] == pytest.approx(stretch * np.sqrt(11 / 12), rel=0.05)


def test_washout_of_a_world_that_halves_is_one_step() -> None:
    result = metrics_of(Strip(keep=0.5, effect=40.0), Strip(keep=0.5, effect=40.0))
    assert result["washout_halfway_hours"]["value"] == pytest.approx(1.0, abs=1e-3)
    assert result["washout_left_4"]["value"] == pytest.approx(0.125, abs=1e-3)
    assert result["washout_error_sd"]["value"] == pytest.approx(0, abs=1e-6)
    still = metrics_of(Strip(keep=1.0, noise=0.0), Strip(keep=0.5, effect=40.0))
    assert still["washout_error_sd"]["value"] == pytest.approx(still["washout_error_sd"]["baselines"]["copy"])


def test_order_matters_only_where_the_early_dose_fades() -> None:
    fades = metrics_of(Strip(keep=0.5, effect=40.0), Strip(keep=0.5, effect=40.0))
    assert fades["order_error_4_qtcf_ms"]["value"] == pytest.approx(0, abs=1e-6)  # a dose is a dose, first or second
    assert metrics_of(Strip(), Strip())["order_size_sd"]["value"] == pytest.approx(0, abs=1e-6)


def test_the_dead_that_rise_are_counted() -> None:
    result = metrics_of(Strip(bring_back=True), Strip())
    assert result["violation_dead_percent"]["value"] > 0


def test_spread_and_coverage_of_samples_from_the_truth_itself() -> None:
    rng = np.random.default_rng(0)
    for k in (3, 8):
        wide, error, inside = spread_and_error(rng.normal(size=(k, 20_000, 1)), rng.normal(size=(20_000, 1)))
        assert np.sqrt(wide.mean() / error.mean()) == pytest.approx(1, abs=0.03)
        assert inside.mean() == pytest.approx(0.90, abs=0.01)  # of any number of samples


def test_halfway_is_interpolated_and_none_where_it_is_not_seen() -> None:
    hours = np.arange(5.0)
    assert halfway(np.array([0.0, 8.0, 6.0, 2.0, 1.0]), hours) == pytest.approx(1.5)
    assert np.isnan(halfway(np.array([0.0, 8.0, 7.0, 6.0, 5.0]), hours))
    assert np.isnan(halfway(np.zeros(5), hours))


def test_flaws_are_those_of_the_table_and_the_table_has_sources() -> None:
    table = flaws.bounds()
    assert all(row["source"] and row["confidence"] in "HML" for part in table.values() for row in part.values())
    state = Strip().initial(3, np.random.default_rng(0))
    intervals = np.tile([70.0, 160, 90, 410, 220, 80, 390, 857], (3, 1))
    intervals[1, :4] = 400, 900, 300, 200
    intervals[1, 6:] = 390, 150
    state = replace(state, alive=np.array([True, True, False]))
    result = dict(zip(flaws.FLAWS, flaws.flaws(state, intervals).T))
    for name in ("hr", "pr", "qrs", "qtcf", "qt_beyond_rr", "pr_beyond_rr"):
        assert result[name][:2].tolist() == [0.0, 1.0]
        assert np.isnan(result[name][2])


@dataclass(frozen=True)
class Choosy(Strip):
    """Sees only what it likes, strip by strip."""

    start_from = None  # type: ignore[assignment]

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        if ecg.signal[0, 0] > 70:
            raise ValueError("too fast; expected less; slow down")
        assert all(a.hours <= 0 for a in given)
        return replace(self._state(np.array([[70.0, 410.0]]), np.zeros(1), (tuple(given),)), ecg=ecg.signal[None])


def test_a_world_without_start_from_is_told_strip_by_strip_and_may_refuse() -> None:
    world = Choosy()
    people = Strip().initial(6, np.random.default_rng(1))
    world_without = type("Without", (), {"observe": world.observe, "dt_hours": 1.0})()
    view, seen = arms.sight(world_without, replace(people, hours=people.hours + 3))
    slow = people.ecg[:, 0, 0] <= 70
    assert seen.tolist() == slow.tolist()
    assert view.alive.tolist() == slow.tolist()


def test_the_document_is_complete_and_has_a_picture(tmp_path: Any) -> None:
    document = stability.study(Strip(), Size(4, 2, (0, 1)), truth=Strip(), steps=3)
    assert (document["n_patients"], document["seeds"]) == (8, [0, 1])
    assert all(
        "copy" in row["baselines"] or "virtual patient" in row["baselines"] for row in document["metrics"].values()
    )
    assert len(document["rows"]) == 3 * 4
    assert len(stability.summary(document)) == 3
    assert {path.suffix for path in write(document, tmp_path, figure)} == {".json", ".csv", ".png"}


def test_a_world_that_is_not_there_is_refused() -> None:
    done = CliRunner().invoke(app, ["study", "stability", "--world", "nobody.here:World"])
    assert done.exit_code == 2


@pytest.mark.slow
def test_the_still_world_of_the_examples_keeps_its_twins_apart_as_they_were(tmp_path: Any) -> None:
    words = ["study", "stability", "--world", "examples/your_own_world.py:StillWorld", "--patients", "4"]
    done = CliRunner().invoke(app, [*words, "--samples", "2", "--steps", "2", "--out", str(tmp_path), "--json"])
    result = json.loads(done.stdout)["metrics"]
    assert result["twin_gain_10uv_first_step"]["value"] == pytest.approx(1, abs=0.05)
    assert result["twin_growth_10uv_per_hour"]["value"] == pytest.approx(0, abs=0.01)
    assert result["violation_any_percent"]["value"] == result["violation_any_percent"]["baselines"]["copy"]
