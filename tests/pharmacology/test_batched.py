"""Many looks at once are many single ones: nothing depends on the batch, to the last bit, nor on how it is computed."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from ecg_gym.core import Administration, Patient, State, Treatment, concatenate, row_generators
from ecg_gym.pharmacology import FORMULARY, Modulation, course, draw_sensitivities, exposure, exposure_at, modulate
from ecg_gym.pharmacology.circadian import drift, drifts
from ecg_gym.pharmacology.effects import MODULATION, modulate_many, modulation_of
from ecg_gym.pharmacology.exposure import Exposure, exposures, saturation, saturations
from ecg_gym.pharmacology.hazards import courses
from ecg_gym.pharmacology.kinetics import Compartments, outputs, response
from ecg_gym.pharmacology.sensitivity import Sensitivity
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.virtual_patient.heart import draw_heart
from ecg_gym.virtual_patient.survival import lethal_rates
from ecg_gym.virtual_patient.truth import hazards
from ecg_gym.virtual_patient.world import truths_of

PEOPLE = 9


@pytest.fixture(scope="module")
def people() -> list[tuple[tuple[Administration, ...], Patient, Sensitivity]]:
    """Histories of one to five doses of any drugs in different people."""
    rng = np.random.default_rng(11)
    samples = []
    for i in range(PEOPLE):
        patient = draw_heart(np.random.default_rng(i)).patient
        menu = [t for t in FORMULARY.menu(list(rng.choice(FORMULARY.names, 4, replace=False))) if t]
        doses = [menu[rng.integers(len(menu))].doses[0] for _ in range(i % 5 + 1)] if i else []
        given = tuple(sorted(Administration(float(rng.uniform(-6, 2)), dose) for dose in doses))
        samples.append((given, patient, draw_sensitivities([patient], rng)[0]))
    return samples


def same(a: Exposure, b: Exposure) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Exposure))


def test_many_people_at_once_are_each_alone(people: list) -> None:
    given, patients, who = zip(*people)
    hours = [np.linspace(-1, 3, 3 + i) for i in range(PEOPLE)]
    many = exposures(given, patients, hours, who)
    rows = np.repeat(np.arange(PEOPLE), [len(h) for h in hours])
    clock = np.concatenate(hours)
    change = modulate_many(many, Sensitivity.of_many(who, rows), clock)
    for n, i in enumerate(rows):
        look = hours[i][n - np.flatnonzero(rows == i)[0]]
        alone = exposure_at(given[i], patients[i], hours[i], who[i])[n - np.flatnonzero(rows == i)[0]]
        assert same(many[n], alone)
        assert modulation_of(change, n) == modulate(alone, patients[i], who[i], float(look))


def test_a_course_among_others_is_the_course_alone(people: list) -> None:
    given, patients, who = zip(*people)
    start, end = np.arange(PEOPLE) / 4, np.arange(PEOPLE) / 4 + 1.0
    for i, span in enumerate(courses(given, patients, start, end, who, day=True)):
        alone = course(given[i], patients[i], float(start[i]), float(end[i]), who[i], day=True)
        assert np.array_equal(span.hours, alone.hours)
        assert span.modulations == alone.modulations
        assert same(span.exposure, alone.exposure)
        now = exposure(given[i], patients[i], float(end[i]), who[i])
        np.testing.assert_allclose(span.exposure[-1].plasma, now.plasma, rtol=1e-12)
        last = modulate(now, patients[i], who[i], float(end[i]))
        for word in MODULATION:
            assert getattr(span.modulations[-1], word) == pytest.approx(getattr(last, word), rel=1e-12, abs=1e-12)


def test_doses_together_are_the_sum_of_doses_alone() -> None:
    rng = np.random.default_rng(1)
    system = Compartments(20.0, 15.0, flow_2=9.0, volume_2=40.0, absorption=1.3, lag=0.2, equilibration=2.0)
    doses = [(float(rng.uniform(-3, 2)), float(rng.uniform(1, 9)), float(d)) for d in (0, 0, 0.5, 2, 0)]
    hours = np.linspace(-2, 6, 33)
    alone = [amount * response(system)(hours - start, np.full(33, over)) for start, amount, over in doses]
    np.testing.assert_allclose(outputs([(-np.inf, system)], doses, hours), np.sum(alone, axis=0), rtol=1e-9)


def test_saturation_by_hand_and_at_its_ends() -> None:
    level = np.array([-1.0, 0.0, 1e-300, 1e-9, 0.4, 2.0, 5.0, 1e9, 1e300])
    for half, hill in ((2.0, 1.0), (0.3, 0.7), (11.0, 4.2)):
        many = saturations(level, half, hill)
        assert list(many) == [saturation(float(x), half, hill) for x in level]
        assert list(many[:2]) == [0, 0]
        assert many[-1] == 1
        middle = slice(3, 8)
        by_hand = level[middle] ** hill / (level[middle] ** hill + half**hill)
        np.testing.assert_allclose(many[middle], by_hand, rtol=1e-12)


def test_hours_of_a_day_at_once() -> None:
    hours = np.random.default_rng(2).uniform(-30, 60, 50)
    many = drifts(hours)
    assert all({k: float(v[i]) for k, v in many.items()} == drift(float(h)) for i, h in enumerate(hours))


def test_lethal_rates_along_a_span_are_the_hazards_of_each_look() -> None:
    """The slow way, look by look, for hearts that convert on the way and hearts that do not."""
    hearts = [draw_heart(np.random.default_rng(i), rhythm=r) for i, r in enumerate(("vt", "sinus", "af_rapid"))]
    state = [VirtualPatient().initial(1, np.random.default_rng(i), rhythm=h.rhythm) for i, h in enumerate(hearts)]
    truths = [truths_of(s)[0] for s in state]
    after = [hearts[0].converted(), *hearts[1:]]
    at = [0.5, np.inf, np.inf]
    then = [Modulation(jtpeak_ms=5.0, sinus_rate=0.9), Modulation(), Modulation(av_rate=0.8, conduction=0.9)]
    given = (Administration(0.0, FORMULARY.menu(["quinidine"])[-1].doses[0]),)
    spans = courses([given] * 3, [h.patient for h in hearts], [0.0] * 3, [1.0] * 3, [h.sensitivity for h in hearts])
    together = lethal_rates(hearts, after, at, then, truths, spans)
    n = 0
    for heart, later, until, was, truth, span in zip(hearts, after, at, then, truths, spans):
        for hour, now, potassium in zip(span.hours, span.modulations, span.potassium):
            who, base, seen = (heart, was, truth.intervals) if hour < until else (later, Modulation(), {})
            seen = {"hr_bpm": later.rate_bpm, "qtcf_ms": later.qtcf_ms, **seen}
            word = {"sinus": "sinus_rate", "af_rapid": "av_rate", "vt": ""}[who.rhythm]
            wider = who.qrs_ms * (1 / now.conduction - 1 / base.conduction)
            longer = now.jtpeak_ms - base.jtpeak_ms + now.tpeak_tend_ms - base.tpeak_tend_ms + wider
            faster = getattr(now, word) / getattr(base, word) if word else 1.0
            moved = {"hr_bpm": seen["hr_bpm"] * faster, "qtcf_ms": seen["qtcf_ms"] + longer}
            for name, rate in hazards(who, now, moved, float(potassium)).items():
                assert together[name][n] == pytest.approx(rate, rel=1e-12)
            n += 1
    assert n == len(together["vt_vf"])


def rolled(state: State, treatments: list[Treatment], seed: int, rows: list[int]) -> State:
    """Two steps of some rows, each with its own generator."""
    generators = row_generators(np.random.default_rng(seed), len(treatments))
    world, state = VirtualPatient(), state[rows]
    for _ in range(2):
        state = world.step(state, [treatments[i] for i in rows], [generators[i] for i in rows])
    return state


def test_a_row_of_the_virtual_patient_does_not_depend_on_its_batch() -> None:
    names = ("sinus", "af_rapid", "vt", "svt", "flutter", None)
    world = VirtualPatient()
    start = [world.initial(1, np.random.default_rng(i), rhythm=name) for i, name in enumerate(names)]
    state = concatenate(start)
    drugs = ("quinidine", "metoprolol", "procainamide", "adenosine", "diltiazem", "dofetilide")
    treatments = [FORMULARY.menu([drug])[-1] for drug in drugs]
    together = rolled(state, treatments, 5, list(range(6)))
    for rows in ([0], [3, 1], [5, 4, 2]):
        part = rolled(state, treatments, 5, rows)
        assert np.array_equal(part.ecg, together.ecg[rows])
        assert np.array_equal(part.alive, together.alive[rows])
        for k, i in enumerate(rows):
            assert truths_of(part)[k].hazard_per_hour == truths_of(together)[i].hazard_per_hour
