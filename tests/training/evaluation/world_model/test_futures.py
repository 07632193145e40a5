"""The studies of futures on a Gaussian world: what is right is called right, and what is wrong is caught."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ecg_gym.core import ECG, Administration, Dose, Patient, Randomness, State, Treatment, row_generators
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.virtual_patient.world import hearts_of
from ecg_gym.world_model.conformal import (
    Band,
    Calibration,
    _order_statistic,
    apply_band,
    beside,
    covers,
    fit_band,
    raw_band,
)
from training.evaluation import questions, result
from training.evaluation.questions import INTERVALS, fair_crps
from training.evaluation.result import Size, estimate, estimate_mean, estimate_ratio, mean_of, metric
from training.evaluation.world_model import ablate_epk, calibration, delta_risk, forecast, intervals

TYPICAL = np.array([70.0, 160.0, 95.0, 410.0, 230.0, 85.0])  # in the order of INTERVALS
PEOPLE_SD = np.array([8.0, 15.0, 8.0, 15.0, 12.0, 8.0])
CHANCE_SD = np.array([1.5, 3.0, 1.0, 4.0, 3.5, 3.0])
HEART_SD = 0.4  # of the sensitivity, which is 1 in the middle


@cache
def effect_of(dose: Dose) -> np.ndarray:
    """What a usual dose does to a typical heart; some drugs do nothing."""
    number = FORMULARY.index[dose.drug]
    size = (
        dose.amount / intervals.usual_dose(dose.drug).amount if dose.unit == intervals.usual_dose(dose.drug).unit else 1
    )
    return size * (number % 4 > 0) * np.random.default_rng(number).choice([-1, 1], 6) * np.array([8, 8, 6, 20, 12, 8])


@dataclass(frozen=True)
class Gaussian:
    """Hearts whose strips are their six numbers: level + sensitivity x effect + chance. Its ``truth`` is noise-free.

    A dose acts for one step, so that a strip says nothing about the sensitivity.

    ``knows`` the sensitivity: the truth does; a forecaster draws one. The rest are ways to be wrong.
    """

    dt_hours: float = 1.0
    knows: bool = True
    deaf: bool = False  # hears no treatment
    spread: float = 1.0  # factor on everything that is uncertain
    bias: float = 0.0  # [SD of chance] after any treatment
    sign: float = 1.0  # -1: everything the wrong way round
    epk_scale: float = 1.0  # share of the effect that is passed on
    sha256: str = "gauss"

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` adults."""
        generators = row_generators(rng, n)
        level = np.stack([g.normal(TYPICAL, PEOPLE_SD) for g in generators])
        heart = np.stack([g.normal(1, HEART_SD) for g in generators])
        state = State(
            np.zeros((n, 12, 1024), np.float32),
            tuple(Patient(age_years=50.0, sex="F", weight_kg=70.0, potassium=4.2) for _ in range(n)),
            ((),) * n,
            np.zeros(n),
            np.ones(n, bool),
            {"level": level, "sensitivity": heart, "now": level},
        )
        return show(state, level)

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """Not needed: ``start_from`` is there."""
        raise NotImplementedError

    def start_from(self, state: State) -> State:
        """The heart is known, its sensitivity is not looked at."""
        return state

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """A draw of the law."""
        generators, n = row_generators(rng, len(state)), len(state)
        samples = np.array([g.normal(1, self.spread * HEART_SD) for g in generators])
        chance = np.stack([g.normal(0, self.spread * CHANCE_SD) for g in generators])
        sensitivity = state.inner["sensitivity"] if self.knows else samples
        taken = tuple(
            (*past, *(Administration(float(h), dose) for dose in given.doses))
            for past, h, given in zip(state.doses, state.hours, treatments)
        )
        effect = np.stack([sum((effect_of(dose) for dose in given.doses), np.zeros(6)) for given in treatments])
        effect *= self.sign * self.epk_scale * (not self.deaf)
        now = state.inner["level"] + sensitivity[:, None] * effect
        now = now + self.bias * CHANCE_SD * np.array([bool(given) for given in treatments])[:, None]
        later = replace(state, doses=taken, hours=state.hours + self.dt_hours, inner={**state.inner, "now": now})
        return show(later, now + chance) if n else later

    def truth(self, state: State) -> list[Any]:
        """The intervals without chance."""
        return [SimpleNamespace(rhythm="sinus", intervals=dict(zip(INTERVALS, row))) for row in state.inner["now"]]

    def strangers(self, state: State, rng: np.random.Generator) -> State:
        """Other people's sensitivities."""
        return replace(state, inner={**state.inner, "sensitivity": rng.normal(1, HEART_SD, len(state))})


