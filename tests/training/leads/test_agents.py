"""Agents of the environment: what they see, how greedy reasons, and that all stay within the mask."""

from __future__ import annotations

import leads_tables
import numpy as np
import pytest

from training.leads.agents import (
    CandidateRow,
    diagnostics_of,
    greedy_agent,
    random_agent,
    rows_of,
    run_agent,
    suspicions,
)
from training.leads.env import BEST_NUMBERS, CANDIDATE_NUMBERS, DiscoveryEnv
from training.leads.structure import ACTIONS, STOP


def env(**arguments: object) -> DiscoveryEnv:
    return DiscoveryEnv(cases=leads_tables.cases(), **arguments)  # type: ignore[arg-type]


def test_the_observation_reads_back_in_words() -> None:
    made = env()
    made.reset(seed=0, options={"case": 3})
    made.step(ACTIONS.index("reaction ms"))
    observation, *_ = made.step(ACTIONS.index("diffusion spline"))
    newest, older = rows_of(observation)
    assert (newest.spec["reaction"], newest.spec["diffusion"], older.spec["diffusion"]) == ("ms", "spline", "iso")
    assert newest.stable
    assert made.best is not None
    error = made.best[1].validation_error
    assert newest.numbers["log10_validation_error"] == pytest.approx(np.log10(error), abs=1e-5)
    assert diagnostics_of(observation)["apd_error_10ms"] == pytest.approx(0.1)


@pytest.mark.parametrize("agent", [random_agent, greedy_agent])
def test_agents_stay_within_the_mask_and_end(agent) -> None:  # type: ignore[no-untyped-def]
    for case in range(12):
        made = env(budget=8)

        def watched(observation, mask, rng):  # type: ignore[no-untyped-def]
            action = agent(observation, mask, rng)
            assert mask[action]
            return action

        run_agent(made, watched, np.random.default_rng(case), case)
        assert 1 <= len(made.history) <= 8


def test_greedy_finds_the_best_of_every_truth_within_twelve_fits() -> None:
    for case, truth in enumerate(name for name in ("ap", "ms", "fhn", "rm") for _ in range(3)):
        done = run_agent(env(), greedy_agent, np.random.default_rng(0), case)
        assert done.best is not None
        assert done.best[0] == leads_tables.best(truth)


def seen(**numbers: float) -> list[CandidateRow]:
    spec = {"reaction": "ms", "diffusion": "iso", "residual": "none", "width": 16, "regulariser": "medium"}
    return [CandidateRow(spec, {**dict.fromkeys(CANDIDATE_NUMBERS, 0.0), "is_best": 1.0, "stable": 1.0, **numbers})]


def test_greedy_suspects_the_diffusion_when_activation_drifts_with_distance() -> None:
    notes = {**dict.fromkeys(BEST_NUMBERS, 0.0), "activation_error_10ms": 3.0, "distance_correlation": 0.9}
    assert ACTIONS[int(np.argmax(suspicions(seen(), notes)))] == "refine"


def test_greedy_suspects_the_reaction_when_the_plateau_and_the_second_beat_are_wrong() -> None:
    notes = {**dict.fromkeys(BEST_NUMBERS, 0.0), "apd_error_10ms": 3.0, "second_beat_error_10ms": 2.0}
    assert ACTIONS[int(np.argmax(suspicions(seen(), notes)))] == "reaction mms"  # the nearest relative first


def test_greedy_simplifies_what_fits_only_the_training_protocols() -> None:
    notes = {**dict.fromkeys(BEST_NUMBERS, 0.0), "log10_gap": 1.5}
    assert ACTIONS[int(np.argmax(suspicions(seen(), notes)))] == "simplify"


def test_random_takes_the_end_only_when_nothing_else_is_left() -> None:
    mask = np.zeros(27, dtype=bool)
    mask[STOP] = True
    assert random_agent({}, mask, np.random.default_rng(0)) == STOP
    mask[5] = True
    assert {random_agent({}, mask, np.random.default_rng(k)) for k in range(20)} == {5}
