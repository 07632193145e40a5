"""Intervals: what a cardiologist reads off a strip, one row per strip, in milliseconds and millivolts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

REGULAR_WITHIN = 0.06  # of the median RR; between the sinus rhythms and the atrial fibrillations of LUDB
JTPEAK_EXPONENT = 0.58  # J-Tpeak/RR^0.58 in FDA's crossover trials; Johannesen 2014 doi:10.1038/clpt.2014.155


@dataclass(frozen=True)
class Intervals:
    """One measured row per strip. What could not be measured is NaN (or False), and ``reason`` says why."""

    hr_bpm: np.ndarray  # (B,) [1/min] 60000 / rr_ms
    rr_ms: np.ndarray  # (B,) [ms] mean RR of the strip, so that hr_bpm counts beats also in AF
    rr_sd_ms: np.ndarray  # (B,) [ms] SD of the RR intervals of the strip, ectopic beats included
    pr_ms: np.ndarray  # (B,) [ms] P onset to QRS onset; NaN without P waves
    qrs_ms: np.ndarray  # (B,) [ms] earliest onset to latest end over the leads
    qt_ms: np.ndarray  # (B,) [ms] QRS onset to T end
    qtcf_ms: np.ndarray  # (B,) [ms] QT / (RR/s)^(1/3), Fridericia 1920
    qtcb_ms: np.ndarray  # (B,) [ms] QT / (RR/s)^(1/2), Bazett 1920
    jtpeak_ms: np.ndarray  # (B,) [ms] QRS end to T peak of the vector magnitude
    jtpeakc_ms: np.ndarray  # (B,) [ms] J-Tpeak / (RR/s)^0.58
    tpeak_tend_ms: np.ndarray  # (B,) [ms] T peak to T end
    r_amplitude_mv: np.ndarray  # (B,) [mV] largest vector magnitude within the QRS
    t_amplitude_mv: np.ndarray  # (B,) [mV] vector magnitude at the T peak
    p_present: np.ndarray  # (B,) bool
    regular: np.ndarray  # (B,) bool; False also where fewer than three beats were found
    n_beats: np.ndarray  # (B,) int, all beats, whatever their kind
    reason: tuple[str, ...]  # (B,) "" or what could not be measured and why

    @classmethod
    def from_readings(cls, readings: Mapping[str, np.ndarray]) -> Intervals:
        """Readings ``(B,)`` by name, such as a ``Look``; what they lack is worked out of them, or NaN."""
        rr_s, n = 60 / readings["hr_bpm"], len(readings["hr_bpm"])
        worked_out: dict[str, Any] = {
            "rr_ms": 1000 * rr_s, "rr_sd_ms": np.full(n, np.nan), "qtcb_ms": readings["qt_ms"] / np.sqrt(rr_s),
            "jtpeak_ms": readings["jtpeakc_ms"] * rr_s**JTPEAK_EXPONENT, "p_present": readings["p_present"] > 0.5,
            "regular": readings["regular"] > 0.5, "n_beats": np.nan_to_num(readings["n_beats"]).astype(int),
            "reason": ("",) * n,
        }  # fmt: skip
        columns: dict[str, Any] = {f.name: readings[f.name] for f in fields(cls) if f.name not in worked_out}
        return cls(**columns, **worked_out)

    def __len__(self) -> int:
        return len(self.reason)

    def row(self, index: int) -> dict[str, float]:
        """One strip's numbers by name; booleans as 0 and 1, ``reason`` left out."""
        return {name: float(getattr(self, name)[index]) for name in NUMERIC}

    def as_array(self, names: Sequence[str]) -> np.ndarray:
        """The named columns side by side, ``(B, len(names))`` float64."""
        if unknown := [name for name in names if name not in NUMERIC]:
            raise ValueError(f"columns {unknown} were asked for; expected names out of {NUMERIC}; check the spelling")
        columns = [np.asarray(getattr(self, name), dtype=float) for name in names]
        return np.stack(columns, axis=-1) if columns else np.empty((len(self), 0))

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, float]], reasons: Sequence[str]) -> Intervals:
        """A batch from one mapping per strip; a name that a row does not hold is NaN (or False, or 0)."""
        columns: dict[str, np.ndarray] = {
            name: np.array([row.get(name, _ABSENT.get(name, np.nan)) for row in rows], dtype=_DTYPES.get(name, float))
            for name in NUMERIC
        }
        return cls(**columns, reason=tuple(reasons))


NUMERIC = tuple(f.name for f in fields(Intervals) if f.name != "reason")
_DTYPES: dict[str, type] = {"p_present": bool, "regular": bool, "n_beats": int}
_ABSENT: dict[str, float] = {"p_present": False, "regular": False, "n_beats": 0}


def corrected(qt_ms: Any, jtpeak_ms: Any, rr_ms: Any) -> dict[str, Any]:
    """QT (Fridericia, Bazett) and J-Tpeak referred to a rate of 60/min [ms], of numbers or arrays alike."""
    rr_s = rr_ms / 1000
    return {
        "qtcf_ms": qt_ms / rr_s ** (1 / 3),
        "qtcb_ms": qt_ms / rr_s**0.5,
        "jtpeakc_ms": jtpeak_ms / rr_s**JTPEAK_EXPONENT,
    }


def is_regular(rr_ms: np.ndarray) -> bool:
    """Whether RR intervals keep time: half of them lie within 6 % of their median.

    A single extrasystole is forgiven; bigeminy and atrial fibrillation are not. A description, not a diagnosis. Two
    intervals are needed to say anything: fewer are not regular.
    """
    if len(rr_ms) < 2:
        return False
    typical = median(rr_ms)
    return median(np.abs(rr_ms - typical)) <= REGULAR_WITHIN * typical


def median(x: np.ndarray) -> float:
    """``np.median`` of ``(N,)`` numbers without its overhead; a strip asks for some ten of them."""
    half = len(x) // 2
    ordered = np.sort(x)
    return float(ordered[half] if len(x) % 2 else (ordered[half - 1] + ordered[half]) / 2)
