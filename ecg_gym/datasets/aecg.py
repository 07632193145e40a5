"""HL7 annotated ECG (aECG, ``AnnotatedECG`` XML): a ``Source``, read with the standard library."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ecg_gym.datasets.channels import Channel, Source

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_TIMES = ("TIME_ABSOLUTE", "TIME_RELATIVE")


def read_aecg(path: Path) -> Source:
    """The leads of the longest series of an HL7 v3 annotated ECG.

    Raises ValueError for another kind of XML and for values that are not written as scaled lists of digits.
    """
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError(f"{path} declares a DOCTYPE; expected plain HL7 aECG XML; export it without entities")
    try:
        root = ET.fromstring(content)
    except ET.ParseError as error:
        raise ValueError(f"{path} is no XML ({error}); expected an HL7 aECG file; export it once more") from error
    if _name(root) != "AnnotatedECG":
        raise ValueError(
            f"{path} is XML of the kind {_name(root)!r}; expected AnnotatedECG (HL7 aECG); export the record as aECG, "
            "DICOM, EDF or CSV"
        )
    try:
        sets = [_sequences(element) for element in _all(root, "sequenceSet")]
        rate, channels = max(((r, c) for r, c in sets if c), key=lambda series: len(series[1][0][1]))
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path} has no series of leads that can be read ({error or type(error).__name__}); expected lists of "
            "digits with a scale and a time increment; export the record as WFDB, EDF or CSV"
        ) from error
    leads = tuple(Channel(label, signal, unit, rate) for label, signal, unit in channels)
    return Source(path.stem, str(path), leads, _age(root), _attribute(root, "administrativeGenderCode", "code"))


Lead = tuple[str, np.ndarray, str]  # label, (T,) in unit, unit


def _sequences(element: ET.Element) -> tuple[float, list[Lead]]:
    """The rate [Hz] and the leads of one sequence set."""
    rate, leads = 0.0, []
    for sequence in _all(element, "sequence"):
        code = _attribute(sequence, "code", "code")
        value = next(_all(sequence, "value"))
        if code in _TIMES:
            increment = next(_all(value, "increment"))
            rate = 1 / (float(increment.attrib["value"]) * SECONDS[increment.attrib["unit"]])
            continue
        origin, scale = next(_all(value, "origin")), next(_all(value, "scale"))
        digits = np.array((next(_all(value, "digits")).text or "").split(), dtype=float)
        if origin.attrib.get("unit") != scale.attrib["unit"] and float(origin.attrib["value"]):
            raise ValueError(f"{code} has its origin and its scale in different units")
        signal = float(origin.attrib["value"]) + float(scale.attrib["value"]) * digits
        leads.append((code, signal, scale.attrib["unit"]))
    return rate, leads if rate > 0 else []


def _age(root: ET.Element) -> str:
    """Years between the birth and the recording, or ""."""
    birth = _attribute(root, "birthTime", "value")
    effective = next(_all(root, "effectiveTime"), None)
    start = _attribute(effective, "low", "value") if effective is not None else ""
    start = start or (effective.attrib.get("value", "") if effective is not None else "")
    if not (birth[:8].isdigit() and start[:8].isdigit() and len(birth) >= 4 and len(start) >= 8):
        return ""
    years = int(start[:4]) - int(birth[:4])
    return str(years - (len(birth) >= 8 and start[4:8] < birth[4:8]))


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (child for child in element.iter() if _name(child) == name)


def _attribute(element: ET.Element, name: str, attribute: str) -> str:
    child = next(_all(element, name), None)
    return "" if child is None else child.attrib.get(attribute, "")
