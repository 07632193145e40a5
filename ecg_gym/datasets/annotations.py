"""Marks: where a reader saw waves begin, peak and end, from WFDB annotation files in the layouts that are in use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.datasets.channels import lead_of
from ecg_gym.datasets.wfdb_files import SUFFIXES, record_annotation, record_header

ALL_LEADS = "all"  # the key of marks that were made once for all leads together
MANUAL_FIRST = ("q1c", "q2c", "qt1", "qt2", "pu", "pu0")  # where several annotators marked all leads: QTDB's order
BEATS = frozenset("NLRBAaJSVrFejnE/fQ")  # WFDB codes of a QRS of whatever kind


@dataclass(frozen=True)
class Wave:
    """One wave as a reader marked it; a boundary that was not marked is NaN."""

    kind: str  # "p", "N" (QRS of any kind) or "t", as in WFDB
    onset_s: float  # [s] from the start of the file, like the other two
    peak_s: float
    end_s: float


def read_marks(path: str | os.PathLike[str]) -> dict[str, list[Wave]]:
    """The waves marked in each lead of a record; empty where nobody marked the boundaries of waves.

    Two layouts are understood: one annotator per lead, named after it (``.i .ii ... .v6``, as in LUDB), and one for all
    leads with brackets round the waves (``.q1c``, ``.pu`` ..., as in QTDB), whose marks are those of the channels named
    in its ``chan`` field, or of ``"all"`` leads where it names only one. Manual annotators go before automatic ones.
    Annotators with beats only (``.atr``) hold no boundaries and count as none.
    """
    header, base = record_header(path)
    by_lead = {lead: file for file in annotators(path) if (lead := lead_of(file.suffix[1:])) is not None}
    if by_lead:
        return {lead: _waves(*_read(base, file, header)[:2]) for lead, file in by_lead.items()}
    for file in sorted(annotators(path), key=_preference):
        symbols, seconds, channel = _read(base, file, header)
        if "(" in symbols and ")" in symbols:
            return _by_channel(symbols, seconds, channel, header)
    return {}


def annotators(path: str | os.PathLike[str]) -> list[Path]:
    """Files beside a record's header that may hold annotations, by name."""
    _, base = record_header(path)
    return [
        file
        for file in sorted(base.parent.glob(f"{base.name}.*"))
        if file.suffix not in SUFFIXES and file.suffix[1:].isalnum() and file.suffix not in (".xws", ".txt", ".csv")
    ]


def _preference(file: Path) -> tuple[int, str]:
    name = file.suffix[1:]
    return (MANUAL_FIRST.index(name) if name in MANUAL_FIRST else len(MANUAL_FIRST), name)


def _read(base: Path, file: Path, header: Any) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Symbols, times [s] and channels of one annotator; nothing where the file holds no WFDB annotations."""
    annotation = record_annotation(base, file.suffix[1:])
    if annotation is None:
        return [], np.empty(0), np.empty(0, int)
    rate = annotation.fs or header.fs
    return list(annotation.symbol), np.asarray(annotation.sample) / rate, np.asarray(annotation.chan)


def _by_channel(symbols: Sequence[str], seconds: np.ndarray, channel: np.ndarray, header: Any) -> dict[str, list[Wave]]:
    """Waves by the lead of their channel, or of all leads where only one channel is named."""
    numbers = np.unique(channel)
    if len(numbers) < 2:
        return {ALL_LEADS: _waves(symbols, seconds)}
    marks = {}
    for number in numbers:
        mine = np.flatnonzero(channel == number)
        label = header.sig_name[number] if number < len(header.sig_name) else str(number)
        marks[lead_of(label) or label] = _waves([symbols[int(i)] for i in mine], seconds[mine])
    return marks


def _waves(symbols: Sequence[str], seconds: np.ndarray) -> list[Wave]:
    """Waves out of the sequence ``( p ) ( N ) ( t )``; a bracket belongs to the peak next to it."""
    last = len(symbols) - 1
    return [
        Wave(
            "N" if symbol in BEATS else symbol,
            float(seconds[i - 1]) if i > 0 and symbols[i - 1] == "(" else float("nan"),
            float(seconds[i]),
            float(seconds[i + 1]) if i < last and symbols[i + 1] == ")" else float("nan"),
        )
        for i, symbol in enumerate(symbols)
        if symbol in BEATS or symbol in ("p", "t")
    ]
