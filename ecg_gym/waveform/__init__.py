"""Waveforms: filters, R peaks, the typical beat, intervals in milliseconds, the model grid and ECG paper."""

from ecg_gym.waveform.beats import Beat, find_r_peaks, median_beat
from ecg_gym.waveform.filters import bandpass, remove_baseline, resample
from ecg_gym.waveform.grid import best_start, to_model_grid
from ecg_gym.waveform.intervals import Intervals
from ecg_gym.waveform.measurement import measure

__all__ = [
    "Beat",
    "Intervals",
    "bandpass",
    "best_start",
    "find_r_peaks",
    "measure",
    "median_beat",
    "remove_baseline",
    "resample",
    "to_model_grid",
]
