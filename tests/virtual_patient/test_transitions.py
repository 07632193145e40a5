"""What rhythms become: they come back, drugs hold them off, runs become sustained, and order and combination matter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ecg_gym.core import WATCH, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.streams import Streams
from ecg_gym.virtual_patient import VirtualPatient, columns
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.transitions import NEVER, transition_yaml, transitions

N = 300


def course(rhythm: str, plan: Mapping[int, str], dt: float, steps: int) -> tuple[dict[str, float], float]:
    """Shares of the rhythms of all who began with ``rhythm``, and of the dead, after ``plan`` (step -> dose)."""
    world = VirtualPatient(dt)
    state = world.initial(N, np.random.default_rng(0), rhythm=rhythm)
    streams = Streams.of([np.random.default_rng(i) for i in range(N)])
    for step in range(steps):
        dose = FORMULARY.check(parse_dose(plan[step]), Patient()) if step in plan else None
        treatment = Treatment((dose,)) if dose else WATCH
        state = world.step(state, [treatment] * N, streams.after(np.full(N, step)))
    names = np.array(columns.words()["rhythm"])[state.inner["heart"][:, columns.RHYTHM].astype(int)]
    names = names[state.alive]
    return {name: float((names == name).sum()) / N for name in np.unique(names)}, float(1 - state.alive.mean())


def test_the_table_names_rhythms_and_sources() -> None:
    for name, row in transition_yaml()["rhythms"].items():
        assert name in rhythms()
        assert row.keys() <= {"ends", "returns", "becomes", "fails"}
        for part in row.values():
            assert part["source"]
            assert part["confidence"] in "HML"
    table = transitions()
    assert (table.becomes[table.becomes_per_hour > 0] != NEVER).all()
    assert (table.settles > 0).all()
    assert (table.hold > 0).all()


def test_a_tachycardia_that_adenosine_ended_comes_back_once_it_is_gone() -> None:
    soon, _ = course("svt", {0: "adenosine 12 mg IV"}, 1 / 60, 1)
    later, _ = course("svt", {0: "adenosine 12 mg IV"}, 0.25, 8)
    assert soon["sinus"] > 0.7
    assert 0.3 < later["svt"] < 0.65


def test_in_ventricular_tachycardia_a_shock_needs_a_drug_that_holds_what_it_won() -> None:
    watched, shock, drug, both = (
        course("vt", plan, 0.5, 8)
        for plan in (
            {},
            {0: "cardioversion 200 J EXT"},
            {0: "amiodarone 300 mg IV"},
            {0: "cardioversion 200 J EXT", 1: "amiodarone 300 mg IV"},
        )
    )
    assert both[0]["sinus"] > drug[0]["sinus"] > shock[0]["sinus"] + 0.2
    assert both[1] < min(shock[1], drug[1]) < watched[1]
    assert shock[0]["vt"] > 0.35


def test_runs_become_sustained_unless_the_focus_is_quiet() -> None:
    watched, treated = course("vt_runs", {}, 1.0, 6)[0], course("vt_runs", {0: "amiodarone 300 mg IV"}, 1.0, 6)[0]
    assert watched["vt"] > 2 * treated.get("vt", 0.0) > 0


def test_torsade_comes_back_and_pacing_keeps_it_off() -> None:
    watched, died = course("torsade", {}, 1.0, 4)
    paced, less = course("torsade", dict.fromkeys(range(4), "temporary_pacing 80 bpm EXT"), 1.0, 4)
    assert paced.get("torsade", 0.0) < watched["torsade"]
    assert less < died


def test_what_left_the_body_leaves_no_trace_in_who_was_in_sinus_rhythm() -> None:
    world = VirtualPatient(0.25)
    start = world.initial(50, np.random.default_rng(4), rhythm="sinus", healthy=True)
    adenosine = Treatment((FORMULARY.check(parse_dose("adenosine 12 mg IV"), Patient()),))
    streams = Streams.of([np.random.default_rng(i) for i in range(50)])
    ends = []
    for first in (adenosine, WATCH):
        state = start
        for step in range(4):
            state = world.step(state, [first if step == 0 else WATCH] * 50, streams.after(np.full(50, step)))
        ends.append(state)
    np.testing.assert_array_equal(ends[0].inner["strip"], ends[1].inner["strip"])
    np.testing.assert_allclose(ends[0].inner["now"], ends[1].inner["now"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ends[0].inner["heart"], ends[1].inner["heart"], rtol=1e-9)
