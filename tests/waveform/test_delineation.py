"""What once went wrong in delineation, each as an exact case: made beats whose fiducials we chose."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_ecg import AMPLITUDES, P_HALF_MS, QRS_MS, Q, analytic
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_gym.core import ECG, LEADS, independent_from_leads, limb_from_independent
from ecg_gym.waveform import find_r_peaks, measure
from ecg_gym.waveform.delineation import MANUAL, RULES
from ecg_gym.waveform.spikes import without_spikes

ONSET = Q[0] - Q[1]  # of the QRS, from R [ms]
INTERVALS = ("pr_ms", "qrs_ms", "qt_ms", "tpeak_tend_ms")
FEW = settings(max_examples=15, deadline=None)


def bump(t: np.ndarray, at: float, half: float) -> np.ndarray:
    """A raised cosine of height 1 about ``at`` [ms]."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((t - at) / half, -1, 1))


def times(ecg: ECG) -> np.ndarray:
    return np.arange(ecg.signal.shape[-1]) / ecg.rate_hz * 1000


def with_waves(ecg: ECG, wave: np.ndarray) -> ECG:
    """The strip plus ``(8, T)`` [mV] on its independent leads."""
    return ECG(limb_from_independent(independent_from_leads(ecg.signal) + wave), ecg.rate_hz)


@FEW
@given(rr=st.integers(620, 1300), pr=st.integers(120, 260), jt=st.integers(200, 300))
def test_whatever_is_chosen_is_read_back(rr: int, pr: int, jt: int) -> None:
    qt = QRS_MS + jt
    if rr - pr - qt < 40:  # P on T has a test of its own
        return
    row = measure(analytic(rr, pr, qt)).row(0)
    assert row["pr_ms"] == pytest.approx(pr, abs=8)
    assert row["qrs_ms"] == pytest.approx(QRS_MS, abs=10)
    assert row["qt_ms"] == pytest.approx(qt, abs=6)
    assert row["tpeak_tend_ms"] == pytest.approx(100 * (0.5 + 1 / np.pi), abs=5)


@FEW
@given(gain=st.floats(0.4, 4.0), signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=8, max_size=8))
def test_gain_and_polarity_of_the_leads_move_nothing(gain: float, signs: list[float]) -> None:
    ecg = analytic()
    turned = ECG(
        limb_from_independent(gain * np.array(signs)[:, None] * independent_from_leads(ecg.signal)), ecg.rate_hz
    )
    row, plain = measure(turned).row(0), measure(ecg).row(0)
    for name in INTERVALS:
        assert row[name] == pytest.approx(plain[name], abs=0.1), name


@FEW
@given(shift=st.integers(1, 700))
def test_where_the_strip_begins_does_not_matter(shift: int) -> None:
    long = analytic(seconds=12.0)
    shifted = ECG(long.signal[:, shift : shift + 5000], 500.0)
    row, plain = measure(shifted).row(0), measure(ECG(long.signal[:, :5000], 500.0)).row(0)
    for name in INTERVALS:
        assert row[name] == pytest.approx(plain[name], abs=2.1), name


@pytest.mark.parametrize("ahead_ms", [4, 8])
def test_pacing_spikes_do_not_begin_the_qrs(ahead_ms: int) -> None:
    ecg = analytic(p=False)
    signal = ecg.signal.copy()
    for r in range(450, 10000, 800):
        at = round((r + ONSET - ahead_ms) / 2)
        signal[:, at : at + 2] += 1.0
    row, plain = measure(ECG(signal, 500.0)).row(0), measure(ecg).row(0)
    assert row["n_beats"] == plain["n_beats"]
    for name in ("qrs_ms", "qt_ms"):
        assert row[name] == pytest.approx(plain[name], abs=4), name


def test_no_wave_of_a_heart_is_a_spike() -> None:
    leads = independent_from_leads(analytic(noise_mv=0.03).signal)[None]
    assert without_spikes(leads, 500.0) is leads
    assert without_spikes(3 * leads, 500.0) == pytest.approx(3 * leads)


