"""Microvolts that pass as millivolts are refused, wander and a single artefact are not."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_ecg import analytic

from ecg_gym.core import ECG
from ecg_gym.waveform import measure, to_model_grid
from ecg_gym.waveform.amplitude import check_amplitude, largest_swing_mv

STRIP = analytic()


def test_the_swing_of_a_strip_is_that_of_its_largest_lead() -> None:
    largest = np.ptp(STRIP.signal, axis=-1).max()
    assert largest_swing_mv(STRIP.signal, 500) == pytest.approx(largest, rel=0.02)
    assert largest_swing_mv(STRIP.signal[None], 500) == largest_swing_mv(STRIP.signal, 500)
    assert largest_swing_mv(np.full((12, 5000), np.nan), 500) == 0


def test_neither_wander_nor_one_artefact_counts() -> None:
    t = np.arange(5000) / 500
    wander = STRIP.signal + 15 * np.sin(2 * np.pi * 0.05 * t)
    artefact = STRIP.signal.copy()
    artefact[3, 2000:2010] = 500
    for signal in (wander, artefact):
        check_amplitude(signal, 500)


def test_an_array_in_microvolts_is_refused_or_not_measured() -> None:
    wrong = ECG(STRIP.signal * 1000, 500)
    with pytest.raises(ValueError, match="expected at most 20 mV; check gain and unit"):
        to_model_grid(wrong)
    measured = measure(wrong)
    assert np.isnan(measured.qtcf_ms[0])
    assert "check gain and unit" in measured.reason[0]
    assert np.isfinite(measure(STRIP).qtcf_ms[0])
