"""Scenarios: rows that are read right, people who differ as the row says, and a best action that exists."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from ecg_gym.core import WATCH, Patient, Treatment, parse_dose
from ecg_gym.envs import load_scenarios
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import parse, scenario_named
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.registration import SCENARIOS
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from planners import GuidelinePlanner

CLOCK = {"minutes": 15, "steps": 8, "source": "s"}
ROW = {"id": "Waltz", "description": "d", "goal": "g", "first_line": "f", "pitfall": "p", "drugs": ["placebo"],
       "sources": ["s"], "weight": 1, "clock": CLOCK}  # fmt: skip


def option(words: str) -> Treatment:
    return Treatment((FORMULARY.check(parse_dose(words), Patient()),))


# --- the table ---


def test_the_ids_are_unique_and_those_that_are_registered() -> None:
    assert {name: row.id for name, row in load_scenarios().items()} == dict(SCENARIOS)
    assert len({row.id for row in load_scenarios().values()}) == len(load_scenarios())
    for camel in SCENARIOS.values():
        assert f"ECG/{camel}-v0" in gym.registry
        assert f"ECGOracle/{camel}-v0" in gym.registry


@pytest.mark.parametrize("row", load_scenarios().values(), ids=lambda row: row.name)
def test_every_row_says_what_a_card_needs_and_offers_an_affordable_menu(row) -> None:
    assert row.menu[0] == WATCH
    assert 7 <= len(row.menu) <= 20
    assert len(set(row.menu)) == len(row.menu)
    assert row.sources
    assert all("10." in source or "PMC" in source for source in row.sources)  # can be looked up
    assert all(len(treatment.doses) == 1 for treatment in row.menu[1:])
    assert row.helps is None if row.name == "healthy_volunteer" else row.helps[0] in row.menu
    patient, given, words = row.lend(Patient(age_years=50.0))
    assert patient.conditions == row.conditions
    assert given == row.doses
    assert set(row.drugs) <= {word.split()[0] for word in words.split(", ")}


@pytest.mark.parametrize(("change", "says"), [
    ({"mood": "dark"}, "unknown keys \\['mood'\\]"),
    ({"id": "snake_case"}, "expected CamelCase"),
    ({"conditions": ["happiness"]}, "expected names out of"),
    ({"kinds": [{"name": "a", "share": 0.7}, {"name": "b", "share": 0.7}]}, "add up to 1.4"),
    ({"kinds": [{"name": "a", "share": 0.7, "drugs": []}]}, "unknown keys \\['drugs'\\]"),
    ({"helps": {"give": "atropine 1 mg IV"}}, "lacks \\['moves'\\]"),
    ({"weight": -1}, "weight of scenario waltz is -1"),
    ({"clock": {**CLOCK, "minutes": 0}}, "expected minutes above 0"),
    ({"clock": {"minutes": 1, "steps": 2}}, "lacks \\['source'\\]"),
    ({"given": [{"dose": "atropine 1 mg IV"}]}, "lacks \\['hours'\\]"),
], ids=str)  # fmt: skip
def test_a_row_that_says_something_else_is_refused(change, says) -> None:
    parse("waltz", ROW)
    with pytest.raises(ValueError, match=says):
        parse("waltz", {**ROW, **change})


def test_a_row_that_says_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks \\['pitfall'\\]"):
        parse("waltz", {name: value for name, value in ROW.items() if name != "pitfall"})


# --- the people ---


def test_kinds_come_as_often_as_they_say_and_ranges_are_kept() -> None:
    row = parse("waltz", {
        **ROW, "ranges": {"potassium": [6.0, 7.0]}, "conditions": ["renal_failure"],
        "kinds": [{"name": "a", "share": 0.3, "conditions": ["asthma"]},
                  {"name": "b", "share": 0.5, "population": {"rhythm": "svt"}, "ranges": {"potassium": [4.0, 4.5]}}],
    })  # fmt: skip
    rng = np.random.default_rng(0)
    samples = [row.draw(rng) for _ in range(2000)]
    assert all(not one.kinds and not one.people.ranges and "renal_failure" in one.conditions for one in samples)
    asthma, fast = (np.array([test(one) for one in samples]) for test in (
        lambda one: "asthma" in one.conditions, lambda one: one.population.get("rhythm") == "svt"))  # fmt: skip
    assert abs(asthma.mean() - 0.3) < 0.03
    assert abs(fast.mean() - 0.5) < 0.03
    assert not (asthma & fast).any()
    potassium = np.array([one.population["potassium"] for one in samples])
    assert ((potassium[fast] >= 4.0) & (potassium[fast] <= 4.5)).all()
    assert ((potassium[~fast] >= 6.0) & (potassium[~fast] <= 7.0)).all()
    assert potassium[~fast].std() > 0.2


def test_a_plain_row_leaves_the_dice_alone() -> None:
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    one = scenario_named("healthy_volunteer").draw(rng)
    assert rng.bit_generator.state == before
    assert one.population == scenario_named("healthy_volunteer").population


def test_what_a_caller_says_of_the_patient_wins() -> None:
    rng = np.random.default_rng(1)
    value = {"patient": {"potassium": 5.1}}
    state = start(VirtualPatient(), scenario_named("hyperkalaemia"), rng, value)
    assert state.patients[0].potassium == 5.1
    assert "renal_failure" in state.patients[0].conditions


def test_seeds_bring_different_kinds_of_people() -> None:
    row = scenario_named("svt")
    samples = [row.draw(np.random.default_rng(i)) for i in range(40)]
    rhythms = Counter(one.population["rhythm"] for one in samples)
    conditions = Counter(name for one in samples for name in one.conditions)
    assert rhythms["svt"] > rhythms["flutter"] > 0
    assert conditions["asthma"] > 0
    assert conditions["heart_failure"] > 0


# --- what can be done ---


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_guideline_acts_in_every_scenario(name) -> None:
    env = gym.make("ECGInterventionOracle-v0", scenario=name, risk="limits").unwrapped
    planner, chosen = GuidelinePlanner(env), set()
    for seed in range(3):
        env.reset(seed=seed)
        action, decided = planner.act()
        assert env.action_masks()[action]
        chosen.add(decided.treatment)
        assert env.step(action)[4]["treatment"] == str(decided.treatment)
    assert (chosen == {WATCH}) == (name == "healthy_volunteer")


HELPS = {  # (scenario, words of a kind or "") -> a treatment that helps within the hour, and a tempting one
    ("af_rapid_response", ""): ("diltiazem 0.25 mg/kg IV", "dofetilide 0.5 mg PO"),
    ("svt", ""): ("adenosine 12 mg IV", "digoxin 0.5 mg IV"),
    ("svt", "atrial flutter"): ("diltiazem 0.25 mg/kg IV", "adenosine 12 mg IV"),
    ("recurrent_vt", "sustained"): ("procainamide 10 mg/kg IV", "verapamil 5 mg IV"),
    ("bradycardia", ""): ("isoproterenol 2 mcg/min IV over 60 min", "norepinephrine 0.05 mcg/kg/min IV over 60 min"),
    ("av_block", ""): ("isoproterenol 5 mcg/min IV over 60 min", "atropine 1 mg IV"),
    ("hyperkalaemia", "fast already"): ("insulin 10 U IV", "magnesium 2 g IV"),
    ("acquired_long_qt", ""): ("lidocaine 2 mg/min IV over 60 min", "ondansetron 4 mg IV"),
    ("heart_failure_on_digoxin", "block of digoxin"): ("digoxin_antibodies 5 vial IV", "amiodarone 150 mg IV"),
}


def only(name: str, kind: str):
    """The scenario with patients of one kind, or of none."""
    row = scenario_named(name)
    return replace(row, kinds=tuple(replace(k, share=1.0) for k in row.kinds if kind and kind in k.name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("situation", "treatments"), [pytest.param(*row, id=" ".join(sum(row, ()))) for row in HELPS.items()]
)
def test_something_helps_and_the_tempting_choice_helps_less(situation, treatments) -> None:
    world, risk, people = VirtualPatient(), RiskModel.limits_only(), 12
    state = start(world, only(*situation), [np.random.default_rng([5, i]) for i in range(people)])
    means = []
    for treatment in (WATCH, *map(option, treatments)):
        after = world.step(state, [treatment] * people, [np.random.default_rng([6, i]) for i in range(people)])
        means.append(float(risk(state.ecg, after.ecg, state.patients, after.alive).total.mean()))
    watched, helped, tempted = means
    assert helped < watched - 0.02
    assert helped < tempted


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "known pathway"])
def test_a_blocked_node_hastens_what_a_pathway_lets_through(kind) -> None:
    """What the virtual patient knows of pre-excited fibrillation: rate and danger, hour by hour."""
    world, people = VirtualPatient(), 12
    state = start(world, only("preexcited_af", kind), [np.random.default_rng([5, i]) for i in range(people)])
    rates, dangers = {}, {}
    for words in ("", "procainamide 10 mg/kg IV", "verapamil 5 mg IV"):
        treatment = option(words) if words else WATCH
        after = world.step(state, [treatment] * people, [np.random.default_rng([6, i]) for i in range(people)])
        truths = world.truth(after)
        rates[words] = np.mean([t.intervals["hr_bpm"] for t in truths if np.isfinite(t.intervals["hr_bpm"])])
        dangers[words] = np.mean([t.hazard_per_hour["vt_vf"] for t, alive in zip(truths, after.alive) if alive])
    assert rates["procainamide 10 mg/kg IV"] < rates[""] - 15
    assert rates["verapamil 5 mg IV"] > rates[""]
    assert dangers["procainamide 10 mg/kg IV"] <= dangers[""] < dangers["verapamil 5 mg IV"]
