"""The environment: both checkers, masks, rewards by hand, speed, and a live episode on a real fit."""

from __future__ import annotations

import math
from pathlib import Path

import ep_files
import gymnasium as gym
import leads_tables
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import training.leads
from ecg_gym.tissue import Spec
from training.leads.env import BEST_NUMBERS, CANDIDATE_NUMBERS, CHOICES, FIT_COST, SIZE_COST, DiscoveryEnv
from training.leads.structure import ACTIONS, FULL, SMALL, STOP, Candidate, Space

NUMBER = {name: number for number, name in enumerate(ACTIONS)}


def env(**arguments: object) -> DiscoveryEnv:
    return DiscoveryEnv(cases=leads_tables.cases(), **arguments)  # type: ignore[arg-type]


def test_gymnasiums_checker() -> None:
    made = gym.make(training.leads.ID, cases=leads_tables.cases(), render_mode="ansi")
    check_env(made.unwrapped)


def test_stable_baselines_checker() -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(env())


def test_the_id_is_known_after_the_import() -> None:
    made = gym.make("LEADS/Discovery-v0", cases=leads_tables.cases())
    assert made.action_space == gym.spaces.Discrete(27)
    assert len(ACTIONS) == len(set(ACTIONS)) == 27


def test_an_episode_by_hand() -> None:
    made = env(budget=3)
    observation, info = made.reset(seed=0, options={"case": 3})  # an MS heart
    assert not observation["candidates"].any()
    assert info["action_mask"][NUMBER["reaction ap"]]  # the start itself
    assert info["action_mask"][NUMBER["refine"]]
    outcomes = made.evaluators[3].case.outcomes  # type: ignore[attr-defined]
    _, reward, over, _, _ = made.step(NUMBER["reaction ms"])
    first = Candidate(Spec("ms", "iso", "none", 16, "medium"))
    assert made.best is not None
    assert made.best[0] == first
    assert reward == pytest.approx(math.log10(0.1 / outcomes[first].validation_error) - FIT_COST)
    assert not over
    observation, reward, over, _, _ = made.step(NUMBER["diffusion spline"])
    second = leads_tables.best("ms")
    assert made.best[0] == second
    gain = math.log10(outcomes[first].validation_error / outcomes[second].validation_error)
    assert reward == pytest.approx(gain - FIT_COST)
    row = observation["candidates"][0]
    assert row[CHOICES + CANDIDATE_NUMBERS.index("is_best")] == 1
    assert observation["candidates"][1, CHOICES + CANDIDATE_NUMBERS.index("is_best")] == 0
    assert observation["budget"][0] == pytest.approx(1 / 3)
    apd = observation["diagnostics"][BEST_NUMBERS.index("apd_error_10ms")]
    assert apd == pytest.approx(0.1)
    _, reward, over, _, _ = made.step(NUMBER["reaction ap"])  # worse: the best stays
    assert over
    assert made.best[0] == second
    assert reward == pytest.approx(-FIT_COST - SIZE_COST * math.log10(outcomes[second].n_parameters))
    with pytest.raises(RuntimeError, match="reset"):
        made.step(STOP)


def test_stop_on_nothing_earns_nothing() -> None:
    made = env()
    made.reset(seed=0)
    _, reward, over, _, _ = made.step(STOP)
    assert (reward, over) == (0.0, True)


def test_what_was_fitted_is_masked_and_costs_when_chosen_all_the_same() -> None:
    made = env()
    made.reset(seed=0, options={"case": 0})
    made.step(NUMBER["reaction ap"])
    mask = made.action_masks()
    assert not mask[NUMBER["reaction ap"]]
    assert not mask[NUMBER["diffusion iso"]]
    assert not mask[NUMBER["reaction bocf"]]  # not in this space
    observation, reward, _, _, info = made.step(NUMBER["reaction ap"])
    assert (reward, info["refused"], info["fits"]) == (-FIT_COST, True, 1)
    assert observation["budget"][0] == pytest.approx(10 / 12)


def test_an_unstable_candidate_never_becomes_the_best() -> None:
    made = DiscoveryEnv(cases=[leads_tables.case("ms", unstable=("ap",))], render_mode="ansi")
    made.reset(seed=0)
    observation, reward, *_ = made.step(NUMBER["reaction ap"])
    assert made.best is None
    assert reward == -FIT_COST
    assert observation["candidates"][0, CHOICES + CANDIDATE_NUMBERS.index("stable")] == 0
    made.step(NUMBER["reaction rm"])
    assert made.best is not None
    assert made.best[0].spec.reaction == "rm"
    assert "unstable" in str(made.render())


