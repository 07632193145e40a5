"""Readers of the three FDA drug trials as PhysioNet releases them: one folder -> one ``TrialTable``.

    table = read_trial("ecgrdvq", Path("ecgrdvq/1.0.0"))

Each release has tables of its own form; what is known to be wrong with them is in ``releases.yaml``. Nothing here
opens a signal: paths follow from subject and id, and ``read_record`` understands the files as they are.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ecg_gym.clinical_trial import Protocol, load_protocol, shipped_protocols
from ecg_gym.real_trials.table import INTERVALS, Defect, Row, TrialTable, arm_named, number, read_csv, word

RAW, MEDIANS = "raw", "medians"  # folders of a release
WRAP = 2.0**32  # of the two PR values that an unsigned subtraction wrapped
AVERAGE = "AVERAGE"  # DTYPE of rows that are means of a triplicate
PERSON = ("SEX", "AGE", "HGHT", "WGHT")
_SHAPES = ("TPEAKTPEAKP", "ERD_30", "LRD_30", "Twave_amplitude", "Twave_asymmetry", "Twave_flatness")
_PARAMETERS = {"RR": "RR", "PR": "PR", "QT": "QT", "QRS": "QRS", "JTP": "JTPEAK", "TPTE": "TPEAKTEND"}  # of adeg.csv
_WIDE = ("EGREFID", "RANDID", *PERSON, "ARMCD", "VISIT", "TPT", "BASELINE", *INTERVALS)


@cache
def releases() -> Mapping[str, Mapping[str, Any]]:
    """``releases.yaml``: what each release holds and what is wrong with it."""
    with open(Path(__file__).with_name("releases.yaml"), encoding="utf-8") as file:
        return yaml.safe_load(file)


def read_trial(name: str, folder: str | Path, protocol: Protocol | str | Path | None = None) -> TrialTable:
    """The table of a release. ``protocol`` (a protocol, its name or its file) says the doses; default the package's.

    Raises ValueError for an unknown name, an absent file or an absent column. Arms that the protocol does not hold are
    read all the same; their ``administrations`` are None.
    """
    if name not in releases():
        raise ValueError(f"trial is {name!r}; expected one of {', '.join(releases())}; or describe it in a pairs.csv")
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; expected the release {name} as downloaded; mend --data")
    source = protocol if isinstance(protocol, Protocol) else load_protocol(protocol or protocol_of(name))
    rows, defects = _READERS[name](folder)
    for row in rows:
        arm = arm_named(source, row["EXTRT"])
        row |= {
            "SUBJECT": f"{name}-{row['RANDID']}",
            "ARM": "" if arm is None else arm.name,
            "PATH": f"{RAW}/{row['RANDID']}/{row['EGREFID']}",
        }
    return TrialTable(name, folder, source, tuple(rows), (*defects, *_missing(rows)))


def protocol_of(name: str) -> str:
    """The name of the protocol in the package that says a release's doses; ValueError if there is none."""
    names = releases()[name]["protocols"]
    there = [protocol for protocol in names if protocol in shipped_protocols()]
    if not there:
        raise ValueError(
            f"the package holds no protocol for {name}; expected one of {', '.join(names)}; pass a YAML file with its "
            "arms and doses (--protocol)"
        )
    return str(there[0])


def _single_drug(folder: Path) -> tuple[list[Row], list[Defect]]:
    """ECGRDVQ: a row per ECG; dose, unit and one concentration in long form."""
    columns = (*_WIDE, "EXTRT", "EXDOSE", "EXDOSU", "PCTEST", "PCSTRESN", "PCSTRESU")
    rows, defects = [], []
    for cells, row in _wide(read_csv(folder / releases()["ecgrdvq"]["tables"][0], columns), "EXTRT"):
        tested, unit = word(cells["PCTEST"]), word(cells["PCSTRESU"])
        row |= {"EXDOSE": number(cells["EXDOSE"]), "EXDOSU": word(cells["EXDOSU"]), "PCTEST": tested, "PCSTRESU": unit}
        row["PCSTRESN"] = number(cells["PCSTRESN"])
        if tested and unit:
            row[_column(tested.lower(), unit)] = row["PCSTRESN"]
        if row["PR"] is not None and row["PR"] < -WRAP / 2:
            row["PR"] += WRAP
            defects.append(Defect("pr_wrap", row["EGREFID"], f"2^32 added: {row['PR']:g} ms"))
        rows.append(row)
    return rows, defects


def _combinations(folder: Path) -> tuple[list[Row], list[Defect]]:
    """ECGDMMLD: a row per ECG; the arm says what the period holds, not what is in the blood; wide concentrations."""
    release = releases()["ecgdmmld"]
    drugs = release["concentrations"]
    rows = []
    for cells, row in _wide(read_csv(folder / release["tables"][0], (*_WIDE, "TRTA", *drugs)), "TRTA"):
        for code, drug in drugs.items():
            row[_column(drug, release["concentration_units"].get(code, "ng/mL"))] = number(cells[code])
        rows.append(row)
    return rows, []


