"""Median beats of the FDA trials: the fiducials that the published intervals were measured from.

``medians/<subject>/<id>.atr`` marks a beat on its vector magnitude: P onset ``(``, QRS onset ``(``, R peak ``N`` (in
ECGCIPA only), QRS end ``)``, T peak ``t`` (a second one where there is), T end ``)``; at 1 kHz a sample is 1 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecg_gym.datasets.records import record_annotation, record_header


def median_intervals(record: Path) -> dict[str, float | None] | None:
    """PR, QRS, QT, JTPEAK and TPEAKTEND [ms] from a median beat's annotation, None where a mark is absent.

    None in all where there is no annotation.
    """
    if not record.with_name(f"{record.name}.atr").is_file():
        return None
    annotation = record_annotation(record, "atr")
    if annotation is None:
        return None
    rate = annotation.fs or 1000.0
    return intervals_from(
        [(1000.0 * sample / rate, mark) for sample, mark in zip(annotation.sample, annotation.symbol)]
    )


def intervals_from(marks: Sequence[tuple[float, str]]) -> dict[str, float | None]:
    """Intervals [ms] from marks ``(time [ms], symbol)``: onsets before the first T peak, ends on either side of it."""
    times = {symbol: sorted(time for time, mark in marks if mark == symbol) for symbol in ("(", "N", "t", ")")}
    t_peak = times["t"][0] if times["t"] else None
    split = float("inf") if t_peak is None else t_peak
    onsets = [time for time in times["("] if time < split]
    early, late = [time for time in times[")"] if time < split], [time for time in times[")"] if time > split]
    qrs_onset, qrs_end = (onsets[-1] if onsets else None), (early[0] if early else None)
    p_onset, t_end = (onsets[-2] if len(onsets) > 1 else None), (late[-1] if late else None)
    return {
        "PR": _difference(p_onset, qrs_onset),
        "QRS": _difference(qrs_onset, qrs_end),
        "QT": _difference(qrs_onset, t_end),
        "JTPEAK": _difference(qrs_end, t_peak),
        "TPEAKTEND": _difference(t_peak, t_end),
    }


def header_is_corrupt(record: Path) -> bool:
    """Whether a median beat's header cannot be read, or names a signal file that is not there."""
    try:
        header, base = record_header(record)
    except (ValueError, FileNotFoundError):
        return True
    return any(not (base.parent / name).is_file() for name in header.file_name or ())


def _difference(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
