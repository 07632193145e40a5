"""The parts of searches by their formulas; what they reach is tested in ``test_mpc``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from planners import search

COSTS = np.array([0.9, 0.5, 0.1, 0.4])  # of each menu entry, at every step


class Tree:
    """Three steps of a menu of four in which every entry has its own cost and nothing else happens."""

    horizon, menu, left = 3, tuple("abcd"), 1000
    allowed = np.array([True, True, False, True])

    def __init__(self) -> None:
        self.walked: list[tuple[int, ...]] = []

    def affordable(self, proposed: list[tuple[int, ...]], *_: Any) -> list[tuple[int, ...]]:
        return proposed

    def walk(self, proposed: list[tuple[int, ...]]) -> list[Any]:
        self.walked += proposed
        return [paths(entries) for entries in proposed]

    def permitted(self, node: Any, entry: int) -> bool:
        return entry in node.permitted


def paths(entries: tuple[int, ...], finite: bool = True, nodes: tuple[Any, ...] = ()) -> Any:
    risk = COSTS[list(entries)].mean()
    return SimpleNamespace(entries=entries, risks=np.full(2, risk), finite=np.full(2, finite), nodes=nodes)


MEAN: Any = SimpleNamespace(losses=lambda one: one.risks, score=np.mean)


def test_first_steps_are_what_is_allowed_and_later_ones_watch_as_often_as_asked() -> None:
    chances = search.proposal(Tree(), 0.4)  # type: ignore[arg-type]
    np.testing.assert_allclose(chances, [[1 / 3, 1 / 3, 0, 1 / 3], *[[0.4, 0.2, 0.2, 0.2]] * 2])


def test_sequences_are_drawn_by_their_probabilities_even_where_rows_do_not_add_up() -> None:
    rng, chances = np.random.default_rng(0), np.array([[0.0, 2.0, 0.0], [0.1, 0.0, 0.3]])
    samples = np.array([search.draw(chances, rng) for _ in range(4000)])
    assert set(samples[:, 0]) == {1}
    assert set(samples[:, 1]) == {0, 2}
    assert (samples[:, 1] == 2).mean() == pytest.approx(0.75, abs=0.03)


def test_what_is_always_looked_at_is_the_warm_one_and_each_allowed_treatment_once() -> None:
    tree: Any = Tree()
    assert search.basics(tree) == [(0, 0, 0), (1, 0, 0), (3, 0, 0)]
    assert search.basics(tree, (3, 2, 1)) == [(3, 2, 1), (0, 0, 0), (1, 0, 0), (3, 0, 0)]
    assert search.basics(tree, (1, 0, 0)) == [(1, 0, 0), (0, 0, 0), (3, 0, 0)]


def test_entries_are_tried_where_half_of_the_living_hearts_permit_them() -> None:
    node = lambda over, *permitted: SimpleNamespace(over=over, permitted=permitted)  # noqa: E731
    crowd = (node(False, 1, 2), node(False, 1), node(True, 3), node(False, 2), node(False, 3))
    assert search.sensible(Tree(), paths((0, 0, 0), nodes=crowd)) == [0, 1, 2]  # type: ignore[arg-type]
    assert search.sensible(Tree(), paths((0, 0, 0), nodes=(node(True, 1, 2, 3),))) == [0]  # type: ignore[arg-type]


def test_order_is_by_what_is_finite_then_score_then_fewest_doses_then_menu() -> None:
    broken, cheap, dear = paths((2, 2, 2), finite=False), paths((2, 2, 3)), paths((0, 0, 0))
    assert [p.entries for p in search.ordered([broken, dear, cheap], MEAN)] == [(2, 2, 3), (0, 0, 0), (2, 2, 2)]
    equal = [SimpleNamespace(**{**vars(cheap), "entries": entries}) for entries in ((3, 0, 1), (3, 0, 0), (0, 3, 0))]
    assert [p.entries for p in search.ordered(equal, MEAN)] == [(0, 3, 0), (3, 0, 0), (3, 0, 1)]


def test_probabilities_move_towards_the_elite_by_the_share_that_is_said(monkeypatch) -> None:
    """de Boer 2005: p <- (1 - s) p + s x share of the elite, step by step."""
    tables: list[np.ndarray] = []
    original = search.draw

    def draw(chances: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
        tables.append(chances)
        return original(chances, rng)

    monkeypatch.setattr(search, "draw", draw)
    tree: Any = Tree()
    search.CrossEntropy(population=20, elite=0.2, rounds=2, smoothing=0.3, doubt=0.0)(
        tree, MEAN, np.random.default_rng(4)
    )
    first, second = tables[0], tables[20]
    again = np.random.default_rng(4)
    again.random(20)
    proposed = [*search.basics(tree), *(original(first, again) for _ in range(20))]
    elite = sorted(proposed, key=lambda e: (round(COSTS[list(e)].mean(), 12), sum(x != 0 for x in e), e))[
        : round(0.2 * 23)
    ]
    share = np.array([[np.mean([e[t] == a for e in elite]) for a in range(4)] for t in range(3)])
    np.testing.assert_allclose(second, 0.7 * first + 0.3 * share, atol=1e-12)
    np.testing.assert_allclose(second.sum(axis=1), 1.0)
