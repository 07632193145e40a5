"""``pairs.csv``: anybody's ECGs before and after a drug, a row per pair; every mistake is named by row and column.

    record_before,record_after,hours_between,subject,doses,sex,age_years
    a/1,a/2,2.5,1001,dofetilide 0.5 mg PO @ 0.5h,F,31

Hours are counted from ``record_before``: a dose ``@ -2h`` was given two hours before it. Records are WFDB paths from
the file's own folder. Columns that are empty or absent are unknown. What every column means stands in ``COLUMNS``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_gym.core import Administration, Patient
from ecg_gym.io import write_text
from ecg_gym.pharmacology import CONDITIONS
from ecg_gym.plausibility import bounds
from ecg_gym.real_trials.profiles import SIDES
from ecg_gym.real_trials.timed_doses import timed
from ecg_gym.real_trials.trajectories import Strip, Trajectory

COLUMNS = {
    "record_before": "WFDB record before, path from the folder of the file (needed)",
    "record_after": "WFDB record after (needed)",
    "hours_between": "from the one to the other [h], above 0 (needed)",
    "subject": "who; all rows of a person stand on one side of a split (needed)",
    "doses": "'DRUG AMOUNT UNIT ROUTE [over MINUTES min] @ HOURS h', several with ';'; empty is nothing",
    "arm": "name of the group, for tables of effects; default the drugs",
    "control": "yes where nothing is expected: placebo, or a drug without effect on the ECG",
    "split": "train, validation or test; default by a hash of the subject",
    "weight": "of the pair in training; default 1",
    "clock_hours": "hours after 8 o'clock at record_before [h]; default 0",
    "sex": "F or M",
    **{name: f"[{unit}]" for name, (_, _, unit) in bounds().items()},
    "conditions": f"words with ';' out of {', '.join(CONDITIONS)}",
    "medication": "other drugs taken, with ';'",
}
NEEDED = ("record_before", "record_after", "hours_between", "subject")
YES, NO = ("yes", "y", "true", "1"), ("", "no", "n", "false", "0")
SUFFIXES = (".hea", ".dat", ".mat")
LONGEST_H = 24.0 * 365
SHOWN = 20  # mistakes printed at once


@dataclass(frozen=True)
class Mistake:
    """What is wrong with one cell."""

    row: int  # line of the file, the header being 1
    column: str
    text: str  # what arrived, what was expected, what to do

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column}: {self.text}"


def read_pairs(path: str | Path) -> list[Trajectory]:
    """A trajectory of two strips for each row; ValueError names every mistake (the first twenty) by row and column."""
    path = Path(path)
    rows = _rows(path)
    trajectories, mistakes = _parse(path, rows)
    if mistakes:
        more = len(mistakes) - SHOWN
        lines = "\n".join(f"  {mistake}" for mistake in mistakes[:SHOWN]) + (f"\n  and {more} more" if more > 0 else "")
        raise ValueError(f"{path} holds {len(mistakes)} mistakes; expected none; mend these cells:\n{lines}")
    return trajectories


def check_pairs(path: str | Path) -> list[Mistake]:
    """Every mistake in the file; ValueError only where it is no table of pairs at all."""
    path = Path(path)
    return _parse(path, _rows(path))[1]


def write_pairs(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with keys out of ``COLUMNS`` as a file that :func:`read_pairs` reads; None is left empty."""
    names = [name for name in COLUMNS if any(row.get(name) not in (None, "") for row in rows) or name in NEEDED]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if row.get(name) is None else row[name] for name in names] for row in rows])
    write_text(path, text.getvalue())


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"{path} is not there; expected a pairs.csv; docs/real_data.md shows one")
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        if unknown := [name for name in names if name not in COLUMNS]:
            raise ValueError(
                f"{path} has the columns {unknown}; expected some of {', '.join(COLUMNS)}; rename or remove them"
            )
        if missing := [name for name in NEEDED if name not in names]:
            raise ValueError(f"{path} lacks the columns {missing}; expected {', '.join(NEEDED)} at least; add them")
        rows = list(reader)
    if not rows:
        raise ValueError(f"{path} holds no row; expected a row per pair of ECGs; write some")
    return rows


