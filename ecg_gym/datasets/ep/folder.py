"""``read_ep(folder)`` and ``write_ep``: one recording as plain files, readable without this package.

    positions.csv    header x,y,z; one row per site [length_unit]
    signals.npy      (sites, samples) or (protocols, sites, samples) [unit]
    times.npy        (protocols, sites, beats, 2) [ms]   in place of signals, or beside them
    meta.yaml        kind, rate_hz, unit, and optionally length_unit, surface, pacing
    triangles.csv    header a,b,c; corners of the surface, from 0     (optional)
    vertices.csv     header x,y,z; corners that are not sites          (optional)
    nodes.csv        header x,y,z; nodes of the tissue, for electrodes (optional)
    lead_field.npy   (sites, nodes)                                    (optional)

``pacing`` in ``meta.yaml`` is one list of stimuli per protocol: ``[[{sites: [0, 1], onset_ms: 0.0}, ...], ...]``.
"""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import yaml

from ecg_gym.datasets.ep.recording import KINDS, EPRecording, as_pacing
from ecg_gym.io import atomic_write

UNITS = {"1": {"1": 1.0}, "mV": {"mV": 1.0, "uV": 1e-3, "V": 1e3}, "ms": {"ms": 1.0}}  # unit of the kind -> factors
LENGTHS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3}  # to mm
KEYS = {"kind", "rate_hz", "unit", "length_unit", "surface", "pacing", "note"}
MAX_BYTES = 4_000_000_000  # of one array


def read_ep(folder: Path | str) -> EPRecording:
    """The recording in a folder, in mm, ms and the unit of its kind; ``ValueError`` for what does not fit."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected one with positions.csv and meta.yaml; check the path")
    meta = _meta(folder / "meta.yaml")
    kind = meta["kind"]
    length = _factor("length_unit", meta.get("length_unit", "mm"), LENGTHS)
    factor = _factor("unit", str(meta.get("unit", KINDS[kind])), UNITS[KINDS[kind]])
    signal = _array(folder / "signals.npy")
    if signal is not None:
        with np.errstate(all="ignore"):
            signal = (factor * (signal[None] if signal.ndim == 2 else signal)).astype(np.float32)
    position = _table(folder / "positions.csv", "xyz", required=True)
    assert position is not None
    return EPRecording(
        kind=kind,
        position=length * position,
        rate_hz=meta["rate_hz"],
        signal=signal,
        times=_array(folder / "times.npy"),
        pacing=_pacing(meta.get("pacing")),
        triangles=_whole(_table(folder / "triangles.csv", "abc")),
        vertices=_scaled(length, _table(folder / "vertices.csv", "xyz")),
        nodes=_scaled(length, _table(folder / "nodes.csv", "xyz")),
        lead_field=_array(folder / "lead_field.npy"),
        surface=str(meta.get("surface", "")),
    )


def write_ep(recording: EPRecording, folder: Path | str) -> Path:
    """Write a recording as such a folder, each file aside and renamed; ``meta.yaml`` comes last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"positions": recording.position, "vertices": recording.vertices, "nodes": recording.nodes}
    for name, points in tables.items():
        if points is not None:
            _write(folder / f"{name}.csv", _csv("x,y,z", points, "%.6f"))
    if recording.triangles is not None:
        _write(folder / "triangles.csv", _csv("a,b,c", recording.triangles, "%d"))
    for name, array in (
        ("signals", recording.signal),
        ("times", recording.times),
        ("lead_field", recording.lead_field),
    ):
        if array is not None:
            with atomic_write(folder / f"{name}.npy") as aside:
                np.save(aside, array, allow_pickle=False)
    meta: dict[str, Any] = {"kind": recording.kind, "rate_hz": float(recording.rate_hz), "unit": KINDS[recording.kind]}
    if recording.surface:
        meta["surface"] = recording.surface
    if recording.pacing:
        meta["pacing"] = [
            [{"sites": list(sites), "onset_ms": onset} for sites, onset in zip(row.sites, row.onset_ms)]
            for row in recording.pacing
        ]
    _write(folder / "meta.yaml", yaml.safe_dump(meta, sort_keys=False))
    return folder


def _meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"{path.parent} has no meta.yaml; expected one with kind, rate_hz and unit; see ecg_gym.datasets.ep"
        )
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"meta.yaml cannot be read ({type(error).__name__}); expected YAML in UTF-8; correct it"
        ) from None
    if not isinstance(meta, dict) or not {"kind", "rate_hz"} <= set(meta) or set(meta) - KEYS:
        keys = sorted(map(str, meta)) if isinstance(meta, dict) else type(meta).__name__
        raise ValueError(
            f"meta.yaml has {keys}; expected kind and rate_hz, and of the others only {sorted(KEYS)}; correct it"
        )
    if meta["kind"] not in KINDS:
        raise ValueError(f"kind is {meta['kind']!r}; expected one of {tuple(KINDS)}; correct meta.yaml")
    return meta


def _factor(name: str, unit: str, factors: dict[str, float]) -> float:
    if unit not in factors:
        raise ValueError(f"{name} is {unit!r}; expected one of {tuple(factors)}; correct meta.yaml")
    return factors[unit]


def _array(path: Path) -> np.ndarray | None:
    return load_numbers(path) if path.is_file() else None


def load_numbers(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file as float64; ``ValueError`` for anything else, and nothing in it is executed."""
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError, OverflowError, SyntaxError, TypeError, MemoryError, TokenError) as error:
        what = type(error).__name__
        raise ValueError(
            f"{path.name} cannot be read ({what}); expected an array of numbers; save it with np.save"
        ) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path.name} holds {getattr(array, 'dtype', 'several arrays')}; expected numbers; convert it")
    if array.nbytes > MAX_BYTES:
        raise ValueError(
            f"{path.name} has {array.nbytes / 1e9:.1f} GB; expected at most {MAX_BYTES / 1e9:g} GB; cut it"
        )
    with np.errstate(all="ignore"):  # what does not fit is not finite, and the recording says so
        return np.array(array, dtype=np.float64)


def _table(path: Path, columns: str, required: bool = False) -> np.ndarray | None:
    """``(rows, 3)`` of a CSV file with the header that ``columns`` spells."""
    if not path.is_file():
        if required:
            raise ValueError(f"{path.parent} has no {path.name}; expected one row per site; add it")
        return None
    header = ",".join(columns)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        if lines[0].strip().replace(" ", "").lower() != header:
            raise ValueError(f"its first line is {lines[0][:40]!r}")
        return np.array([[float(cell) for cell in line.split(",")] for line in lines[1:] if line.strip()]).reshape(
            -1, 3
        )
    except ValueError as error:
        raise ValueError(
            f"{path.name} cannot be read ({error}); expected the header {header} and numbers; correct it"
        ) from None


def _whole(table: np.ndarray | None) -> np.ndarray | None:
    return None if table is None else table.astype(int)


def _scaled(factor: float, table: np.ndarray | None) -> np.ndarray | None:
    return None if table is None else factor * table


def _pacing(rows: Any) -> tuple[Any, ...]:
    if not rows:
        return ()
    try:
        return as_pacing([[(stimulus["sites"], stimulus["onset_ms"]) for stimulus in row] for row in rows])
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"pacing is {str(rows)[:80]}; expected [[{{sites: [0], onset_ms: 0.0}}, ...], ...], a list per "
            "protocol; correct it"
        ) from None


def _csv(header: str, rows: np.ndarray, form: str) -> str:
    return "\n".join([header, *(",".join(form % cell for cell in row) for row in rows)]) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")
