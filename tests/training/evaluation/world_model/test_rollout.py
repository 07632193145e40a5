"""Studies of rollouts, missing leads, lambda and K on worlds whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_world import HR, QTCF, Linear
from worlds import AnalyticRisk, AnalyticWorld, gaussian_ecg

from ecg_gym.core import (
    ECG,
    LEADS,
    WATCH,
    Administration,
    Dose,
    Patient,
    Randomness,
    State,
    Treatment,
    World,
)
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.waveform import Intervals
from ecg_gym.world_model import conditioning
from ecg_gym.world_model.conditioning import modulations
from training.evaluation import questions
from training.evaluation.planning import ablate_k, ablate_lambda
from training.evaluation.planning.ranking import Decision, agreement, changes, correlation, subsets
from training.evaluation.questions import INTERVALS
from training.evaluation.result import Size, write
from training.evaluation.world_model import missing_leads, prior_mismatch, rollout, rollout_arms


@pytest.fixture(autouse=True)
def read_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy strips carry their intervals in the first samples of lead I, so that nothing hangs on the delineator."""
    monkeypatch.setattr(questions, "intervals_of", lambda ecg: ecg[:, 0, : len(INTERVALS)].astype(float))


def metrics_of(world: World, truth: World, patients: int = 5, k: int = 4, steps: int = 3) -> dict[str, Any]:
    return rollout.study(world, Size(patients, k), truth=truth, steps=steps)["metrics"]


@pytest.mark.parametrize("keep", [0.0, 0.7])
def test_kappa_of_a_contraction_is_its_square(keep: float) -> None:
    result = metrics_of(Linear(keep=keep), Linear())
    assert result["kappa"]["value"] == pytest.approx(keep**2, abs=1e-5)
    assert result["kappa"]["baselines"]["virtual patient"] == pytest.approx(0, abs=1e-5)


def test_a_world_that_is_the_truth_has_no_excess_and_a_drifting_one_is_caught() -> None:
    right = metrics_of(Linear(), Linear())
    assert right["excess_error_3"]["value"] == pytest.approx(
        0, abs=1e-9
    )  # nothing to remember: told or not is the same
    drifting = metrics_of(Linear(keep=1.0, drift=5.0), Linear())
    assert drifting["placebo_drift_qtcf_ms"]["value"] == pytest.approx(15, abs=8)
    assert drifting["placebo_drift_qtcf_ms"]["ci95"][0] > 3
    assert drifting["excess_error_3_qtcf"]["value"] > 0.02


@dataclass(frozen=True)
class Peopled(Linear):
    """A linear world whose other patients begin ``apart`` ms of QTcF from where somebody with the same strip begins."""

    apart: float = 0.0

    def strangers(self, state: State, rng: np.random.Generator) -> State:
        x = state.inner["x"] + self.apart * rng.choice([-1.0, 1.0], size=(len(state), 1)) * [0, 1]
        return self._state(x, state.hours, state.doses)


@pytest.mark.parametrize(("apart", "low", "high"), [(0.0, -0.15, 0.15), (40.0, 0.5, 3.0)])
def test_a_perfect_rollout_that_does_not_know_the_person_stands_beside(apart: float, low: float, high: float) -> None:
    """In a walk, whoever begins 40 ms apart ends there; who begins at the same place loses what the truth loses."""
    world = Linear(keep=1.0, home=0.0)
    rows = metrics_of(world, Peopled(keep=1.0, home=0.0, apart=apart), patients=60, k=8)["excess_error_3"]["baselines"]
    assert low < rows["other patients"] - rows["virtual patient"] < high
    assert "other patients" not in metrics_of(world, world)["excess_error_3"]["baselines"]


def test_a_world_that_copies_keeps_everything_and_separates_no_twins() -> None:
    result = metrics_of(Linear(keep=1.0, noise=0.0), Linear(effect=30.0))
    assert result["twin_divergence"]["value"] == pytest.approx(0, abs=1e-9)
    assert result["twin_divergence"]["baselines"]["virtual patient"] > 0.3
    wrong = result["washout_error_qtcf_ms"]
    assert wrong["value"] == pytest.approx(wrong["baselines"]["no effect"], rel=1e-6)
    assert wrong["baselines"]["no effect"] == pytest.approx(10, abs=2)  # 30 ms, one step of three


