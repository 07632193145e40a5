"""EDGAR ``.mat`` files (Consortium for ECG Imaging; Aras K et al. 2015, J Electrocardiol 48:975) as recordings.

A signal file holds a struct with ``potvals`` (leads x samples); a geometry file a struct with ``node`` or ``pts`` and,
if there is a surface, ``face`` or ``fac`` (corners from 1). Names of the variables differ between experiments, so the
fields decide. Known traps: one set is stored transposed, and two say mV where they mean uV; neither is mended silently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from ecg_gym.datasets.ep.folder import LENGTHS, UNITS
from ecg_gym.datasets.ep.recording import EPRecording, as_pacing

POINTS, CORNERS = ("node", "pts"), ("face", "fac")
RATES = ("samplefrequency", "samplerate", "sampling_rate", "fs", "rate")


def convert_edgar(
    signals: Path | str | list[Path | str],
    geometry: Path | str,
    *,
    rate_hz: float | None = None,
    unit: str | None = None,
    length_unit: str = "mm",
    transposed: bool = False,
    pacing: list[list[tuple[list[int], float]]] | None = None,
    surface: str = "",
) -> EPRecording:
    """Electrograms of one or more ``.mat`` files (one per protocol, cut to the shortest) over one geometry.

    ``rate_hz`` and ``unit`` are needed where the files do not hold them. ``transposed`` swaps sites and samples.
    ``ValueError`` for files that do not fit.
    """
    points, triangles = _geometry(Path(geometry))
    if length_unit not in LENGTHS:
        raise ValueError(f"length_unit is {length_unit!r}; expected one of {tuple(LENGTHS)}; correct it")
    paths = [Path(p) for p in (signals if isinstance(signals, list) else [signals])]
    parts = [_signals(path, len(points), rate_hz, unit, transposed) for path in paths]
    rates = {rate for _, rate in parts}
    if len(rates) != 1:
        raise ValueError(f"the files have the rates {sorted(rates)} Hz; expected one; resample them")
    shortest = min(values.shape[1] for values, _ in parts)
    return EPRecording(
        kind="electrogram",
        position=LENGTHS[length_unit] * points,
        rate_hz=rates.pop(),
        signal=np.stack([values[:, :shortest] for values, _ in parts]).astype(np.float32),
        pacing=as_pacing(pacing) if pacing else (),
        triangles=triangles,
        surface=surface,
    )


def _signals(
    path: Path, sites: int, rate_hz: float | None, unit: str | None, transposed: bool
) -> tuple[np.ndarray, float]:
    """``(sites, T)`` [mV] and the rate [Hz]."""
    row = _struct(path, ("potvals",), "signals")
    values = np.atleast_2d(np.asarray(row["potvals"], dtype=float))
    values = values.T if transposed else values
    if values.shape[0] != sites:
        hint = "pass transposed=True" if values.shape[-1] == sites else "pass the geometry of these leads"
        raise ValueError(f"{path.name} has signals of shape {values.shape}; expected ({sites} sites, samples); {hint}")
    rate = rate_hz or next((float(row[name]) for name in RATES if name in row and np.size(row[name]) == 1), None)
    if not rate:
        raise ValueError(f"{path.name} says no sampling rate; expected one of the fields {RATES}; pass rate_hz=1000.0")
    name = unit or _unit(row.get("unit"))
    if name not in UNITS["mV"]:
        raise ValueError(f"{path.name} has the unit {name!r}; expected one of {tuple(UNITS['mV'])}; pass unit='mV'")
    return UNITS["mV"][name] * values, rate


def _geometry(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """``(N, 3)`` points and ``(F, 3)`` triangles from 0, or None."""
    row = _struct(path, POINTS, "a geometry")
    points = _threes(next(row[name] for name in POINTS if name in row), path, "points")
    corners = next((row[name] for name in CORNERS if name in row and np.size(row[name])), None)
    if corners is None:
        return points, None
    triangles = _threes(corners, path, "triangles").astype(int)
    return points, triangles - int(triangles.min() > 0)


def _threes(values: Any, path: Path, what: str) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 2 or 3 not in array.shape:
        raise ValueError(f"{path.name} has {what} of shape {array.shape}; expected 3 x N or N x 3; check the file")
    return array if array.shape[1] == 3 and array.shape[0] != 3 else array.T


def _struct(path: Path, fields: tuple[str, ...], what: str) -> dict[str, Any]:
    """The first struct of a file with one of the fields, as a dictionary; fields at the top level count as well."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}; expected {what} as .mat; check the path")
    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False, chars_as_strings=True)
    except NotImplementedError:
        raise ValueError(
            f"{path.name} is a .mat file of version 7.3 (HDF5); expected version 7 or lower; in MATLAB, save "
            "it with '-v7'"
        ) from None
    except (ValueError, OSError, TypeError, IndexError, KeyError, MatReadError) as error:
        raise ValueError(
            f"{path.name} cannot be read ({type(error).__name__}); expected a .mat file; export it again"
        ) from None
    rows = [vars(value) for value in content.values() if hasattr(value, "_fieldnames")]
    row = next((row for row in (*rows, content) if any(name in row for name in fields)), None)
    if row is None:
        names = sorted(name for name in content if not name.startswith("__"))
        raise ValueError(
            f"{path.name} holds {names}; expected {what}: a struct with {' or '.join(fields)}; pass another file"
        )
    return row


def _unit(value: Any) -> str | None:
    text = value.strip() if isinstance(value, str) else None
    return text.replace("µ", "u").replace("μ", "u") if text else None