def _parse(path: Path, rows: Sequence[Mapping[str, str]]) -> tuple[list[Trajectory], list[Mistake]]:
    mistakes: list[Mistake] = []
    trajectories: list[Trajectory] = []
    sides: dict[str, tuple[str, int]] = {}
    for line, cells in enumerate(rows, 2):
        row = _Row(line, cells, mistakes)
        trajectory = _trajectory(path, row, len(trajectories))
        side, first = sides.setdefault(trajectory.subject, (trajectory.side, line))
        if side != trajectory.side:
            row.wrong(
                "split",
                f"{trajectory.subject} is in {trajectory.side or 'no split'!r} here and {side or 'no split'!r} in row "
                f"{first}; expected one side for a person; correct one of them",
            )
        trajectories.append(trajectory)
    return trajectories, mistakes


class _Row:
    """One line of the file: its cells, and where their mistakes are kept."""

    def __init__(self, line: int, cells: Mapping[str, str], mistakes: list[Mistake]) -> None:
        self.line, self.cells, self.mistakes = line, cells, mistakes
        if None in cells or any(value is None for value in cells.values()):  # csv's marks of a ragged line
            self.wrong("(all)", "it has another number of cells than the header; expected the same; check its commas")

    def text(self, column: str) -> str:
        return (self.cells.get(column) or "").strip()

    def wrong(self, column: str, text: str) -> None:
        self.mistakes.append(Mistake(self.line, column, text))

    def number(self, column: str, low: float, high: float, unit: str, default: float | None = None) -> float | None:
        text = self.text(column)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            self.wrong(column, f"it is {text!r}; expected a number from {low:g} to {high:g} {unit}; check the unit")
            return default
        return value

    def choice(self, column: str, options: Sequence[str], default: str = "") -> str:
        text = self.text(column)
        if text and text not in options:
            self.wrong(column, f"it is {text!r}; expected {' or '.join(options)}; leave it empty where it is unknown")
            return default
        return text or default


def _trajectory(path: Path, row: _Row, number: int) -> Trajectory:
    between = row.number("hours_between", 1e-3, LONGEST_H, "h")
    if between is None and not row.text("hours_between"):
        row.wrong("hours_between", "it is empty; expected hours above 0; write for example 2.5")
    clock = row.number("clock_hours", -24, LONGEST_H, "h", 0.0) or 0.0
    patient = _patient(row)
    administrations = _doses(row, patient, between, clock)
    subject = row.text("subject")
    if not subject:
        row.wrong("subject", "it is empty; expected who it is, a number will do; rows of one person need one name")
    control = row.text("control").lower()
    if control not in (*YES, *NO):
        row.wrong("control", f"it is {control!r}; expected yes or no; leave it empty for no")
    weight = row.number("weight", 0, 1e6, "") if row.text("weight") else 1.0
    strips = (
        Strip(_record(path, row, "record_before"), clock, baseline=True, weight=weight or 0.0),
        Strip(_record(path, row, "record_after"), clock + (between or 1.0), weight=weight or 0.0),
    )
    drugs = " + ".join(dict.fromkeys(a.dose.drug for a in administrations)) or "nothing"
    return Trajectory(
        path.stem, subject, row.text("arm") or drugs, patient, administrations, strips, number + 1,
        control=control in YES, side=row.choice("split", SIDES),
    )  # fmt: skip


def _record(path: Path, row: _Row, column: str) -> Path:
    text = row.text(column)
    record = path.parent / text
    record = record.with_suffix("") if record.suffix.lower() in SUFFIXES else record
    if not text:
        row.wrong(column, "it is empty; expected the path of a WFDB record; write it without suffix")
    elif not record.with_name(f"{record.name}.hea").is_file():
        row.wrong(column, f"there is no {text}.hea beside {path.name}; expected a WFDB header; mend the path")
    return record


def _patient(row: _Row) -> Patient:
    numbers = {name: row.number(name, low, high, unit) for name, (low, high, unit) in bounds().items()}
    words = {name: frozenset(_words(row.text(name))) for name in ("conditions", "medication")}
    if unknown := sorted(words["conditions"] - set(CONDITIONS)):
        row.wrong(
            "conditions", f"it names {unknown}; expected words out of {', '.join(CONDITIONS)}; check the spelling"
        )
        words["conditions"] = frozenset()
    sex = row.choice("sex", ("F", "M")) or None
    return Patient(sex=sex, **numbers, **words)  # type: ignore[arg-type]


def _words(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(";") if part.strip()]


def _doses(row: _Row, patient: Patient, between: float | None, clock: float) -> tuple[Administration, ...]:
    administrations = []
    for text in (part.strip() for part in row.text("doses").split(";") if part.strip()):
        try:
            administrations.append(timed(text, patient, between, clock))
        except ValueError as error:
            row.wrong("doses", str(error))
    return tuple(sorted(administrations))
