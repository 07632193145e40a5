"""Treatments that help: each with its direction and its time course, in the virtual patient and along the minutes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecg_gym.core import WATCH, Administration, Patient, State, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY, Modulation, course, exposure, modulate, termination
from ecg_gym.pharmacology.hazards import integral
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.virtual_patient.heart import draw_heart
from ecg_gym.virtual_patient.survival import lethal_rates
from ecg_gym.virtual_patient.truth import hazards
from ecg_gym.virtual_patient.world import hearts_of, truths_of

ADULT = Patient(
    age_years=60, sex="M", weight_kg=70, potassium=4.2, magnesium=0.85, calcium=2.35, creatinine_clearance=100
)
PEOPLE = 24


def treatment(*words: str) -> Treatment:
    return Treatment(tuple(FORMULARY.check(parse_dose(word), ADULT) for word in words))


def given(*words: str, at: float = 0.0) -> list[Administration]:
    return [Administration(at, dose) for dose in treatment(*words).doses]


def minutes(t: float, *words: str, patient: Patient = ADULT) -> Modulation:
    """What the typical person's heart is told ``t`` minutes after these doses."""
    return modulate(exposure(given(*words), patient, t / 60), patient)


def people(rhythm: str, n: int = PEOPLE, **who) -> State:
    value = {f: getattr(ADULT, f) for f in ("age_years", "weight_kg", "magnesium", "calcium", "creatinine_clearance")}
    who = {"potassium": 4.2, "conduction": "normal", "scar": "", **value, **who}
    return VirtualPatient().initial(n, np.random.default_rng(7), rhythm=rhythm, **who)


def after(state: State, hours: float, *words: str, seed: int = 1) -> State:
    """One step of ``hours`` with these doses at its start, under common random numbers."""
    world = VirtualPatient(dt_hours=hours)
    return world.step(state, [treatment(*words) if words else WATCH] * len(state), np.random.default_rng(seed))


def rates(state: State) -> np.ndarray:
    return np.array([truth.intervals["hr_bpm"] for truth in truths_of(state)])


def values(state: State, name: str) -> np.ndarray:
    return np.array([truth.intervals[name] for truth in truths_of(state)])


def rhythms(state: State) -> list[str]:
    return [truth.rhythm for truth in truths_of(state)]


def change(state: State, hours: float, *words: str) -> float:
    """Mean change of the ventricular rate [1/min] against watching, where nothing ended."""
    treated, watched = after(state, hours, *words), after(state, hours)
    same = np.array([a == b for a, b in zip(rhythms(treated), rhythms(watched))])
    return float((rates(treated) - rates(watched))[same].mean())


# --- rate control in atrial fibrillation ---


@pytest.mark.parametrize(
    ("word", "slower"),
    [
        ("diltiazem 0.25 mg/kg IV", 20),
        ("verapamil 5 mg IV", 12),
        ("metoprolol 5 mg IV", 3),
        ("esmolol 150 mcg/kg/min IV over 60 min", 20),
    ],
)
def test_rate_control_slows_fibrillation_within_half_an_hour(word: str, slower: float) -> None:
    assert change(people("af_rapid"), 0.5, word) < -slower


def test_rate_control_has_its_time_course() -> None:
    diltiazem = [minutes(t, "diltiazem 0.25 mg/kg IV").av_rate for t in (0.5, 5, 10, 240)]
    assert diltiazem[0] > diltiazem[1] > 0.6
    assert min(diltiazem[1:3]) < 0.8  # the label: 2 to 7 minutes
    assert diltiazem[3] > 0.85
    digoxin = [minutes(t, "digoxin 0.5 mg IV").av_rate for t in (5, 15, 120, 360)]
    assert digoxin[0] > 0.985  # digoxin is late
    assert digoxin[1] > 0.95
    assert digoxin[2] < 0.92
    assert digoxin[3] < 0.92
    running = "esmolol 150 mcg/kg/min IV over 60 min"
    assert minutes(60, running).av_rate < 0.85 < 0.95 < minutes(100, running).av_rate


# --- supraventricular tachycardia ---