def test_a_world_that_washes_out_does_so_in_the_study() -> None:
    result = metrics_of(Linear(keep=0.5, effect=40.0), Linear(keep=0.5, effect=40.0))
    left = result["washout_left_qtcf"]
    assert left["value"] == pytest.approx(0.25, abs=0.1)
    assert left["baselines"]["virtual patient"] == pytest.approx(0.25, abs=0.1)


def test_the_document_of_rollouts_is_complete(tmp_path: Any) -> None:
    document = rollout.study(Linear(), Size(4, 2, (0, 1)), truth=Linear(), steps=2)
    assert document["n_patients"] == 8
    assert document["seeds"] == [0, 1]
    assert {"excess_error_2", "placebo_drift_qtcf_ms", "kappa"} <= set(document["metrics"])
    assert len(document["rows"]) == 3 * 2 * len(INTERVALS)
    assert {path.suffix for path in write(document, tmp_path, rollout.figure)} == {".json", ".csv", ".png"}
    assert len(rollout.summary(document)) == 3 * 2


def test_eq_36_as_a_line_finds_the_slope_it_was_made_with() -> None:
    """Squared errors that obey e' = 0.4 e + 0.8 within every patient, however hard the patient is."""
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 4, size=(60, 1, 1))
    errors = [rng.uniform(0, 2, size=(60, 8)) + hard[:, :, 0]]
    for _ in range(4):
        errors.append(0.4 * errors[-1] + 0.8)
    squares = np.stack([np.zeros_like(errors[0]), *errors], axis=2).transpose(1, 0, 2)  # (K, N, H + 1)
    samples = np.zeros((*squares.shape, 6))
    samples[..., 0] = np.sqrt(squares)
    real = np.zeros((60, 6, 6))
    real[:, 0, :4] = rng.normal(size=(60, 4))
    real[:, 0, :4] /= real[:, 0, :4].std(axis=0)
    arm = rollout_arms.Arm(real, *[samples] * 6, real)
    slope, rest = rollout.literal([arm])
    assert slope["value"] == pytest.approx(0.4, abs=1e-9)
    assert rest["value"] == pytest.approx(0.8, abs=1e-9)


def test_excess_is_relative_and_leaves_out_what_either_lacks() -> None:
    far = np.array([[2.0, 30.0], [4.0, np.nan], [6.0, 30.0]])
    near = np.array([[1.0, 20.0], [2.0, 20.0], [np.nan, 20.0]])
    assert rollout.excess(far, near)(np.arange(3)) == pytest.approx(((6 / 3) + (60 / 40)) / 2 - 1)
    assert np.isnan(rollout.excess(far[:0], near[:0])(np.arange(0)))


def test_patterns_hold_table_8_and_the_right_number_of_leads() -> None:
    result = missing_leads.patterns(7, np.random.default_rng(0))
    assert [name for name in result if name.startswith("miss-")] == [f"miss-{lead}" for lead in LEADS]
    for count in range(2, 7):
        assert {len(set(mine)) for mine in result[f"any {count}"]} == {count}
    assert set(result["any 2"][0]) <= set(result["any 6"][0])


def test_missing_leads_are_handed_over_flat_or_as_the_mean_of_the_others() -> None:
    signal = gaussian_ecg(HR, QTCF)
    flat = missing_leads.handed_over(signal, ("V1", "V2"), "named")
    assert not flat[6:8].any()
    assert np.array_equal(flat[8:], signal[8:])
    filled = missing_leads.handed_over(signal, ("V1",), "mean")
    assert np.allclose(filled[6], np.delete(signal, 6, axis=0).mean(axis=0))
    assert missing_leads.lag(np.roll(signal, -3, axis=1), signal) == 3


@dataclass(frozen=True)
class Seeing(Linear):
    """Hearts with true waves that believes what it sees: the strip of its state is the strip it was handed."""

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        state = self._state(np.array([[HR, QTCF]]), np.zeros(1), (tuple(given),))
        return replace(state, ecg=ecg.signal[None])

    def _state(self, x: np.ndarray, hours: np.ndarray, taken: tuple[tuple[Administration, ...], ...]) -> State:
        state = super()._state(x, hours, taken)
        return replace(state, ecg=np.stack([gaussian_ecg(*row) for row in x]))


