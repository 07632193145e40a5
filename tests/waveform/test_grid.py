"""Filters keep time, the model grid begins 0.4 s before an R peak, and paper is paper."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_ecg import analytic

from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S
from ecg_gym.waveform import bandpass, best_start, find_r_peaks, measure, remove_baseline, resample, to_model_grid


@pytest.mark.parametrize(("rate_hz", "target_hz"), [(102.4, 500.0), (500.0, 102.4), (360.0, 500.0), (1000.0, 102.4)])
def test_a_slow_sine_survives_resampling(rate_hz: float, target_hz: float) -> None:
    def sine(rate: float) -> np.ndarray:
        return np.sin(2 * np.pi * 7.3 * np.arange(round(10 * rate)) / rate + 0.4)

    resampled = resample(sine(rate_hz)[None], rate_hz, target_hz)[0]
    inner = slice(round(0.5 * target_hz), round(9.5 * target_hz))
    assert resampled.shape == sine(target_hz).shape
    assert resampled[inner] == pytest.approx(sine(target_hz)[inner], abs=2e-3)


def test_nothing_is_aliased() -> None:
    mains = np.sin(2 * np.pi * 60 * np.arange(5000) / 500)
    assert np.abs(resample(mains[None], 500.0, 102.4)[0, 50:-50]).max() < 1e-2


def test_wander_goes_and_the_heart_stays() -> None:
    ecg = analytic(noise_mv=0.0)
    wander = 0.8 * np.sin(2 * np.pi * 0.15 * np.arange(5000) / 500).astype(np.float32)
    calm = remove_baseline(ecg.signal + wander, 500.0) - remove_baseline(ecg.signal, 500.0)
    assert np.abs(calm[:, 500:-500]).max() < 0.03
    assert bandpass(np.ones((1, 5000)), 500.0, (0.2, 0.6), (35.0, 50.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rate_hz", [100.0, 102.4, 500.0, 512.0, 1000.0])
@pytest.mark.parametrize("seconds", [8.0, 10.0, 23.0])
def test_the_grid_begins_before_an_r_peak(rate_hz: float, seconds: float) -> None:
    ecg = to_model_grid(analytic(730, rate_hz=rate_hz, seconds=seconds))
    assert ecg.signal.shape == (12, MODEL_SAMPLES)
    assert ecg.rate_hz == MODEL_RATE_HZ
    peaks = find_r_peaks(ecg)[0]
    assert peaks[0] / MODEL_RATE_HZ == pytest.approx(R_PEAK_OFFSET_S, abs=1.1 / MODEL_RATE_HZ)
    assert np.diff(peaks) / MODEL_RATE_HZ == pytest.approx(0.73, abs=2.1 / MODEL_RATE_HZ)  # also at the seam


def test_the_grid_keeps_einthoven_missing_leads_and_batches() -> None:
    ecg = analytic(noise_mv=0.02)
    grid = to_model_grid(ecg)
    one, two, three = grid.lead("I"), grid.lead("II"), grid.lead("III")
    assert three == pytest.approx(two - one, abs=1e-5)
    signal = ecg.signal.copy()
    signal[LEADS.index("V3")] = 0
    partial = to_model_grid(ECG(signal, 500.0, missing=("V3",)))
    assert not partial.lead("V3").any()
    assert partial.missing == ("V3",)
    batch = to_model_grid(ECG(np.stack([ecg.signal, analytic(900).signal]), 500.0))
    assert batch.signal[0] == pytest.approx(grid.signal, abs=1e-6)


def test_intervals_survive_the_grid() -> None:
    ecg = analytic(820, 170, 410)
    before, after = measure(ecg).row(0), measure(to_model_grid(ecg)).row(0)
    for name, tolerance in (("rr_ms", 2), ("pr_ms", 6), ("qrs_ms", 6), ("qt_ms", 4), ("tpeak_tend_ms", 5)):
        assert after[name] == pytest.approx(before[name], abs=tolerance), name


def test_of_a_long_strip_the_quiet_part_is_taken() -> None:
    ecg = analytic(800, seconds=30.0)
    signal = ecg.signal.copy()
    noise = np.random.default_rng(0).standard_normal((12, 15000)) * 0.2
    noise[:, 7000:12500] = 0
    start = best_start(ECG(signal + noise, 500.0))
    assert 13.9 < start < 15.1
    assert np.abs(find_r_peaks(ecg)[0] / 500 - start - R_PEAK_OFFSET_S).min() < 0.01


def test_a_strip_without_beats_is_still_put_on_the_grid() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal((12, 4500))
    assert np.isfinite(to_model_grid(ECG(noise, 500.0)).signal).all()


def test_too_short_and_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lasts 6.00 s; expected at least 8 s; record"):
        to_model_grid(analytic(seconds=6.0))
    signal = analytic().signal.copy()
    signal[3, 7] = np.nan
    with pytest.raises(ValueError, match=r"holds 1 samples that are not finite; expected numbers in mV; set"):
        to_model_grid(ECG(signal, 500.0))


def test_a_second_is_25_mm_and_a_millivolt_10() -> None:
    from matplotlib.figure import Figure

    from ecg_gym.waveform.plotting import ROW_MM, draw_strip, draw_twelve_leads

    square = np.zeros((12, 500))
    square[:, 100:150] = 1.0
    ax = Figure().add_subplot()
    draw_strip(ax, ECG(square, 100.0), leads=("II", "V5"))
    x, y = ax.lines[0].get_data()
    assert x[-1] == pytest.approx(4.99 * 25)
    assert np.ptp(y) == pytest.approx(10)
    assert ax.get_xlim() == (0, 125)
    assert ax.get_ylim() == (0, 2 * ROW_MM)
    sheet = draw_twelve_leads(ECG(square, 100.0, missing=("V1",)), title="a title")
    words = [text.get_text() for text in sheet.axes[0].texts] + [text.get_text() for text in sheet.texts]
    assert set(LEADS) - {"V1"} <= set(words)
    assert {"V1 (missing)", "a title"} <= set(words)
    with pytest.raises(ValueError, match="expected one strip"):
        draw_twelve_leads(ECG(np.zeros((2, 12, 100)), 100.0))