@dataclass(frozen=True)
class GaussianRisk:
    """A number in [0, 1] out of QTcF and rate."""

    def __call__(self, before: np.ndarray, after: np.ndarray, patients: Any, alive: np.ndarray) -> Any:
        document = read(after)
        total = 1 / (1 + np.exp(-(document[:, 3] - 430) / 25 - (document[:, 0] - 75) / 20))
        return SimpleNamespace(total=total, intervals=SimpleNamespace(as_array=lambda names: document))


def show(state: State, values: np.ndarray) -> State:
    """The strips that carry these numbers."""
    ecg = np.zeros((len(state), 12, 1024), np.float32)
    ecg[:, 0, :6] = values
    return replace(state, ecg=ecg)


def read(ecg: np.ndarray) -> np.ndarray:
    """The numbers of strips."""
    return np.asarray(ecg[:, 0, :6], dtype=float)


def expected(queries: questions.Questions) -> np.ndarray:
    """What a typical heart would show: the strip before, and what the new doses add."""
    effect = np.stack([sum((effect_of(dose) for dose in t.doses), np.zeros(6)) for t in queries.treatments])
    return read(queries.start.ecg) + effect


@pytest.fixture(autouse=True)
def strips_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delineator reads the numbers back."""
    monkeypatch.setattr(questions, "intervals_of", read)
    monkeypatch.setattr(questions, "pharmacology_alone", expected)
    monkeypatch.setattr(questions, "pharmacology_strips", lambda request: show(request.start, expected(request)).ecg)
    monkeypatch.setattr(
        delta_risk, "epk_limits", lambda request: expected(request)[:, 3] - read(request.start.ecg)[:, 3]
    )


PERFECT = Gaussian(knows=False)
SIZE = Size(patients=160, samples=19)


def test_fair_crps_is_that_of_theory_and_leaves_out_what_is_not_known() -> None:
    rng = np.random.default_rng(0)
    centre = rng.normal(0, 5, 20_000)
    truth, samples = centre + rng.normal(0, 3, 20_000), centre + rng.normal(0, 3, (5, 20_000))
    assert fair_crps(samples, truth).mean() == pytest.approx(3 / np.sqrt(np.pi), rel=0.02)
    some = np.array([[1.0, 2.0], [4.0, np.nan], [7.0, np.nan], [np.nan, 5.0]])
    results = fair_crps(some, np.array([3.0, 3.0]))
    by_hand = np.mean([2, 1, 4]) - np.mean([3, 6, 3]) / 2
    assert results[0] == pytest.approx(by_hand)
    assert results[1] == pytest.approx(np.mean([1, 2]) - 3 / 2)
    assert np.isnan(fair_crps(np.array([[1.0], [np.nan], [np.nan]]), np.array([1.0])))[0]
    assert fair_crps(np.array([[2.0]]), np.array([5.0]))[0] == 3


@pytest.mark.parametrize(("k", "coverage"), [(19, 0.9), (39, 0.9), (60, 0.9), (9, 0.8)])
def test_raw_bands_of_a_perfect_forecaster_cover_what_they_say(k: int, coverage: float) -> None:
    rng = np.random.default_rng(k)
    low, high = raw_band(rng.normal(size=(k, 20_000)))
    assert np.mean(covers(low, high, rng.normal(size=20_000))) == pytest.approx(coverage, abs=0.01)


@pytest.mark.parametrize(("scale", "bias"), [(0.3, 0.0), (3.0, 0.0), (1.0, 1.5), (0.5, -1.0)])
def test_corrected_bands_cover_whatever_the_forecaster_is_worth(scale: float, bias: float) -> None:
    rng = np.random.default_rng(1)
    truth, samples = rng.normal(size=12_000), scale * rng.normal(size=(19, 12_000)) + bias
    band = fit_band(samples[:, :6000], truth[:6000])
    low, high = apply_band(band, samples[:, 6000:])
    assert np.mean(covers(low, high, truth[6000:])) == pytest.approx(0.9, abs=0.012)
    assert (band.widen < 0) == (scale > 1)
    assert (low <= high).all()


def test_the_correction_is_exact_for_few_patients_too() -> None:
    """Coverage over many draws of 19 patients to fit on is 18/20: the quantile is the 18th of 19."""
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(400):
        samples, truth = rng.normal(size=(4, 49)), rng.normal(size=49)
        low, high = apply_band(fit_band(samples[:, :19], truth[:19]), samples[:, 19:])
        hits.append(covers(low, high, truth[19:]).mean())
    assert np.mean(hits) == pytest.approx(0.9, abs=0.015)


def test_bands_refuse_and_remember(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least 9"):
        fit_band(np.zeros((4, 5)), np.zeros(5))
    with pytest.raises(ValueError, match="have no spread"):
        fit_band(np.zeros((4, 50)), np.ones(50))
    made = Calibration(0.9, "abc", {"qtcf_ms": Band(0.2, 1.0, 50, 50, 0.8), "risk": Band(5.0, 0.1, 50, 50, 0.5)})
    path = beside(tmp_path / "world_model.safetensors")
    assert path.name == "world_model.calibration.json"
    made.save(path)
    assert Calibration.load(path, "abc") == made
    assert calibration.stored(tmp_path / "world_model.safetensors", "abc") == made
    with pytest.raises(ValueError, match="belongs to the weights"):
        Calibration.load(path, "other")
    with pytest.raises(ValueError, match="expected one of"):
        made.apply("pr_ms", np.zeros((4, 1)))
    low, high = made.apply("risk", np.random.default_rng(0).uniform(size=(19, 3)))
    assert (low == 0).all()
    assert (high == 1).all()
    path.write_text("{}")
    with pytest.raises(ValueError, match="fit it again"):
        Calibration.load(path)


def test_a_perfect_forecaster_is_called_calibrated_and_beats_everything() -> None:
    document = calibration.study(PERFECT, Gaussian(), Size(480, SIZE.samples), quick=True, risk=GaussianRisk())
    m = document["metrics"]
    for short in ("hr", "pr", "qrs", "qtcf"):
        assert m[f"spread_ratio_{short}"]["value"] == pytest.approx(1, abs=0.12)  # 480 hearts: SD 0.035
        assert m[f"spread_skill_{short}"]["value"] == pytest.approx(1, abs=0.12)
        assert m[f"coverage90_{short}_raw"]["value"] == pytest.approx(0.9, abs=0.05)
        crps = m[f"crps_{short}"]
        assert crps["value"] < min(crps["baselines"].values())
    ratio = m["spread_ratio_qtcf"]
    assert ratio["true_sd"] ** 2 == pytest.approx(ratio["chance_sd"] ** 2 + ratio["unknown_heart_sd"] ** 2)
    assert ratio["chance_sd"] == pytest.approx(CHANCE_SD[3], rel=0.1)
    assert m["coverage90_risk"]["value"] == pytest.approx(0.9, abs=0.07)
    assert m["spread_ratio"]["value"] == ratio["value"]
    assert np.allclose(document["settings"]["pit"]["qtcf_ms"], 0.1, atol=0.06)
    json.dumps(document, allow_nan=False)


def test_a_sure_forecaster_is_caught_and_its_bands_mended() -> None:
    m = calibration.study(replace(PERFECT, spread=0.3), Gaussian(), SIZE, quick=True, risk=GaussianRisk())["metrics"]
    assert m["spread_ratio"]["value"] == pytest.approx(0.3, abs=0.05)
    assert m["spread_skill_qtcf"]["value"] < 0.4
    assert m["coverage90_qtcf_raw"]["value"] < 0.5
    assert m["coverage90_qtcf"]["value"] == pytest.approx(0.9, abs=0.07)
    assert m["coverage90_qtcf"]["width"] > m["coverage90_qtcf"]["raw_width"]


def test_who_hears_no_treatment_is_caught() -> None:
    metrics = {
        deaf: calibration.study(replace(PERFECT, deaf=deaf), Gaussian(), SIZE, quick=True, risk=GaussianRisk())[
            "metrics"
        ]
        for deaf in (False, True)
    }
    for short in ("hr", "pr", "qrs", "qtcf"):
        assert metrics[True][f"crps_{short}"]["value"] > 1.3 * metrics[False][f"crps_{short}"]["value"]
        assert metrics[True][f"spread_skill_{short}"]["value"] < 0.8


def test_group_effects_are_right_for_the_perfect_and_wrong_for_the_wrong() -> None:
    truth, size = Gaussian(), Size(patients=48, samples=6)
    document_ = intervals.study(PERFECT, truth, size, quick=True)
    right = document_["metrics"]
    share = right["within_tolerance_fraction"]
    assert share["value"] > 0.95
    assert share["baselines"]["truth again"] > 0.97
    assert share["baselines"]["no effect"] < 0.8
    assert share["baselines"]["wrong drug"] < 0.8
    assert right["within_tolerance_where_effect"]["baselines"]["no effect"] == 0
    effect = np.array([row["true"] for row in document_["rows"] if row["interval"] == "qtcf_ms"])
    assert np.abs(effect).max() > 20
    r = right["patient_corr_qtcf_placebo_corrected"]
    assert r["value"] == pytest.approx(r["baselines"]["strangers"], abs=0.04)
    assert 0.8 < r["value"] < r["baselines"]["truth again"]
    deaf = intervals.study(replace(PERFECT, deaf=True), truth, size, quick=True)["metrics"]
    assert deaf["within_tolerance_where_effect"]["value"] < 0.1
    assert abs(deaf["patient_corr_qtcf"]["value"] or 0) < 0.25
    off = intervals.study(replace(PERFECT, bias=3.0), truth, size, quick=True)["metrics"]
    assert off["within_tolerance_qtcf"]["value"] < 0.1


def test_arms_are_every_drug_a_held_out_dose_and_held_out_pairs() -> None:
    from ecg_gym.datasets.transitions import TrialDesign, is_held_out

    arms = intervals.arms()
    by_kind = {kind: [arm for arm in arms if arm.kind == kind] for kind in intervals.KINDS}
    assert {dose.drug for arm in by_kind["usual dose"] for dose in arm.treatment.doses} == set(FORMULARY.medicines)
    for arm in by_kind["held-out dose"]:
        (dose,) = arm.treatment.doses
        assert dose.amount == pytest.approx(0.75 * intervals.usual_dose(dose.drug).amount)
    assert len(by_kind["held-out pair"]) >= 6
    pairs = [[dose.drug for dose in arm.treatment.doses] for arm in by_kind["held-out pair"]]
    assert all(is_held_out(pair, TrialDesign()) for pair in pairs)
    slow, quick = Dose("moxifloxacin", 400, "mg", "PO"), Dose("adenosine", 6, "mg", "IV")
    assert intervals.best_hours(Treatment((slow,))) > intervals.best_hours(Treatment((quick,)))


def test_what_cannot_act_on_a_rhythm_is_not_given_to_it() -> None:
    arm = next(a for a in intervals.arms() if [d.drug for d in a.treatment.doses] == ["ivabradine"])
    person = Patient(age_years=50.0, sex="F", weight_kg=70.0)
    assert intervals.acts_on(arm, person, "sinus")
    assert not intervals.acts_on(arm, person, "atrial")


def test_group_effect_fails_where_it_cannot_be_measured() -> None:
    arm, true = np.zeros(4, int), np.full((4, 6), 10.0)
    half, most = true.copy(), true.copy()
    half[:2], most[:3] = np.nan, np.nan
    for predicted, right in ((half, True), (most, False)):
        of_true, of_predicted, counts = intervals.group_effects(arm, 1, true, predicted)
        assert counts.all()
        assert intervals.within(of_true, of_predicted).all() == right
    lost = true.copy()
    lost[:3] = np.nan
    assert not intervals.group_effects(arm, 1, lost, true)[2].any()


def test_changes_of_risk() -> None:
    truth = Gaussian()
    results = {
        name: delta_risk.study(world, truth, Size(80, 8), quick=True, risk=GaussianRisk())["metrics"]
        for name, world in {
            "perfect": PERFECT, "deaf": replace(PERFECT, deaf=True), "inverted": replace(PERFECT, sign=-1.0)
        }.items()
    }  # fmt: skip
    perfect, deaf, inverted = results["perfect"], results["deaf"], results["inverted"]
    assert perfect["pearson"]["value"] > 0.85
    assert perfect["spearman"]["value"] > 0.8
    assert perfect["sign_agreement"]["value"] > 0.9
    null = perfect["pearson"]["baselines"]["placebo (null)"]  # knows how what was taken before wears off
    assert perfect["pearson"]["value"] > null + 0.15
    assert deaf["pearson"]["value"] == pytest.approx(deaf["pearson"]["baselines"]["placebo (null)"])
    assert abs(deaf["pearson_placebo_corrected"]["value"] or 0) < 0.3
    assert inverted["pearson_placebo_corrected"]["value"] < -0.5
    assert inverted["sign_agreement"]["value"] < 0.6


def test_noise_and_signs_are_as_said() -> None:
    watched = np.linspace(-1, 1, 201)
    assert delta_risk.noise_threshold(watched) == pytest.approx(0.9, abs=0.01)
    true, predicted = np.array([0.5, -0.5, 0.5, 0.01, 0.5]), np.array([0.1, -0.9, -0.1, -1.0, 0.0])
    assert delta_risk.sign_agreement(true, predicted, 0.1) == 0.5
    assert np.isnan(delta_risk.sign_agreement(true, predicted, 2.0))
    some = np.random.default_rng(0).normal(size=(2, 50))
    assert intervals.pearson(*some) == pytest.approx(np.corrcoef(*some)[0, 1])
    ours = intervals.pearson(delta_risk.ranks(some[0]), delta_risk.ranks(some[1]))
    assert ours == pytest.approx(stats.spearmanr(*some).statistic)
    assert np.isnan(intervals.pearson(some[0], np.full(50, 0.1)))


def test_forecast_counts_strips_and_leaves_out_latents_where_there_are_none() -> None:
    document = forecast.study(PERFECT, Gaussian(), Size(60, 8))
    m = document["metrics"]
    assert "latent_mse" not in m
    assert m["crps_qtcf"]["value"] < m["crps_qtcf"]["baselines"]["wrong drug"]
    assert m["crps_qtcf"]["value"] < m["crps_qtcf"]["baselines"]["no EPK"]
    assert "shuffled EPK" not in m["crps_qtcf"]["baselines"]
    errors = forecast.strip_errors(np.full((2, 1, 12, 1024), 0.5), np.zeros((1, 12, 1024)))
    assert errors["signal_mae_mv"] == pytest.approx([0.5])
    apart = np.zeros((2, 1, 12, 1024))
    apart[0], apart[1] = 1.0, -1.0
    errors = forecast.strip_errors(apart, np.zeros((1, 12, 1024)))
    assert errors["signal_mae_mv"] == pytest.approx([1.0])
    assert errors["signal_mae_mv_of_mean"] == pytest.approx([0.0])
    late = np.zeros((1, 1, 12, 1024))
    late[..., 200:] = 1.0
    assert forecast.strip_errors(late, np.zeros((1, 12, 1024)))["first_beat_mae_mv"] == pytest.approx([0.0])


def test_ablation_sees_what_the_prior_does() -> None:
    document = ablate_epk.study({"toy": PERFECT, "other": replace(PERFECT, spread=0.3)}, Gaussian(), Size(80, 8))
    by = {row["variant"]: row for row in document["rows"]}
    none, some, all_of_it = (by[f"toy, EPK x {scale}"] for scale in ("0", "0.25", "1"))
    assert abs(none["follows_qtcf_slope"]) < 0.2
    assert some["follows_qtcf_slope"] == pytest.approx(0.25, abs=0.2)
    assert all_of_it["crps_qtcf"] < some["crps_qtcf"] < none["crps_qtcf"]
    assert all_of_it["spread_ratio_qtcf"] > 2 * by["other, EPK x 1"]["spread_ratio_qtcf"]
    assert document["metrics"]["crps_qtcf"]["value"] == all_of_it["crps_qtcf"]


def test_patients_are_held_out_repeatable_and_different_for_validation() -> None:
    truth = Gaussian()
    a, b = questions.held_out_patients(truth, 5, 0), questions.held_out_patients(truth, 5, 0)
    assert np.array_equal(a.ecg, b.ecg)
    for other in (
        questions.held_out_patients(truth, 5, 1),
        questions.held_out_patients(truth, 5, 0, "validation"),
        truth.initial(5, np.random.default_rng([2026, 9])),
    ):
        assert not np.isin(read(other.ecg), read(a.ecg)).any()
    tall = questions.held_out_patients(truth, 7, 0, keep=lambda state: read(state.ecg)[:, 0] > 75)
    assert len(tall) == 7
    assert (read(tall.ecg)[:, 0] > 75).all()
    with pytest.raises(ValueError, match="less rare"):
        questions.held_out_patients(truth, 4, 0, keep=lambda state: np.zeros(len(state), bool))


def test_futures_have_common_noise_and_do_not_depend_on_their_batch() -> None:
    truth = Gaussian()
    request = questions.transitions(truth, 12, 0)
    look = questions.measure_step
    some = questions.futures(truth, request.start, request, 4, look)
    assert some["intervals"].shape == (4, len(request), 6)
    assert questions.futures(truth, request.start, request, 4, look) is some
    again = questions.futures(truth, request.start, request, 4, look, chunk=5, keep=False)
    alone = questions.futures(truth, request[np.array([3])].start, request[np.array([3])], 4, look)
    watched = questions.futures(truth, request.start, request.placebo, 4, look)
    # the table was chunked anew, so this is another call with the same answer
    assert np.array_equal(again["intervals"], some["intervals"])
    assert np.array_equal(alone["intervals"][:, 0], some["intervals"][:, 3])
    shift = some["intervals"] - watched["intervals"]  # the noise cancels: the same shift in every sample
    assert np.allclose(shift, shift[0], atol=1e-3)
    other = questions.futures(truth, request.start, request, 4, look, stream="again")
    assert not np.isclose(other["intervals"], some["intervals"]).any(axis=2).all()


def test_strangers_share_the_heart_but_not_its_sensitivity() -> None:
    from ecg_gym.virtual_patient import VirtualPatient

    truth = VirtualPatient()
    people = questions.held_out_patients(truth, 2, 0)
    other = questions.strangers(truth, people, np.random.default_rng(0))
    assert other is not None
    for mine, theirs in zip(hearts_of(people), hearts_of(other)):
        assert replace(theirs, sensitivity=mine.sensitivity) == mine
        assert theirs.sensitivity != mine.sensitivity
    assert questions.at_step(truth, 4.0).dt_hours == 4.0
    assert truth.dt_hours == 1.0


def test_intervals_of_an_estimate_draw_patients_not_rows() -> None:
    """The mean of n patients' repeated values has the standard error of n patients, however often each is repeated."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=60)
    once = estimate(mean_of(values), np.arange(60))
    often = estimate(mean_of(np.repeat(values, 20)), np.repeat(np.arange(60), 20))
    width = 2 * stats.norm.ppf(0.975) * values.std() / np.sqrt(60)
    for results in (once, often):
        assert results["ci95"][1] - results["ci95"][0] == pytest.approx(width, rel=0.15)
    fast, ratio = estimate_mean(values, np.arange(60)), estimate_ratio(values**2, np.ones(60), np.arange(60), root=True)
    assert fast["value"] == pytest.approx(once["value"])
    assert fast["ci95"] == pytest.approx(once["ci95"], abs=0.06)
    assert ratio["value"] == pytest.approx(np.sqrt((values**2).mean()))
    assert estimate(mean_of(values[:1]), np.zeros(1))["ci95"] is None
    assert estimate(mean_of(np.full(5, np.nan)), np.arange(5)) == {"value": None, "ci95": None}


