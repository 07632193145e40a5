"""Data: WFDB records in and out, splits that keep people apart, and virtual drug trials."""

from ecg_gym.datasets.marks import Wave, read_marks
from ecg_gym.datasets.records import Record, read_record, write_record

__all__ = ["Record", "Wave", "read_marks", "read_record", "write_record"]
