"""The mask: every rule bites where it should, says why, and waiting is always allowed."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_gym.core import WATCH, Administration, Dose, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import CONDITIONS, FORMULARY, action_mask, violations
from ecg_gym.pharmacology.constants import sources
from ecg_gym.pharmacology.rules import rules
from ecg_gym.risk import FINDINGS

MENU = FORMULARY.menu()
HEALTHY = {"hr_bpm": 70.0, "pr_ms": 160.0, "qrs_ms": 95.0, "qtcf_ms": 410.0}
UNMEASURED = dict.fromkeys(HEALTHY, float("nan"))
ADULT = Patient(weight_kg=70.0, potassium=4.2, magnesium=0.85, calcium=2.35, creatinine_clearance=100.0)
PAIRS = [(rule, drug) for rule in rules() for drug in rule.drugs]


def demand(node: dict, case: dict) -> None:
    """Change ``case`` so that the condition ``node`` holds."""
    if "all" in node:
        for child in node["all"]:
            demand(child, case)
    elif "any" in node:
        demand(node["any"][0], case)
    elif "interval" in node:
        case["intervals"][node["interval"]] = node.get("above", 0) * 1.01 if "above" in node else node["below"] * 0.99
    elif "patient" in node:
        value = node["above"] * 1.01 if "above" in node else node["below"] * 0.99
        case["patient"] = replace(case["patient"], **{node["patient"]: value})
    elif "condition" in node:
        case["patient"] = replace(case["patient"], conditions=case["patient"].conditions | {node["condition"]})
    elif "finding" in node:
        case["findings"] |= {node["finding"]}
    elif "with" in node:
        case["medication"] = next(n for n in node["with"] if n != case["drug"])
        case["patient"] = replace(case["patient"], medication=frozenset({case["medication"]}))
    elif "dose_above_mg" in node:
        case["largest"] = True
    elif "again" in node:
        case["again"] = True
    elif "unknown" in node:
        case["patient"] = replace(case["patient"], **{node["unknown"]: None})
    else:
        assert "not" in node, node  # such a condition holds where nothing was demanded


def matches(case: dict) -> dict[str, bool]:
    doses = FORMULARY.usual_doses(case["drug"])
    treatment = Treatment((doses[-1] if case.get("largest") else doses[0],))
    given = tuple(Administration(-0.5, dose) for dose in treatment.doses) if case.get("again") else ()
    bites = violations(treatment, case["patient"], case["intervals"], given, 0.0, frozenset(case["findings"]))
    return {v.rule: v.hard for v in bites}


@pytest.mark.parametrize(("rule", "drug"), PAIRS, ids=[f"{r.id}-{d}" for r, d in PAIRS])
def test_every_rule_bites_for_each_of_its_drugs_and_not_in_health(rule, drug: str) -> None:
    case = {"drug": drug, "patient": ADULT, "intervals": dict(HEALTHY), "findings": set()}
    if "not" not in rule.when:
        assert rule.id not in matches(case)
    demand(rule.when, case)
    assert matches(case)[rule.id] == rule.hard
    if rule.unless:
        demand(rule.unless, case)
        assert rule.id not in matches(case)


def test_what_runs_of_a_drug_at_once_is_at_most_its_largest_rate_or_dose() -> None:
    def ids(words: str, *running: tuple[float, str]) -> set[str]:
        given = tuple(Administration(hours, FORMULARY.check(parse_dose(dose), ADULT)) for hours, dose in running)
        one = Treatment((FORMULARY.check(parse_dose(words), ADULT),))
        return {v.rule for v in violations(one, ADULT, HEALTHY, given, 0.0) if v.rule.startswith("max")}

    lidocaine = "lidocaine 2 mg/min IV over 60 min"
    assert ids(lidocaine, (-0.5, lidocaine)) == set(), "4 mg/min may run"
    assert ids(lidocaine, (-0.5, lidocaine), (-0.25, lidocaine)) == {"max-running"}
    assert ids(lidocaine, (-1.0, lidocaine), (-0.25, lidocaine)) == set(), "the first is over"
    paced = "temporary_pacing 80 bpm EXT"
    assert ids(paced, (-0.5, paced)) == {"max-running"}, "who is paced already"
    assert ids(paced, (-1.0, paced)) == set()


def test_a_second_shock_needs_a_drug_in_between_unless_the_pressure_is_low() -> None:
    shock, drug = (
        FORMULARY.check(parse_dose(words), ADULT) for words in ("cardioversion 200 J EXT", "lidocaine 1 mg/kg IV")
    )
    tachycardia = {**HEALTHY, "hr_bpm": 160.0, "qrs_ms": 150.0, "p_present": 0.0, "regular": 1.0, "map_mmhg": 80.0}
    seen = frozenset({"Ventricular tachycardia"})

    def bites(given, **readings: float) -> bool:
        rules = violations(Treatment((shock,)), ADULT, {**tachycardia, **readings}, given, 1.0, seen)
        return "cardioversion-again" in {v.rule for v in rules}

    first = (Administration(0.5, shock),)
    assert not bites(())
    assert bites(first)
    assert not bites((*first, Administration(0.7, drug)))
    assert not bites(first, map_mmhg=55.0)
    assert not bites((Administration(-2.0, shock),)), "hours ago"


def test_every_rule_speaks_and_cites_and_knows_its_names() -> None:
    assert len({rule.id for rule in rules()}) == len(rules())
    for rule in rules():
        assert set(rule.drugs) <= set(FORMULARY.names), rule.id
        assert len(rule.says) > 15, rule.id
        assert sources()[rule.source], rule.id
        for name in _findings_in([rule.when, rule.unless]):
            assert name in FINDINGS, rule.id


def _findings_in(node) -> set[str]:
    if isinstance(node, dict):
        own = {node["finding"]} if "finding" in node else set()
        return own | _findings_in(list(node.values()))
    return set().union(*map(_findings_in, node)) if isinstance(node, list | tuple) else set()


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.sampled_from(CONDITIONS)),
    st.sets(st.sampled_from(FINDINGS)),
    st.floats(20, 250),
    st.floats(300, 700),
    st.floats(1.5, 9.0),
)
def test_the_mask_is_never_empty(conditions, findings, hr: float, qtcf: float, potassium: float) -> None:
    patient = Patient(conditions=frozenset(conditions), potassium=potassium)
    mask = action_mask(MENU, patient, {**HEALTHY, "hr_bpm": hr, "qtcf_ms": qtcf}, (), 0.0, frozenset(findings))
    assert mask.shape == (len(MENU),)
    assert mask.dtype == bool
    assert mask[0]


def test_the_mask_is_what_the_violations_say() -> None:
    patient = replace(ADULT, potassium=3.2, conditions=frozenset({"asthma"}))
    mask = action_mask(MENU, patient, HEALTHY, (), 0.0)
    for treatment, allowed in zip(MENU, mask):
        assert allowed == (not any(v.hard for v in violations(treatment, patient, HEALTHY, (), 0.0)))
    assert violations(WATCH, patient, HEALTHY, (), 0.0) == ()


def test_the_healthy_may_have_almost_everything_and_unmeasured_intervals_are_silent() -> None:
    healthy = action_mask(MENU, ADULT, HEALTHY, (), 0.0)
    nothing_to_end = {"adenosine", "ibutilide", "procainamide", "cardioversion", "vagal_manoeuvre", "haemodialysis",
                      "temporary_pacing"}  # fmt: skip
    assert {t.doses[0].drug for t, a in zip(MENU, healthy) if not a} == {"digoxin_antibodies"} | nothing_to_end
    np.testing.assert_array_equal(healthy, action_mask(MENU, ADULT, UNMEASURED, (), 0.0))
    np.testing.assert_array_equal(healthy, action_mask(MENU, ADULT, {}, (), 0.0))


def tablet(amount: float = 0.5) -> Dose:
    return Dose("dofetilide", amount, "mg", "PO")


def test_single_and_daily_maxima_and_the_shortest_interval() -> None:
    def ids(treatment: Treatment, given=(), hours: float = 0.0) -> set[str]:
        return {v.rule for v in violations(treatment, ADULT, HEALTHY, given, hours)}

    assert ids(Treatment((tablet(),))) == set()
    assert "max-single" in ids(Treatment((tablet(0.6),)))
    earlier = [Administration(-6.0, tablet())]
    assert ids(Treatment((tablet(),)), earlier) == {"min-interval"}
    assert ids(Treatment((tablet(),)), earlier, hours=6.0) == set()
    twice = [Administration(-13.0, tablet()), Administration(-1.0, tablet())]
    assert "max-24h" in ids(Treatment((tablet(),)), twice, hours=10.0)
    assert "max-24h" not in ids(Treatment((tablet(),)), twice, hours=11.5)
    assert "twice" in ids(Treatment((tablet(), tablet(0.25))))


def test_an_assumed_weight_is_said_but_does_not_forbid() -> None:
    lidocaine = Treatment(FORMULARY.usual_doses("lidocaine")[:1])
    (remark,) = violations(lidocaine, Patient(), HEALTHY, (), 0.0)
    assert (remark.rule, remark.hard) == ("weight-assumed", False)
    assert "70 kg" in remark.sentence
    assert violations(lidocaine, ADULT, HEALTHY, (), 0.0) == ()


def test_company_counts_together_before_and_in_the_medication_but_not_for_ever() -> None:
    verapamil = FORMULARY.usual_doses("verapamil")[-1]
    metoprolol = FORMULARY.usual_doses("metoprolol")[-1]
    together = Treatment((verapamil, metoprolol))
    assert any(v.hard for v in violations(together, ADULT, HEALTHY, (), 0.0))
    for hours, expected in ((1.0, True), (30.0, False)):
        given = [Administration(0.0, metoprolol)]
        hard = any(v.hard for v in violations(Treatment((verapamil,)), ADULT, HEALTHY, given, hours))
        assert hard == expected


def test_hard_ones_come_first_and_all_have_sentences() -> None:
    patient = replace(ADULT, conditions=frozenset({"torsade", "renal_failure"}), potassium=3.0)
    for treatment, strip in product(MENU, (HEALTHY, {**HEALTHY, "qtcf_ms": 520.0})):
        bites = violations(treatment, patient, strip, (), 0.0)
        assert [v.hard for v in bites] == sorted((v.hard for v in bites), reverse=True)
        assert all(v.sentence and v.source for v in bites)


def test_a_misspelt_condition_is_refused_rather_than_overlooked() -> None:
    with pytest.raises(ValueError, match=r"the patient has \['astma'\]; expected names out of asthma, .*; check"):
        action_mask(MENU, replace(ADULT, conditions=frozenset({"astma"})), HEALTHY, (), 0.0)


@pytest.mark.parametrize("dose", [Dose("dofetilide", 0.5, "mg", ""), Dose("snake_oil", 1, "mg", "PO")])
def test_a_dose_that_was_not_checked_is_refused(dose: Dose) -> None:
    with pytest.raises(ValueError, match=r"dose is .*; expected a drug and a route .*; pass FORMULARY\.check"):
        violations(Treatment((dose,)), ADULT, HEALTHY, (), 0.0)


@st.composite
def histories(draw) -> tuple[Administration, ...]:
    """Up to six doses of anything, at any hour of two days, in any amount that the formulary lets through."""
    doses = draw(st.lists(st.sampled_from([t.doses[0] for t in MENU if t]), max_size=6))
    return tuple(Administration(draw(st.floats(-48, 0)), dose) for dose in doses)


@settings(max_examples=60, deadline=None)
@given(
    histories(),
    st.sets(st.sampled_from(CONDITIONS)),
    st.sets(st.sampled_from(FINDINGS)),
    st.dictionaries(st.sampled_from(sorted(HEALTHY)), st.one_of(st.floats(0, 900), st.just(float("nan")))),
    st.fixed_dictionaries(
        {
            "potassium": st.one_of(st.none(), st.floats(1.5, 9)),
            "magnesium": st.one_of(st.none(), st.floats(0.2, 3)),
            "calcium": st.one_of(st.none(), st.floats(1, 4)),
            "creatinine_clearance": st.one_of(st.none(), st.floats(1, 150)),
            "weight_kg": st.one_of(st.none(), st.floats(35, 180)),
        }
    ),
    st.sets(st.sampled_from(["ketoconazole", "rifampicin", "dipyridamole", "digoxin", "amiodarone"])),
)
def test_whoever_and_whatever_was_given_waiting_is_allowed_and_a_no_has_a_reason(
    taken, conditions, findings, intervals, facts, medication
) -> None:
    patient = Patient(conditions=frozenset(conditions), medication=frozenset(medication), **facts)
    mask = action_mask(MENU, patient, intervals, taken, 0.0, frozenset(findings))
    assert mask[0]
    for treatment, allowed in zip(MENU, mask):
        reasons = violations(treatment, patient, intervals, taken, 0.0, frozenset(findings))
        assert allowed == (not any(v.hard for v in reasons))
        assert all(v.sentence and v.source for v in reasons)


def test_a_course_of_boluses_has_a_limit_within_the_hour() -> None:
    lidocaine = FORMULARY.usual_doses("lidocaine")[-1]  # 1.5 mg/kg; 3 mg/kg in all
    earlier = [Administration(-0.5, lidocaine), Administration(-0.2, lidocaine)]
    one, two = ({v.rule for v in violations(Treatment((lidocaine,)), ADULT, HEALTHY, earlier[:n], 0.0)} for n in (1, 2))
    assert "max-1h" not in one
    assert "max-1h" in two
    assert "max-1h" not in {v.rule for v in violations(Treatment((lidocaine,)), ADULT, HEALTHY, earlier, 0.9)}


def test_an_infusion_may_follow_a_bolus_at_once_and_counts_into_the_day() -> None:
    bolus, infusion = (
        FORMULARY.usual_doses("diltiazem")[0],
        FORMULARY.check(parse_dose("diltiazem 15 mg/h over 60 min"), ADULT),
    )
    assert not any(
        v.hard for v in violations(Treatment((infusion,)), ADULT, HEALTHY, [Administration(-0.05, bolus)], 0.0)
    )
    day = [Administration(-float(h), infusion) for h in range(1, 24)]
    assert not any(v.hard for v in violations(Treatment((infusion,)), ADULT, HEALTHY, day, 0.0))
    full = [*day, Administration(-0.5, bolus)]
    assert "max-24h" in {v.rule for v in violations(Treatment((infusion,)), ADULT, HEALTHY, full, 0.0)}


def test_measured_block_at_a_slow_rate_forbids_what_slows_the_node() -> None:
    metoprolol, slow = Treatment(FORMULARY.usual_doses("metoprolol")[:1]), {**HEALTHY, "hr_bpm": 55.0}
    block, first = "Atrioventricular block", "1st degree atrioventricular block"
    for result, rule in (({block}, True), ({block, first}, False), ({block, "Electronic pacemaker"}, False)):
        assert ("av-block" in {v.rule for v in violations(metoprolol, ADULT, slow, (), 0.0, frozenset(result))}) == rule