def _wide(table: list[dict[str, str]], arm: str) -> Iterator[tuple[dict[str, str], Row]]:
    """Each row with what the two wide tables have in common; replicates are numbered in the order of the table."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for cells in table:
        key = (cells["RANDID"], cells["VISIT"], cells["TPT"])
        counts[key] += 1
        yield (
            cells,
            {
                "EGREFID": cells["EGREFID"],
                "RANDID": cells["RANDID"],
                **_person(cells),
                "ARMCD": cells["ARMCD"],
                "VISIT": cells["VISIT"],
                "PERIOD": _period(cells["VISIT"]),
                "EXTRT": cells[arm].strip(),
                "TPT": float(cells["TPT"]),
                "BASELINE": cells["BASELINE"],
                "REPLICATE": counts[key],
                **{name: number(cells[name]) for name in INTERVALS},
                **{name: number(cells.get(name)) for name in _SHAPES},
            },
        )


def _cdisc(folder: Path) -> tuple[list[Row], list[Defect]]:
    """ECGCIPA: four long tables; hours since the period's first dose (ATPT), not since the day's (NRRLT)."""
    names = releases()["ecgcipa"]["tables"]
    columns = ("EGREFID", "USUBJID", "TRTA", "TRTSEQA", "APERIOD", "ATPT", "ATPTN", "NRRLT", "EGREPNUM", "PARAMCD")
    table = read_csv(folder / names[0], (*columns, "AVAL", "DTYPE", "AEGBLFL"))
    people = _people(folder / names[2], folder / names[3])
    levels, defects = _levels(folder / names[1])
    records: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for cells in table:
        if cells["DTYPE"].strip() == AVERAGE or word(cells["EGREFID"]) is None:
            defects.append(Defect("average_without_record", "", "not read"))
        else:
            records[cells["EGREFID"]][cells["PARAMCD"]] = cells
    rows = []
    for record, by_parameter in records.items():
        cells = by_parameter.get("HR") or next(iter(by_parameter.values()))
        if len({other["EGREPNUM"] for other in by_parameter.values()}) > 1:
            defects.append(Defect("replicate_disagreement", record, f"number {cells['EGREPNUM']} taken"))
        hour = float(cells["ATPT"].lower().split("h")[0])
        baseline = any(other["AEGBLFL"].strip() == "Y" for other in by_parameter.values())
        rows.append({
            "EGREFID": record,
            "RANDID": cells["USUBJID"],
            **people[cells["USUBJID"]],
            "ARMCD": cells["TRTSEQA"],
            "VISIT": f"PERIOD-{_period(cells['APERIOD'])}-DOSING",
            "PERIOD": _period(cells["APERIOD"]),
            "EXTRT": cells["TRTA"].strip(),
            "TPT": hour,
            "HOURS_SINCE_DAYS_DOSE": number(cells["NRRLT"]),
            "BASELINE": "Y" if baseline else "N",
            "REPLICATE": int(float(cells["EGREPNUM"])),
            **{ours: _value(by_parameter, code) for code, ours in _PARAMETERS.items()},
            **levels.get((cells["USUBJID"], _period(cells["APERIOD"]), int(float(cells["ATPTN"]))), {}),
        })  # fmt: skip
    return rows, defects


def _people(subjects: Path, vitals: Path) -> dict[str, Row]:
    vitals_of: dict[str, dict[str, float | None]] = defaultdict(dict)
    for cells in read_csv(vitals, ("USUBJID", "PARAMCD", "AVAL")):
        vitals_of[cells["USUBJID"]][cells["PARAMCD"]] = number(cells["AVAL"])
    people = {}
    for cells in read_csv(subjects, ("USUBJID", "AGE", "SEX")):
        own = vitals_of[cells["USUBJID"]]
        text = {"SEX": cells["SEX"], "AGE": cells["AGE"]}
        people[cells["USUBJID"]] = _person(text) | {"HGHT": own.get("HEIGHT"), "WGHT": own.get("WEIGHT")}
    return people


def _levels(path: Path) -> tuple[dict[tuple[str, int, int], Row], list[Defect]]:
    """Concentrations by subject, period and number of the hour. A zero below the limit is unknown, not nothing."""
    release = releases()["ecgcipa"]
    levels: dict[tuple[str, int, int], Row] = defaultdict(dict)
    defects = []
    for cells in read_csv(path, ("USUBJID", "APERIOD", "ATPTN", "PARAMCD", "AVAL", "LLOQFL")):
        key = (cells["USUBJID"], _period(cells["APERIOD"]), int(float(cells["ATPTN"])))
        drug, unit = release["concentrations"].get(cells["PARAMCD"]), release["concentration_units"]
        if drug is None:
            continue
        below = cells["LLOQFL"].strip() == "Y"
        if below:
            defects.append(Defect("below_limit", "", f"{drug} left unknown"))
        value = None if below else number(cells["AVAL"])
        levels[key][_column(drug, unit.get(cells["PARAMCD"], "ng/mL"))] = value
    return levels, defects


def _value(by_parameter: Mapping[str, Mapping[str, str]], code: str) -> float | None:
    return number(by_parameter[code]["AVAL"]) if code in by_parameter else None


def _person(cells: Mapping[str, str]) -> Row:
    sex = (word(cells["SEX"]) or "").upper()
    numbers = {name: number(cells[name]) if name in cells else None for name in PERSON[1:]}
    return {"SEX": sex if sex in ("F", "M") else None, **numbers}


def _period(text: str) -> int:
    """The number of the period in ``PERIOD-2-DOSING``, ``2`` or ``2.0``."""
    digits = re.search(r"\d+", text)
    if digits is None:
        raise ValueError(f"visit is {text!r}; expected a period number such as PERIOD-2-DOSING; mend the table")
    return int(digits[0])


def _column(drug: str, unit: str) -> str:
    """The column of a concentration, as in a virtual trial's table."""
    return f"conc_{drug}_{unit.replace('/', '_')}"


def _missing(rows: list[Row]) -> list[Defect]:
    """A defect for each ECG without PR, QRS or QT."""
    return [
        Defect(f"{name.lower()}_missing", row["EGREFID"], "left unknown")
        for row in rows
        for name in ("PR", "QRS", "QT")
        if row[name] is None
    ]


_READERS: Mapping[str, Callable[[Path], tuple[list[Row], list[Defect]]]] = {
    "ecgrdvq": _single_drug,
    "ecgdmmld": _combinations,
    "ecgcipa": _cdisc,
}
