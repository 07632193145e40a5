"""Recordings of cardiac electrophysiology: one folder format, three converters into it, activation times out of it."""

from ecg_gym.datasets.ep.activation import activation_times
from ecg_gym.datasets.ep.carto import convert_carto
from ecg_gym.datasets.ep.edgar import convert_edgar
from ecg_gym.datasets.ep.folder import read_ep, write_ep
from ecg_gym.datasets.ep.optical import convert_optical
from ecg_gym.datasets.ep.recording import EPRecording, SitePacing

__all__ = [
    "EPRecording",
    "SitePacing",
    "activation_times",
    "convert_carto",
    "convert_edgar",
    "convert_optical",
    "read_ep",
    "write_ep",
]
