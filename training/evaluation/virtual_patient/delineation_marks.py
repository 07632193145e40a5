"""Reference intervals out of annotated WFDB records, for the study of the delineator.

The global reference of a beat is the lower quartile over the leads of the marked onsets and the upper quartile of the
marked ends (earliest and latest, robust to two stray leads of twelve); where all leads were marked at once, these marks
themselves. The reference of a record is the median over its beats. A PR is expected where at least 60 % of the beats
have a marked P wave; a T mark belongs to a beat only before the next beat's QRS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_gym.core import ECG
from ecg_gym.datasets import Wave, read_marks, read_record
from ecg_gym.datasets.annotations import annotators

INTERVALS = ("pr_ms", "qrs_ms", "qt_ms")
REFERENCES = ("global", "lead II")
FEWEST_LEADS = 6  # a beat is scored if at least half the leads are marked
FEWEST_BEATS = 3  # marked beats a record must hold
P_SHARE = 0.6


@dataclass(frozen=True)
class Annotated:
    """Records that somebody has marked."""

    names: tuple[str, ...]
    headers: tuple[str, ...]  # text of each header
    strips: tuple[ECG, ...]  # (12, T) each
    truths: Mapping[str, Mapping[str, np.ndarray]]  # [reference][interval] (N,) [ms], NaN where too little was marked
    skipped: tuple[str, ...]  # names of records with marks that could not be read or hold too few, and why


def load(records: Path, limit: int | None = None) -> Annotated:
    """Every record in the folder that has marks of wave boundaries (the first ``limit`` of them by name).

    Raises ValueError where there is none, saying which annotators were found instead.
    """
    names: list[str] = []
    headers: list[str] = []
    strips: list[ECG] = []
    skipped: list[str] = []
    truths: dict[str, dict[str, list[float]]] = {name: {i: [] for i in INTERVALS} for name in REFERENCES}
    others: set[str] = set()
    for header in sorted(records.rglob("*.hea")):
        if limit is not None and len(names) >= limit:
            break
        marks = read_marks(header)
        if not marks:
            others |= {file.suffix for file in annotators(header)}
            continue
        try:
            strip, marks = _strip_and_marks(header, marks)
        except ValueError as error:
            skipped.append(f"{header.stem}: {error}")
            continue
        names.append(header.stem)
        headers.append(header.read_text(encoding="utf-8", errors="replace"))
        strips.append(strip)
        for reference, leads in (("global", marks), ("lead II", {"II": marks["II"]} if "II" in marks else {})):
            for interval, value in reference_intervals(leads).items():
                truths[reference][interval].append(value)
    if not names:
        result = f"only annotators without wave boundaries ({', '.join(sorted(others))})" if others else "none"
        why = f"; {len(skipped)} were skipped, the first because {skipped[0]}" if skipped else ""
        raise ValueError(
            f"{records} holds no record with marks (annotators found: {result}{why}); expected WFDB records with the "
            "begin and end of P, QRS and T marked '(' and ')', one annotation file per lead (.i .ii ... .v6, as in "
            "LUDB) or one for all leads (.q1c, .pu ..., as in QTDB); point --records at such a folder"
        )
    arrays = {name: {i: np.array(v) for i, v in rows.items()} for name, rows in truths.items()}
    return Annotated(tuple(names), tuple(headers), tuple(strips), arrays, tuple(skipped))


def _strip_and_marks(header: Path, marks: Mapping[str, list[Wave]]) -> tuple[ECG, dict[str, list[Wave]]]:
    """The 10 s of the record that hold most marked beats, and the marks in there, [s] from the start of those 10 s."""
    record = read_record(header, allow_missing_leads=True)
    if record.total_s > record.ecg.seconds + 1e-6:
        beats = np.sort(np.unique([wave.peak_s for lead in marks.values() for wave in lead if wave.kind == "N"]))
        inside = np.searchsorted(beats, beats + record.ecg.seconds - 1) - np.arange(len(beats))
        start = float(beats[np.argmax(inside)]) - 0.5 if len(beats) else 0.0
        record = read_record(header, allow_missing_leads=True, start_s=start)
    seconds = record.ecg.seconds
    shifted = {
        lead: [
            Wave(wave.kind, wave.onset_s - record.start_s, wave.peak_s - record.start_s, wave.end_s - record.start_s)
            for wave in waves
            if 0 <= wave.peak_s - record.start_s < seconds
        ]
        for lead, waves in marks.items()
    }
    most = max((sum(wave.kind == "N" for wave in waves) for waves in shifted.values()), default=0)
    if most < FEWEST_BEATS:
        raise ValueError(f"no 10 s hold {FEWEST_BEATS} marked beats (the most were {most})")
    return record.ecg, shifted


def groups(names: Sequence[str], headers: Sequence[str]) -> dict[str, np.ndarray]:
    """Which records belong to which group, ``(N,)`` bool each; what a header says of pacing and rhythm is believed."""
    paced = np.array(["pacing" in text.lower() for text in headers])
    number = np.array([int("".join(c for c in name if c.isdigit()) or 0) for name in names])
    fibrillating = np.array(["fibrillation" in text.lower() or "flutter" in text.lower() for text in headers])
    return {
        "all": np.ones(len(names), dtype=bool),
        "all but paced": ~paced,
        "even, not paced": ~paced & (number % 2 == 0),
        "odd, not paced": ~paced & (number % 2 == 1),
        "fibrillation or flutter": fibrillating & ~paced,
        "paced": paced,
    }


def reference_intervals(marks: Mapping[str, Sequence[Wave]]) -> dict[str, float]:
    """PR, QRS and QT [ms] of a record by its marks; NaN where too little was marked."""
    result: dict[str, list[float]] = {name: [] for name in INTERVALS}
    beats = list(_beats(marks))
    for qrs, p, t in beats:
        onset, end = _quartiles(qrs)
        result["qrs_ms"].append(end - onset)
        if len(p) >= min(FEWEST_LEADS, len(marks)):
            result["pr_ms"].append(onset - _quartiles(p)[0])
        if len(t) >= min(FEWEST_LEADS, len(marks)):
            result["qt_ms"].append(_quartiles(t)[1] - onset)
    if len(result["pr_ms"]) < P_SHARE * (len(beats) - 1):  # the first beat of a strip often has no marked P
        result["pr_ms"] = []
    return {name: 1000 * float(np.nanmedian(v)) if np.isfinite(v).any() else float("nan") for name, v in result.items()}


def _beats(marks: Mapping[str, Sequence[Wave]]) -> Iterator[tuple[list[Wave], list[Wave], list[Wave]]]:
    """QRS, P and T marks of each beat, one per lead that has it."""
    waves = [wave for lead in marks.values() for wave in lead]
    at = np.sort([wave.peak_s for wave in waves if wave.kind == "N"])
    centres = np.array(
        [np.median(group) for group in np.split(at, np.flatnonzero(np.diff(at) > 0.12) + 1) if len(group)]
    )
    for r, following in zip(centres, np.append(centres[1:], np.inf)):
        if np.sum(np.abs(at - r) < 0.12) < min(FEWEST_LEADS, len(marks)):
            continue
        t_last = min(0.70, following - r - 0.06)
        yield tuple(  # type: ignore[misc]
            [wave for wave in waves if wave.kind == kind and first < wave.peak_s - r < last]
            for kind, first, last in (("N", -0.12, 0.12), ("p", -0.50, -0.04), ("t", 0.04, t_last))
        )


def _quartiles(waves: Sequence[Wave]) -> tuple[float, float]:
    """Lower quartile of the onsets and upper quartile of the ends [s]."""
    onsets = [wave.onset_s for wave in waves if np.isfinite(wave.onset_s)]
    ends = [wave.end_s for wave in waves if np.isfinite(wave.end_s)]
    return (
        float(np.percentile(onsets, 25)) if onsets else float("nan"),
        float(np.percentile(ends, 75)) if ends else float("nan"),
    )
