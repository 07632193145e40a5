"""Searches on tables whose best structure is known: they find it, count their fits, and end."""

from __future__ import annotations

import math
from dataclasses import replace

import leads_tables
import numpy as np
import pytest

from training.leads import searches
from training.leads.searches import MakeSearch, Search, run
from training.leads.structure import SMALL, Candidate, Space
from training.leads.table import TableEvaluator

SEARCHES: dict[str, MakeSearch] = {
    "exhaustive": searches.exhaustive,
    "random": searches.random_order,
    "beam": searches.beam,
    "evolution": searches.evolution,
    "bandit": searches.factor_bandit,
}
TRUTHS = ("ap", "ms", "fhn", "rm")


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("truth", TRUTHS)
def test_with_enough_budget_every_search_finds_the_best(name: str, truth: str) -> None:
    evaluator = TableEvaluator(leads_tables.case(truth))
    done = run(SEARCHES[name](SMALL, np.random.default_rng(0)), evaluator, budget=60)
    assert done.best is not None
    assert done.best[0] == leads_tables.best(truth)
    candidates = [candidate for candidate, _ in done.history]
    assert len(set(candidates)) == len(candidates)
    assert done.cost <= 60


@pytest.mark.parametrize("name", SEARCHES)
def test_the_budget_is_kept_and_the_same_seed_repeats(name: str) -> None:
    evaluator = TableEvaluator(leads_tables.case("ms"))
    runs = [run(SEARCHES[name](SMALL, np.random.default_rng(5)), evaluator, budget=7.5) for _ in range(2)]
    assert runs[0].history == runs[1].history
    assert 6 < runs[0].cost <= 7.5


@pytest.mark.parametrize("name", ["beam", "evolution", "bandit"])
def test_better_than_random_order_on_average(name: str) -> None:
    """Fits until within 5 % of the best; random order needs (24 + 1)/2 for a single winner."""
    costs, random = [], []
    for seed in range(6):
        for truth in TRUTHS:
            case = leads_tables.case(truth, seed)
            goal = 1.05 * case.outcomes[leads_tables.best(truth)].validation_error
            for which, out in ((name, costs), ("random", random)):
                search = SEARCHES[which](SMALL, np.random.default_rng(seed))
                out.append(run(search, TableEvaluator(case), budget=60).cost_until(goal))
    assert max(costs) < math.inf
    assert np.mean(costs) < 0.9 * np.mean(random)
    assert 9 < np.mean(random) < 17


def test_the_bandit_halves_over_the_iterations() -> None:
    history = run(
        searches.factor_bandit(SMALL, np.random.default_rng(0)), TableEvaluator(leads_tables.case("ms")), 3
    ).history
    efforts = [candidate.effort for candidate, _ in history]
    assert efforts[:6] == [0.25] * 4 + [1.0] * 2
    quick = {replace(candidate, effort=1.0) for candidate, _ in history[:4]}
    assert {candidate for candidate, _ in history[4:6]} <= quick


def test_unstable_candidates_never_win() -> None:
    case = leads_tables.case("ms", unstable=("ms",))
    for make in SEARCHES.values():
        done = run(make(SMALL, np.random.default_rng(0)), TableEvaluator(case), 60)
        assert done.best is not None
        assert done.best[0].spec.reaction != "ms"


def test_a_candidate_that_comes_again_costs_nothing() -> None:
    def twice(space: Space, rng: np.random.Generator) -> Search:
        for candidate in (space.start, space.start, replace(space.start, effort=0.25)):  # noqa: UP028 - takes no outcome
            yield candidate

    done = run(twice(SMALL, np.random.default_rng(0)), TableEvaluator(leads_tables.case("ms")), 10)
    assert done.cost == 1.25
    assert done.cost_until(0.0) == math.inf


def test_one_reaction_alone_still_ends() -> None:
    space = Space(("ms",), ("iso", "spline"), ("none",), (16,), ("medium",), (1.0,), (0,))
    case = leads_tables.case("ms", space=space)
    for make in SEARCHES.values():
        done = run(make(space, np.random.default_rng(0)), TableEvaluator(case), 100)
        assert len(done.history) == 2
        assert isinstance(done.history[0][0], Candidate)
