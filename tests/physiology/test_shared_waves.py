"""Shared waves: a beat that differs by less than a microvolt gets waves that differ by microvolts."""

from __future__ import annotations

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ
from ecg_gym.physiology.multilead import EVERY, FIRST_S, TIME_S
from ecg_gym.physiology.shared_waves import fit_shared
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform.beats import RATE_HZ, median_beat


def test_waves_do_not_jump_with_the_noise_of_a_beat() -> None:
    strips = VirtualPatient().initial(24, np.random.default_rng(5)).ecg
    beats = [beat for beat in median_beat(ECG(strips, MODEL_RATE_HZ)) if beat is not None]
    first = beats[0].r + round(FIRST_S * RATE_HZ)
    columns = slice(first, first + EVERY * len(TIME_S), EVERY)
    typical = np.stack([beat.signal[:, columns] for beat in beats]).astype(float)
    share = np.ones((len(typical), len(TIME_S)))
    noise_mv = np.random.default_rng(0).normal(0, 3e-5, typical.shape)
    before, after = fit_shared(typical, TIME_S, share), fit_shared(typical + noise_mv, TIME_S, share)
    moved_uv = 1000 * np.abs(after.gain_mv - before.gain_mv).max(axis=(1, 2))
    assert np.quantile(moved_uv, 0.9) < 2
    assert (moved_uv > 20).sum() <= 1  # about one heart in a hundred: its shared T wave has two nearly equal fits
    assert np.nanmedian(before.r2) > 0.96