def test_adenosine_ends_svt_within_a_minute_and_is_gone_in_minutes() -> None:
    svt = people("svt", 60)
    ended = [
        np.mean([r == "sinus" for r in rhythms(after(svt, 1 / 60, *words))]) for words in ((), ("adenosine 12 mg IV",))
    ]
    assert ended[0] == 0
    assert ended[1] > 0.6
    assert minutes(0.33, "adenosine 12 mg IV").av_block > 0.9
    assert minutes(3, "adenosine 12 mg IV").av_block < 0.01
    assert minutes(3, "adenosine 12 mg IV").reentry_termination_per_hour < 1


def test_an_hour_long_step_sees_adenosines_minute() -> None:
    svt = people("svt", 60)
    six, twelve = (
        np.mean([heart.returns == "svt" for heart in hearts_of(after(svt, 1.0, word))])  # it ended, and may be back
        for word in ("adenosine 6 mg IV", "adenosine 12 mg IV")
    )
    assert 0.4 < six < 0.85  # 57 % in DiMarco 1990, and some by themselves
    assert twelve > six
    back = np.mean([r == "svt" for r in rhythms(after(svt, 1.0, "adenosine 12 mg IV"))])
    assert 0.15 < back < 0.75  # adenosine is gone when it comes back
    assert rates(after(svt, 1.0, "adenosine 12 mg IV")).mean() < rates(after(svt, 1.0)).mean() - 25


def test_verapamil_ends_svt_in_minutes_to_an_hour() -> None:
    def ended(t: float) -> float:
        return -np.expm1(-termination(given("verapamil 5 mg IV"), ADULT, 0, t / 60)["reentry_termination_per_hour"])

    assert ended(1) < 0.1
    assert 0.3 < ended(15) < 0.7
    assert ended(60) > ended(15) + 0.1


def test_adenosine_ends_neither_fibrillation_nor_ventricular_tachycardia() -> None:
    for rhythm in ("af_rapid", "flutter", "vt"):
        state = people(rhythm, 12)
        assert rhythms(after(state, 0.25, "adenosine 12 mg IV")) == rhythms(after(state, 0.25))


# --- accessory pathway ---


def test_in_preexcited_fibrillation_the_pathway_wants_procainamide_not_the_node() -> None:
    state = people("af_preexcited", 10, conduction="preexcited")
    assert change(state, 0.5, "procainamide 15 mg/kg IV over 25 min") < -25
    assert change(state, 0.5, "ibutilide 1 mg IV") < -25
    for harmful in ("verapamil 10 mg IV", "digoxin 0.5 mg IV", "diltiazem 0.25 mg/kg IV"):
        assert change(state, 0.5, harmful) > 0, harmful
        assert minutes(30, harmful).pathway_rate > 1, harmful
    course_of = [minutes(t, "procainamide 15 mg/kg IV over 25 min").pathway_rate for t in (2, 25, 600)]
    assert course_of[0] > 0.9 > 0.75 > course_of[1]
    assert course_of[2] > 0.9


# --- ventricular tachycardia and ectopy ---


@pytest.mark.parametrize(
    ("word", "low", "high"),
    [
        ("procainamide 10 mg/kg IV over 20 min", 0.3, 0.95),
        ("amiodarone 300 mg IV over 20 min", 0.08, 0.7),
        ("lidocaine 1.5 mg/kg IV", 0.05, 0.6),
    ],
)
def test_vt_ends_more_often_when_treated(word: str, low: float, high: float) -> None:
    vt = people("vt", 40)
    treated, watched = after(vt, 0.67, word), after(vt, 0.67)
    alive = treated.alive & watched.alive
    share = np.mean([r == "sinus" for r, ok in zip(rhythms(treated), alive) if ok])
    by_itself = np.mean([r == "sinus" for r, ok in zip(rhythms(watched), alive) if ok])
    assert by_itself < 0.15
    assert by_itself < share
    assert low < share < high


def ectopic(state: State) -> float:
    return float(np.mean([sum("ectopic" in kind for kind in truth.kinds) for truth in truths_of(state)]))


