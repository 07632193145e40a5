"""Tables of fits: written and read without loss, broken files refused, and the shipped one as it should be."""

from __future__ import annotations

import gzip
from pathlib import Path

import leads_tables
import pytest

from ecg_gym.tissue import Spec
from training.leads.structure import Candidate
from training.leads.table import TableEvaluator, read_table, write_table


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = leads_tables.write(tmp_path / "fits.csv.gz")
    for before, after in zip(leads_tables.cases(), read_table(path)):
        assert (after.truth, after.seed, after.kind) == (before.truth, before.seed, before.kind)
        assert list(after.outcomes) == list(before.outcomes)
        for candidate, outcome in before.outcomes.items():
            assert after.outcomes[candidate].validation_error == pytest.approx(outcome.validation_error, rel=1e-3)
            assert after.outcomes[candidate].stable == outcome.stable
        assert after.best() == leads_tables.best(before.truth)


def test_the_same_cases_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (leads_tables.write(tmp_path / name) for name in ("a.csv.gz", "b.csv.gz"))
    assert one.read_bytes() == two.read_bytes()


def test_what_the_table_lacks_is_refused() -> None:
    evaluator = TableEvaluator(leads_tables.case("ms"))
    other = Candidate(Spec("bocf"))
    assert not evaluator.available(other)
    with pytest.raises(ValueError, match="live fits"):
        evaluator.evaluate(other)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        gzip.compress(b"a,b\n1,2\n", mtime=0),
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\xff", mtime=0),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fits.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="make it anew"):
        read_table(path)


def test_a_table_of_nothing_is_refused(tmp_path: Path) -> None:
    write_table([], tmp_path / "fits.csv.gz")
    with pytest.raises(ValueError, match="make it anew"):
        read_table(tmp_path / "fits.csv.gz")


def test_the_shipped_table() -> None:
    """Twenty hearts of four truths; on all of them the best structure has the true reaction."""
    from training.leads.make_table import TEST_SEEDS
    from training.leads.table import SHIPPED

    hearts = read_table()
    assert SHIPPED.stat().st_size < 300_000
    assert len(hearts) == 20
    assert {case.truth for case in hearts} == {"ap", "ms", "fhn", "rm"}
    assert len({(case.truth, case.seed) for case in hearts}) == 20
    assert sum(case.seed in TEST_SEEDS for case in hearts) == 8
    for case in hearts:
        assert len({candidate.spec for candidate in case.outcomes}) >= 12
        assert case.best().spec.reaction == case.truth
        assert case.outcomes[case.best()].validation_error < 0.2 * case.null_error
