"""Intervals of an analytic ECG whose QRS onset and end, P onset and T end we chose; symmetries; honest failures."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_ecg import QRS_MS, analytic

from ecg_gym.core import ECG, LEADS
from ecg_gym.waveform import Intervals, find_r_peaks, measure, median_beat, resample
from ecg_gym.waveform.intervals import NUMERIC, corrected, is_regular


@pytest.mark.parametrize(("rr", "pr", "qt"), [(800, 160, 400), (1200, 220, 440), (600, 130, 340), (450, 110, 290)])
def test_chosen_intervals_are_read_back(rr: float, pr: float, qt: float) -> None:
    row = measure(analytic(rr, pr, qt)).row(0)
    assert row["hr_bpm"] == pytest.approx(60000 / rr, abs=0.2)
    assert row["rr_ms"] == pytest.approx(rr, abs=1)
    assert row["pr_ms"] == pytest.approx(pr, abs=8)
    assert row["qrs_ms"] == pytest.approx(QRS_MS, abs=8)
    assert row["qt_ms"] == pytest.approx(qt, abs=6)
    assert row["p_present"]
    assert row["regular"]


def test_ten_ms_more_are_measured_as_ten_ms_more() -> None:
    rows = [measure(analytic(900, pr, qt)).row(0) for pr, qt in ((150, 380), (160, 400), (170, 420))]
    assert np.diff([row["qt_ms"] for row in rows]) == pytest.approx([20, 20], abs=1)
    assert np.diff([row["pr_ms"] for row in rows]) == pytest.approx([10, 10], abs=2.1)
    assert np.diff([row["tpeak_tend_ms"] for row in rows]) == pytest.approx([0, 0], abs=2.1)


def test_parts_add_up_and_corrections_follow_their_formulae() -> None:
    row = measure(analytic(640)).row(0)
    assert row["qrs_ms"] + row["jtpeak_ms"] + row["tpeak_tend_ms"] == pytest.approx(row["qt_ms"])
    rr_s = row["rr_ms"] / 1000
    assert row["qtcf_ms"] == pytest.approx(row["qt_ms"] / np.cbrt(rr_s))
    assert row["qtcb_ms"] == pytest.approx(row["qt_ms"] / np.sqrt(rr_s))
    assert row["jtpeakc_ms"] == pytest.approx(row["jtpeak_ms"] / rr_s**0.58)
    assert corrected(400, 200, 1000) == {"qtcf_ms": 400, "qtcb_ms": 400, "jtpeakc_ms": 200}


@pytest.mark.parametrize("rate_hz", [102.4, 250.0, 512.0, 1000.0])
def test_the_sampling_rate_does_not_matter(rate_hz: float) -> None:
    reference, other = measure(analytic()).row(0), measure(analytic(rate_hz=rate_hz)).row(0)
    for name in ("rr_ms", "pr_ms", "qrs_ms", "qt_ms", "tpeak_tend_ms"):
        assert other[name] == pytest.approx(reference[name], abs=4.1), name  # two samples of the 500 Hz grid


def test_a_batch_is_its_rows() -> None:
    strips = [analytic(rr, noise_mv=0.01, seed=rr) for rr in (600, 800, 1000)]
    batch = measure(ECG(np.stack([strip.signal for strip in strips]), 500.0))
    for i, strip in enumerate(strips):
        assert batch.row(i) == pytest.approx(measure(strip).row(0), nan_ok=True, rel=1e-5)


def test_twice_the_gain_changes_amplitudes_only() -> None:
    one, two = measure(analytic()).row(0), measure(ECG(2 * analytic().signal, 500.0)).row(0)
    for name in NUMERIC:
        factor = 2 if name.endswith("_mv") else 1
        assert two[name] == pytest.approx(factor * one[name], rel=1e-4), name


def test_the_order_of_independent_leads_and_their_polarity_do_not_matter() -> None:
    ecg = analytic()
    swapped = ecg.signal.copy()
    swapped[6:12] = -ecg.signal[[11, 9, 10, 7, 6, 8]]
    assert measure(ECG(swapped, 500.0)).row(0) == pytest.approx(measure(ecg).row(0), rel=1e-4)


def test_a_missing_lead_is_only_a_lead_less() -> None:
    signal = analytic().signal.copy()
    signal[LEADS.index("V4")] = 0
    row, whole = measure(ECG(signal, 500.0, missing=("V4",))).row(0), measure(analytic()).row(0)
    for name in ("pr_ms", "qrs_ms", "qt_ms"):
        assert row[name] == pytest.approx(whole[name], abs=6)


def test_noise_of_50_microvolt_does_little() -> None:
    clean, noisy = measure(analytic()).row(0), measure(analytic(noise_mv=0.05)).row(0)
    for name, tolerance in (("pr_ms", 12), ("qrs_ms", 12), ("qt_ms", 8), ("rr_ms", 3)):
        assert noisy[name] == pytest.approx(clean[name], abs=tolerance), name


def test_no_p_waves_no_pr() -> None:
    intervals = measure(analytic(p=False, noise_mv=0.01))
    assert np.isnan(intervals.pr_ms[0])
    assert not intervals.p_present[0]
    assert "P wave" in intervals.reason[0]
    assert np.isfinite(intervals.qt_ms[0])


def test_fibrillation_is_irregular_and_without_pr() -> None:
    rng = np.random.default_rng(3)
    gaps = rng.uniform(500, 1000, 30)
    ecg = analytic(gaps, p=False)
    t = np.arange(ecg.signal.shape[-1]) / 500
    waves = 0.06 * np.sin(2 * np.pi * 6.3 * t + 2 * np.sin(2 * np.pi * 0.4 * t))
    signal = ecg.signal.copy()
    signal[1:3] += waves.astype(np.float32)
    signal[6:8] += waves.astype(np.float32)
    intervals = measure(ECG(signal, 500.0))
    assert not intervals.regular[0]
    assert np.isnan(intervals.pr_ms[0])
    assert intervals.rr_ms[0] == pytest.approx(np.diff(find_r_peaks(ECG(signal, 500.0))[0]).mean() * 2)


def test_an_extrasystole_does_not_move_the_typical_beat() -> None:
    gaps = np.full(20, 800.0)
    gaps[4:6] = 500, 1100
    ecg, plain = analytic(gaps), analytic(800.0)
    t = np.arange(5000) * 2.0
    at = 450 + gaps[:5].sum()
    wide = 1.5 * np.exp(-0.5 * ((t - at) / 35) ** 2)
    signal = ecg.signal + np.where(np.arange(12) < 6, 1, -1)[:, None] * wide
    intervals = measure(ECG(signal, 500.0))
    assert intervals.n_beats[0] == len(find_r_peaks(ecg)[0])
    beat = median_beat(ECG(signal, 500.0))[0]
    assert beat is not None
    assert not beat.members[np.argmin(np.abs(beat.peaks * 2 - at))]
    assert intervals.qt_ms[0] == pytest.approx(measure(plain).qt_ms[0], abs=6)
    assert intervals.regular[0]


@pytest.mark.parametrize("kind", ["flat", "noise", "wander"])
def test_no_beats_no_numbers(kind: str) -> None:
    t = np.arange(5000) / 500
    signal = {
        "flat": np.zeros((12, 5000)),
        "noise": 0.2 * np.random.default_rng(0).standard_normal((12, 5000)),
        "wander": np.tile(0.5 * np.sin(2 * np.pi * 0.3 * t), (12, 1)),
    }[kind]
    intervals = measure(ECG(signal, 500.0))
    assert intervals.reason == ("no beats found",)
    numbers = ["hr_bpm", "rr_ms", "pr_ms", "qrs_ms", "qt_ms", "qtcf_ms", "t_amplitude_mv"]
    assert np.isnan(intervals.as_array(numbers)).all()
    assert intervals.n_beats[0] == 0


def test_nan_in_one_strip_leaves_its_neighbours_alone() -> None:
    signal = np.stack([analytic().signal] * 3)
    signal[1, 4, 100] = np.nan
    intervals = measure(ECG(signal, 500.0))
    assert intervals.reason == ("", "samples that are not finite", "")
    assert np.isfinite(intervals.qt_ms).tolist() == [True, False, True]


def test_as_array_knows_its_columns() -> None:
    intervals = measure(analytic())
    assert intervals.as_array(["hr_bpm", "qt_ms"]).shape == (1, 2)
    assert len(intervals) == 1
    assert Intervals.from_rows([], []).as_array(["qt_ms"]).shape == (0, 1)
    with pytest.raises(ValueError, match=r"columns \['qtc'\] were asked for; expected names out of .*; check"):
        intervals.as_array(["qtc"])


@pytest.mark.parametrize("rate_hz", [0.001, 49.0])
def test_a_rate_at_which_no_qrs_is_seen_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match=r"rate_hz is .*; expected at least 50 Hz.*; pass the rate"):
        measure(ECG(np.zeros((12, 1024)), rate_hz))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method is 'best'; expected one of .*; 'global'"):
        measure(analytic(), method="best")


def test_regularity_forgives_one_beat_and_not_fibrillation() -> None:
    assert is_regular(np.array([800, 805, 500, 1100, 800, 795, 801.0]))
    assert not is_regular(np.array([600, 900, 550, 1000, 700, 820.0]))
    assert not is_regular(np.array([800.0]))


def test_r_peaks_are_found_where_they_are() -> None:
    ecg = analytic(700, noise_mv=0.02)
    expected = np.arange(450, 10000, 700) / 2
    assert find_r_peaks(ecg)[0] == pytest.approx(expected, abs=5)
    slow = ECG(resample(ecg.signal, 500.0, 102.4), 102.4)
    assert find_r_peaks(slow)[0] == pytest.approx(expected * 102.4 / 500, abs=1.5)


@pytest.mark.slow
def test_neurokit_agrees_on_rate_and_roughly_on_qt() -> None:
    pytest.importorskip("neurokit2")
    ours, theirs = measure(analytic()).row(0), measure(analytic(), method="neurokit").row(0)
    assert theirs["hr_bpm"] == pytest.approx(ours["hr_bpm"])
    assert theirs["qt_ms"] == pytest.approx(ours["qt_ms"], abs=70)  # its known error


@pytest.mark.slow
def test_manual_marks_of_ludb(real_data) -> None:
    """The goals: PR and QRS within 4 ms, SD 12; QT with a manual-like T end within 5 ms, SD 15. Half of
    the records (their marks take wfdb a fifth of a second each); `ecg-gym study delineation` reads them all."""
    from training.evaluation.virtual_patient.delineation import compare

    methods = ("global", "global, manual T end")
    rows = [row for row in compare(real_data("ludb"), methods, limit=75) if row["reference"] == "global"]
    table = {(row["interval"], row["method"]): row for row in rows if row["records"] == "all but paced"}
    for interval, bias, sd in (("pr_ms", 4, 12), ("qrs_ms", 4, 12), ("qt_ms", 5, 15)):
        row = table[interval, "global, manual T end"]
        assert abs(row["bias_ms"]) <= bias
        assert row["sd_ms"] <= sd
        assert row["failures"] <= 0.02 * row["n"]
    assert -32 <= table["qt_ms", "global"]["bias_ms"] <= -18  # the trials' tangent ends earlier than a reader's T wave
