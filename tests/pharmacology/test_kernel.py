"""The kernel against the slow and clear pharmacology: all drugs, both routes, interactions, antidotes."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.columns import Patients
from ecg_gym.core import Administration, Dose, Patient
from ecg_gym.pharmacology import FORMULARY, draw_sensitivities
from ecg_gym.pharmacology.catalogue import own_serum
from ecg_gym.pharmacology.doses import milligrams, weight_kg
from ecg_gym.pharmacology.drugs import ROUTES
from ecg_gym.pharmacology.effects import MODULATION
from ecg_gym.pharmacology.exposure import _duration, reference_electrolytes
from ecg_gym.pharmacology.hazards import courses
from ecg_gym.pharmacology.kernel import course, looks_of, scratch
from ecg_gym.pharmacology.sensitivity import Sensitivity
from ecg_gym.pharmacology.stopping import doses_taken
from ecg_gym.pharmacology.tables import medication_names, pharmacology
from ecg_gym.virtual_patient.heart import draw_heart

MOST_LOOKS = 700


def kernel(given: tuple[Administration, ...], patient: Patient, start: float, end: float, who: Sensitivity):
    """Looks, concentrations by drug, serum and modulation of one person by the kernel."""
    n = len(given)
    drugs = [FORMULARY[a.dose.drug] for a in given]
    index = np.array([FORMULARY.index[d.name] for d in drugs], np.int64)
    route = np.array([ROUTES.index(a.dose.route) for a in given], np.int64)
    mg = np.array([milligrams(a.dose, d, patient) for a, d in zip(given, drugs)], float)
    over = np.array([_duration(a, d) for a, d in zip(given, drugs)], float)
    hours = np.array([a.hours for a in given], float)
    own = own_serum(Patients.of([patient]), pharmacology().reference)[0]
    medication = np.array([name in patient.medication for name in medication_names()])
    tables = pharmacology()
    room = scratch(tables.drugs, max(n, 1), MOST_LOOKS)
    count = looks_of(start, end, hours, route, n, tables.drugs.after_dose, 0.25, room.looks)
    clearance = np.nan if patient.creatinine_clearance is None else patient.creatinine_clearance
    count_sites = course(tables, hours, index, route, mg, over, n, weight_kg(patient), clearance, medication, own,
                   who.as_array(), count, True, room)  # fmt: skip
    levels = {int(room.on_board[z]): room.level[z, :count] for z in range(count_sites)}
    return room.looks[:count], levels, room.serum[:count], room.change[:count]


def compare(given: tuple[Administration, ...], patient: Patient, start: float, end: float, who: Sensitivity) -> None:
    (slow,) = courses([given], [patient], [start], [end], [who], day=True)
    looks, levels, serum, change = kernel(given, patient, start, end, who)
    np.testing.assert_allclose(looks, slow.hours, rtol=0, atol=1e-12)
    for i in range(len(FORMULARY)):
        mine = levels.get(i, np.zeros((len(looks), 4)))
        for site, column in (("plasma", 0), ("effect", 1), ("metabolite", 2)):
            expected = getattr(slow.exposure, site)[:, i]
            np.testing.assert_allclose(mine[:, column], expected, rtol=1e-9, atol=1e-9 * (1e-3 + expected.max()))
    for i, ion in enumerate(reference_electrolytes()):
        np.testing.assert_allclose(serum[:, i], getattr(slow.exposure, ion), rtol=1e-9)
    for i, name in enumerate(MODULATION):
        np.testing.assert_allclose(change[:, i], getattr(slow.change, name), rtol=1e-9, atol=1e-9, err_msg=name)


def person(seed: int, **facts: object) -> tuple[Patient, Sensitivity]:
    patient = draw_heart(np.random.default_rng(seed), Patient(**facts)).patient  # type: ignore[arg-type]
    return patient, draw_sensitivities([patient], np.random.default_rng(seed))[0]


@pytest.mark.parametrize("seed", range(40))
def test_random_histories_of_any_drugs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    medication = frozenset(rng.choice(medication_names(), 2)) if seed % 3 == 0 else frozenset()
    patient, who = person(seed, medication=medication)
    menu = [t for t in FORMULARY.menu(list(rng.choice(FORMULARY.names, 6, replace=False))) if t]
    doses = [menu[rng.integers(len(menu))].doses[0] for _ in range(seed % 9)]
    given = tuple(sorted(Administration(float(np.round(rng.uniform(-30, 2), 2)), dose) for dose in doses))
    start = float(rng.integers(0, 5))
    compare(given, patient, start, start + float(rng.choice([0.1, 1.0, 6.0])), who)


@pytest.mark.parametrize("name", FORMULARY.names)
def test_every_drug_by_every_route(name: str) -> None:
    patient, who = person(3)
    for k, dose in enumerate(FORMULARY.usual_doses(name)):
        compare((Administration(-0.37 - k, dose), Administration(0.5, dose)), patient, 0.0, 2.0, who)


def test_two_routes_of_one_drug_add_up() -> None:
    patient, who = person(5)
    given = tuple(Administration(h, d) for h, d in zip((-3.0, -2.5, 0.0), FORMULARY.usual_doses("verapamil")[::2] * 2))
    assert {a.dose.route for a in given} == {"PO", "IV"}
    compare(given, patient, 0.0, 2.0, who)


def test_interactions_come_and_go_within_the_span() -> None:
    patient, who = person(7)
    doses = {name: FORMULARY.usual_doses(name)[0] for name in ("quinidine", "metoprolol", "verapamil", "digoxin")}
    given = tuple(
        Administration(h, doses[name])
        for h, name in ((-49.0, "quinidine"), (-23.5, "verapamil"), (-10.0, "metoprolol"), (-9.0, "digoxin"),
                        (-1.0, "quinidine"), (-0.25, "metoprolol"), (0.25, "verapamil"))
    )  # fmt: skip
    compare(given, patient, -1.0, 3.0, who)
    compare(given, patient, 23.0, 25.0, who)


def test_an_antidote_binds_digoxin() -> None:
    patient, who = person(9)
    digoxin, antidote = FORMULARY.usual_doses("digoxin")[0], FORMULARY.usual_doses("digoxin_antibodies")[0]
    given = (Administration(-6.0, digoxin), Administration(-5.0, digoxin), Administration(0.5, antidote))
    compare(given, patient, 0.0, 2.0, who)


def test_unknown_facts_stand_for_the_average() -> None:
    who = draw_sensitivities([Patient()], np.random.default_rng(0))[0]
    dose = Dose("dofetilide", 0.5, "mg", "PO")
    compare((Administration(0.0, dose),), Patient(), 0.0, 1.0, who)


def test_stopping_ends_standing_orders_running_infusions_and_other_medication() -> None:
    patient, who = person(11, medication=frozenset({"ketoconazole", "cimetidine"}))
    usual = {name: FORMULARY.usual_doses(name) for name in ("dofetilide", "esmolol", "ranolazine", "stop_medication")}
    ordered = [
        Administration(-2.0, usual["dofetilide"][0]),
        Administration(3.0, usual["dofetilide"][0]),
        Administration(-30.0, usual["ranolazine"][0]),
        Administration(0.6, usual["esmolol"][1]),
        Administration(1.0, usual["stop_medication"][0]),
        Administration(2.0, usual["dofetilide"][0]),
    ]
    taken = doses_taken(ordered)
    assert [(a.hours, a.dose.drug) for a in taken] == [
        (-30.0, "ranolazine"), (-2.0, "dofetilide"), (0.6, "esmolol"), (1.0, "stop_medication"), (2.0, "dofetilide")
    ]  # fmt: skip
    assert taken[2].dose.duration_hours == pytest.approx(0.4)
    for start, end in ((0.0, 2.0), (2.0, 8.0), (47.0, 53.0)):
        compare(tuple(ordered), patient, start, end, who)
    compare(tuple(ordered[:4]), patient, 0.0, 6.0, who)  # orders that nobody stopped


@pytest.mark.parametrize(
    ("potassium", "clearance", "trend"), [(7.2, 15.0, 0.04), (7.2, 90.0, 0.0), (3.0, 90.0, -0.02), (4.2, 15.0, 0.0)]
)
def test_potassium_goes_on_rising_where_kidneys_fail_and_falling_where_it_is_lost(
    potassium: float, clearance: float, trend: float
) -> None:
    patient, who = person(13, potassium=potassium, creatinine_clearance=clearance)
    compare((), patient, 2.0, 30.0, who)
    _, _, serum, _ = kernel((), patient, 2.0, 30.0, who)
    assert serum[0, 0] == pytest.approx(potassium + 2 * trend)
    assert serum[-1, 0] == pytest.approx(potassium + 24 * trend)