def test_lidocaine_and_amiodarone_quiet_ectopy() -> None:
    state = people("vt_runs", 40)
    for word in ("lidocaine 1.5 mg/kg IV", "amiodarone 150 mg IV"):
        assert ectopic(after(state, 0.15 if "lido" in word else 0.5, word)) < 0.75 * ectopic(after(state, 0.15)), word
    lidocaine = [minutes(t, "lidocaine 1.5 mg/kg IV").ectopy for t in (4, 20, 180)]
    assert lidocaine == sorted(lidocaine)
    assert lidocaine[0] < 0.55 < 0.85 < lidocaine[2]
    assert minutes(55, "lidocaine 2 mg/min IV over 60 min").ectopy < 0.8  # an infusion holds what a bolus began


# --- slow hearts ---


def atrial_per_ventricular(state: State) -> float:
    return float(np.mean([len(truth.p_s) / len(truth.qrs_s) for truth in truths_of(state)]))


def test_atropine_speeds_the_sinus_node_and_not_an_infranodal_block() -> None:
    assert change(people("sinus_bradycardia"), 0.1, "atropine 1 mg IV") > 10
    assert change(people("av_block_3"), 0.1, "atropine 1 mg IV") < 5
    mobitz = people("av_block_2_mobitz2")
    assert atrial_per_ventricular(after(mobitz, 0.1, "atropine 1 mg IV")) >= atrial_per_ventricular(after(mobitz, 0.1))
    nodal = people("av_block_2")  # in the node, where the vagus reaches, it does help
    assert atrial_per_ventricular(after(nodal, 0.1, "atropine 1 mg IV")) < atrial_per_ventricular(after(nodal, 0.1))
    speed = [minutes(t, "atropine 1 mg IV").sinus_rate for t in (0.2, 5, 60, 360)]
    assert speed[1] > 1.3
    assert speed[0] < speed[1] > speed[2] > speed[3]
    assert speed[3] < 1.15


def test_isoproterenol_speeds_an_escape_rhythm_while_it_runs() -> None:
    assert change(people("av_block_3"), 0.5, "isoproterenol 5 mcg/min IV over 60 min") > 8
    assert minutes(100, "isoproterenol 5 mcg/min IV over 60 min").escape_rate < 1.02
    assert minutes(30, "lidocaine 2 mg/min IV over 60 min").escape_rate < 0.95  # and lidocaine silences it


# --- electrolytes ---


def test_calcium_acts_on_conduction_at_once_and_leaves_potassium_alone() -> None:
    high = people("sinus", 12, potassium=7.4)
    treated, watched = after(high, 5 / 60, "calcium_gluconate 3 g IV"), after(high, 5 / 60)
    assert values(treated, "qrs_ms").mean() < values(watched, "qrs_ms").mean() - 5
    patient = replace(ADULT, potassium=7.4)
    assert exposure(given("calcium_gluconate 3 g IV"), patient, 0.1).potassium == 7.4
    widening = [1 / minutes(t, "calcium_gluconate 3 g IV", patient=patient).conduction for t in (0, 3, 5, 60, 240)]
    assert widening[1] < widening[0]
    assert widening[2] < widening[3] < widening[4]  # gone within the hours


def test_insulin_lowers_potassium_over_half_an_hour_to_an_hour() -> None:
    patient = replace(ADULT, potassium=7.0)
    shift = [exposure(given("insulin 10 U IV"), patient, t / 60).potassium - 7.0 for t in (5, 30, 60, 360)]
    assert shift[0] > -0.6
    assert -1.2 < min(shift[1:3]) < -0.7
    assert shift[3] > -0.35
    high = people("sinus", 12, potassium=7.2)
    treated = after(high, 0.75, "insulin 10 U IV")
    assert values(treated, "qrs_ms").mean() < values(after(high, 0.75), "qrs_ms").mean() - 3
    assert all(
        t.hazard_per_hour["vt_vf"] <= w.hazard_per_hour["vt_vf"]
        for t, w in zip(truths_of(treated), truths_of(after(high, 0.75)))
    )


def test_potassium_and_magnesium_help_an_acquired_long_qt() -> None:
    state = VirtualPatient().initial(
        12,
        np.random.default_rng(3),
        rhythm="sinus",
        healthy=True,
        potassium=2.9,
        weight_kg=70.0,
        doses=given("dofetilide 0.5 mg PO", at=-2.0),
    )
    treated = after(state, 1.5, "potassium_chloride 40 mmol PO", "magnesium 2 g IV")
    watched = after(state, 1.5)
    assert values(treated, "qtcf_ms").mean() < values(watched, "qtcf_ms").mean() - 8
    risk = [np.mean([t.hazard_per_hour["torsade"] for t in truths_of(s)]) for s in (treated, watched)]
    assert risk[0] < 0.8 * risk[1]


