"""DICOM ECG: a ``Source`` through pydicom (``pip install 'ecg-gym[files]'``). The only file that knows pydicom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.datasets.channels import Channel, Source, lead_of
from ecg_gym.datasets.edf import MISSING

# Lead codes of DICOM's context group 3001, coding scheme MDC 2:N and SCPECG 5.6.3-9-N: DICOM PS3.16 (recalled).
_CODES = {"1": "I", "2": "II", "61": "III", "62": "aVR", "63": "aVL", "64": "aVF"} | {
    str(2 + n): f"V{n}" for n in range(1, 7)
}


def read_dicom(path: Path) -> Source:
    """The channels of the longest waveform group, in mV by their sensitivity and its unit.

    Raises ImportError without pydicom, ValueError for a file that is no DICOM waveform.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(MISSING.format(kind="DICOM", package="pydicom")) from error
    try:
        data = pydicom.dcmread(path)
        groups = data.WaveformSequence
        place = max(range(len(groups)), key=lambda i: groups[i].NumberOfWaveformSamples)
        signal = np.asarray(data.waveform_array(place), dtype=float)
        group = groups[place]
        rate = float(group.SamplingFrequency)
        channels = tuple(
            Channel(_label(definition), signal[:, i], _unit(definition), rate)
            for i, definition in enumerate(group.ChannelDefinitionSequence)
        )
    except (pydicom.errors.InvalidDicomError, AttributeError, ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} cannot be read ({' '.join(str(error).split())[:120]}); expected a DICOM file with a 12-lead "
            "waveform; export the ECG itself, not a picture or a report of it"
        ) from error
    return Source(path.stem, str(path), channels, str(data.get("PatientAge", "")), str(data.get("PatientSex", "")))


def _label(definition: Any) -> str:
    """The lead's name by its meaning ("Lead I (Einthoven)"), its label, or its code."""
    source = definition.ChannelSourceSequence[0] if "ChannelSourceSequence" in definition else None
    meaning = re.sub(r"\(.*?\)", "", str(source.get("CodeMeaning", ""))).strip() if source is not None else ""
    label = str(definition.get("ChannelLabel", "")).strip()
    code = re.split(r"[:\-]", str(source.get("CodeValue", "")))[-1] if source is not None else ""
    names = [name for name in (meaning, label, _CODES.get(code, "")) if name and lead_of(name)]
    return names[0] if names else meaning or label or code or "?"


def _unit(definition: Any) -> str | None:
    units = definition.get("ChannelSensitivityUnitsSequence")
    return str(units[0].CodeValue) if units else None
