"""The step of many hearts as one loop against the slow one: conversions, hazards, deaths, this hour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecg_gym.columns import Patients
from ecg_gym.core import Administration
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.pharmacology.catalogue import own_serum
from ecg_gym.pharmacology.doses import milligrams, weight_kg
from ecg_gym.pharmacology.drugs import ROUTES
from ecg_gym.pharmacology.effects import MODULATION
from ecg_gym.pharmacology.exposure import _duration
from ecg_gym.pharmacology.hazards import courses
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.tables import pharmacology
from ecg_gym.streams import Streams
from ecg_gym.virtual_patient import columns, kernel
from ecg_gym.virtual_patient.heart import Heart, draw_heart
from ecg_gym.virtual_patient.survival import death, live
from ecg_gym.virtual_patient.truth import Truth

RHYTHMS = ("sinus", "svt", "vt", "torsade", "af_rapid", "af_preexcited", "paced", "flutter", "av_block_3", "vt_runs",
           "av_block_2_mobitz2")  # fmt: skip
HELPFUL = (
    "adenosine",
    "amiodarone",
    "ibutilide",
    "procainamide",
    "magnesium",
    "verapamil",
    "lidocaine",
    "potassium_chloride",
    "cardioversion",
    "temporary_pacing",
    "esmolol",
)


def people(n: int) -> list[tuple[Heart, tuple[Administration, ...]]]:
    out = []
    for i in range(n):
        rng = np.random.default_rng(i)
        heart = draw_heart(rng, rhythm=RHYTHMS[i % len(RHYTHMS)], scar="anterior" if i % 4 == 0 else None)
        menu = [t for t in FORMULARY.menu(list(rng.choice(HELPFUL, 2, replace=False))) if t]
        doses = [menu[rng.integers(len(menu))].doses[0] for _ in range(i % 4)]
        out.append((heart, tuple(sorted(Administration(float(rng.choice([-2.0, -0.5, 1.0])), dose) for dose in doses))))
    return out


def arrays(rows: list[tuple[Heart, tuple[Administration, ...]]]) -> tuple[kernel.Doses, kernel.People, np.ndarray]:
    """The same people as the kernel wants them, every dose a row of the catalogue."""
    flat = [(heart, a) for heart, given in rows for a in given]
    most = max(len(given) for _, given in rows)
    hours, code = np.zeros((len(rows), most)), np.full((len(rows), most), -1, np.int32)
    place = 0
    for b, (_, given) in enumerate(rows):
        for q, each in enumerate(given):
            hours[b, q], code[b, q] = each.hours, place
            place += 1
    drugs = [FORMULARY[a.dose.drug] for _, a in flat]
    doses = kernel.Doses(
        hours, code, np.array([FORMULARY.index[d.name] for d in drugs], np.int64),
        np.array([ROUTES.index(a.dose.route) for _, a in flat], np.int64),
        np.array([milligrams(a.dose, d, h.patient) for (h, a), d in zip(flat, drugs)]), np.zeros(len(flat), bool),
        np.array([_duration(a, d) for (_, a), d in zip(flat, drugs)], float),
    )  # fmt: skip
    who = [heart.patient for heart, _ in rows]
    clearance = np.array([np.nan if p.creatinine_clearance is None else p.creatinine_clearance for p in who], float)
    from ecg_gym.pharmacology.tables import medication_names

    nobody = np.zeros((1, len(medication_names())), bool)
    serum = own_serum(Patients.of(who), pharmacology().reference)
    everybody = kernel.People(np.array([weight_kg(p) for p in who], float), clearance, serum, nobody,
                              np.zeros(len(who), np.int32))  # fmt: skip
    return doses, everybody, np.stack([columns.heart_row(heart) for heart, _ in rows])


@pytest.fixture(scope="module")
def stepped() -> dict[str, Any]:
    rows = people(198)
    n = len(rows)
    doses, who, hearts = arrays(rows)
    streams = Streams.of([np.random.default_rng(100 + i) for i in range(n)])
    start, dt = np.full(n, 1.0), np.array([1.0, 0.25, 24.0])[np.arange(n) % 3]
    now, strip = np.full((n, columns.N_NOW), np.nan), np.zeros(n, np.uint64)
    kernel.settle(
        pharmacology(),
        kernel.rhythm_table(),
        who,
        hearts,
        doses,
        start,
        streams.key,
        streams.counter,
        np.arange(n),
        now,
        strip,
    )
    now[:, kernel.SHOWN_HR] = np.linspace(30, 230, n)
    now[:, kernel.SHOWN_QTCF] = np.linspace(380, 560, n)
    now[::11, kernel.SHOWN_HR :] = np.nan
    before, later, alive = hearts.copy(), now.copy(), np.ones(n, bool)
    tables = pharmacology(), kernel.hazard_figures(), kernel.rhythm_table()
    kernel.step(*tables, who, hearts, doses, start, dt, alive, streams.key, streams.counter, later, strip)
    spans = courses([g for _, g in rows], [h.patient for h, _ in rows], start, start + dt,
                    [h.sensitivity for h, _ in rows], day=True)  # fmt: skip
    return {"rows": rows, "before": before, "hearts": hearts, "now": now, "later": later, "alive": alive,
            "streams": streams, "spans": spans, "strip": strip}  # fmt: skip


def test_the_hour_is_what_the_slow_pharmacology_says(stepped: dict[str, Any]) -> None:
    for b, span in enumerate(stepped["spans"]):
        for matrix, look in ((stepped["now"], 0), (stepped["later"], -1)):
            slow = [getattr(span.change, name)[look] for name in MODULATION]
            np.testing.assert_allclose(matrix[b, : len(slow)], slow, rtol=1e-9, atol=1e-9)
            serum = [getattr(span.exposure, name)[look] for name in columns.SERUM]
            np.testing.assert_allclose(matrix[b, len(slow) : len(slow) + 3], serum, rtol=1e-9)


def test_rhythms_change_and_people_die_as_in_the_slow_step(stepped: dict[str, Any]) -> None:
    changed = twice = died = 0
    known = columns.words()["rhythm"]
    tables = kernel.hazard_figures(), kernel.rhythm_table()
    for b, ((heart, _), span) in enumerate(zip(stepped["rows"], stepped["spans"])):
        u = stepped["streams"][b].random(12)
        chances, aims, struck, how = u[[0, 4, 5, 6]], u[[7, 8, 9, 10]], u[1], u[2]
        then = Modulation(*stepped["now"][b, : len(MODULATION)])
        vitals = {"hr_bpm": stepped["now"][b, kernel.SHOWN_HR], "qtcf_ms": stepped["now"][b, kernel.SHOWN_QTCF]}
        truth = Truth("", np.empty(0), (), np.empty(0), vitals, np.empty(0), {})
        slow = live(heart, then, truth, span, chances, aims)
        change = np.stack([np.asarray(getattr(span.change, name)) for name in MODULATION], axis=1)
        serum = np.stack([np.asarray(getattr(span.exposure, name)) for name in columns.SERUM], axis=1)
        row, expected = stepped["before"][b].copy(), np.empty(3)
        n = kernel.live(*tables, row, stepped["now"][b], change, serum, span.hours, len(span.hours), chances, aims,
                        expected, np.empty((4, 4)))  # fmt: skip
        assert n == len(slow.changes)
        np.testing.assert_allclose(expected, list(slow.expected.values()), rtol=1e-9)
        assert columns.heart_of(row, heart.patient).rhythm == slow.heart.rhythm
        after = columns.heart_row(slow.heart)
        np.testing.assert_allclose(row, after, rtol=1e-9)
        fatal = death(slow.expected, struck, how)
        assert stepped["alive"][b] == (not fatal)
        assert known[int(stepped["hearts"][b, columns.RHYTHM])] == (fatal or slow.heart.rhythm)
        changed += n > 0
        twice += n > 1
        died += bool(fatal)
    assert changed >= 15
    assert twice >= 2
    assert died >= 1


def test_everybody_draws_from_their_own_stream(stepped: dict[str, Any]) -> None:
    assert len(np.unique(stepped["strip"])) == len(stepped["rows"])
    minute = stepped["later"][:, columns.FIRST_MINUTE : columns.FIRST_SHOWN]
    assert abs(minute[:, :3].mean()) < 0.3
    assert 0.8 < minute[:, :3].std() < 1.2
    assert ((minute[:, 3] >= 0) & (minute[:, 3] < 1)).all()


def test_a_heart_survives_being_a_row() -> None:
    for seed in range(30):
        heart = draw_heart(np.random.default_rng(seed))
        assert columns.heart_of(columns.heart_row(heart), heart.patient) == heart
