"""``run_trial``: a protocol -> people, sequences, doses, ECGs and what our own delineator reads off them.

Every person has generators of their own, so neither the others, nor the order of work, nor an interruption changes
them. Between periods everything is washed out, and the rhythm a person begins with is kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.clinical_trial import randomisation
from ecg_gym.clinical_trial.effects import TRUTH, summarise
from ecg_gym.clinical_trial.population import draw_person, move
from ecg_gym.clinical_trial.protocol import CONCENTRATION_UNITS, Arm, Protocol
from ecg_gym.clinical_trial.result import Row, TrialResult
from ecg_gym.clinical_trial.table import csv_text
from ecg_gym.core import ECG, Patient
from ecg_gym.executor import Executor, completed, executor
from ecg_gym.io import write_text
from ecg_gym.pharmacology import FORMULARY, modulate
from ecg_gym.pharmacology.exposure import Exposure, exposure_at
from ecg_gym.virtual_patient import Heart, Truth, synthesise_batch
from ecg_gym.waveform import Intervals, measure

RATE_HZ, SECONDS = 500.0, 10.0
FIRST_ID = 1001  # RANDID of the first person
MEASURED = {  # column of the table -> our name
    "RR": "rr_ms", "PR": "pr_ms", "QT": "qt_ms", "QRS": "qrs_ms", "JTPEAK": "jtpeak_ms", "TPEAKTEND": "tpeak_tend_ms",
}  # fmt: skip
NOT_MEASURED = (  # columns of the trial that read shapes off its vector magnitude, which our delineator does not: NA
    "TPEAKTPEAKP", "ERD_30", "LRD_30", "Twave_amplitude", "Twave_asymmetry", "Twave_flatness",
)  # fmt: skip
_PERSON, _VISIT, _HOUR, _DESIGN = range(4)  # streams of random numbers


def run_trial(
    protocol: Protocol,
    n: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    waveforms: bool = True,
    people: Sequence[Patient] | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: Executor | None = None,
) -> TrialResult:
    """Run a trial with ``n`` people (default the protocol's own number) and return every ECG's row and the effects.

    ``out`` gets ``records/<RANDID>/<EGREFID>`` (WFDB, 500 Hz, 10 s, 12 leads, mV; left out without ``waveforms``),
    ``ecgs.csv``, ``summary.csv`` and ``summary.json``; run again after an interruption it goes on with the next person
    and ends with the same files. ``people`` are known facts of the people in place of drawn ones, by number.
    ``progress(done, of)`` is called after each person; ``workers`` do several at once (default: this process), and the
    numbers do not depend on them. ValueError if ``out`` holds another trial or ``n`` is below 1.
    """
    count = len(people) if people is not None else protocol.subjects if n is None else n
    if count < 1 or seed < 0:
        raise ValueError(f"n is {count} and seed {seed}; expected n from 1 and a seed from 0; correct them")
    patients = list(people) if people is not None else [None] * count
    plan = randomisation.assign(protocol, count, np.random.default_rng([seed, _DESIGN]))
    parts = _open(out, protocol, count, seed, waveforms, patients)
    results = {number: None if parts is None else _read(parts / f"{FIRST_ID + number}.json") for number in range(count)}
    missing = [(number, *plan[number], patients[number]) for number in range(count) if results[number] is None]
    records = out / "records" if out is not None and waveforms else None
    make = partial(_subject, protocol, seed, records, parts)
    for (number, *_), subject in completed(workers or executor(0), make, missing):
        results[number] = subject
        if progress:
            progress(sum(each is not None for each in results.values()), count)
    rows: list[Row] = [row for number in range(count) for row in results[number] or ()]
    result = TrialResult(protocol, seed, count, rows, summarise(protocol, rows), out)
    if out is not None:
        write_text(out / "ecgs.csv", csv_text(rows))
        write_text(out / "summary.csv", csv_text(result.summary))
        write_text(out / "summary.json", json.dumps(result.to_json_dict(), indent=2) + "\n")
    return result


def _subject(
    protocol: Protocol, seed: int, records: Path | None, parts: Path | None,
    job: tuple[int, str, Sequence[str], Patient | None],
) -> list[Row]:  # fmt: skip
    """The rows of one person, kept on disk where the trial has a folder."""
    number, sex, order, patient = job
    folder = records / str(FIRST_ID + number) if records is not None else None
    rows = subject_rows(protocol, number, sex, order, seed, patient, folder)
    if parts is not None:
        write_text(parts / f"{FIRST_ID + number}.json", json.dumps(rows))
    return rows


def subject_rows(
    protocol: Protocol,
    number: int,
    sex: str,
    order: Sequence[str],
    seed: int,
    facts: Patient | None = None,
    folder: Path | None = None,
) -> list[Row]:
    """All rows of one person who goes through the arms in ``order``; records go to ``folder`` if there is one."""
    heart = draw_person(protocol.population, sex, np.random.default_rng([seed, _PERSON, number]), facts)
    names = [arm.name for arm in protocol.arms]
    rows = []
    for period, name in enumerate(order, 1):
        stream = [number, names.index(name)]
        rows += _period(protocol, protocol.arm(name), order, period, heart, stream, seed, folder)
    return rows


def _period(
    protocol: Protocol, arm: Arm, order: Sequence[str], period: int, heart: Heart, stream: Sequence[int], seed: int,
    folder: Path | None,
) -> list[Row]:  # fmt: skip
    """The rows of one person in one arm."""
    today = move(heart, "visit", np.random.default_rng([seed, _VISIT, *stream]))
    hours = np.array(protocol.all_hours)
    exposures = exposure_at(arm.administrations, heart.patient, hours, heart.sensitivity)
    hearts, acting, keys, ids, about = [], [], [], [], []
    for at, (hour, now) in enumerate(zip(hours, exposures)):
        rng = np.random.default_rng([seed, _HOUR, *stream, at])
        current = move(today, "hour", rng)
        change = modulate(now, heart.patient, today.sensitivity, float(hour), current.rate_bpm)
        for _ in range(protocol.replicates):
            hearts.append(move(current, "replicate", rng))
            keys.append(int(rng.integers(2**63)))
            ids.append(str(uuid.UUID(bytes=rng.bytes(16), version=4)))
            acting.append(change)
            about.append((float(hour), now))
    strips, truths = synthesise_batch(
        hearts, acting, np.array(keys, np.uint64), RATE_HZ, SECONDS, [now.potassium for _, now in about]
    )
    intervals = measure(ECG(strips, RATE_HZ))
    person = _who(protocol, arm, order, period, heart, FIRST_ID + stream[0])
    rows = [
        {"EGREFID": ids[i], **person, **_when(protocol, arm, hour, now), **_intervals(intervals, i), **_true(truths[i])}
        for i, (hour, now) in enumerate(about)
    ]
    if folder is not None:
        from ecg_gym.datasets import write_record

        for stale in folder.glob(".writing-*"):  # of a run that was killed
            shutil.rmtree(stale)
        for row, strip in zip(rows, strips):
            note = f"virtual trial {protocol.name}: {row['EXTRT']}, {row['TPT']:g} h"
            write_record(folder / row["EGREFID"], ECG(strip, RATE_HZ), [note], heart.patient)
    return rows


def _who(protocol: Protocol, arm: Arm, order: Sequence[str], period: int, heart: Heart, randid: int) -> Row:
    patient, written = heart.patient, [g.written for g in arm.doses]
    codes = [protocol.arm(name).code for name in order]
    return {
        "RANDID": randid,
        "SEX": patient.sex,
        "AGE": patient.age_years,
        "HGHT": patient.height_cm,
        "WGHT": patient.weight_kg,
        "ARMCD": ",".join(codes),
        "VISIT": f"PERIOD-{period}-DOSING",
        "ARM": arm.name,
        "EXTRT": arm.label,
        "EXDOSE": " + ".join(f"{dose.amount:g}" for dose in written) or None,
        "EXDOSU": " + ".join(dict.fromkeys(dose.unit for dose in written)) or None,
    }


def _when(protocol: Protocol, arm: Arm, hour: float, now: Exposure) -> Row:
    """Hour and concentrations; PCTEST is the arm's first drug, and each drug of the trial has a column of its own."""
    has_begun = {drug: min(g.hours for g in arm.doses if g.dose.drug == drug) <= hour for drug in arm.drugs}
    units = {drug: protocol.units.get(drug, "ng/mL") for drug in protocol.drugs}
    levels = {
        drug: _round(now.of(drug) * CONCENTRATION_UNITS[units[drug]]) if has_begun.get(drug) else None
        for drug in protocol.drugs
    }
    first = next(iter(arm.drugs), None)
    tested = first is not None and has_begun[first]
    return {
        "TPT": hour,
        "BASELINE": "Y" if hour in protocol.baseline_hours else "N",
        "PCTEST": FORMULARY[first].name.capitalize() if first and tested else None,
        "PCSTRESN": levels[first] if first and tested else None,
        "PCSTRESU": units[first] if first and tested else None,
        **{f"conc_{drug}_{units[drug].replace('/', '_')}": level for drug, level in levels.items()},
    }


def _intervals(intervals: Intervals, i: int) -> Row:
    row = {column: _round(getattr(intervals, name)[i]) for column, name in MEASURED.items()}
    row |= dict.fromkeys(NOT_MEASURED)
    return {
        **row,
        "T_amplitude_8_leads_uV": _round(1000 * intervals.t_amplitude_mv[i]),
        "remark": intervals.reason[i] or None,
    }


def _true(truth: Truth) -> Row:
    result = {TRUTH + column: _round(truth.intervals[name]) for column, name in MEASURED.items()}
    return {**result, "truth_rhythm": truth.rhythm}


def _round(value: float) -> float | None:
    """To a thousandth; None where it is not known."""
    return round(float(value), 3) if np.isfinite(value) else None


def _open(
    out: Path | None, protocol: Protocol, n: int, seed: int, waveforms: bool, patients: Sequence[Patient | None]
) -> Path | None:
    """The folder of finished people, after a look whether this is the trial that was begun there."""
    if out is None:
        return None
    parts = out / "subjects"
    parts.mkdir(parents=True, exist_ok=True)
    value = repr([replace(p, conditions=frozenset(), medication=frozenset()) if p else None for p in patients])
    also = repr([(sorted(p.conditions), sorted(p.medication)) if p else None for p in patients])
    key = {"protocol": protocol.name, "n": n, "seed": seed, "waveforms": waveforms,
           "sha256": hashlib.sha256(f"{_text(protocol)}{value}{also}".encode()).hexdigest()}  # fmt: skip
    path = parts / "trial.json"
    if not path.is_file():
        write_text(path, json.dumps(key))
    elif (result := json.loads(path.read_text(encoding="utf-8"))) != key:
        differs = ", ".join(f"{name} {result.get(name)!r}" for name in key if result.get(name) != key[name])
        raise ValueError(
            f"{out} holds another trial ({differs}); expected an empty folder or one of the same protocol, n and seed; "
            "choose another --out, or delete it"
        )
    return parts


def _text(protocol: Protocol) -> str:
    """The protocol as text that is the same in every process."""
    return json.dumps(_plain(protocol), sort_keys=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _read(path: Path) -> list[Row] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
