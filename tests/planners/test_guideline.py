"""The guideline heuristic: a table that is read right, and that never looks behind the curtain."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.core import WATCH, Administration, Patient, Treatment, parse_dose
from ecg_gym.envs import load_scenarios
from ecg_gym.pharmacology import FORMULARY
from planners import GuidelinePlanner, check_planner
from planners.guideline import Bedside, decide, holds, parse, situations

NORMAL = {"hr_bpm": 66.0, "qrs_ms": 95.0, "pr_ms": 160.0, "qtcf_ms": 410.0, "p_present": 1.0, "regular": 1.0}
AF = {**NORMAL, "hr_bpm": 140.0, "pr_ms": np.nan, "p_present": 0.0, "regular": 0.0}
SVT = {**NORMAL, "hr_bpm": 175.0, "pr_ms": np.nan, "p_present": 0.0}


def option(words: str) -> Treatment:
    return Treatment((FORMULARY.check(parse_dose(words), Patient()),))


def seen(readings, patient: Patient | None = None, *given: tuple[str, float], hours: float = 0.0) -> Bedside:
    taken = tuple(Administration(at, option(words).doses[0]) for words, at in given)
    return Bedside(readings, patient or Patient(), taken, hours)


def choice(what: Bedside, *words: str) -> Treatment:
    return decide(what, (WATCH, *map(option, words)))[0]


def test_a_normal_strip_is_watched_whatever_is_on_offer() -> None:
    assert choice(seen(NORMAL), "dofetilide 0.5 mg PO", "metoprolol 5 mg IV") == WATCH


def test_the_first_line_that_is_allowed_is_given_and_the_next_where_it_is_not() -> None:
    offers = ("diltiazem 0.25 mg/kg IV", "metoprolol 5 mg IV", "amiodarone 150 mg IV", "digoxin 0.5 mg IV")
    assert choice(seen(AF), *offers) == option(offers[0])
    assert choice(seen(AF), *offers[1:]) == option(offers[1])
    failing = Patient(conditions=frozenset({"heart_failure"}))
    assert choice(seen(AF, failing), *offers[1:]) == option("amiodarone 150 mg IV")


def test_a_second_line_follows_a_failure() -> None:
    offers = ("adenosine 6 mg IV", "adenosine 12 mg IV", "verapamil 5 mg IV")
    assert choice(seen(SVT), *offers) == option("adenosine 6 mg IV")
    once = seen(SVT, None, ("adenosine 6 mg IV", 0.0), hours=1.0)
    assert choice(once, *offers) == option("adenosine 12 mg IV")
    thrice = seen(SVT, None, *[("adenosine 12 mg IV", h) for h in (0.0, 1.0, 2.0)], hours=3.0)
    assert choice(thrice, *offers) == option("verapamil 5 mg IV")


def test_a_wide_and_irregular_tachycardia_gets_nothing_for_the_node() -> None:
    wide = seen({**AF, "hr_bpm": 190.0, "qrs_ms": 160.0})
    assert choice(wide, "diltiazem 0.25 mg/kg IV", "procainamide 10 mg/kg IV") == option("procainamide 10 mg/kg IV")
    assert choice(wide, "diltiazem 0.25 mg/kg IV", "adenosine 12 mg IV") == WATCH


def test_a_block_below_the_bundle_gets_no_atropine() -> None:
    blocked = Patient(conditions=frozenset({"av_block_2_3"}))
    offers = ("atropine 1 mg IV", "isoproterenol 2 mcg/min IV over 60 min")
    slow = {**NORMAL, "hr_bpm": 36.0}
    assert choice(seen({**slow, "qrs_ms": 150.0}, blocked), *offers) == option(offers[1])
    assert choice(seen(slow), *offers) == option(offers[0])


def test_doses_between_which_hours_must_pass_are_not_repeated_at_once() -> None:
    high = Patient(potassium=7.8)
    wide = {**NORMAL, "qrs_ms": 160.0}
    given = [("calcium_gluconate 3 g IV", 0.0), ("insulin 10 U IV", 1.0)]
    assert choice(seen(wide, high, *given, hours=2.0), "insulin 10 U IV") == WATCH
    assert choice(seen(wide, high, *given, hours=3.0), "insulin 10 U IV") == option("insulin 10 U IV")
    assert choice(seen(NORMAL, high, *given, hours=3.0), "insulin 10 U IV") == WATCH  # QRS is narrow again


def test_a_menu_that_lacks_the_dose_offers_the_nearest() -> None:
    slow = seen({**NORMAL, "hr_bpm": 42.0})
    assert choice(slow, "atropine 0.5 mg IV", "atropine 0.8 mg IV") == option("atropine 0.8 mg IV")


def test_what_was_not_measured_never_holds() -> None:
    blind = seen({**NORMAL, "qtcf_ms": np.nan, "finding_atrial_fibrillation": np.nan})
    assert not holds({"interval": "qtcf_ms", "above": 0}, blind)
    assert not holds({"interval": "qtcf_ms", "below": 1e9}, blind)
    assert not holds({"finding": "Atrial fibrillation"}, blind)
    assert not holds({"patient": "potassium", "below": 9}, blind)


def test_every_situation_is_reached_by_some_scenario_s_menu() -> None:
    menus = [scenario.menu for scenario in load_scenarios().values()]
    for situation in situations():
        first = situation.lines[0].dose
        assert any(first in treatment.doses for menu in menus for treatment in menu), situation.name
        assert situation.source


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"when": {"finding": "Waltz"}}, "expected all, any, not"),
        ({"when": {"any": [{"interval": "hr", "above": 3}]}}, "expected all, any, not"),
        ({"source": "hearsay"}, "expected a key of citations"),
        ({"because": 1}, "expected"),
        ({"lines": [{"give": "atropine 1 mg IV", "times": 1, "until": 3}]}, "expected"),
        ({"lines": [{"give": "moonshine 1 mg IV", "times": 1}]}, "expected one of"),
    ],
    ids=str,
)
def test_a_row_that_nobody_understands_is_refused(change, says) -> None:
    row = {"name": "x", "when": {"condition": "asthma"}, "lines": [], "source": "s"}
    parse(row, {"s": "somebody"})
    with pytest.raises(ValueError, match=says):
        parse({**row, **change}, {"s": "somebody"})


@pytest.mark.parametrize("scenario", ["svt", "hyperkalaemia"])
def test_the_planner_keeps_the_contract_of_planners(scenario) -> None:
    env = gym.make("ECGInterventionOracle-v0", scenario=scenario, risk="limits", horizon=3, max_episode_steps=3)
    check_planner(GuidelinePlanner(env), env)


def test_it_does_not_read_the_hidden_state() -> None:
    env = gym.make("ECGInterventionOracle-v0", scenario="svt", risk="limits").unwrapped
    env.reset(seed=0)
    hidden = replace(env.episode, state=replace(env.state, inner={}, ecg=np.zeros_like(env.state.ecg)))
    assert decide(Bedside.of(hidden), env.menu)[0] == option("vagal_manoeuvre 1 attempt EXT")
    value = GuidelinePlanner(env).act(state=hidden.state)[1].treatment
    assert value == GuidelinePlanner(env).act()[1].treatment != WATCH