def test_a_glitch_is_bridged_and_nothing_else_is_touched() -> None:
    leads = independent_from_leads(analytic().signal)[None]
    broken = leads.copy()
    broken[0, 3, 1900] += 2.0
    cleaned = without_spikes(broken, 500.0)
    assert cleaned[0, 3, 1900] == pytest.approx(leads[0, 3, 1900], abs=0.05)
    far = np.abs(np.arange(leads.shape[-1]) - 1900) > 10
    assert (cleaned[..., far] == broken[..., far]).all()
    assert without_spikes(broken, 128.0) is broken


def bigeminy() -> ECG:
    """Every other beat wide, premature and without P wave; as many of them as of conducted ones."""
    ecg = analytic(1400, 160, 400)
    t = times(ecg)
    wide = sum(bump(t, 450 + 1400 * k + 560, 70) - 0.45 * bump(t, 450 + 1400 * k + 560 + 260, 110) for k in range(8))
    return with_waves(ecg, np.array([1, 1.4, -1, -0.5, 0.6, 1.2, 1.3, 1.0])[:, None] * wide)


def test_in_bigeminy_the_conducted_beat_is_measured() -> None:
    intervals = measure(bigeminy())
    assert intervals.n_beats[0] == 14
    assert intervals.pr_ms[0] == pytest.approx(160, abs=8)
    assert intervals.qrs_ms[0] == pytest.approx(QRS_MS, abs=10)
    assert intervals.qt_ms[0] == pytest.approx(400, abs=6)


def test_a_t_wave_as_steep_as_its_wide_qrs_is_no_beat() -> None:
    t = np.arange(5000) * 2.0
    pattern = np.array([0.5, 0.8, -0.7, -0.9, -0.4, 0.3, 0.6, 0.7])[:, None]
    beats = np.arange(500, 10000, 900)
    qrs, wave = sum(bump(t, b, 62) for b in beats), sum(bump(t, b + 270, 66) for b in beats)
    ecg = ECG(limb_from_independent(pattern * qrs - 0.98 * pattern[::-1] * wave), 500.0)
    assert len(find_r_peaks(ecg)[0]) == len(beats)


def test_fibrillating_ventricles_give_no_intervals() -> None:
    rng = np.random.default_rng(1)
    t = np.arange(5000) / 500
    phase = np.cumsum(rng.normal(5.5, 14.0, (3, 5000)), axis=1) / 500 * 2 * np.pi
    sources = np.sin(phase) * (1 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.2, 0.5, (3, 1)) * t))
    ecg = ECG(limb_from_independent(rng.normal(0, 0.4, (8, 3)) @ sources), 500.0)
    intervals = measure(ecg)
    assert np.isnan(intervals.as_array(["pr_ms", "qrs_ms", "qt_ms", "tpeak_tend_ms"])).all()
    assert intervals.reason[0] in ("too few beats look alike", "no beats found", "only one beat found")


def test_flutter_waves_are_no_p_waves() -> None:
    ecg = analytic(828.0, p=False)
    t = times(ecg)
    waves = sum(bump(t, 450 - 180 + 207 * k, 60) for k in range(-4, 50))
    intervals = measure(with_waves(ecg, AMPLITUDES[:, 0, None] * waves))
    assert np.isnan(intervals.pr_ms[0])
    assert "keeps coming" in intervals.reason[0]


def test_two_p_waves_to_one_qrs_are_not_flutter() -> None:
    ecg = analytic(1300, 160, 400)
    waves = sum(bump(times(ecg), 450 + ONSET - 160 + P_HALF_MS - 650 + 1300 * k, P_HALF_MS) for k in range(9))
    assert measure(with_waves(ecg, AMPLITUDES[:, 0, None] * waves)).pr_ms[0] == pytest.approx(160, abs=8)


@pytest.mark.parametrize(("rr", "pr", "qt"), [(500, 150, 350), (480, 150, 350), (440, 150, 310)])
def test_a_p_wave_on_the_end_of_t_is_found_and_t_is_measured(rr: float, pr: float, qt: float) -> None:
    """P begins where T ends or up to 20 ms earlier."""
    row = measure(analytic(rr, pr, qt)).row(0)
    assert row["pr_ms"] == pytest.approx(pr, abs=15)
    assert row["qt_ms"] == pytest.approx(qt, abs=12)


