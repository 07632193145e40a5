"""The quick ways of the delineator beside the plain ones they stand for; and a row alone is the row in its batch."""

from __future__ import annotations

import numpy as np
import pytest
from slow_measure.measurement import measure as slow_measure

from ecg_gym.core import ECG, MODEL_RATE_HZ
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform import measure
from ecg_gym.waveform.arrays import median_of, share_of
from ecg_gym.waveform.beats import RATE_HZ, conditioned, r_peaks_of
from ecg_gym.waveform.families import alikeness
from ecg_gym.waveform.intervals import NUMERIC, median
from ecg_gym.waveform.p_marks import stand_out
from ecg_gym.waveform.rules import RULES, numbers


@pytest.fixture(scope="module")
def strips() -> np.ndarray:
    """Virtual people of any rhythm, one in fibrillation of the ventricles, one blank."""
    some = VirtualPatient().initial(9, np.random.default_rng(4)).ecg
    vf = VirtualPatient().initial(1, np.random.default_rng(4), rhythm="vf").ecg
    return np.concatenate([some, vf, np.zeros_like(vf)])


def test_a_row_does_not_depend_on_its_batch_to_the_last_bit(strips: np.ndarray) -> None:
    many = np.concatenate([strips] * 6)[:64]
    together = measure(ECG(many, MODEL_RATE_HZ)).as_array(NUMERIC)
    for rows in ([0], [9], [5, 3], list(range(11)), [10, 2, 7, 1, 0, 4, 6]):
        part = measure(ECG(strips[rows], MODEL_RATE_HZ)).as_array(NUMERIC)
        assert np.array_equal(part, together[rows], equal_nan=True)


def alikeness_plainly(leads: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every QRS, cut out at every lag, centred, normalised, and multiplied with every other."""
    lags, window = np.arange(-12, 13), np.arange(-40, 41, 2)
    columns = np.clip(peaks[:, None, None] + lags[:, None] + window, 0, leads.shape[-1] - 1)
    pieces = leads[:, columns].transpose(1, 2, 0, 3).astype(float)
    pieces = (pieces - pieces.mean(axis=-1, keepdims=True)).reshape(len(peaks), len(lags), -1)
    pieces /= np.linalg.norm(pieces, axis=-1, keepdims=True) + 1e-9
    match = pieces @ pieces[:, len(lags) // 2].T
    return match, lags


def test_alikeness_is_the_correlation_at_the_best_lag(strips: np.ndarray) -> None:
    leads = conditioned(ECG(strips, MODEL_RATE_HZ))
    compared = 0
    for row, peaks in zip(leads, r_peaks_of(leads)):
        if len(peaks) < 2:
            continue
        plainly, lags = alikeness_plainly(row, peaks)
        alike, lag = alikeness(row, peaks)
        np.testing.assert_allclose(alike, plainly.max(axis=1), atol=2e-5)
        chosen = np.take_along_axis(plainly, (lag - lags[0])[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(chosen, plainly.max(axis=1), atol=2e-5)  # of two lags as good either may be taken
        compared += 1
    assert compared >= 9


def test_alikeness_at_the_ends_of_a_strip() -> None:
    rng = np.random.default_rng(0)
    leads = rng.normal(size=(8, 700)).astype(np.float32)
    peaks = np.array([0, 3, 300, 690, 699])
    np.testing.assert_allclose(alikeness(leads, peaks)[0], alikeness_plainly(leads, peaks)[0].max(axis=1), atol=2e-5)


def test_median_and_quarter_are_numpys() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 4, 5, 16, 101):
        for x in (rng.normal(size=n), rng.normal(size=n).astype(np.float32), rng.integers(9, size=n)):
            assert median(x) == np.median(x)
            assert median_of(x.copy(), n) == pytest.approx(np.median(x), rel=1e-6)
            assert share_of(x.copy(), n, 0.25) == pytest.approx(np.percentile(x, 25), rel=1e-6)


def bump(leads: np.ndarray) -> np.ndarray:
    out = np.empty(leads.shape, np.float32)
    stand_out(leads.astype(np.float32), 0, leads.shape[1], numbers(RULES), out)
    return out


def test_a_bump_stands_out_of_the_line_between_its_sides() -> None:
    t = np.arange(200) / RATE_HZ
    line = np.stack([3 * t - 1, 0 * t + 2])
    assert np.abs(bump(line)[:, 30:-30]).max() < 1e-6
    bell = line + 0.1 * np.exp(-0.5 * ((t - 0.2) / 0.01) ** 2)
    assert bump(bell)[:, 100].min() > 0.05


def test_intervals_are_those_of_the_slow_way() -> None:
    """All but single samples of 2 ms: the QRS band comes from one spectrum, so a beat at an edge may differ."""
    strips = ECG(VirtualPatient().initial(96, np.random.default_rng(4)).ecg, MODEL_RATE_HZ)
    fast, slow = measure(strips), slow_measure(strips)
    for name in NUMERIC:
        own, other = np.asarray(getattr(fast, name), float), np.asarray(getattr(slow, name), float)
        assert np.mean(np.isnan(own) != np.isnan(other)) < 0.02, name
        error = np.abs(own - other)[np.isfinite(own) & np.isfinite(other)]
        assert np.median(error) < 1e-3, name
        assert np.mean(error > (0.01 if name.endswith("_mv") else 2.01)) <= 0.05, name
    assert np.mean([own != other for own, other in zip(fast.reason, slow.reason)]) < 0.02
