"""The interval limits: monotone, bounded, neutral where nothing is wrong; an unreadable interval is not a safe one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_gym.core import Patient
from ecg_gym.risk import limits
from ecg_gym.waveform.intervals import Intervals

HEALTHY = {
    "hr_bpm": 65, "rr_ms": 923, "pr_ms": 160, "qrs_ms": 92, "qt_ms": 395, "qtcf_ms": 405, "qtcb_ms": 411,
    "jtpeak_ms": 225, "jtpeakc_ms": 235, "tpeak_tend_ms": 75, "r_amplitude_mv": 1.5, "t_amplitude_mv": 0.6,
    "p_present": True, "regular": True, "n_beats": 11,
}  # fmt: skip
MAN = Patient(sex="M")


def rows(*changes: dict) -> Intervals:
    """One strip per mapping: the healthy one with these changes."""
    return Intervals.from_rows([{**HEALTHY, **change} for change in changes], [""] * len(changes))


def risk_of(after: dict, before: dict | None = None, patient: Patient = MAN) -> float:
    terms = limits.interval_terms(rows(before or {}), rows(after), [patient])
    return float(limits.together(terms)[0])


def test_a_healthy_unchanged_strip_is_no_risk_at_all() -> None:
    assert risk_of({}) == 0
    assert limits.cost(limits.interval_terms(rows({}), rows({}), [MAN]))[0] == 0


def test_half_is_half_and_none_is_none() -> None:
    for limit in limits.LIMITS:
        for sex in ("F", "M", "unknown"):
            at = limit.penalty(np.array([limit.none[sex], limit.half]), [sex, sex])
            np.testing.assert_allclose(at, [0, 0.5])


@pytest.mark.parametrize("limit", limits.LIMITS, ids=lambda limit: limit.name)
@given(pair=st.tuples(st.floats(-500, 1500), st.floats(-500, 1500)))
def test_worse_is_never_less_risky(limit: limits.Limit, pair: tuple[float, float]) -> None:
    low, high = sorted(pair)
    mild, bad = (low, high) if limit.side == "high" else (high, low)
    penalty = limit.penalty(np.array([mild, bad]), ["F", "F"])
    assert 0 <= penalty[0] <= penalty[1] <= 1


@pytest.mark.parametrize("limit", limits.LIMITS, ids=lambda limit: limit.name)
def test_the_penalty_is_smooth(limit: limits.Limit) -> None:
    """No step at the threshold: the slope is continuous, and nowhere steeper than a few times the mean to `half`."""
    span = abs(limit.half - limit.none["M"])
    x = limit.none["M"] + np.linspace(-3, 3, 6001) * span
    slope = np.gradient(limit.penalty(x, ["M"] * len(x)), x) * span
    assert np.abs(slope).max() < 1
    assert np.abs(np.diff(slope)).max() < 0.01


def test_qt_of_520_is_worse_than_480_and_a_change_worse_than_none() -> None:
    assert risk_of({"qtcf_ms": 520}) > risk_of({"qtcf_ms": 480}) > risk_of({"qtcf_ms": 420})
    assert risk_of({"qtcf_ms": 480}, {"qtcf_ms": 405}) > risk_of({"qtcf_ms": 480}, {"qtcf_ms": 480}) + 0.2
    assert risk_of({"qtcf_ms": 458}, {"qtcf_ms": 458}, Patient(sex="F")) == 0
    assert risk_of({"qtcf_ms": 458}, {"qtcf_ms": 458}) > 0


@given(
    qtcf=st.floats(250, 700), qrs=st.floats(60, 240), pr=st.floats(80, 500), hr=st.floats(15, 250),
    tpte=st.floats(30, 250), jtp=st.floats(100, 450), sex=st.sampled_from([None, "F", "M"]),
)  # fmt: skip
def test_risk_and_cost_stay_in_bounds(
    qtcf: float, qrs: float, pr: float, hr: float, tpte: float, jtp: float, sex: str | None
) -> None:
    after = rows({"qtcf_ms": qtcf, "qrs_ms": qrs, "pr_ms": pr, "hr_bpm": hr, "tpeak_tend_ms": tpte, "jtpeakc_ms": jtp})
    terms = limits.interval_terms(rows({}), after, [Patient(sex=sex)])
    total, cost = limits.together(terms)[0], limits.cost(terms)[0]
    assert 0 <= cost <= total <= 1
    assert all(0 <= term[0] <= 1 for term in terms.values())


def test_a_fast_heart_is_a_risk_and_no_cost_a_slow_one_is_both() -> None:
    fast = limits.interval_terms(rows({}), rows({"hr_bpm": 150}), [MAN])
    slow = limits.interval_terms(rows({}), rows({"hr_bpm": 35}), [MAN])
    assert limits.together(fast)[0] > 0.3
    assert limits.cost(fast)[0] == 0
    assert limits.cost(slow)[0] == limits.together(slow)[0] > 0.2


def test_fibrillation_has_no_pr_and_is_not_blamed_for_it() -> None:
    fibrillation = {"pr_ms": np.nan, "p_present": False, "regular": False}
    assert limits.interval_terms(rows({}), rows(fibrillation), [MAN])["pr_long"][0] == 0
    unreadable = {"pr_ms": np.nan, "p_present": True}
    assert limits.interval_terms(rows({}), rows(unreadable), [MAN])["pr_long"][0] > 0


def test_an_unreadable_qt_never_looks_safer_than_one_of_the_level_of_concern_and_is_not_the_worst() -> None:
    blurred = {"qt_ms": np.nan, "qtcf_ms": np.nan, "jtpeakc_ms": np.nan, "tpeak_tend_ms": np.nan}
    assert risk_of({"qtcf_ms": 500}) < risk_of(blurred) < risk_of({"qtcf_ms": 560})
    assert risk_of({}, blurred) == 0, "what cannot be compared is judged by itself"


BLURRED = {"qt_ms": np.nan, "qtcf_ms": np.nan, "jtpeakc_ms": np.nan, "tpeak_tend_ms": np.nan}
FLUTTER = {"p_present": False, "pr_ms": np.nan}


def test_what_could_not_be_read_before_has_not_changed() -> None:
    own = {limit.name: limit.severity * limit.unmeasurable for limit in limits.LIMITS}["qtc_long"]
    assert risk_of(BLURRED, BLURRED) == pytest.approx(own), "the value counts, as it did, and no change"
    assert risk_of(BLURRED) > own + 0.2


def test_flutter_that_hides_t_as_before_is_no_new_harm_and_a_t_that_vanishes_behind_p_waves_is() -> None:
    slow, fast = {**FLUTTER, "hr_bpm": 75}, {**FLUTTER, "hr_bpm": 150}
    still = risk_of({**slow, **BLURRED}, slow)
    assert still == pytest.approx(0.35), "as a QT of 500 ms that was 500 ms before"
    assert risk_of({**slow, **BLURRED}, fast) == pytest.approx(still)
    assert risk_of({**slow, **BLURRED}, {"hr_bpm": 75}) > still + 0.2
    assert risk_of({**slow, **BLURRED}, fast) < risk_of(fast, fast), "rate control pays"


def test_nothing_is_compared_with_a_tachycardia_without_p_waves() -> None:
    tachycardia = {**FLUTTER, "hr_bpm": 170, "qtcf_ms": 350, "jtpeakc_ms": 180, "tpeak_tend_ms": 40, "qrs_ms": 80}
    assert risk_of({"qtcf_ms": 440}, tachycardia) == 0
    assert risk_of({"qtcf_ms": 440}, {**tachycardia, "hr_bpm": 110}) > 0.2
    assert risk_of({"qtcf_ms": 520}, tachycardia) > 0.3, "what is long is long"


def test_a_paced_qrs_and_what_follows_from_it_are_no_harm() -> None:
    paced = {"qrs_ms": 165, "qtcf_ms": 439, "jtpeakc_ms": 300, "tpeak_tend_ms": 130, **FLUTTER}

    def risk(after: dict, by_wire: bool) -> float:
        terms = limits.interval_terms(rows({}), rows(after), [MAN], np.array([by_wire]))
        return float(limits.together(terms)[0])

    assert risk(paced, True) == 0
    assert risk(paced, False) > 0.5
    assert risk({**paced, "qtcf_ms": 560}, True) > 0.5, "a long QT is long behind a wide QRS, too"


def test_standstill_is_risk_one() -> None:
    nothing = dict.fromkeys(HEALTHY, np.nan) | {"p_present": False, "regular": False, "n_beats": 0}
    assert risk_of(nothing) == 1
    assert limits.cost(limits.interval_terms(rows({}), rows(nothing), [MAN]))[0] == 1


def test_rows_stay_apart() -> None:
    after = [{"qtcf_ms": 520}, {}, {"hr_bpm": 30}, {"qrs_ms": 150}]
    patients = [MAN, Patient(), Patient(sex="F"), MAN]
    together = limits.together(limits.interval_terms(rows(*[{}] * 4), rows(*after), patients))
    order = [2, 0, 3, 1]
    shuffled = limits.together(
        limits.interval_terms(rows(*[{}] * 4), rows(*[after[i] for i in order]), [patients[i] for i in order])
    )
    np.testing.assert_array_equal(shuffled, together[order])


def test_every_row_of_the_table_has_a_source() -> None:
    assert len(limits.LIMITS) == 10
    for limit in limits.LIMITS:
        assert len(limit.source) > 20
        assert limit.confidence in "HML"
        assert 0 < limit.severity < 1
        assert limit.side in ("high", "low")
        assert limit.of in ("value", "change")
        assert (limit.half > max(limit.none.values())) == (limit.side == "high")


def test_batches_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same number"):
        limits.interval_terms(rows({}), rows({}, {}), [MAN, MAN])


def test_a_low_pressure_counts_half_at_its_half_and_more_below() -> None:
    row = limits.PRESSURE
    none = row.none["unknown"]
    term = limits.pressure_term(np.array([none + 20, none, row.half, row.half - 10, 5.0, np.nan]))
    assert term[:2].tolist() == [0, 0]
    assert term[2] == pytest.approx(row.severity / 2)
    assert term[2] < term[3] < term[4] <= row.severity
    assert term[4] == pytest.approx(row.severity, rel=0.01)
    assert term[5] == row.severity * row.unmeasurable