@pytest.mark.parametrize("pr", [100, 280, 320])
def test_short_and_long_pr(pr: float) -> None:
    assert measure(analytic(1100, pr, 400)).pr_ms[0] == pytest.approx(pr, abs=8)


def test_the_foot_of_a_p_wave_is_not_taken_for_it() -> None:
    """A short PR lies far from where P waves usually peak; the bend before the P wave lies right there."""
    row = measure(analytic(900, 92, 400, noise_mv=0.002)).row(0)
    assert row["pr_ms"] == pytest.approx(92, abs=8)


def test_a_tilted_baseline_before_p_moves_it_little() -> None:
    ecg = analytic(1000, 170, 380)
    tilt = 0.03 * sum(bump(times(ecg), 450 + ONSET - 170 - 150 + 1000 * k, 160) for k in range(11))
    row, plain = measure(with_waves(ecg, AMPLITUDES[:, 4, None] * tilt)).row(0), measure(ecg).row(0)
    assert row["pr_ms"] == pytest.approx(plain["pr_ms"], abs=8)


def test_lead_ii_alone_is_enough() -> None:
    only = np.zeros_like(analytic().signal)
    only[LEADS.index("II")] = analytic().signal[LEADS.index("II")]
    row = measure(ECG(only, 500.0)).row(0)
    assert row["pr_ms"] == pytest.approx(160, abs=8)
    assert row["qt_ms"] == pytest.approx(400, abs=8)


def test_the_manual_t_end_lies_further_along_the_same_tangent() -> None:
    tangent, manual = measure(analytic()).row(0), measure(analytic(), rules=MANUAL).row(0)
    assert RULES.t_tail == 1.0  # the definition of the drug trials; risk limits and studies rest on it
    assert manual["qt_ms"] > tangent["qt_ms"] + 10
    for name in ("pr_ms", "qrs_ms", "jtpeak_ms"):
        assert manual[name] == tangent[name]


@pytest.mark.parametrize("rate_hz", [100.0, 128.0, 257.0, 360.0, 2000.0])
def test_odd_rates(rate_hz: float) -> None:
    row = measure(analytic(rate_hz=rate_hz)).row(0)
    for name, true in (("pr_ms", 160), ("qt_ms", 400), ("qrs_ms", QRS_MS)):
        assert row[name] == pytest.approx(true, abs=10), name


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.3])
def test_too_short_a_strip_gives_a_reason_and_no_interval(seconds: float) -> None:
    intervals = measure(analytic(seconds=seconds))
    assert intervals.reason[0]
    assert np.isnan(intervals.as_array(["pr_ms", "qrs_ms", "qt_ms"])).all()


@FEW
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["nan", "infinite", "flat", "steps", "huge"]))
def test_broken_strips_never_raise(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    signal = analytic(noise_mv=0.02, seed=seed).signal.copy()
    lead, at = rng.integers(12), rng.integers(4000)
    signal[lead, at : at + 50] = {"nan": np.nan, "infinite": np.inf, "flat": 0.0, "steps": 5.0, "huge": 1e6}[kind]
    if kind == "flat":
        signal[:, at:] = signal[:, at : at + 1]
    with np.errstate(all="ignore"):
        intervals = measure(ECG(signal, 500.0))
    if kind in ("nan", "infinite"):
        assert intervals.reason[0] == "samples that are not finite"
    assert len(intervals) == 1


def test_a_p_wave_that_begins_before_t_has_peaked_gives_neither() -> None:
    """Both run into one wave: no PR and no QT rather than wrong ones."""
    intervals = measure(analytic(400, 215, 330))
    assert np.isnan(intervals.qt_ms[0]) or intervals.qt_ms[0] == pytest.approx(330, abs=12)
    assert np.isnan(intervals.pr_ms[0]) or intervals.pr_ms[0] == pytest.approx(215, abs=15)
