"""From concentration to Modulation: identities, monotony, direction and time course of treatments."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_gym.core import Administration, Patient, parse_dose
from ecg_gym.pharmacology import (
    FORMULARY,
    Exposure,
    Modulation,
    Sensitivity,
    channel_block,
    draw_sensitivities,
    exposure,
    exposure_at,
    modulate,
    population_exposure,
    termination,
)
from ecg_gym.pharmacology.exposure import saturation
from ecg_gym.pharmacology.interactions import changes
from ecg_gym.pharmacology.repolarisation import repolarisation

ADULT = Patient(weight_kg=70.0)


def dosed(*words: str, patient: Patient = ADULT, at: float = 0.0) -> list[Administration]:
    return [Administration(at, FORMULARY.check(parse_dose(word), patient)) for word in words]


def after(hours: float, *words: str, patient: Patient = ADULT, sensitivity=Sensitivity.typical()) -> Modulation:  # noqa: B008
    return modulate(exposure(dosed(*words, patient=patient), patient, hours, sensitivity), patient, sensitivity)


def qtc(m: Modulation) -> float:
    return m.jtpeak_ms + m.tpeak_tend_ms


@pytest.mark.parametrize("words", [(), ("placebo 1 mg",), ("heparin 5000 U SC",), ("dofetilide 0 mg PO",)])
def test_nothing_changes_nothing(words: tuple[str, ...]) -> None:
    (person,) = draw_sensitivities([ADULT], np.random.default_rng(0))
    assert after(2.0, *words) == Modulation()
    assert after(2.0, *words, sensitivity=person) == Modulation()


def test_the_future_is_not_looked_at() -> None:
    later = dosed("dofetilide 0.5 mg", at=5.0)
    assert modulate(exposure(later, ADULT, 4.9), ADULT) == Modulation()


def test_an_inhibitor_given_later_does_not_rewrite_the_past() -> None:
    digoxin = dosed("digoxin 0.5 mg IV")
    both = digoxin + dosed("verapamil 120 mg PO", at=6.0)
    assert exposure(both, ADULT, 5.9).of("digoxin") == pytest.approx(exposure(digoxin, ADULT, 5.9).of("digoxin"))
    assert exposure(both, ADULT, 20.0).of("digoxin") > 1.05 * exposure(digoxin, ADULT, 20.0).of("digoxin")


def test_an_interaction_multiplies_the_area() -> None:
    hours = np.linspace(0, 200, 4001)
    taken = dosed("ranolazine 500 mg PO")

    def area(patient: Patient) -> float:
        return np.trapezoid([e.of("ranolazine") for e in exposure_at(taken, patient, hours)], hours)

    assert area(replace(ADULT, medication={"ketoconazole"})) / area(ADULT) == pytest.approx(3.2, rel=0.02)


def test_weight_and_kidneys() -> None:
    taken = dosed("dofetilide 0.5 mg")
    late = [exposure(taken, replace(ADULT, creatinine_clearance=c), 12.0).of("dofetilide") for c in (100, 60, 30)]
    assert late == sorted(late)
    light, heavy = (exposure(taken, Patient(weight_kg=w), 3.0).of("dofetilide") for w in (50, 100))
    assert light > heavy


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMULARY.names), st.floats(0, 1e7), st.floats(1.01, 100), st.integers(0, 50))
def test_block_is_a_share_and_grows_with_concentration(name: str, level: float, factor: float, seed: int) -> None:
    (person,) = draw_sensitivities([ADULT], np.random.default_rng(seed))
    low, high = (channel_block(_level(name, level * f), person) for f in (1.0, factor))
    for channel, block in low.items():
        assert 0 <= block <= high[channel] <= 1


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e4))
def test_two_blockers_are_independent(dofetilide: float, quinidine: float, verapamil: float) -> None:
    levels = {"dofetilide": dofetilide, "quinidine": quinidine, "verapamil": verapamil}
    single = [channel_block(_level(n, c))["IKr"] for n, c in levels.items()]
    both = _level("dofetilide", dofetilide).effect + _level("quinidine", quinidine).effect
    both = both + _level("verapamil", verapamil).effect
    together = channel_block(replace(_level("placebo", 0.0), effect=both))["IKr"]
    assert together == pytest.approx(1 - np.prod([1 - b for b in single]), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.5, 9.0), st.floats(0.05, 2.0))
def test_potassium_shortens_repolarisation(potassium: float, more: float) -> None:
    low, high = (
        modulate(replace(_level("dofetilide", 2.0), potassium=k), ADULT) for k in (potassium, potassium + more)
    )
    assert qtc(high) < qtc(low)
    assert high.conduction <= low.conduction
    assert high.pr_ms >= low.pr_ms


def test_a_drug_that_slows_its_own_elimination_builds_up_and_single_doses_do_not_know() -> None:
    """Ranolazine 1000 mg twice daily reach about 2600 ng/mL (label), two thirds of it without the inhibition."""
    days = [Administration(12.0 * i, FORMULARY.check(parse_dose("ranolazine 1000 mg"), ADULT)) for i in range(9)]
    steady = max(e.of("ranolazine") for e in exposure_at(days, ADULT, np.arange(96.0, 108.0)))
    first = max(e.of("ranolazine") for e in exposure_at(days[:1], ADULT, np.arange(0.0, 24.0)))
    assert 2000 < steady < 3000
    assert steady > 2 * first
    single = exposure(days[:1], ADULT, 20.0).of("ranolazine")
    assert changes("ranolazine", days[:1], ADULT) == [(float("-inf"), 1.0, 1.0), (12.0, 1.0, 1.0)]
    assert single < 0.5 * first


def test_repeated_verapamil_prolongs_more_than_the_first_dose() -> None:
    given = [Administration(8.0 * i, FORMULARY.check(parse_dose("verapamil 120 mg PO"), ADULT)) for i in range(7)]
    first, later = (modulate(exposure(given, ADULT, hours), ADULT) for hours in (1.0, 49.0))
    assert qtc(later) > qtc(first) + 2.0
    assert later.pr_ms > 1.3 * first.pr_ms


def test_late_sodium_block_takes_more_off_a_long_repolarisation_and_mostly_before_the_peak() -> None:
    levels = {"alone": 0.0, "beside": 1.8}
    taken = {}
    for name, dofetilide in levels.items():
        before = modulate(_level("dofetilide", dofetilide), ADULT)
        both = _level("dofetilide", dofetilide).effect + _level("lidocaine", 2000.0).effect
        after_both = modulate(replace(_level("placebo", 0.0), effect=both), ADULT)
        taken[name] = np.array(
            [before.jtpeak_ms - after_both.jtpeak_ms, before.tpeak_tend_ms - after_both.tpeak_tend_ms]
        )
    assert taken["beside"].sum() > 1.15 * taken["alone"].sum() > 0
    assert taken["beside"][0] > 2 * taken["beside"][1] > 0


def test_the_potassium_law_by_hand() -> None:
    low = modulate(exposure((), Patient(potassium=3.0), 0.0), Patient(potassium=3.0))
    k = 1 - np.sqrt(3.0 / 4.2)
    assert low.ikr_block == pytest.approx(k)
    apd, dispersion = (float(f[0]) for f in repolarisation(np.array([k]), *np.zeros((3, 1))))
    assert low.tpeak_tend_ms == pytest.approx(138 * (dispersion - 1))
    assert low.jtpeak_ms == pytest.approx(403 * (apd - 1) - low.tpeak_tend_ms)
    assert low.t_amplitude < 0.8


def test_every_treatment_stays_finite_and_in_range_for_hundreds_of_people() -> None:
    rng = np.random.default_rng(3)
    patients = [
        Patient(weight_kg=float(w), potassium=float(k))
        for w, k in zip(rng.uniform(45, 120, 120), rng.uniform(2.5, 7, 120))
    ]
    for patient, person in zip(patients, draw_sensitivities(patients, rng)):
        for treatment in rng.choice(np.array(FORMULARY.menu()[1:], dtype=object), 6):
            given = [Administration(0.0, FORMULARY.check(d, patient)) for d in treatment.doses]
            m = modulate(exposure(given, patient, float(rng.uniform(0, 8)), person), patient, person, clock_hours=3.0)
            values = {f.name: getattr(m, f.name) for f in fields(m)}
            assert all(np.isfinite(v) for v in values.values()), (treatment, values)
            for name in ("sinus_rate", "av_rate", "conduction", "atrial_conduction", "t_amplitude", "ectopy"):
                assert values[name] > 0, (treatment, name)
            for name in ("ikr_block", "ical_block", "inal_block", "ina_block", "av_block"):
                assert 0 <= values[name] <= 1, (treatment, name)


# --- direction and time course of treatments that help ---


@pytest.mark.parametrize(
    "word", ["verapamil 5 mg IV", "diltiazem 0.25 mg/kg IV", "metoprolol 5 mg IV", "esmolol 100 mcg/kg/min IV"]
)
def test_rate_control_slows_the_av_node_soon(word: str) -> None:
    assert after(0.5, word).av_rate < 0.95
    assert after(0.5, word).pr_ms > 2


def test_esmolol_is_gone_half_an_hour_after_its_end_and_metoprolol_is_not() -> None:
    assert after(1.0, "esmolol 150 mcg/kg/min IV over 60 min").sinus_rate < 0.9
    assert after(1.75, "esmolol 150 mcg/kg/min IV over 60 min").sinus_rate > 0.98
    assert after(4.0, "metoprolol 50 mg PO").sinus_rate < 0.93


def test_adenosine_ends_reentry_as_often_as_it_did_in_people() -> None:
    """DiMarco 1990 (doi:10.7326/0003-4819-113-2-104): 57 % with 6 mg; 93 % when 12 mg may follow."""
    six, twelve = (
        1 - np.exp(-termination(dosed(w), ADULT, 0.0, 1.0)["reentry_termination_per_hour"])
        for w in ("adenosine 6 mg IV", "adenosine 12 mg IV")
    )
    assert six == pytest.approx(0.57, abs=0.08)
    assert 1 - (1 - six) * (1 - twelve) == pytest.approx(0.93, abs=0.05)
    assert after(20 / 3600, "adenosine 12 mg IV").av_block > 0.9
    assert after(60 / 3600, "adenosine 12 mg IV").av_block < 0.05


def test_termination_adds_up_over_steps_and_is_zero_without_drugs() -> None:
    taken = dosed("verapamil 5 mg IV", "amiodarone 150 mg IV")
    whole = termination(taken, ADULT, 0.0, 2.0)
    halves = [termination(taken, ADULT, a, a + 1.0) for a in (0.0, 1.0)]
    for name, value in whole.items():
        assert value == pytest.approx(sum(h[name] for h in halves), rel=0.02)
    assert set(termination((), ADULT, 0.0, 1.0).values()) == {0.0}


def test_insulin_and_calcium_help_in_hyperkalaemia() -> None:
    patient = Patient(weight_kg=70, potassium=7.0)
    untreated = after(0.5, patient=patient)
    calcium, insulin = (
        after(0.1, "calcium_gluconate 3 g IV", patient=patient),
        after(0.75, "insulin 10 U IV", patient=patient),
    )
    assert untreated.conduction < calcium.conduction
    assert untreated.conduction < insulin.conduction
    assert exposure(dosed("calcium_gluconate 3 g IV"), patient, 0.1).potassium == 7.0
    lowest = min(e.potassium for e in exposure_at(dosed("insulin 10 U IV"), patient, np.linspace(0, 4, 81)))
    assert 0.75 < 7.0 - lowest < 1.15  # 10 U lower it by 0.78 to 1.11 mmol/L: doi:10.1371/journal.pone.0172961
    assert after(4.0, "calcium_gluconate 3 g IV", patient=patient).conduction < calcium.conduction


def test_potassium_and_magnesium_help_a_long_qt() -> None:
    patient = Patient(weight_kg=70, potassium=3.0)
    long = after(3.0, "dofetilide 0.5 mg PO", patient=patient)
    with_potassium = after(3.0, "dofetilide 0.5 mg PO", "potassium_chloride 40 mmol PO", patient=patient)
    with_magnesium = after(3.0, "dofetilide 0.5 mg PO", "magnesium 2 g IV", patient=patient)
    assert qtc(with_potassium) < qtc(long) - 5
    assert qtc(with_magnesium) < qtc(long)
    assert with_magnesium.ectopy < long.ectopy


def test_antibodies_take_digoxin_away_as_far_as_they_reach() -> None:
    loading = [a for t in (-9, -6, -3, 0) for a in dosed("digoxin 0.5 mg IV", at=t)]
    antidote = dosed("digoxin_antibodies 5 vial IV")
    toxic, few = exposure(loading, ADULT, 4.0), exposure(loading + dosed("digoxin_antibodies 1 vial IV"), ADULT, 4.0)
    assert modulate(toxic, ADULT).ectopy > 2
    assert exposure(loading + antidote, ADULT, 4.0).of("digoxin") == 0
    assert 0 < few.of("digoxin") < toxic.of("digoxin")


def test_atropine_speeds_and_amiodarone_and_lidocaine_quiet() -> None:
    assert 1.1 < after(0.2, "atropine 1 mg IV").sinus_rate < 1.7
    for word, hours in (
        ("amiodarone 150 mg IV", 0.5),
        ("lidocaine 1.5 mg/kg IV", 0.2),
        ("procainamide 10 mg/kg IV", 0.67),
    ):
        assert after(hours, word).ectopy < 0.7, word  # lidocaine redistributes with a half-life of 8 min
        assert after(hours, word).vt_termination_per_hour > 0.3, word
    assert after(1.0, "lidocaine 1.5 mg/kg IV").ectopy > after(0.2, "lidocaine 1.5 mg/kg IV").ectopy


def test_sodium_blockers_widen_qrs_more_when_the_heart_is_fast() -> None:
    e = exposure(dosed("flecainide 300 mg PO"), ADULT, 3.0)
    slow, fast = (modulate(e, ADULT, heart_rate_bpm=r) for r in (60.0, 120.0))
    assert fast.conduction < slow.conduction < 0.95


def test_late_sodium_block_shortens_jtpeak_of_a_dofetilide_heart() -> None:
    """Johannesen 2016 (doi:10.1002/cpt.205): mexiletine on dofetilide shortens J-Tpeak and leaves Tpeak-Tend."""
    alone, both = after(3.0, "dofetilide 0.25 mg PO"), after(3.0, "dofetilide 0.25 mg PO", "mexiletine 200 mg PO")
    assert both.jtpeak_ms < alone.jtpeak_ms - 5
    assert both.tpeak_tend_ms == pytest.approx(alone.tpeak_tend_ms, abs=3)


def test_moxifloxacin_has_the_slope_of_many_qt_studies() -> None:
    """Pooled slope 3.1 ms per ug/mL, studies 1.6 to 4.8: Florian 2011 doi:10.1177/0091270010381498."""
    e = exposure(dosed("moxifloxacin 400 mg PO"), ADULT, 3.0)
    assert 1.6 < qtc(modulate(e, ADULT)) / (e.of("moxifloxacin") / 1000) < 4.8
    assert 2000 < e.of("moxifloxacin") < 3500


# --- people ---


def test_people_differ_and_the_same_seed_is_the_same_person() -> None:
    patients = [ADULT] * 400
    people = draw_sensitivities(patients, np.random.default_rng(0))
    assert people == draw_sensitivities(patients, np.random.default_rng(0))
    ikr = np.log([p.ikr for p in people])
    assert abs(ikr.mean()) < 0.03
    assert 0.12 < ikr.std() < 0.18
    assert 0.02 < np.mean([p.poor_metaboliser for p in people]) < 0.13
    assert all(Sensitivity.from_array(p.as_array()) == p for p in people[:5])


def test_a_poor_metaboliser_keeps_metoprolol_longer() -> None:
    poor = replace(Sensitivity.typical(), poor_metaboliser=1.0)
    taken = dosed("metoprolol 100 mg PO")
    assert exposure(taken, ADULT, 12.0, poor).of("metoprolol") > 3 * exposure(taken, ADULT, 12.0).of("metoprolol")
    named = Patient(conditions=frozenset({"poor_metaboliser_cyp2d6"}))
    assert draw_sensitivities([named], np.random.default_rng(1))[0].poor_metaboliser == 1.0


def test_population_exposure_is_the_typical_person() -> None:
    taken = dosed("dofetilide 0.5 mg")
    typical, population = exposure(taken, ADULT, 3.0), population_exposure(taken, ADULT, 3.0)
    np.testing.assert_array_equal(typical.plasma, population.plasma)


def test_the_day_drifts_only_when_asked_and_repeats() -> None:
    rest = exposure((), ADULT, 0.0)
    assert modulate(rest, ADULT, clock_hours=None) == Modulation()
    assert modulate(rest, ADULT, clock_hours=0.0) == Modulation()
    noon = modulate(rest, ADULT, clock_hours=6.0)
    assert noon.sinus_rate > 1.1
    assert modulate(rest, ADULT, clock_hours=30.0).sinus_rate == pytest.approx(noon.sinus_rate)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1e300), st.floats(1e-3, 1e6), st.floats(0.3, 6))
def test_saturation_never_leaves_its_range(level: float, half: float, hill: float) -> None:
    assert 0 <= saturation(level, half, hill) <= 1
    assert saturation(half, half, hill) == pytest.approx(0.5)


def _level(name: str, level: float) -> Exposure:
    """An exposure with one drug at ``level`` [ng/mL] in plasma and at its site."""
    amounts = np.zeros(len(FORMULARY))
    amounts[FORMULARY.index[name]] = level
    return replace(exposure((), ADULT, 0.0), plasma=amounts, effect=amounts)


# --- pairs, metabolites, words for other rhythms ---


def peak_and_area(
    word: str, drug: str, patient: Patient = ADULT, before: tuple[Administration, ...] = ()
) -> np.ndarray:
    hours = np.linspace(0, 60, 1201)
    taken = [*before, *dosed(word, patient=patient)]
    level = np.array([e.of(drug) for e in exposure_at(taken, patient, hours)])
    return np.array([level.max(), np.trapezoid(level, hours)])


def test_verapamil_raises_dofetilides_peak_more_than_its_area() -> None:
    """Label of dofetilide: peak +42 %, area not significantly."""
    verapamil = tuple(a for t in (-8.0, 0.0, 8.0, 16.0) for a in dosed("verapamil 80 mg PO", at=t))
    alone = peak_and_area("dofetilide 0.5 mg PO", "dofetilide")
    peak, area = peak_and_area("dofetilide 0.5 mg PO", "dofetilide", before=verapamil) / alone
    assert peak == pytest.approx(1.42, abs=0.05)
    assert 1.0 < area < 1.2


def test_an_inducer_leaves_little_and_an_inhibitor_much() -> None:
    usual = peak_and_area("ranolazine 500 mg PO", "ranolazine")[1]
    for other, low, high in (("rifampicin", 0.0, 0.1), ("clarithromycin", 2.5, 3.2)):
        changed = peak_and_area("ranolazine 500 mg PO", "ranolazine", replace(ADULT, medication={other}))[1]
        assert low < changed / usual < high, other


def test_poor_metabolisers_form_hardly_any_5_hydroxypropafenone() -> None:
    """Formed by CYP2D6: label of propafenone."""
    taken, at = dosed("propafenone 300 mg PO"), FORMULARY.index["propafenone"]
    usual, poor = (
        max(e.metabolite[at] for e in exposure_at(taken, ADULT, np.linspace(0.5, 24, 48), person))
        for person in (Sensitivity.typical(), replace(Sensitivity.typical(), poor_metaboliser=1.0))
    )
    assert usual > 5 * poor > 0


def test_norverapamil_follows_a_tablet_and_not_a_bolus() -> None:
    at = FORMULARY.index["verapamil"]
    tablet, bolus = (exposure(dosed(w), ADULT, 8.0) for w in ("verapamil 120 mg PO", "verapamil 10 mg IV"))
    assert tablet.metabolite[at] > tablet.plasma[at]
    assert bolus.metabolite[at] < tablet.metabolite[at] / 5


def test_the_newest_words_are_last_and_change_nothing_by_themselves() -> None:
    newest = [f.name for f in fields(Modulation)][-4:]
    assert newest == ["contractility", "resistance", "pacing_bpm", "shock"]
    assert [getattr(Modulation(), name) for name in newest] == [1.0, 1.0, 0.0, 0.0]
    assert after(0.3, "isoproterenol 5 mcg/min IV").escape_rate > 1.2
    assert after(0.7, "procainamide 15 mg/kg IV").pathway_rate < 0.75