def test_a_document_is_json_csv_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = metric({"value": 1.0, "ci95": [0.5, 1.5]}, baselines={"nothing": np.nan, "copy": {"value": 2, "ci95": None}})
    assert own == {"value": 1.0, "ci95": [0.5, 1.5], "baselines": {"nothing": None, "copy": 2.0}}
    rows = [{"drug": "a", "n": np.int64(3), "x": np.nan}, {"drug": "b", "n": 4, "x": np.float32(0.5)}]
    document = result.document("toy", PERFECT, 7, [0, 1], {"m": own}, rows, samples=3)
    assert set(document) >= {"study", "preset", "model_sha256", "n_patients", "seeds", "metrics", "rows"}
    assert document["model_sha256"] == "gauss"

    def figure(value: Any) -> Any:
        from matplotlib.figure import Figure

        return Figure(figsize=(1, 1))

    result.finish(document, tmp_path / "out", True, figure)
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "toy.json").read_text()) == document
    assert (tmp_path / "out" / "toy.csv").read_text().splitlines() == ["drug,n,x", "a,3,", "b,4,0.5"]
    assert (tmp_path / "out" / "toy.png").stat().st_size > 100
    result.finish(document, tmp_path / "out", False, None)
    assert "nothing -, copy 2" in capsys.readouterr().out


def test_a_band_that_ends_on_a_sample_needs_no_neighbour() -> None:
    """Of two samples a third lies below the first: the second, without a bound, says nothing of it."""
    ordered, count = np.array([[1.0], [np.inf]]), np.array([2])
    assert _order_statistic(ordered, count, 1 / 3).tolist() == [1.0]
    assert _order_statistic(np.array([[1.0], [2.0]]), count, 1 / 2).tolist() == [1.5]
