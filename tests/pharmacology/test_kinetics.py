"""Kinetics against closed forms, an integrator, and symmetries."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from ecg_gym.pharmacology.kinetics import OUTPUTS, Compartments, outputs, response

ALWAYS = float("-inf")
HOURS = np.linspace(0, 24, 49)
ONE = Compartments(clearance=5.0, volume=50.0)
TWO = replace(ONE, flow_2=8.0, volume_2=70.0)
THREE = replace(TWO, flow_3=2.0, volume_3=400.0)
ORAL = replace(THREE, absorption=1.3, lag=0.4, fraction=0.6, equilibration=0.7)
FULL = replace(ORAL, metabolite_fraction=0.3, metabolite_clearance=4.0, metabolite_volume=60.0)
FIRST_PASS = replace(FULL, metabolite_fraction=0.0, presystemic=0.4)


def plasma(system: Compartments, doses: list[tuple[float, float, float]], hours: np.ndarray = HOURS) -> np.ndarray:
    """Plasma concentration (T,) [ng/mL]."""
    return outputs([(ALWAYS, system)], doses, hours)[0]


def test_a_bolus_is_one_exponential() -> None:
    expected = 100 / 50 * 1000 * np.exp(-5 / 50 * HOURS)
    np.testing.assert_allclose(plasma(ONE, [(0, 100, 0)]), expected, rtol=1e-12)


def test_a_tablet_is_the_bateman_function() -> None:
    ka, k = 1.3, 5 / 50
    system = replace(ONE, absorption=ka, lag=0.5, fraction=0.8)
    t = np.maximum(HOURS - 0.5, 0)
    expected = 0.8 * 100 / 50 * 1000 * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
    np.testing.assert_allclose(plasma(system, [(0, 100, 0)]), expected, rtol=1e-9, atol=1e-9)


def test_an_infusion_rises_to_its_steady_state() -> None:
    rate = 30.0  # mg/h
    level = plasma(ONE, [(0, rate * 500, 500)], np.array([1.0, 400.0]))
    np.testing.assert_allclose(level, rate / 5 * 1000 * (1 - np.exp(-0.1 * np.array([1.0, 400.0]))), rtol=1e-10)
    assert level[1] == pytest.approx(rate / 5 * 1000)


@pytest.mark.parametrize("system", [ONE, TWO, THREE, ORAL, FULL, FIRST_PASS])
def test_the_area_is_dose_times_fraction_over_clearance(system: Compartments) -> None:
    unit = response(system)
    area = (unit.weights[0] / unit.rates).sum() * 100  # the integral of each exponential
    assert area == pytest.approx(100 * system.fraction / system.clearance * 1000, rel=1e-9)


@pytest.mark.parametrize("duration", [0.0, 0.75, 6.0])
@pytest.mark.parametrize("system", [TWO, THREE, ORAL, FULL, FIRST_PASS])
def test_agrees_with_an_integrator(system: Compartments, duration: float) -> None:
    ours = outputs([(ALWAYS, system)], [(1.0, 100, duration)], HOURS)
    np.testing.assert_allclose(ours, integrate(system, 1.0, 100, duration), rtol=2e-6, atol=1e-6)


def test_a_change_of_clearance_agrees_with_an_integrator() -> None:
    systems = [(ALWAYS, FULL), (3.0, FULL.with_factors(0.4)), (9.0, FULL)]
    for duration in (0.0, 5.0):
        ours = outputs(systems, [(1.0, 100, duration)], HOURS)
        theirs = integrate(FULL, 1.0, 100, duration, lambda t: 0.4 if 3 <= t < 9 else 1.0)
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-5)


def test_a_change_before_or_after_everything_changes_nothing_else() -> None:
    slow = FULL.with_factors(0.5)
    doses = [(2.0, 100.0, 1.0)]
    np.testing.assert_allclose(
        outputs([(ALWAYS, FULL), (1.0, slow)], doses, HOURS), outputs([(ALWAYS, slow)], doses, HOURS)
    )
    late = outputs([(ALWAYS, FULL), (30.0, slow)], doses, HOURS)
    np.testing.assert_allclose(late, outputs([(ALWAYS, FULL)], doses, HOURS), rtol=1e-9)


def test_nothing_before_the_dose_and_the_metabolite_comes_later() -> None:
    result = dict(zip(OUTPUTS, outputs([(ALWAYS, FULL)], [(5.0, 100, 0)], HOURS)))
    assert all((values[HOURS < 5] == 0).all() for values in result.values())
    assert result["metabolite"].argmax() > result["plasma"].argmax()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 5), st.floats(0.01, 5), st.floats(0.0, 4.0), st.floats(0.1, 3.0))
def test_superposition_and_twice_the_dose_in_twice_the_volume(a: float, b: float, at: float, run: float) -> None:
    both = plasma(FULL, [(0, a, 0), (at, b, run)])
    np.testing.assert_allclose(both, plasma(FULL, [(0, a, 0)]) + plasma(FULL, [(at, b, run)]), rtol=1e-9, atol=1e-12)
    twice = replace(TWO, clearance=10.0, volume=100.0, flow_2=16.0, volume_2=140.0)
    np.testing.assert_allclose(plasma(twice, [(0, 2 * a, run)]), plasma(TWO, [(0, a, run)]), rtol=1e-9)


@pytest.mark.parametrize("rate", [0.1, 0.1 * (1 + 1e-9)])  # 0.1/h is also the elimination rate: V^-1 would not exist
def test_equal_rates_are_not_a_trap(rate: float) -> None:
    level = plasma(replace(ONE, absorption=rate), [(0, 100, 0)])
    np.testing.assert_allclose(level, 100 / 50 * 1000 * 0.1 * HOURS * np.exp(-0.1 * HOURS), rtol=1e-3)


def integrate(system: Compartments, start: float, dose: float, duration: float, cleared=lambda t: 1.0) -> np.ndarray:
    """The same outputs (4, T) by brute force: the differential equations written out, piece by piece."""
    s = system
    opens = start + (s.lag if s.absorption else 0.0)

    def slope(t: float, x: np.ndarray) -> list[float]:
        depot, centre, second, third, site, metabolite = x
        into = dose * s.fraction / duration if duration and opens <= t < opens + duration else 0.0
        out = cleared(t) * s.clearance / s.volume * centre
        to_2 = s.flow_2 * (centre / s.volume - second / s.volume_2)
        to_3 = s.flow_3 * (centre / s.volume - third / s.volume_3)
        absorbed = s.absorption * depot
        return [
            (into if s.absorption else 0.0) - absorbed,
            absorbed + (0.0 if s.absorption else into) - out - to_2 - to_3,
            to_2,
            to_3,
            s.equilibration * (centre - site),
            s.metabolite_fraction * out
            + s.presystemic * absorbed
            - s.metabolite_clearance / s.metabolite_volume * metabolite,
        ]

    state, states = np.zeros(6), np.zeros((len(HOURS), 6))
    knots = sorted({0.0, opens, opens + duration, 3.0, 9.0, 24.0})  # an hour on a knot keeps the later piece's value
    for begin, end in itertools.pairwise(knots):
        if begin == opens and duration == 0:
            state[0 if s.absorption else 1] += dose * s.fraction
        here = (begin <= HOURS) & (end >= HOURS)
        solution = solve_ivp(
            lambda t, x, lo=begin, hi=end: slope(min(max(t, lo + 1e-9), hi - 1e-9), x),  # this side of every switch
            (begin, end),
            state,
            t_eval=np.unique(np.append(HOURS[here], end)),
            rtol=1e-10,
            atol=1e-12,
            method="DOP853",
        )
        states[here] = solution.y.T[: here.sum()]
        state = solution.y[:, -1].copy()
    site = 4 if s.equilibration else 1
    level = 1000 / s.volume
    body = states[:, 1:4].sum(1)
    return np.stack([states[:, 1] * level, states[:, site] * level, states[:, 5] * 1000 / s.metabolite_volume, body])
