"""Numbers and words about a person: one table for every door."""

from __future__ import annotations

import math

import pytest

from ecg_gym.plausibility import bounds, number_of, sex_of, table
from planners.parsing import parse_patient


def test_every_row_has_bounds_a_unit_and_a_source() -> None:
    for name, row in table()["numbers"].items():
        low, high, unit = bounds()[name]
        assert low < high, name
        assert unit, name
        assert row["source"], name
        assert row["confidence"] in "HML", name


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("age_years", "61Y", 61), ("age_years", "061Y", 61), ("age_years", 61, 61), ("age_years", "240 months", 20),
        ("magnesium", "2.0 mg/dL", 0.8228), ("magnesium", "1.7mEq/L", 0.85), ("magnesium", "0.8", 0.8),
        ("magnesium", "2.0mmol/L", 2.0), ("calcium", "9.4mg/dl", 2.3453), ("potassium", "4.1 mEq/L", 4.1),
        ("weight_kg", "154 lb", 69.85),
    ],
)  # fmt: skip
def test_units_are_converted(name: str, raw: object, value: float) -> None:
    assert math.isclose(number_of(name, raw), value, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("name", "raw", "why"),
    [
        ("magnesium", "2.0", "without a unit"), ("magnesium", 2.0, "without a unit"),
        ("calcium", "4.4", "without a unit"),
        ("calcium", "9.4", "expected 0.8 to 5"), ("age_years", 5, "expected 16"), ("age_years", "115", "expected 16"),
        ("age_years", "nan", "expected a number"), ("age_years", True, "expected a number"),
        ("potassium", "4 g/L", "expected a unit out of"), ("age_years", "1e400", "expected"),
    ],
)  # fmt: skip
def test_what_is_implausible_or_ambiguous_is_refused(name: str, raw: object, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        number_of(name, raw)
    assert str(caught.value).count(";") >= 2


@pytest.mark.parametrize(
    ("word", "sex"), [("Mujer", "F"), ("male", "M"), ("weiblich", "F"), ("Unknown", None), ("F.", "F")]
)
def test_sex_is_read_as_a_word_not_by_its_first_letter(word: str, sex: str | None) -> None:
    assert sex_of(word) == sex


def test_another_word_for_sex_is_refused() -> None:
    with pytest.raises(ValueError, match="expected F or M"):
        sex_of("Marsian")


def test_the_command_line_uses_the_same_table() -> None:
    assert parse_patient("age=61Y,sex=Mujer,Mg=2.0mg/dL").sex == "F"
    for words in ("Mg=2.0", "age=71,age=17", "age=71,age_years=17", "sex=Marsian", "medication=xyzzy", "age=5"):
        with pytest.raises(ValueError):
            parse_patient(words)
    assert parse_patient("medication=Isoptin SR+HCTZ").medication == {"Isoptin SR", "HCTZ"}
