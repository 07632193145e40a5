"""What a downloaded release holds beside what it should hold: counts, files, hashes, known defects; one page.

report = check_release(read_trial("ecgrdvq", folder))
print(report.page())
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import Patient
from ecg_gym.datasets.channels import FLAT_MV
from ecg_gym.datasets.records import read_record
from ecg_gym.datasets.wfdb_files import record_header
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.pharmacology.exposure import exposure_at
from ecg_gym.real_trials.fda import MEDIANS, RAW, releases
from ecg_gym.real_trials.medians import header_is_corrupt, median_intervals
from ecg_gym.real_trials.shards import LARGEST_MV
from ecg_gym.real_trials.table import TrialTable, patient_of

SUMS, RECORDS = "SHA256SUMS.txt", "RECORDS"
TRACE = 0.01  # share of a drug's highest expected level below which it counts as not there
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Line:
    """One line of the page."""

    what: str
    expected: Any  # None where nothing particular is
    actual: Any
    remark: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether what was found is what was expected; true where nothing particular was."""
        return self.expected is None or self.expected == self.actual


@dataclass(frozen=True)
class Report:
    """The page about one release."""

    name: str
    title: str
    source: str
    protocol: str
    sections: Mapping[str, tuple[Line, ...]]

    @property
    def surprises(self) -> tuple[Line, ...]:
        """Lines that are not as expected."""
        return tuple(line for lines in self.sections.values() for line in lines if not line.as_expected)

    def page(self) -> str:
        """The report as Markdown."""
        text = [f"# {self.name}: {self.title}", "", f"{self.source}. Doses from the protocol `{self.protocol}`.", ""]
        for title, lines in self.sections.items():
            text += [f"## {title}", "", "| what | expected | found | |", "|---|---:|---:|---|"]
            text += [
                f"| {line.what} | {_cell(line.expected)} | {_cell(line.actual)} | "
                f"{'' if line.as_expected else '**differs** '}{line.remark} |"
                for line in lines
            ]
            text.append("")
        return "\n".join(text)

    def to_json_dict(self) -> dict[str, Any]:
        """The report as one document."""
        sections = {title: [vars(line) for line in lines] for title, lines in self.sections.items()}
        return {"trial": self.name, "protocol": self.protocol, "differs": len(self.surprises), "sections": sections}


def check_release(
    table: TrialTable, signals: bool = False, hashes: bool = True, progress: Progress = lambda files: None
) -> Report:
    """The page about a release. ``signals`` opens every ECG (flat leads, artefacts), ``hashes`` reads every file.

    ``progress`` is called with the number of files looked at.
    """
    release = releases()[table.name]
    sections = {"Table": tuple(_counts(table, release)), "Documented defects in the table": tuple(_defects(table))}
    sections["Doses and concentrations"] = tuple(_levels(table))
    sections["Files"] = tuple(_files(table, release, progress))
    if signals:
        sections["Signals"] = tuple(_signals(table, release, progress))
    if hashes:
        sections["Hashes"] = tuple(_hashes(table.folder, progress))
    return Report(table.name, release["title"], release["source"], table.protocol.name, sections)


def _counts(table: TrialTable, release: Mapping[str, Any]) -> Iterator[Line]:
    groups = Counter((row["SUBJECT"], row["PERIOD"], row["TPT"]) for row in table.rows)
    yield Line("ECGs", release["ecgs"], len(table))
    yield Line("people", release["subjects"], len(table.subjects))
    yield Line("groups of one person, period and hour", release["groups"], len(groups))
    odd = sum(size != 3 for size in groups.values())
    yield Line("groups that are not of three", release["groups_not_of_three"], odd, "weights follow the replicates")
    arms = Counter(row["EXTRT"] for row in table.rows)
    for label, ecgs in release["arms"].items():
        yield Line(f"ECGs of {label}", ecgs, arms.pop(label, 0))
    for label, ecgs in arms.items():
        yield Line(f"ECGs of {label}", 0, ecgs, "an arm that the release does not document")
    yield Line("ECGs whose arm is not the one of the sequence", 0, _out_of_sequence(table))