def test_a_world_that_fills_nothing_in_shows_the_flat_line_in_the_missing_leads() -> None:
    document = missing_leads.study(Seeing(), Size(4, 2), truth=Seeing())
    rows = {(row["pattern"], row["way"]): row for row in document["rows"]}
    assert rows["none", "named"]["excess"] == pytest.approx(0)
    one = document["metrics"]["missing_mae_mv_1"]
    assert one["value"] == pytest.approx(one["baselines"]["flat line"], rel=1e-6)
    assert one["baselines"]["all leads, same leads"] < one["value"]
    assert one["baselines"]["mean of present leads"] != pytest.approx(one["value"], rel=0.01)
    assert len(missing_leads.summary(document)) == 1 + 12 + 5 + 2


def decision(risks: np.ndarray, true: np.ndarray) -> Decision:
    doses = [Treatment((Dose("metoprolol", float(i), "mg", "PO"),)) for i in range(1, len(risks))]
    return Decision("toy", (WATCH, *doses), risks, 0.5, true, true, 0.5, Linear().initial(1, np.random.default_rng(0)))


def test_lambda_moves_decisions_but_no_mean_risk() -> None:
    """The second treatment is better on average and wild; the first is steady."""
    rng = np.random.default_rng(0)
    wild = np.clip(rng.normal(0.30, 0.20, 64), 0, 1)
    steady = np.full(64, 0.35)
    toy = decision(np.stack([np.full(64, 0.6), wild, steady]), np.repeat([[0.6], [0.3], [0.35]], 9, axis=1))
    assert toy.choice(0.0) == 1
    assert toy.choice(1.0) == 2
    assert toy.regret(toy.choice(0.0)) == pytest.approx(0)
    assert toy.regret(toy.choice(1.0)) == pytest.approx(0.05)
    mean, true, who = changes([toy, toy])
    assert np.allclose(mean, changes([toy, toy], 0.0)[0])
    assert who.tolist() == [0, 0, 0, 1, 1, 1]
    assert correlation(mean, true)(np.arange(6)) > 0.99
    assert correlation(changes([toy, toy], 2.0)[0], true)(np.arange(6)) < 0.9


def test_groups_are_disjoint_and_agree_where_nothing_is_random() -> None:
    assert [g.tolist() for g in subsets(3, 8)] == [[0, 1, 2], [3, 4, 5]]
    sure = decision(np.tile([[0.6], [0.3], [0.4]], 8), np.zeros((3, 4)))
    assert agreement(sure, subsets(2, 8), 0.6) == (1.0, pytest.approx(1.0))
    assert np.isnan(agreement(sure, subsets(8, 8), 0.6)[0])


def test_lambda_and_k_on_a_world_whose_risks_are_known(tmp_path: Any) -> None:
    world = AnalyticWorld()
    document = ablate_lambda.study(world, Size(2, 4), truth=world, risk=AnalyticRisk())
    assert [row["lambda"] for row in document["rows"]] == list(ablate_lambda.LAMBDAS)
    assert len({row["pearson_mean"] for row in document["rows"]}) == 1
    assert document["metrics"]["regret"]["value"] < 0.02
    write(document, tmp_path, ablate_lambda.figure)
    counted = ablate_k.study(world, Size(2, 4), truth=world, risk=AnalyticRisk())
    rows = {row["k"]: row for row in counted["rows"]}
    assert set(rows) == {1, 2, 3}
    assert rows[1]["sd_relative_error"] is None
    assert rows[3]["signal_mse_of_mean"] < rows[1]["signal_mse_of_mean"]
    write(counted, tmp_path, ablate_k.figure)


DOFETILIDE = (Administration(0.0, Dose("dofetilide", 0.5, "mg", "PO")),)
PERSON = Patient(age_years=50.0, sex="F", weight_kg=70.0)


def modulation_told(given: tuple[Administration, ...] = DOFETILIDE) -> Modulation:
    return modulations([given], [PERSON], np.full(1, 3.0))[0]


