"""``pairs.csv``: what is written is read, and one test per mistake, which is named by row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg_gym.core import ECG, Administration, Dose, Patient
from ecg_gym.datasets import write_record
from ecg_gym.real_trials import check_pairs, read_pairs, write_pairs
from ecg_gym.real_trials.pairs_csv import COLUMNS
from ecg_gym.real_trials.timed_doses import timed, timed_dose

GOOD = {
    "record_before": "a",
    "record_after": "b.hea",
    "hours_between": "2.5",
    "subject": "1001",
    "doses": "dofetilide 500 mcg PO @ 0.5h; verapamil 120 mg PO @ -2 h",
    "arm": "",
    "control": "no",
    "split": "test",
    "weight": "0.5",
    "sex": "F",
    "age_years": "31",
    "potassium": "3.9",
    "conditions": "heart_failure; asthma",
    "medication": "Cimetidine",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    signal = np.random.default_rng(0).normal(size=(12, 1000)).astype(np.float32)
    for name in ("a", "b"):
        write_record(tmp_path / name, ECG(signal, 100.0))
    return tmp_path


def written(folder: Path, *rows: dict[str, str], header: list[str] | None = None) -> Path:
    path = folder / "pairs.csv"
    names = header or list(GOOD)
    path.write_text(
        "\n".join([",".join(names), *(",".join(f'"{row.get(n, "")}"' for n in names) for row in rows)]) + "\n"
    )
    return path


def test_a_row_becomes_a_trajectory_of_two_strips(folder: Path) -> None:
    (trajectory,) = read_pairs(written(folder, GOOD))
    assert trajectory.patient == Patient(
        31.0,
        "F",
        potassium=3.9,
        conditions=frozenset({"heart_failure", "asthma"}),
        medication=frozenset({"cimetidine"}),
    )
    assert trajectory.administrations == (
        Administration(-2.0, Dose("verapamil", 120.0, "mg", "PO")),
        Administration(0.5, Dose("dofetilide", 0.5, "mg", "PO")),
    )
    assert [(strip.record, strip.hours, strip.weight) for strip in trajectory.strips] == [
        (folder / "a", 0.0, 0.5), (folder / "b", 2.5, 0.5)
    ]  # fmt: skip
    assert (trajectory.subject, trajectory.side, trajectory.arm, trajectory.control) == (
        "1001",
        "test",
        "verapamil + dofetilide",
        False,
    )


def test_the_clock_moves_doses_and_strips_together(folder: Path) -> None:
    path = written(folder, {**GOOD, "clock_hours": "6"}, header=[*GOOD, "clock_hours"])
    (trajectory,) = read_pairs(path)
    assert [strip.hours for strip in trajectory.strips] == [6.0, 8.5]
    assert [a.hours for a in trajectory.administrations] == [4.0, 6.5]


def test_only_four_columns_are_needed(folder: Path) -> None:
    path = written(folder, GOOD, header=["record_before", "record_after", "hours_between", "subject"])
    (trajectory,) = read_pairs(path)
    assert (trajectory.patient, trajectory.administrations, trajectory.side, trajectory.arm) == (
        Patient(),
        (),
        "",
        "nothing",
    )


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("record_before", "", "it is empty; expected the path of a WFDB record"),
        ("record_after", "c", "there is no c.hea beside pairs.csv"),
        ("hours_between", "", "it is empty; expected hours above 0"),
        ("hours_between", "0", "it is '0'; expected a number from 0.001"),
        ("hours_between", "two", "it is 'two'; expected a number"),
        ("subject", "", "it is empty; expected who it is"),
        ("doses", "dofetilide 0.5 mg PO", "expected 'DRUG AMOUNT UNIT ROUTE @ HOURSh'"),
        ("doses", "aspirin 100 mg PO @ 0h", "drug is 'aspirin'; expected one of"),
        ("doses", "dofetilide 0.5 mg IV @ 0h", "route of dofetilide is 'IV'; expected PO"),
        ("doses", "dofetilide 3 U PO @ 0h", "unit of dofetilide is 'U'"),
        ("doses", "dofetilide 0.5 mg PO @ 3h", "is after record_after (2.5 h)"),
        ("control", "perhaps", "it is 'perhaps'; expected yes or no"),
        ("split", "training", "it is 'training'; expected train or validation or test"),
        ("weight", "-1", "it is '-1'; expected a number from 0"),
        ("sex", "woman", "it is 'woman'; expected F or M"),
        ("age_years", "7", "it is '7'; expected a number from 16 to 110 years"),
        ("potassium", "39", "it is '39'; expected a number from 1.5 to 10 mmol/L"),
        ("conditions", "astma", "it names ['astma']; expected words out of"),
    ],
)
def test_each_mistake_is_named_by_row_and_column(folder: Path, column: str, value: str, words: str) -> None:
    path = written(folder, GOOD, {**GOOD, column: value})
    mistakes = check_pairs(path)
    assert [(m.row, m.column) for m in mistakes if words in m.text] == [(3, column)], [str(m) for m in mistakes]
    assert all("; expected " in m.text for m in mistakes)
    with pytest.raises(
        ValueError, match=rf"holds {len(mistakes)} mistakes; expected none; mend these cells:\n  row 3, "
    ):
        read_pairs(path)


def test_a_person_on_two_sides_is_named(folder: Path) -> None:
    mistakes = check_pairs(written(folder, GOOD, {**GOOD, "split": "train"}))
    assert [str(m) for m in mistakes] == [
        "row 3, column split: 1001 is in 'train' here and 'test' in row 2; expected one side for a person; "
        "correct one of them"
    ]


def test_a_ragged_line_is_named(folder: Path) -> None:
    path = written(folder, GOOD)
    path.write_text(path.read_text() + "a,b,2,1001\n")
    assert any(m.row == 3 and "another number of cells" in m.text for m in check_pairs(path))


def test_all_mistakes_come_at_once_and_many_are_counted(folder: Path) -> None:
    path = written(folder, *[{**GOOD, "sex": "x", "age_years": "3"}] * 15)
    with pytest.raises(ValueError, match=r"holds 30 mistakes(.|\n)* and 10 more"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("record_before,drug\na,b\n", r"has the columns \['drug'\]; expected some of record_before"),
        ("record_before,subject\na,b\n", r"lacks the columns \['record_after', 'hours_between'\]"),
        ("record_before,record_after,hours_between,subject\n", "holds no row"),
    ],
)
def test_what_is_no_table_of_pairs_is_refused(folder: Path, text: str, words: str) -> None:
    (folder / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        check_pairs(folder / "pairs.csv")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not there; expected a pairs\.csv"):
        read_pairs(tmp_path / "pairs.csv")


def test_what_is_written_is_read(folder: Path) -> None:
    row = {**GOOD, "doses": "; ".join(timed_dose(a) for a in read_pairs(written(folder, GOOD))[0].administrations)}
    write_pairs(folder / "again.csv", [row])
    (again,) = read_pairs(folder / "again.csv")
    (first,) = read_pairs(written(folder, GOOD))
    assert (again.administrations, again.patient, again.strips) == (first.administrations, first.patient, first.strips)
    assert set((folder / "again.csv").read_text().splitlines()[0].split(",")) <= set(COLUMNS)


@pytest.mark.parametrize(
    "words",
    [
        "verapamil 5 mg IV over 2 min @ -0.25h",
        "amiodarone 150 mg IV over 10 min @ 1h",
        "esmolol 50 mcg/kg/min IV over 60 min @ 0h",
    ],
)
def test_doses_survive_their_words(words: str) -> None:
    administration = timed(words, Patient())
    assert timed(timed_dose(administration), Patient()) == administration


def test_a_real_dose_may_exceed_the_formularys_largest() -> None:
    assert timed("dofetilide 2 mg PO @ 0h", Patient()).dose.amount == 2.0