def _out_of_sequence(table: TrialTable) -> int:
    """ECGs whose arm contradicts the person's sequence of codes; 0 where the codes are no letters."""
    meaning: dict[str, Counter[str]] = {}
    codes = [row["ARMCD"].replace("-", ",").split(",") for row in table.rows]
    own = [own[row["PERIOD"] - 1] if row["PERIOD"] <= len(own) else "" for own, row in zip(codes, table.rows)]
    for code, row in zip(own, table.rows):
        meaning.setdefault(code, Counter())[row["EXTRT"]] += 1
    usual = {code: labels.most_common(1)[0][0] for code, labels in meaning.items()}
    if any(len(code) != 1 for code in usual):
        return 0
    return sum(usual[code] != row["EXTRT"] for code, row in zip(own, table.rows))


def _defects(table: TrialTable) -> Iterator[Line]:
    counts = Counter(defect.kind for defect in table.defects)
    defects = releases()[table.name]["defects"]
    for kind, row in defects.items():
        if row.get("table"):
            yield Line(row["what"], row["count"], counts[kind], row["action"])
    for kind, number in counts.items():
        if kind not in defects:
            yield Line(kind.replace("_", " "), 0, number, "not documented")


def _levels(table: TrialTable) -> Iterator[Line]:
    """What is in the blood beside what the protocol would put there: a check of the doses, never a condition."""
    unknown = Counter(row["EXTRT"] for row in table.rows if table.arm(row) is None)
    for label, ecgs in unknown.items():
        yield Line(f"ECGs of {label} without doses", 0, ecgs, "the protocol holds no such arm: they cannot be used")
    columns = {name for row in table.rows for name in row if name.startswith("conc_")}
    for column in sorted(columns):
        drug = column.removeprefix("conc_").removesuffix("_pg_mL").removesuffix("_ng_mL")
        rows = [row for row in table.rows if row.get(column) is not None and table.arm(row) is not None]
        if drug not in FORMULARY.names or not rows:
            continue
        expected, factor = _expected(table, rows, drug), 1000.0 if column.endswith("_pg_mL") else 1.0
        levels = np.array([row[column] for row in rows]) / factor
        there = expected > TRACE * expected.max(initial=0.0)
        ratio = float(np.median(levels[there] / expected[there])) if there.any() else float("nan")
        remark = f"median of measured over expected {ratio:.2g} in {int(there.sum())} ECGs"
        yield Line(f"ECGs with {drug} in the blood that the protocol does not explain", 0, int((~there).sum()), remark)


def _expected(table: TrialTable, rows: list[dict[str, Any]], drug: str) -> np.ndarray:
    """Plasma [ng/mL] of average people ``(N,)`` by the protocol's doses."""
    people: dict[tuple[Patient, str], dict[float, float]] = {}
    levels = []
    for row in rows:
        arm = table.arm(row)
        assert arm is not None
        patient = patient_of(row)
        by_hour = people.get((patient, arm.name))
        if by_hour is None:
            hours = np.array(sorted({float(other["TPT"]) for other in rows}))
            exposure = exposure_at(arm.administrations, patient, hours)
            by_hour = {float(hour): exposure[i].of(drug) for i, hour in enumerate(hours)}
            people[patient, arm.name] = by_hour
        levels.append(by_hour[float(row["TPT"])])
    return np.array(levels)


