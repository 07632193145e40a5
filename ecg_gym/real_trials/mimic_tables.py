"""Tables of MIMIC-IV and MIMIC-IV-ECG as they lie on the user's disk: gzipped or not, read row by row.

Times become hours since 1970; MIMIC shifts them by a secret number of days for each person, which changes no interval.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%m/%d/%Y %H:%M")
EPOCH = datetime(1970, 1, 1)
Rule = Mapping[str, Any]


@cache
def shipped_rule() -> Rule:
    """``mimic.yaml``."""
    with open(Path(__file__).with_name("mimic.yaml"), encoding="utf-8") as file:
        return yaml.safe_load(file)


def load_rule(path: Path | None = None) -> Rule:
    """The shipped rule, with the keys of your own file in place of its own; ValueError for a key it does not have."""
    if path is None:
        return shipped_rule()
    if not path.is_file():
        raise ValueError(f"{path} is not there; expected a YAML file of the episode rule; mend --rule")
    own = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(own, dict) or (unknown := sorted(set(own) - set(shipped_rule()))):
        raise ValueError(
            f"{path} has the keys {unknown if isinstance(own, dict) else own!r}; expected some of "
            f"{sorted(shipped_rule())}; see ecg_gym/real_trials/mimic.yaml"
        )
    windows = {**shipped_rule()["windows"], **own.get("windows", {})}
    return {**shipped_rule(), **own, "windows": windows}


@dataclass(frozen=True)
class Hospital:
    """Where the tables are."""

    clinical: Path  # of MIMIC-IV, holds hosp/ and icu/
    ecg: Path  # of MIMIC-IV-ECG, holds record_list.csv and files/

    def rows(self, table: str, required: bool = True) -> Iterator[dict[str, str]]:
        """The rows of ``hosp/emar``, ``record_list`` and so on; none where a table that is not needed is absent."""
        path = self.path(table)
        if path is None:
            if required:
                raise ValueError(
                    f"there is no {table}.csv or {table}.csv.gz in {self._root(table)}; expected the tables as "
                    "downloaded from PhysioNet; mend --mimic or --ecg"
                )
            return
        with (
            gzip.open(path, "rt", encoding="utf-8", newline="")
            if path.suffix == ".gz"
            else open(path, encoding="utf-8", newline="")
        ) as file:
            yield from csv.DictReader(file)

    def path(self, table: str) -> Path | None:
        """The file of a table, or None."""
        for suffix in (".csv.gz", ".csv"):
            if (path := self._root(table) / f"{table}{suffix}").is_file():
                return path
        return None

    def _root(self, table: str) -> Path:
        return self.clinical if "/" in table else self.ecg


def hours_of(text: str | None) -> float | None:
    """Hours since 1970 of a date in MIMIC's spelling; None where there is none."""
    if text is None or not text.strip():
        return None
    for form in FORMATS:
        try:
            return (datetime.strptime(text.strip(), form) - EPOCH).total_seconds() / 3600
        except ValueError:
            continue
    raise ValueError(f"a time is {text!r}; expected for example 2142-07-31 01:54:00; compare the table with its source")


def year_of(hours: float) -> int:
    """The calendar year (shifted, as MIMIC's are) of hours since 1970."""
    return (EPOCH + timedelta(hours=hours)).year


def number_of(text: str | None) -> float | None:
    """A cell as a number; None where it is empty or not one (``___``, ``5-10``)."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def machine_intervals(cells: Mapping[str, str], rule: Rule) -> dict[str, float | None]:
    """RR, PR, QRS and QT [ms] of a row of ``machine_measurements``; None where it says "not measurable"."""
    value = {
        name: None if (read := number_of(cells.get(name))) is None or int(read) in rule["sentinels"] else read
        for name in ("rr_interval", "p_onset", "qrs_onset", "qrs_end", "t_end")
    }
    return {
        "RR": value["rr_interval"],
        "PR": _difference(value["p_onset"], value["qrs_onset"]),
        "QRS": _difference(value["qrs_onset"], value["qrs_end"]),
        "QT": _difference(value["qrs_onset"], value["t_end"]),
    }


def _difference(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None or end <= start else end - start
