"""Real trajectories as the shards that training and studies read: strips on the model grid, doses as what they do.

    written = write_shards(trajectories, sides, Path("data/fda"), about={"profile": "paper"})
    written.left_out  # ECGs that could not be used, by reason

A shard is one of ``make_shards``: where a virtual patient's truth stands there, the intervals that the trial published
stand here. ``trials.json`` beside them says who each trajectory is, what was given and when, and what was left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import LEADS, MODEL_SAMPLES, Administration, Treatment, independent_from_leads
from ecg_gym.datasets import splits
from ecg_gym.datasets.records import read_record
from ecg_gym.datasets.transitions import TRUTHS, Trials, concatenate
from ecg_gym.io import write_npz
from ecg_gym.real_trials.manifest import RealTrial, Written, write_manifest
from ecg_gym.real_trials.profiles import SIDES
from ecg_gym.real_trials.trajectories import Strip, Trajectory
from ecg_gym.waveform import to_model_grid

SUBJECTS = "subjects.json"  # the side of every subject, in the form of ``splits.write``
LARGEST_MV = 10.0  # beyond it no electrode on a chest measures a heart
STRIPS_PER_SHARD = 512  # about; a subject is never divided
PATIENTS_PER_SHARD = 1000  # numbers that a shard may give to trajectories
_LAST_DIGIT = {"train": tuple(range(8)), "validation": (8,), "test": (9,)}  # of a shard's number, see ``split_of``


def write_shards(
    trajectories: Sequence[Trajectory],
    sides: Mapping[str, str],
    folder: Path,
    about: Mapping[str, Any] | None = None,
    left_out: Mapping[str, int] | None = None,
    progress: Callable[[int], None] = lambda strips: None,
) -> Written:
    """Write the shards of all trajectories, ``splits.json``, ``subjects.json`` and, last, ``trials.json``.

    ``sides`` says where each subject stands; ``left_out`` are ECGs that were left out before. An ECG that cannot be
    read (missing, flat or broken leads, too short, beyond 10 mV, no beats) is left out and counted; a trajectory of
    fewer than two strips is, too. ``progress`` is called for every strip. ValueError if the folder holds shards, if a
    subject has no side, or if nothing is left.
    """
    if folder.is_dir() and any(folder.glob("trials_*.npz")):
        raise ValueError(f"{folder} holds shards; expected an empty folder; choose another --out, or delete it")
    if unknown := sorted({t.subject for t in trajectories if sides.get(t.subject) not in SIDES}):
        raise ValueError(f"{unknown[:5]} have no side; expected one of {SIDES} for every subject; assign them")
    reasons: Counter[str] = Counter(left_out or {})
    trials: list[RealTrial] = []
    strips, shards = 0, {}
    for number, side, part in _packs(trajectories, sides):
        table, members = _shard(number, side, part, reasons, progress)
        if table is None:
            continue
        _save(folder / splits.shard_name(number), table)
        shards[number] = side
        strips += len(table)
        trials += members
    if not shards:
        raise ValueError(
            f"no ECG of {len(trajectories)} trajectories could be used ({dict(reasons)}); expected records beside the "
            "table; check the path"
        )
    splits.write_trials(folder, shards, PATIENTS_PER_SHARD)
    people = {trial.subject: trial.side.replace("validation", "val") for trial in trials}
    splits.write(folder / SUBJECTS, people)
    written = Written(folder, strips, tuple(trials), dict(reasons), dict(about or {}))
    write_manifest(written)
    return written


def _packs(trajectories: Sequence[Trajectory], sides: Mapping[str, str]) -> Iterator[tuple[int, str, list[Trajectory]]]:
    """Shard number, side and trajectories, whole subjects together."""
    by_subject: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        by_subject.setdefault(trajectory.subject, []).append(trajectory)
    for side in SIDES:
        numbers = (10 * decade + digit for decade in count() for digit in _LAST_DIGIT[side])
        pack: list[Trajectory] = []
        for own in (own for subject, own in by_subject.items() if sides[subject] == side):
            strips = sum(len(trajectory.strips) for trajectory in [*pack, *own])
            if pack and (strips > STRIPS_PER_SHARD or len(pack) + len(own) > PATIENTS_PER_SHARD):
                yield next(numbers), side, pack
                pack = []
            pack += own
        if pack:
            yield next(numbers), side, pack


def _shard(
    number: int, side: str, part: Sequence[Trajectory], reasons: Counter[str], progress: Callable[[int], None]
) -> tuple[Trials | None, list[RealTrial]]:
    if len(part) > PATIENTS_PER_SHARD:
        raise ValueError(
            f"{part[0].subject} has {len(part)} trajectories; expected at most {PATIENTS_PER_SHARD}; divide"
        )
    cache: dict[Path, np.ndarray | None] = {}
    tables: list[Trials] = []
    trials: list[RealTrial] = []
    for trajectory in part:
        there: list[tuple[Strip, np.ndarray]] = []
        for strip in trajectory.strips:
            signal = _signal(strip.record, cache, reasons)
            progress(1)
            if signal is not None:
                there.append((strip, signal))
        if len(there) < 2:
            reasons["alone: no other ECG of its period could be used"] += len(there)
            continue
        patient = PATIENTS_PER_SHARD * number + len(trials)
        trials.append(_real_trial(patient, side, trajectory, [strip for strip, _ in there]))
        tables.append(_table(patient, trajectory, there))
    return (concatenate(tables) if tables else None), trials


def _signal(record: Path, cache: dict[Path, np.ndarray | None], reasons: Counter[str]) -> np.ndarray | None:
    """The strip ``(12, 1024)`` [mV] on the model grid; None, and a reason counted, where it cannot be used."""
    if record in cache:
        return cache[record]
    try:
        ecg = read_record(record).ecg
        if (largest := float(np.abs(ecg.signal).max())) > LARGEST_MV:
            raise ValueError(f"it reaches {largest:.1f} mV")
        cache[record] = np.asarray(to_model_grid(ecg).signal)
    except (ValueError, FileNotFoundError) as error:
        reasons[_reason(error)] += 1
        cache[record] = None
    return cache[record]


def _reason(error: Exception) -> str:
    """A few words for why an ECG was left out."""
    words = str(error)
    reasons = {
        "is flat": "a lead is flat",
        "without a number": "a lead has samples without a number",
        "lacks": "a lead is missing",
        "there is no": "the record is not there",
        "no signal file": "the signal file is not there",
        "truncated": "the signal file is truncated",
        "lasts": "too short",
        "fewer than two beats": "no beats",
        "it reaches": "an artefact beyond 10 mV",
    }
    return next((reason for words_in, reason in reasons.items() if words_in in words), f"unreadable: {words[:80]}")


def _table(number: int, trajectory: Trajectory, there: Sequence[tuple[Strip, np.ndarray]]) -> Trials:
    from ecg_gym.risk.classifier import reader
    from ecg_gym.virtual_patient.truth import HAZARDS
    from ecg_gym.world_model.conditioning import (
        ENDINGS,
        EXPOSURE,
        OBSERVED,
        PEOPLE,
        endings,
        exposures,
        observe_strips,
        people,
    )

    n = len(there)
    hours = np.array([strip.hours for strip, _ in there])
    whole = np.stack([signal for _, signal in there]).reshape(n, len(LEADS), MODEL_SAMPLES)
    histories, who = (trajectory.administrations,) * n, (trajectory.patient,) * n
    spans = endings(histories, who, np.r_[hours[0], hours[:-1]], hours)
    return Trials(
        strips=independent_from_leads(whole).astype(np.float16),
        observed=observe_strips(whole).astype(np.float32),
        exposure=exposures(histories, who, hours).astype(np.float32),
        ended=np.cumsum(spans, axis=0).astype(np.float32),
        person=people(who).astype(np.float32),
        truth=np.stack([_published(strip.intervals) for strip, _ in there]).astype(np.float32),
        hazard=np.full((n, len(HAZARDS)), np.nan, np.float32),
        findings=reader().probabilities(whole).astype(np.float32),
        pressure=np.full(n, np.nan, np.float32),
        alive=np.ones(n, bool),
        treatment=np.array(["", *(str(_between(histories[0], a, b)) for a, b in pairwise(hours))]),
        held_out=np.zeros(n, bool),
        rhythm=np.full(n, "unknown"),
        patient=np.full(n, number, np.int64),
        hours=hours,
        columns=(*OBSERVED, *EXPOSURE, *ENDINGS, *PEOPLE),
    )


def _between(doses: Sequence[Administration], start: float, end: float) -> Treatment:
    return Treatment(tuple(a.dose for a in doses if start <= a.hours < end))


def _published(intervals: Mapping[str, float | None]) -> np.ndarray:
    """The intervals of a trial's table as ``TRUTHS`` (7,); NaN where it has none."""
    cells = {name: np.nan if value is None else float(value) for name, value in intervals.items()}
    rr, qt = cells.get("RR", np.nan), cells.get("QT", np.nan)
    columns = {
        "hr_bpm": 60_000 / rr, "pr_ms": cells.get("PR"), "qrs_ms": cells.get("QRS"), "qt_ms": qt,
        "qtcf_ms": qt / np.cbrt(rr / 1000), "jtpeak_ms": cells.get("JTPEAK"), "tpeak_tend_ms": cells.get("TPEAKTEND"),
    }  # fmt: skip
    return np.array([np.nan if columns[name] is None else columns[name] for name in TRUTHS], dtype=float)


def _real_trial(number: int, side: str, trajectory: Trajectory, strips: Sequence[Strip]) -> RealTrial:
    return RealTrial(
        number, trajectory.source, trajectory.subject, side, trajectory.arm, trajectory.period, trajectory.replicate,
        trajectory.control, trajectory.patient, trajectory.administrations,
        tuple(strip.hours for strip in strips), tuple(strip.weight for strip in strips),
        tuple(strip.baseline for strip in strips),
    )  # fmt: skip


def _save(path: Path, trials: Trials) -> None:
    write_npz(path, {f.name: np.asarray(getattr(trials, f.name)) for f in fields(Trials)})