def _files(table: TrialTable, release: Mapping[str, Any], progress: Progress) -> Iterator[Line]:
    listed = _records_of(table.folder)
    if listed is not None:
        raw = {Path(name).name for name in listed if name.startswith(f"{RAW}/")}
        names = {row["EGREFID"] for row in table.rows}
        yield Line("records in RECORDS that the table does not name", 0, len(raw - names))
        yield Line("records of the table that RECORDS does not name", 0, len(names - raw))
    there, odd, median = 0, Counter[str](), Counter[str]()
    for row in table.rows:
        progress(1)
        path = table.path(row)
        if path.with_name(f"{path.name}.hea").is_file():
            there += 1
            odd.update(_odd_header(path, release["signal"]))
        median.update(_median(table, row))
    yield Line("records there", release["ecgs"], there)
    for what, number in odd.items():
        yield Line(f"headers with another {what}", 0, number)
    defects = release["defects"]
    for kind in ("median_missing", "median_header_corrupt", "t_end_unmarked"):
        if kind in defects or median[kind]:
            row = defects.get(kind, {"what": kind.replace("_", " "), "count": 0, "action": ""})
            yield Line(row["what"], row["count"], median[kind], row["action"])
    yield Line("median beats whose annotation gives the table's intervals to 1 ms", None, median["agree"])
    yield Line("median beats whose annotation contradicts the table", 0, median["disagree"])


def _odd_header(path: Path, expected: Mapping[str, Any]) -> list[str]:
    try:
        header, _ = record_header(path)
    except ValueError:
        return ["form"]
    actual = {"rate_hz": header.fs, "samples": header.sig_len, "unit": (header.units or [""])[0]}
    return [name for name, value in expected.items() if actual[name] != value]


def _median(table: TrialTable, row: Mapping[str, Any]) -> list[str]:
    """What is to be said of one ECG's median beat."""
    if not (table.folder / MEDIANS).is_dir():
        return []
    path = table.folder / MEDIANS / str(row["RANDID"]) / str(row["EGREFID"])
    if not path.with_name(f"{path.name}.hea").is_file():
        return ["median_missing"]
    remarks = ["median_header_corrupt"] if header_is_corrupt(path) else []
    marked = median_intervals(path)
    if marked is None:
        return remarks
    if marked["QT"] is None and marked["JTPEAK"] is not None:
        remarks.append("t_end_unmarked")
    pairs = [(row[name], value) for name, value in marked.items() if row[name] is not None and value is not None]
    return [*remarks, "agree" if all(abs(a - b) <= 1 for a, b in pairs) else "disagree"] if pairs else remarks


def _signals(table: TrialTable, release: Mapping[str, Any], progress: Progress) -> Iterator[Line]:
    counts: Counter[str] = Counter()
    for row in table.rows:
        progress(1)
        try:
            ecg = read_record(table.path(row), allow_missing_leads=True).ecg
        except (ValueError, FileNotFoundError):
            counts["unreadable"] += 1
            continue
        counts["flat_lead"] += bool(ecg.missing) or bool((np.ptp(ecg.signal, axis=-1) < FLAT_MV).any())
        counts["beyond_10_mv"] += bool(np.abs(ecg.signal).max() > LARGEST_MV)
    for kind in ("flat_lead", "beyond_10_mv"):
        defect = release["defects"].get(kind, {"what": kind.replace("_", " "), "count": 0, "action": ""})
        yield Line(defect["what"], defect["count"], counts[kind], defect["action"])
    yield Line("records that cannot be read", 0, counts["unreadable"])


def _hashes(folder: Path, progress: Progress) -> Iterator[Line]:
    path = folder / SUMS
    if not path.is_file():
        yield Line(SUMS, "there", "absent", "no file could be compared with its hash")
        return
    good = bad = absent = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition(" ")
        file = folder / name.strip().lstrip("*")
        if not name.strip() or file.name == SUMS:
            continue
        progress(1)
        if not file.is_file():
            absent += 1
        elif _sha256(file) == expected:
            good += 1
        else:
            bad += 1
    yield Line("files as their hash says", None, good)
    yield Line("files that differ from their hash", 0, bad, "download them again")
    yield Line("files that are not there", 0, absent)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _records_of(folder: Path) -> list[str] | None:
    path = folder / RECORDS
    return path.read_text(encoding="utf-8").split() if path.is_file() else None


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
