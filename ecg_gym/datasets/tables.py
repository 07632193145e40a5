"""Tables: a CSV or NumPy file with one column per lead becomes a ``Source``.

The sampling rate is given or is in the file: ``rate_hz`` in a ``.npz``, a column ``time_s`` or ``time_ms`` in a CSV.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecg_gym.core import LEADS
from ecg_gym.datasets.channels import Channel, Source

CLOCKS = {"time_s": 1.0, "time_ms": 1e-3, "t_s": 1.0, "t_ms": 1e-3}  # name of a column -> seconds in its unit
_HEAD = re.compile(r"^\s*(?P<label>.*?)\s*(?:[\[(](?P<unit>[^\])]+)[\])])?\s*$")
_NO_RATE = "pass the sampling rate in Hz: --rate 500, or read_record(path, rate_hz=500)"


def read_table_file(path: Path, rate_hz: float | None = None, leads: Sequence[str] | None = None) -> Source:
    """The named columns of a ``.csv``, ``.tsv``, ``.txt``, ``.npy`` or ``.npz`` file.

    Columns are named in the first line of a CSV (``I``, ``V1 (uV)``), by the fields of a ``.npy`` or the arrays of a
    ``.npz``; for a bare matrix, samples by leads or leads by samples, ``leads`` names them. Without a unit a column is
    in mV. Raises ValueError for columns without names, a rate that nobody states, and what is no number.
    """
    columns, stated = _from_numpy(path, leads) if path.suffix.lower() in (".npy", ".npz") else _from_text(path, leads)
    rate = rate_hz if rate_hz is not None else stated
    if rate is None or not np.isfinite(rate) or rate <= 0:
        raise ValueError(f"{path} says no sampling rate; expected one, in the file or beside it; {_NO_RATE}")
    heads = {name: _HEAD.match(name) for name in columns}
    channels = tuple(
        Channel(head["label"], np.asarray(columns[name], dtype=float), head["unit"], float(rate))
        for name, head in heads.items()
        if head is not None
    )
    return Source(path.stem, str(path), channels)


Columns = dict[str, np.ndarray]


def _from_text(path: Path, leads: Sequence[str] | None) -> tuple[Columns, float | None]:
    """Columns of a CSV by name, and the rate [Hz] of its clock if it has one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2:
        raise ValueError(f"{path} has {len(lines)} lines; expected a line of names and one per sample; check the file")
    mark = max(";\t,", key=lines[0].count)
    rows = list(csv.reader(lines, delimiter=mark))
    names, rows = _names(rows, leads, path)
    comma = mark != ","  # then a comma is a decimal point
    try:
        numbers = np.array([[_number(word, comma) for word in row[: len(names)]] for row in rows], dtype=float)
    except ValueError as error:
        raise ValueError(
            f"{path} holds something that is no number ({error}); expected one number per lead and line; mend the file"
        ) from error
    if numbers.ndim != 2 or numbers.shape[1] != len(names):
        raise ValueError(f"{path} has {len(names)} names and lines of other lengths; expected the same; mend the file")
    columns = dict(zip(names, numbers.T))
    for name in list(columns):
        plain = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
        if plain in CLOCKS:
            step = float(np.median(np.diff(columns.pop(name)))) * CLOCKS[plain]
            return columns, float(f"{1 / step:.9g}") if step > 0 else None
    return columns, None


def _names(rows: list[list[str]], leads: Sequence[str] | None, path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows of numbers."""
    first = [word.strip() for word in rows[0]]
    has_header = not all(_is_number(word) for word in first if word)
    if has_header:
        return first, rows[1:]
    return _lead_names(leads, len(first), path), rows


def _lead_names(leads: Sequence[str] | None, count: int, path: Path) -> list[str]:
    if leads is None or len(leads) != count:
        count_names = "none" if leads is None else f"{len(leads)}"
        raise ValueError(
            f"{path} has {count} columns without names and {count_names} were given; expected a name for each; pass "
            f"--leads {','.join(LEADS)} in the order of the columns, or name them in the file"
        )
    return list(leads)


def _is_number(word: str) -> bool:
    try:
        float(word.replace(",", "."))
    except ValueError:
        return False
    return True


def _number(word: str, comma: bool) -> float:
    word = word.strip()
    return float(word.replace(",", ".") if comma else word) if word else np.nan


def _from_numpy(path: Path, leads: Sequence[str] | None) -> tuple[Columns, float | None]:
    """Columns of a NumPy file by name, and the rate [Hz] if it holds one."""
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); expected a NumPy file of numbers without pickled objects; "
            "save it with np.savez(path, rate_hz=500, I=..., II=...)"
        ) from error
    if isinstance(file, np.lib.npyio.NpzFile):
        with file:
            arrays = {name: file[name] for name in file.files}
        rate = next((float(arrays.pop(name)) for name in ("rate_hz", "fs", "rate") if name in arrays), None)
        if len(arrays) == 1 and next(iter(arrays.values())).ndim == 2:
            return _matrix(next(iter(arrays.values())), leads, path), rate
        return {name: array for name, array in arrays.items() if array.ndim == 1}, rate
    if file.dtype.names:
        return {name: file[name] for name in file.dtype.names}, None
    return _matrix(file, leads, path), None


def _matrix(array: np.ndarray, leads: Sequence[str] | None, path: Path) -> Columns:
    """A bare matrix; the shorter side is that of the leads."""
    if array.ndim != 2:
        raise ValueError(f"{path} holds an array of shape {array.shape}; expected leads by samples; save one strip")
    rows = array if array.shape[0] <= array.shape[1] else array.T
    return dict(zip(_lead_names(leads, len(rows), path), rows))
