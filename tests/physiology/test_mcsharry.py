"""McSharry's equation against an independent integration, its published limits, and the intervals asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.physiology import mcsharry, parameters, wave_modulation
from ecg_gym.physiology.mcsharry import P, Q, R, S, T

TEXTBOOK = [parameters.five("textbook", name) for name in ("theta", "a", "b")]


def person(rr_s: float = 0.9) -> mcsharry.Waves:
    """One adult: PR 160, QRS 88, QT 396 ms by the tangent."""
    centre = np.array([[-0.164, -0.032, 0.0, 0.032, 0.272]])
    width = np.array([[0.020, 0.006, 0.009, 0.006, 0.040]])
    height = np.array([[0.12, -0.10, 1.0, -0.15, 0.30]])
    return mcsharry.from_times(centre, width, height, np.array([rr_s]))


def trace(waves: mcsharry.Waves, rr_s: float, rate_hz: float = 500.0, relaxation_per_s: float = 0.0) -> np.ndarray:
    """Two seconds ``(N,)`` [mV] that begin half a second before an R peak."""
    start = np.array([-2 * np.pi * 0.5 / rr_s])
    beats = np.array([[rr_s]])
    return mcsharry.solve_exact(
        waves, beats, samples=int(2 * rate_hz), rate_hz=rate_hz, theta_start=start, relaxation_per_s=relaxation_per_s
    )[0]


def tangent(trace_mv: np.ndarray, rate_hz: float, near_s: float, reach_s: float) -> float:
    """Where the steepest tangent beside the extremum near ``near_s`` meets zero [s]; ``reach_s`` is signed."""
    around = np.arange(int((near_s - 0.006) * rate_hz), int((near_s + 0.006) * rate_hz) + 2)
    peak = around[np.argmax(np.abs(trace_mv[around]))]
    slope = np.gradient(trace_mv, 1 / rate_hz)
    beside = peak + np.arange(1, int(abs(reach_s) * rate_hz)) * int(np.sign(reach_s))
    steepest = beside[np.argmax(np.abs(slope[beside]))]
    return steepest / rate_hz - trace_mv[steepest] / slope[steepest]


def read_back(waves: mcsharry.Waves, rr_s: float) -> tuple[float, float]:
    """PR and QT [ms] measured on the sampled trace at 500 Hz, knowing only roughly where the waves are."""
    y, centre = trace(waves, rr_s), waves.in_time(np.array([rr_s]))[0][0] + 0.5
    onset = tangent(y, 500, centre[Q], -0.03)
    return 1e3 * (onset - tangent(y, 500, centre[P], -0.06)), 1e3 * (tangent(y, 500, centre[T], 0.13) - onset)


@pytest.mark.parametrize("rate_hz", [102.4, 500.0])
@pytest.mark.parametrize("relaxation_per_s", [0.0, 1.0, 6.0])
def test_exact_solution_agrees_with_runge_kutta(rate_hz: float, relaxation_per_s: float) -> None:
    beats = np.array([[0.82, 0.90, 0.75, 0.88], [0.6, 0.6, 0.6, 0.6]])
    rr = beats.mean(axis=1)
    two = mcsharry.from_times(*(np.repeat(x, 2, axis=0) for x in person().in_time(np.array([0.9]))), rr)
    how = {
        "samples": int(3 * rate_hz), "rate_hz": rate_hz, "theta_start": np.array([-2.9, -5.0]),
        "baseline_mv": np.array([[0.05], [-0.1]]), "y_start": np.array([0.2, -0.3]),
        "relaxation_per_s": relaxation_per_s,
    }  # fmt: skip
    fine = int(4096 / rate_hz)
    keeping = mcsharry.at_each_beat(two, rr, beats)
    reference = mcsharry.solve_rk4(keeping, beats, substeps=fine, **how)
    np.testing.assert_allclose(mcsharry.solve_exact(keeping, beats, **how), reference, atol=1e-8)
    if relaxation_per_s <= 1:  # where angles are kept instead, the forcing jumps with RR inside a step of both methods
        reference = mcsharry.solve_rk4(two, beats, substeps=fine, **how)
        np.testing.assert_allclose(mcsharry.solve_exact(two, beats, **how), reference, atol=1e-4)


def test_published_coefficients_reach_the_heights_computed_for_them() -> None:
    """Computed elsewhere for the textbook table: per second at 60 bpm R 0.042, T 0.013 mV; per radian 0.25, 0.066."""
    time = np.arange(1024) / 1024
    start, beats = np.array([-np.pi]), np.array([[1.0]])
    for a, kappa, r_mv, t_mv, t_rad in ((1.0, 1.0, 0.042, 0.013, 1.55), (2 * np.pi, 2 * np.pi, 0.25, 0.066, 1.48)):
        waves = mcsharry.from_time_form(TEXTBOOK[0], a * TEXTBOOK[1], TEXTBOOK[2], np.array([1.0]))
        y = mcsharry.solve_exact(
            waves, beats, samples=10240, rate_hz=1024, theta_start=start, relaxation_per_s=kappa
        )[0, -1024:]  # fmt: skip
        angle = 2 * np.pi * time - np.pi
        late = angle > 0.8
        assert y.max() == pytest.approx(r_mv, rel=0.05)
        assert y[late].max() == pytest.approx(t_mv, rel=0.08)
        assert angle[late][y[late].argmax()] == pytest.approx(t_rad, abs=0.04)


def test_waves_stand_upright_and_q_and_s_point_down() -> None:
    waves = mcsharry.textbook(np.array([1.0, 0.7]), np.array([1.2, 0.8]))
    assert (waves.alpha[:, [P, R, T]] > 0).all()
    assert (waves.alpha[:, [Q, S]] < 0).all()
    np.testing.assert_allclose(waves.amplitude_mv[:, R], [1.2, 0.8])
    y = trace(person(), 0.9)
    assert np.argmax(y[:400]) == 250
    assert y.max() == pytest.approx(1.0, abs=0.02)


def test_an_unsigned_wrap_would_turn_the_r_wave_into_a_trough() -> None:
    angle = np.array([-0.1, 0.0, 0.1, np.pi, -np.pi, 3 * np.pi, 7.0])
    np.testing.assert_allclose(mcsharry.wrap(angle), [-0.1, 0, 0.1, np.pi, np.pi, np.pi, 7 - 2 * np.pi], atol=1e-12)


def test_height_does_not_depend_on_rate_and_each_beat_keeps_its_milliseconds() -> None:
    rr = np.array([0.85])
    beats = np.array([[0.7, 1.0, 0.85]])
    waves = mcsharry.at_each_beat(person(0.85), rr, beats)
    y = mcsharry.solve_exact(
        waves, beats, samples=1500, rate_hz=500, theta_start=np.array([-2 * np.pi * 0.4 / 0.7]), relaxation_per_s=0.0
    )[0]  # fmt: skip
    peaks = np.round(500 * (0.4 + np.array([0, 0.7, 1.7]))).astype(int)
    beat = np.stack([y[k - 110 : k + 200] for k in peaks])
    np.testing.assert_allclose(beat[1], beat[0], atol=5e-3)
    np.testing.assert_allclose(beat[2], beat[0], atol=5e-3)


def test_no_change_changes_nothing() -> None:
    drugged = Modulation(sinus_rate=1.2, jtpeak_ms=20, conduction=0.9, pr_ms=15)
    for both in (REST, drugged):
        waves, rr = wave_modulation.apply(person(), np.array([0.9]), after=both, before=both)
        np.testing.assert_allclose(rr, 0.9)
        for name in ("theta", "alpha", "b"):
            np.testing.assert_allclose(getattr(waves, name), getattr(person(), name), rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(jtp=st.floats(-30, 60), tpte=st.floats(-20, 60), pr=st.floats(-30, 80), rate=st.floats(0.75, 1.3))
def test_asked_qt_and_pr_are_read_back_within_two_milliseconds(jtp: float, tpte: float, pr: float, rate: float) -> None:
    pr_0, qt_0 = read_back(person(), 0.9)
    changed = Modulation(jtpeak_ms=jtp, tpeak_tend_ms=tpte, pr_ms=pr, sinus_rate=rate)
    waves, rr = wave_modulation.apply(person(), np.array([0.9]), changed)
    pr_1, qt_1 = read_back(waves, float(rr[0]))
    assert pr_1 - pr_0 == pytest.approx(pr, abs=2)
    assert qt_1 == pytest.approx((qt_0 + jtp + tpte) * rate ** (-1 / 3), abs=2)
    formula = mcsharry.intervals_ms(waves, rr)
    assert qt_1 == pytest.approx(formula["qt_ms"][0], abs=2)
    assert pr_1 == pytest.approx(formula["pr_ms"][0], abs=2)


def test_slow_conduction_widens_the_qrs_and_leaves_the_other_intervals() -> None:
    rest = mcsharry.intervals_ms(person(), np.array([0.9]))
    waves, rr = wave_modulation.apply(person(), np.array([0.9]), Modulation(conduction=0.8))
    after = mcsharry.intervals_ms(waves, rr)
    assert after["qrs_ms"][0] == pytest.approx(rest["qrs_ms"][0] / 0.8)
    for name in ("pr_ms", "jtpeak_ms", "tpeak_tend_ms"):
        assert after[name][0] == pytest.approx(rest[name][0])
    np.testing.assert_allclose(waves.amplitude_mv, person().amplitude_mv)


def test_a_wider_t_is_not_a_taller_one() -> None:
    """b_T alone would multiply the height by b^2; the compensation leaves it, and the trial's slope lowers it."""
    gain = parameters.value("gains", "log_t_amplitude_per_tpeak_tend")
    waves, _ = wave_modulation.apply(person(), np.array([0.9]), Modulation(tpeak_tend_ms=40))
    assert waves.b[0, T] / person().b[0, T] == pytest.approx(1.5)
    assert waves.amplitude_mv[0, T] / person().amplitude_mv[0, T] == pytest.approx(np.exp(40 * gain))
    assert np.exp(40 * gain) == pytest.approx(1 - 149 / 615, abs=0.01)  # dofetilide in ECGRDVQ


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    rr = np.array([0.9, 0.7])
    both = mcsharry.from_times(*(np.repeat(x, 2, axis=0) for x in person().in_time(np.array([0.9]))), rr)
    after, after_rr = wave_modulation.apply(both, rr, [REST, Modulation(jtpeak_ms=30, sinus_rate=0.9)])
    np.testing.assert_allclose(after.theta[0], person().theta[0])
    assert after_rr == pytest.approx([0.9, 0.7 / 0.9])
    assert mcsharry.intervals_ms(after, after_rr)["qt_ms"][1] > mcsharry.intervals_ms(both, rr)["qt_ms"][1] + 30


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mcsharry.Waves(np.zeros((1, 4)), np.zeros((1, 4)), np.ones((1, 4))), "in the order P, Q, R, S, T"),
        (lambda: mcsharry.Waves(np.zeros((1, 5)), np.zeros((1, 5)), np.zeros((1, 5))), "b > 0"),
        (lambda: trace(person(), -1.0), "divide milliseconds"),
        (lambda: wave_modulation.apply(person(), np.array([0.9]), [REST, REST]), "one per heart"),
    ],
)
def test_bad_input_is_answered_with_a_letter(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
