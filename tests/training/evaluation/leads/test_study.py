"""The study's arithmetic on hearts made by hand, and its blocks on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.evaluation.leads import identification
from training.evaluation.leads.identification import HYBRIDS, Block, blocks, run
from training.evaluation.leads.study import choice, document, figure, summary


def heart(number: int, truth: str, kind: str = "voltage", right: bool = True, score: float = 0.5) -> dict[str, Any]:
    """A row whose true candidate has the least validation error if ``right``; hybrids err five times as much."""
    candidates = {}
    for name in ("ap", "ms", "fhn"):
        best = (name == truth) == right
        error = {"validation": 0.001 if best else 0.01, "train": 0.01 if best else 0.001, "mae": 0.01 if best else 0.05}
        candidates[name] = error | {"activation_ms": 1.0, "apd_ms": 2.0, "smoothness_ms": 0.1, "stable": True}
    for name in (*HYBRIDS, "neural"):
        candidates[name] = candidates["ap"] | {"mae": 0.05, "validation": 0.05, "train": 0.05}
    row = {"heart": f"{truth}-{number}", "truth": truth, "kind": kind, "noise": 0.05, "graph": "sheet"}
    return row | {"candidates": candidates, "scores": {"a": score, "b": score}}


ROWS = [heart(k, truth, score=0.1 * (k + 1)) for k in range(20) for truth in ("ap", "ms", "fhn")]


def test_all_right_is_one_with_an_interval_below_it() -> None:
    metric = document(ROWS, {})["metrics"]["identified_fraction"]
    assert metric["value"] == 1.0
    assert 0.9 < metric["ci95"][0] < 1.0
    assert metric["baselines"]["random pick"] == pytest.approx(0.25)
    assert metric["baselines"]["by training error"] < 1.0


def test_one_wrong_of_ten_is_nine_tenths_and_hybrids_are_never_named() -> None:
    rows = [heart(k, "ap", right=k > 0) for k in range(10)]
    assert document(rows, {})["metrics"]["identified_fraction"]["value"] == pytest.approx(0.9)
    assert choice(rows[0]) != "ap"
    assert all(choice(row) not in HYBRIDS for row in rows)


def test_the_reduction_is_against_the_better_hybrid() -> None:
    assert document(ROWS, {})["metrics"]["mae_reduction_vs_hybrid"]["value"] == pytest.approx(0.8)


def test_coverage_uses_the_other_half_of_the_hearts() -> None:
    metric = document(ROWS, {})["metrics"]["coverage90_parameters"]
    assert 0.8 <= metric["value"] <= 0.95
    assert metric["baselines"]["uncorrected"] == pytest.approx(0.5)


def test_the_document_has_a_table_and_a_figure() -> None:
    rows = ROWS + [heart(k, "ms", "times") for k in range(4)]
    whole = document(rows, {"hearts_each": 20})
    assert {"identified_fraction", "identified_fraction_sparse"} <= {row["metric"] for row in summary(whole)}
    assert len(figure(whole).axes) == 2


def test_blocks_do_not_share_seeds_between_kinds() -> None:
    every = blocks(60, 20, 20, 2, 4)
    assert len({block.name for block in every}) == len(every)
    seeds = {block.kind + block.graph: set() for block in every}
    for block in every:
        assert not seeds[block.kind + block.graph] & set(block.seeds)
        seeds[block.kind + block.graph] |= set(block.seeds)


def test_a_block_on_disk_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(identification, "run_block", lambda block: calls.append(block) or {"rows": [], "block": {}})
    block = Block("ap", "voltage", "sheet", (1, 2))
    for _ in range(2):
        list(run(tmp_path, [block]))
    assert calls == [block]
