"""What a row of the leaderboard depends on changes its hash; words about it do not."""

from __future__ import annotations

import pytest

from training.evaluation.benchmark.hashes import canonical, scenarios_sha256, tables_sha256

ROWS = {"svt": {"drugs": ["adenosine 6 mg IV"], "clock": {"minutes": 5, "steps": 24}, "pitfall": "asthma"}}


def test_one_text_per_value() -> None:
    assert canonical({"b": 1, "a": [1.5, "ü"]}) == '{"a":[1.5,"ü"],"b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"drugs": ["adenosine 12 mg IV"]}, True),
        ({"clock": {"minutes": 5, "steps": 12}}, True),
        ({"given": [{"dose": "sotalol 150 mg IV over 300 min", "hours": -1}]}, True),
        ({"pitfall": "asthma and heart failure"}, False),
        ({"first_line": "adenosine"}, False),
    ],
)
def test_what_is_played_counts_and_what_is_said_of_it_does_not(change, counts) -> None:
    changed = {"svt": {**ROWS["svt"], **change}}
    assert (scenarios_sha256(changed) != scenarios_sha256(ROWS)) == counts


def test_the_hash_of_the_tables_is_one_number_of_sha256() -> None:
    assert len(tables_sha256()) == 64
    assert tables_sha256() == tables_sha256()