@given(st.lists(st.integers(0, 26), min_size=1, max_size=40), st.integers(0, 11))
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_actions_ends_within_the_budget(actions: list[int], number: int) -> None:
    made = env(budget=5)
    observation, info = made.reset(seed=0, options={"case": number})
    total, steps = 0.0, 0
    for action in actions:
        mask = info["action_mask"]
        before = len(made.history)
        observation, reward, over, truncated, info = made.step(action)
        assert made.observation_space.contains(observation)
        assert not truncated
        assert len(made.history) == before + int(mask[action] and action != STOP)
        assert len({candidate for candidate, _ in made.history}) == len(made.history)
        total, steps = total + reward, steps + 1
        if over:
            break
    assert steps <= 5
    assert over or len(actions) < 5
    if made.best and over:
        evaluator = made.evaluators[number]
        drop = math.log10(evaluator.null_error / made.best[1].validation_error)
        size = SIZE_COST * math.log10(made.best[1].n_parameters)
        fits = steps - (actions[steps - 1] == STOP)
        assert total == pytest.approx(max(0.0, drop) - FIT_COST * fits - size, abs=1e-6)


@pytest.mark.parametrize("space", [SMALL, FULL])
def test_every_action_is_a_total_function_that_stays_in_the_space_or_leads_nowhere(space: Space) -> None:
    allowed = set(space.specs)
    rng = np.random.default_rng(0)
    for number in rng.choice(len(space.candidates), 60):
        candidate = space.candidates[number]
        for action in ACTIONS:
            other = space.apply(action, candidate)
            assert isinstance(other, Candidate)
            if not action.startswith(("reaction", "diffusion")):
                assert other.spec in allowed
    assert len(space.index) == len(space.candidates)


def test_edits_of_the_full_catalogue() -> None:
    spec = Spec("ms", "spline", "uv", 16, "medium")

    def after(action: str, start: Spec = spec) -> Spec:
        return FULL.apply(action, Candidate(start)).spec

    assert after("add residual").residual == "uv_code"
    assert after("remove residual").residual == "none"
    assert after("simplify") == Spec("ms", "spline", "none", 16, "medium")
    assert after("simplify", Spec("ms", "spline", "none")).diffusion == "gcn"
    assert after("refine").diffusion == "edge_mlp"
    assert after("refine", Spec("ms", "flux_mlp")) == Spec("ms", "flux_mlp")
    assert after("simplify", Spec("ms", "free")).diffusion == "flux_mlp"
    assert (after("widen").width, after("narrow").width) == (32, 8)
    assert (after("regulariser up").regulariser, after("regulariser down").regulariser) == ("strong", "weak")
    more = FULL.apply("more iterations", Candidate(spec))
    assert (more.spec, more.effort) == (spec, 2.0)
    assert FULL.apply("reaction ap", more).effort == 1.0
    assert FULL.apply("restart", more).restart == 1
    assert len(FULL.specs) == 1728
    assert len(SMALL.specs) == 24


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "live"}, "without data"),
        ({"mode": "dream"}, "mode is 'dream'"),
        ({"space": "tiny"}, "space is 'tiny'"),
        ({"budget": 0}, "at least one fit"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        env(**arguments)


def test_options_that_make_no_sense() -> None:
    made = env()
    with pytest.raises(ValueError, match="only 'case'"):
        made.reset(options={"truth": "ms"})
    with pytest.raises(ValueError, match="0 to 11"):
        made.reset(options={"case": 12})
    made.reset(seed=0)
    with pytest.raises(ValueError, match="0 to 26"):
        made.step(27)


def test_the_truth_is_nowhere_in_what_is_seen() -> None:
    """Two hearts with equal outcomes and different truths look the same."""
    one = leads_tables.case("ms")
    other = leads_tables.Case("rm", 0, "voltage", one.null_error, one.outcomes, {})
    made = DiscoveryEnv(cases=[one, other])
    seen = []
    for number in (0, 1):
        made.reset(seed=0, options={"case": number})
        steps = [made.step(NUMBER[name]) for name in ("reaction ms", "refine", "refine", "add residual")]
        seen.append([{**step[0], "reward": step[1], "mask": step[4]["action_mask"]} for step in steps])
    for a, b in zip(*seen):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.slow
def test_a_live_episode_fits_once_and_goes_on_from_its_cache(tmp_path: Path) -> None:
    from ecg_gym.tissue import FitOptions
    from training.leads.outcome import LiveEvaluator
    from training.leads.patient import data_set

    data = data_set(ep_files.two_beats())
    made = DiscoveryEnv(data=data, cache=tmp_path, budget=2)
    made.evaluators = [LiveEvaluator(data, tmp_path, FitOptions(effort=0.02))]
    again = DiscoveryEnv(data=data, cache=tmp_path, budget=2)
    again.evaluators = [LiveEvaluator(data, tmp_path, FitOptions(effort=0.02))]
    results = []
    for one in (made, again):
        one.reset(seed=0)
        results.append([one.step(NUMBER[name]) for name in ("reaction ms", "reaction ap")])
    assert [e.evaluators[0].fits for e in (made, again)] == [2, 0]  # type: ignore[attr-defined]
    for a, b in zip(*results):
        assert a[1] == b[1]
        np.testing.assert_array_equal(a[0]["candidates"], b[0]["candidates"])
