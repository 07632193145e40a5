"""Marks of a median beat become intervals, whichever of them are absent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from releases import Known

from ecg_gym.real_trials.medians import header_is_corrupt, intervals_from, median_intervals

WHOLE = [(200, "("), (360, "("), (400, "N"), (450, ")"), (650, "t"), (740, ")")]
KNOWN = {"PR": 160, "QRS": 90, "QT": 380, "JTPEAK": 200, "TPEAKTEND": 90}


@pytest.mark.parametrize(
    ("absent", "unknown"),
    [
        ((), ()),
        (((400, "N"),), ()),
        (((200, "("),), ("PR",)),
        (((450, ")"),), ("QRS", "JTPEAK")),
        (((740, ")"),), ("QT", "TPEAKTEND")),
        (((650, "t"), (740, ")")), ("QT", "JTPEAK", "TPEAKTEND")),
        (((400, "N"), (650, "t"), (740, ")")), ("QT", "JTPEAK", "TPEAKTEND")),
    ],
)
def test_each_absent_mark_costs_its_own_intervals(absent, unknown) -> None:
    marks = [mark for mark in WHOLE if mark not in absent]
    assert intervals_from(marks) == {name: None if name in unknown else value for name, value in KNOWN.items()}


def test_a_second_t_peak_changes_nothing() -> None:
    assert intervals_from([*WHOLE, (680, "t")]) == KNOWN


@pytest.mark.parametrize("name", ["ecgrdvq", "ecgdmmld", "ecgcipa"])
def test_annotations_give_the_tables_intervals(name: str, look_alike: Callable[[str], Known]) -> None:
    known = look_alike(name)
    compared = 0
    for row in known.rows:
        path = known.folder / "medians" / str(row["RANDID"]) / row["EGREFID"]
        if row["EGREFID"] in known.defects["median_missing"]:
            assert median_intervals(path) is None
            continue
        expected = {key: row[key] for key in KNOWN}
        if row["EGREFID"] in known.defects["pr_wrap"]:
            expected["PR"] = None
        assert median_intervals(path) == expected
        assert header_is_corrupt(path) == (row["EGREFID"] in known.defects["median_header_corrupt"])
        compared += 1
    assert compared >= len(known.rows) - 1