def test_bent_pharmacology_is_scaled_reversed_or_exchanged_and_then_as_before() -> None:
    right, free = modulation_told(), modulation_told(())
    assert right.jtpeak_ms - free.jtpeak_ms > 5
    for factor in (0.0, 0.5, 1.0, 2.0, -1.0):
        with prior_mismatch.bent_pharmacology(prior_mismatch.scaled(factor)):
            value = modulation_told()
            assert value.jtpeak_ms - free.jtpeak_ms == pytest.approx(factor * (right.jtpeak_ms - free.jtpeak_ms))
            assert np.log(value.sinus_rate / free.sinus_rate) == pytest.approx(
                factor * np.log(right.sinus_rate / free.sinus_rate), abs=1e-12
            )
            assert 0 <= value.ikr_block <= 1
            assert modulation_told(()) == free  # the clock stays right
    with prior_mismatch.bent_pharmacology(prior_mismatch.exchanged({DOFETILIDE: ()})):
        assert modulation_told() == free
    assert modulation_told() == right


@dataclass(frozen=True)
class Believing(Linear):
    """Repeats what pharmacology says of QTcF, ``belief`` times."""

    belief: float = 1.0

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        later = super().step(state, treatments, rng)
        value = modulations(later.doses, state.patients, later.hours)
        sums = [m.jtpeak_ms + m.tpeak_tend_ms for m in value]
        x = later.inner["x"] + self.belief * np.stack([np.zeros(len(sums)), sums], axis=1)
        return self._state(x, later.hours, later.doses)


def test_trust_is_what_a_world_passes_on_of_its_prior(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    forecast = {"hr_bpm": HR, "pr_ms": 160.0, "qrs_ms": 0.0, "qt_ms": QTCF, "qtcf_ms": QTCF, "jtpeak_ms": 200.0}
    rows = Intervals.from_rows([{**forecast, "p_present": 1.0}] * 4, [""] * 4)
    monkeypatch.setattr(conditioning, "measure_strips", lambda ecg: rows)
    truth = Believing(keep=1.0)
    for belief in (1.0, 0.25, 0.0):
        document = prior_mismatch.study(Believing(keep=1.0, belief=belief), Size(4, 2), truth=truth)
        metrics = document["metrics"]
        for name in ("trust_qtcf", "trust_qtcf_reversed"):
            assert metrics[name]["value"] == pytest.approx(belief, abs=0.02)
        if belief == 1.0:
            assert metrics["effect_mae_qtcf_ms"]["value"] == pytest.approx(0, abs=1e-3)
            silent = metrics["effect_mae_qtcf_ms_silent"]
            assert silent["value"] == pytest.approx(silent["baselines"]["no effect"], rel=1e-3)
    write(document, tmp_path, prior_mismatch.figure)


def test_who_remembers_still_knows_the_first_strip() -> None:
    world = Linear(keep=1.0)
    first = world.initial(2, np.random.default_rng(0))
    first = replace(first, inner={**first.inner, "baseline_hours": np.array([1.0, 2.0])})
    later = world.step(first, [WATCH, WATCH], np.random.default_rng(1))
    seen = rollout_arms.remembering(first, replace(later, inner={**later.inner, "baseline_hours": np.zeros(2)}))
    assert seen.inner["baseline_hours"].tolist() == [1.0, 2.0]
    assert np.array_equal(seen.inner["x"], later.inner["x"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments", "metrics"),
    [
        (rollout, {"steps": 2}, {"excess_error_2", "placebo_drift_qtcf_ms", "kappa"}),
        (missing_leads, {}, {"excess_1", "excess_6", "missing_mae_mv_1"}),
        (prior_mismatch, {}, {"effect_mae_qtcf_ms_reversed", "trust_qtcf", "effect_mae_qtcf_ms_anchor_off"}),
    ],
)
def test_studies_of_the_shipped_world_model_end_in_documents(
    module: Any, arguments: dict[str, Any], metrics: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ecg_gym.world_model import WorldModel

    monkeypatch.setattr(questions, "intervals_of", questions.intervals_of)
    document = module.study(WorldModel.load(), Size(4, 2), **arguments)
    assert metrics <= set(document["metrics"])
    assert len(document["model_sha256"]) == 64
    assert 3 <= document["n_patients"] <= 4
    assert len(write(document, tmp_path, module.figure)) == 3
    assert module.summary(document)
