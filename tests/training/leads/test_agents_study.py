"""The study of agents counts what it should, on tables whose best is known; and MaskablePPO learns there."""

from __future__ import annotations

import math

import leads_tables
import numpy as np
import pytest

from training.evaluation.leads.agents import POLICIES, SEARCHES, Table, summary, trials
from training.leads import searches
from training.leads.searches import run
from training.leads.structure import SMALL


def test_every_agent_is_counted_on_every_heart() -> None:
    cases = [leads_tables.case(truth) for truth in ("ms", "rm")]
    done = trials(cases, POLICIES, range(2))
    assert len(done) == 2 * 2 * (len(SEARCHES) + len(POLICIES))
    rows = {row["agent"]: row for row in summary(done)}
    order = list(SMALL.specs)
    places = [order.index(leads_tables.best(truth).spec) + 1 for truth in ("ms", "rm")]
    assert rows["exhaustive"]["fits"] == np.mean(places)
    assert rows["exhaustive"]["mae_over_best"] == 1.0
    assert rows["exhaustive"]["right_reaction"] == rows["random order"]["reached"] == 1.0
    assert all(row["n"] == 4 for row in rows.values())
    assert rows["greedy"]["fits"] < rows["random order"]["fits"] + 4


def test_what_the_table_lacks_costs_nothing() -> None:
    case = leads_tables.case("ms")
    kept = {c: o for c, o in case.outcomes.items() if c.spec.diffusion != "aniso" and c.effort == 1.0}
    small = leads_tables.Case("ms", 0, "voltage", case.null_error, kept, case.held_out_mae)
    table = Table(small, SMALL)
    for make in (searches.exhaustive, searches.factor_bandit, searches.beam):
        done = run(table.only(make(table.space, np.random.default_rng(0))), table.evaluator, 99)
        assert {candidate for candidate, _ in done.history} <= set(kept)
        assert done.best is not None
        assert done.best[0] == leads_tables.best("ms")
        assert math.isfinite(done.cost_until(table.goal))


@pytest.mark.slow
def test_maskable_ppo_beats_random_edits_on_hearts_it_has_not_seen() -> None:
    pytest.importorskip("sb3_contrib")
    from training.leads.ppo import train_ppo

    policy = train_ppo(leads_tables.cases(range(3)), steps=8_192)
    done = trials(
        [leads_tables.case(truth, 9) for truth in ("ap", "ms", "fhn", "rm")], {**POLICIES, "ppo": policy}, range(2)
    )
    rows = {row["agent"]: row for row in summary(done)}
    assert rows["ppo"]["mae_over_best"] < 1.5
    assert rows["ppo"]["spent"] < rows["random edits"]["spent"]
