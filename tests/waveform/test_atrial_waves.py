"""Whether a wave comes again within a flutter's cycle, on made cycles of which we know."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.waveform.atrial_waves import recurrence
from ecg_gym.waveform.delineation import RULES
from ecg_gym.waveform.rules import MS, numbers

WIDTH, ONSET, END = round(1200 * MS), round(600 * MS), round(690 * MS)
TIME = np.arange(WIDTH) / MS  # [ms]
QRS = np.where((TIME >= 600) & (TIME < 690), np.sin(np.pi * (TIME - 600) / 90), 0.0)


def comes_again(wave: np.ndarray, qrs_mv: float = 1.0, drift_mv: float = 0.0) -> float:
    """The recurrence of a wave in three leads under a QRS, on a line that drifts so far over the cycle."""
    signal = np.outer([1.0, 0.5, -0.7], wave + qrs_mv * QRS) + drift_mv * TIME / TIME[-1]
    return recurrence(signal.astype(np.float32), ONSET, END, 500.0, numbers(RULES))


def test_a_sawtooth_comes_again_and_noise_does_not() -> None:
    assert comes_again(0.2 * np.sin(2 * np.pi * TIME / 200)) > 0.95
    assert comes_again(0.2 * np.random.default_rng(0).normal(size=WIDTH)) < 0.6


@pytest.mark.parametrize("period_ms", [200.0, 240.0])
def test_the_qrs_is_bridged_by_a_straight_line(period_ms: float) -> None:
    """Neither its height nor a drift of the baseline, which the bridge goes on with, changes what is read."""
    wave = 0.1 * np.sin(2 * np.pi * TIME / period_ms)
    plain = comes_again(wave)
    assert comes_again(wave, qrs_mv=3.0) == pytest.approx(plain, abs=1e-6)
    assert comes_again(wave, drift_mv=2.0) == pytest.approx(plain, abs=5e-3)
