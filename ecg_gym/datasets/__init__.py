"""Data: WFDB records in and out, splits that keep people apart, and virtual drug trials."""

from ecg_gym.datasets.annotations import Wave, read_marks
from ecg_gym.datasets.records import Record, read_record, write_record
from ecg_gym.datasets.simulated import Simulated, Simulation, read_simulated, simulate

__all__ = [
    "Record",
    "Simulated",
    "Simulation",
    "Wave",
    "read_marks",
    "read_record",
    "read_simulated",
    "simulate",
    "write_record",
]