def test_magnesium_ends_torsade_in_minutes() -> None:
    torsade = people("torsade", 30)
    for words, low, high in (
        (("magnesium 2 g IV over 2 min",), 0.5, 1.0),
        ((), 0.0, 0.35),  # bouts end by themselves
        (("amiodarone 150 mg IV",), 0.0, 0.35),
    ):
        state = after(torsade, 10 / 60, *words)
        share = np.mean([r == "sinus" for r, alive in zip(rhythms(state), state.alive) if alive])
        assert low <= share <= high, words


# --- stopping is a treatment ---


def test_stopping_the_culprit_lets_qt_come_back() -> None:
    state = VirtualPatient().initial(
        8,
        np.random.default_rng(5),
        rhythm="sinus",
        healthy=True,
        potassium=4.2,
        weight_kg=70.0,
        doses=given("dofetilide 0.5 mg PO", at=-2.5),
    )
    at_peak, day_later, again = values(state, "qtcf_ms"), None, None
    day_later = values(after(state, 24.0), "qtcf_ms")
    again = values(after(after(state, 9.5), 14.5, "dofetilide 0.5 mg PO"), "qtcf_ms")
    assert day_later.mean() < at_peak.mean() - 45
    assert again.mean() > day_later.mean() + 8


def test_antibodies_quiet_a_digoxin_heart() -> None:
    toxic = [a for t in (-9, -6, -3, 0) for a in given("digoxin 0.5 mg IV", at=t)]
    antidote = [Administration(0.5, d) for d in treatment("digoxin_antibodies 5 vial IV").doses]
    before, later = (modulate(exposure([*toxic, *more], ADULT, 4.0), ADULT) for more in ((), antidote))
    assert later.ectopy < before.ectopy
    assert later.av_rate > before.av_rate


# --- how a step integrates ---


def test_the_draws_of_a_row_do_not_depend_on_its_treatment() -> None:
    for rhythm in ("svt", "af_rapid", "vt", "sinus"):
        state = people(rhythm, 2)
        left = []
        for words in ((), ("adenosine 12 mg IV",), ("verapamil 10 mg IV", "procainamide 10 mg/kg IV")):
            rows = [np.random.default_rng(i) for i in range(2)]
            VirtualPatient().step(state, [treatment(*words) if words else WATCH] * 2, rows)
            left.append([g.bit_generator.state for g in rows])
        assert left[0] == left[1] == left[2], rhythm


def test_a_steady_hazard_integrates_to_hazard_times_time() -> None:
    state = people("sinus", 1)
    heart, truth = hearts_of(state)[0], truths_of(state)[0]
    span = course((), ADULT, 0.0, 3.0)
    rates_now = lethal_rates([heart], [heart], [np.inf], span.modulations[:1], [truth], [span])
    once = hazards(heart, span.modulations[0], truth.intervals, 4.2)
    for name, rate in rates_now.items():
        assert integral(rate, span.hours)[-1] == pytest.approx(3.0 * once[name])


def test_a_tachycardia_that_ended_early_was_dangerous_only_until_then() -> None:
    heart = draw_heart(np.random.default_rng(0), ADULT, "vt", "normal", "")
    truth = truths_of(people("vt", 1))[0]
    span = course((), ADULT, 0.0, 1.0)
    whole, half = (
        integral(
            lethal_rates([heart], [heart.converted()], [at], span.modulations[:1], [truth], [span])["vt_vf"], span.hours
        )[-1]
        for at in (np.inf, 0.5)
    )
    assert 0.3 * whole < half < 0.8 * whole


def test_concentrations_are_part_of_the_truth() -> None:
    state = after(people("sinus", 1), 1.0, "quinidine 400 mg PO")
    (truth,) = truths_of(state)
    assert set(truth.concentrations) == {"quinidine"}
    assert 300 < truth.concentrations["quinidine"] < 4000
