"""The prior in all eight leads: an exact solution, a fit that finds what was put in, intervals as asked."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from strips import CENTRE, GAIN, WIDTH, strip

from ecg_gym.core import (
    ECG,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    R_PEAK_OFFSET_S,
    independent_from_leads,
    limb_from_independent,
)
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.physiology import (
    TARGET_INTERVALS,
    LeadFit,
    anchor_traces,
    draw_beats,
    fit_leads,
    mcsharry,
    multilead,
    target_after,
)
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform import Intervals, measure
from ecg_gym.waveform.beats import RATE_HZ


def seen(ecg: np.ndarray) -> Intervals:
    return measure(ECG(ecg, MODEL_RATE_HZ))


def even(rr_s: float, n: int = 1) -> np.ndarray:
    return np.full((n, 14), rr_s)


@pytest.fixture(scope="module")
def person() -> tuple[np.ndarray, Intervals, LeadFit]:
    ecg = strip(even(0.9))
    return ecg, seen(ecg), fit_leads(ecg, seen(ecg))


@pytest.mark.parametrize("kappa", [0.0, 1.0])
def test_unit_waves_are_the_equation_solved(kappa: float) -> None:
    beats = np.array([[0.80, 0.95, 0.70, 1.1, 0.85, 0.9, 0.6, 0.9, 1.0, 0.8, 0.9, 0.9]])
    how = {"samples": 512, "rate_hz": 512.0, "relaxation_per_s": kappa}
    start = -2 * np.pi * R_PEAK_OFFSET_S / beats[:, 0]
    unit = mcsharry.unit_waves(CENTRE, WIDTH, beats, first_s=R_PEAK_OFFSET_S, **how)
    phase = mcsharry.turn(beats, start, 512, 512.0)
    level = WIDTH[0] * np.sqrt(2 * np.pi) * phase.omega.mean() / (2 * np.pi)
    for wave in range(5):
        alone = mcsharry.from_times(CENTRE, WIDTH, np.eye(5)[[wave]], np.array([0.9]))
        waves = mcsharry.at_each_beat(alone, np.array([0.9]), beats)
        for solve in (mcsharry.solve_exact, mcsharry.solve_rk4):
            y = solve(waves, beats, theta_start=start, baseline_mv=level[wave], **how)
            np.testing.assert_allclose(unit[0, wave], y[0], atol=1e-4)


def test_five_shared_waves_are_found_again() -> None:
    ecg = strip(even(0.9))
    fit = fit_leads(ecg, seen(ecg), waves="five", steps=60)
    assert not fit.abstained[0]
    assert fit.quality[0] > 0.998  # the delineator's filters take some of the edge off
    np.testing.assert_allclose(fit.centre_s, CENTRE, atol=0.002)
    np.testing.assert_allclose(fit.width_s, WIDTH, atol=0.002)
    np.testing.assert_allclose(fit.gain_mv[0], GAIN, atol=0.08)


def test_asking_for_what_was_measured_returns_the_strip(person) -> None:
    ecg, own, fit = person
    nothing = np.full((1, len(TARGET_INTERVALS)), np.nan)
    for target in (own.as_array(TARGET_INTERVALS), nothing):
        again = anchor_traces(fit, target, even(0.9))
        assert again.shape == (1, 8, MODEL_SAMPLES)
        assert again.dtype == np.float32
        assert np.sqrt(np.mean((again - independent_from_leads(ecg)) ** 2)) < 0.01
        after = seen(limb_from_independent(again))
        for name in ("hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "jtpeak_ms", "tpeak_tend_ms"):
            assert getattr(after, name)[0] == pytest.approx(getattr(own, name)[0], abs=2.01), name


CHANGES = [
    {"jtpeak_ms": 40.0, "tpeak_tend_ms": 15.0},
    {"jtpeak_ms": -40.0, "tpeak_tend_ms": 20.0},
    {"jtpeak_ms": 20.0, "tpeak_tend_ms": -15.0, "pr_ms": 30.0},
    {"pr_ms": 60.0},
    {"pr_ms": -25.0},
    {"qrs_ms": 30.0, "pr_ms": 10.0},
]


@pytest.mark.parametrize("change", CHANGES[:-1])
def test_the_waves_stand_where_the_asked_intervals_put_them(change: dict[str, float]) -> None:
    """By the tangents of the five waves, whose QRS is narrower than the delineator's."""
    ecg = strip(even(0.9))
    fit = fit_leads(ecg, seen(ecg), waves="five")
    target = fit.intervals + np.array([[change.get(name, 0.0) for name in TARGET_INTERVALS]])
    rr_s = np.array([0.9])
    marks, *_ = multilead._move(fit, target)
    old, new = (
        mcsharry.intervals_ms(mcsharry.from_times(centre, width, GAIN[[1]], rr_s), rr_s)
        for centre, width in ((fit.centre_s, fit.width_s), multilead._stretched(fit, marks))
    )
    for name in ("pr_ms", "qrs_ms", "jtpeak_ms", "tpeak_tend_ms"):
        assert new[name][0] - old[name][0] == pytest.approx(change.get(name, 0.0), abs=1), name
    qt = sum(change.values()) - change.get("pr_ms", 0.0)
    assert new["qt_ms"][0] - old["qt_ms"][0] == pytest.approx(qt, abs=1)


@pytest.mark.parametrize("rr_s", [0.9, 0.75, 1.2])
def test_the_delineator_reads_what_was_asked(person, rr_s: float) -> None:
    """At 500 Hz: within 2 ms on average, and never further than one more column of its grid."""
    _, own, fit = person
    target = [[getattr(own, name)[0] + change.get(name, 0.0) for name in TARGET_INTERVALS] for change in CHANGES]
    rows = fit[np.zeros(len(CHANGES), dtype=int)]
    after = seen(limb_from_independent(anchor_traces(rows, np.array(target), even(rr_s, len(CHANGES)))))
    pr = after.pr_ms - np.array(target)[:, TARGET_INTERVALS.index("pr_ms")]
    qt = after.qt_ms - own.qt_ms - [sum(change.values()) - change.get("pr_ms", 0.0) for change in CHANGES]
    for error in (pr, qt):
        assert np.sqrt(np.mean(error**2)) < 2
        assert np.abs(error).max() < 2 + 1000 / RATE_HZ
    np.testing.assert_allclose(after.rr_ms, 1000 * rr_s, atol=1)


def test_pharmacology_asks_as_it_moves_the_five_waves(person) -> None:
    _, own, fit = person
    np.testing.assert_allclose(target_after(fit, REST, REST), fit.intervals)
    drug = Modulation(sinus_rate=1.2, jtpeak_ms=20, tpeak_tend_ms=10, conduction=0.8, pr_ms=15)
    target = dict(zip(TARGET_INTERVALS, target_after(fit, REST, drug)[0] - fit.intervals[0]))
    assert target["hr_bpm"] == pytest.approx(0.2 * own.hr_bpm[0])
    assert target["pr_ms"] == pytest.approx(15)
    assert target["qrs_ms"] == pytest.approx(own.qrs_ms[0] / 4)
    assert target["tpeak_tend_ms"] == pytest.approx(10)
    qt = own.qt_ms[0] + own.qrs_ms[0] / 4 + 30
    moved = target["qrs_ms"] + target["jtpeak_ms"] + target["tpeak_tend_ms"]
    assert own.qt_ms[0] + moved == pytest.approx(qt * 1.2 ** (-1 / 3), abs=1e-6)


def test_nothing_that_is_asked_breaks_a_beat(person) -> None:
    _, _, fit = person
    rng = np.random.default_rng(0)
    target = fit.intervals * np.exp(1.5 * rng.normal(size=(64, len(TARGET_INTERVALS))))
    target[::7] *= -1
    rows = fit[np.zeros(64, dtype=int)]
    marks, *_ = multilead._move(rows, target)
    assert (np.diff(marks, axis=1) > 0).all()
    trace = anchor_traces(rows, target, draw_beats(rng, np.full(64, 75.0)))
    assert np.isfinite(trace).all()
    assert np.abs(trace).max() < 15


def test_heights_follow_what_is_asked(person) -> None:
    _, own, fit = person
    trace = anchor_traces(
        fit, {"t_amplitude_mv": 0.5 * own.t_amplitude_mv, "r_amplitude_mv": own.r_amplitude_mv}, even(0.9)
    )
    after = seen(limb_from_independent(trace))
    assert after.t_amplitude_mv[0] == pytest.approx(0.5 * own.t_amplitude_mv[0], rel=0.03)
    assert after.r_amplitude_mv[0] == pytest.approx(own.r_amplitude_mv[0], rel=0.03)
    assert not seen(limb_from_independent(anchor_traces(fit, {}, even(0.9), p_present=np.array([False])))).p_present[0]


def test_where_no_p_wave_is_asked_for_nothing_is_left_before_the_qrs() -> None:
    hearts = VirtualPatient().initial(12, np.random.default_rng(4), rhythm="af_rapid")
    own = seen(hearts.ecg)
    fit = fit_leads(hearts.ecg, own)
    rows = np.flatnonzero(fit.drawable & ~own.p_present)
    assert len(rows) >= 8
    rng = np.random.default_rng(0)
    beats = draw_beats([rng] * len(rows), own.hr_bpm[rows], own.rr_sd_ms[rows], np.zeros(len(rows), bool))
    without_p = anchor_traces(fit[rows], {}, beats, p_present=np.zeros(len(rows), bool), abstain=False)
    reading = seen(limb_from_independent(without_p))
    assert reading.p_present.mean() <= 0.1  # a quarter before what is left over went too
    with_qrs = anchor_traces(fit[rows], {}, beats, abstain=False)
    np.testing.assert_allclose(np.abs(without_p).max(-1), np.abs(with_qrs).max(-1), rtol=0.15, atol=0.1)


def test_noise_is_what_beats_leave_over_and_fresh_noise_is_like_it() -> None:
    ecg = strip(even(0.9))
    rng = np.random.default_rng(2)
    common, own = rng.normal(size=(1, 1, MODEL_SAMPLES)), rng.normal(size=(1, 12, MODEL_SAMPLES))
    noisy = ecg + 0.02 * (common + 0.2 * own)
    fit = fit_leads(noisy.astype(np.float32), seen(noisy))
    noise = fit.noise_mv[0]
    assert np.corrcoef(noise[1], common[0, 0])[0, 1] > 0.9
    assert noise.std() == pytest.approx(0.02, rel=0.15)
    fresh = multilead.fresh_noise(noise, np.random.default_rng(0))
    np.testing.assert_allclose(np.abs(np.fft.rfft(fresh)), np.abs(np.fft.rfft(noise)), atol=1e-6)
    np.testing.assert_allclose(np.corrcoef(fresh), np.corrcoef(noise), atol=1e-6)  # the leads go together as before
    assert abs(np.corrcoef(fresh[1], noise[1])[0, 1]) < 0.2
    assert (fit_leads(ecg, seen(ecg)).noise_mv.std() < 0.25 * noise.std()).all()


def test_fast_fibrillation_keeps_its_t_waves() -> None:
    """Where RR intervals differ, a T wave close to the next beat is not that beat's: QT was 31 ms too short."""
    ecg = np.asarray(VirtualPatient().initial(8, np.random.default_rng(5), rhythm="af_rapid").ecg)
    before = seen(ecg)
    fit = fit_leads(ecg, before)
    assert fit.drawable.all()
    beats = draw_beats([np.random.default_rng(0)] * 8, before.hr_bpm, 80.0, np.zeros(8, bool))
    after = seen(limb_from_independent(anchor_traces(fit, {}, beats, abstain=False)))
    assert abs(np.nanmedian(after.qt_ms - before.qt_ms)) < 6
    assert np.nanquantile(after.t_amplitude_mv / before.t_amplitude_mv, 0.2) > 0.9


def test_noise_is_as_large_as_the_recording_has_it_where_waves_miss_beats() -> None:
    """Known noise of virtual people; what is left of misfit QRS complexes and T waves made it 1.5 to 2.8 times."""
    world = VirtualPatient()
    noisy, clean = (
        np.asarray(world.initial(8, np.random.default_rng(5), rhythm="sinus", noise=level).ecg) for level in (1.0, 0.0)
    )
    fit = fit_leads(noisy, seen(noisy))
    assert fit.drawable.all()

    def fast(signal: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(signal, axis=-1)
        spectrum[..., :11] = 0  # below 1 Hz
        return np.fft.irfft(spectrum, axis=-1).std(-1).mean(-1)

    ratio = fast(fit.noise_mv) / fast(independent_from_leads(noisy - clean))
    assert 0.85 < np.median(ratio) < 1.2
    assert ratio.max() < 1.5


def test_a_beat_the_waves_miss_is_no_noise() -> None:
    ecg = strip(even(0.9)) + 0.02 * np.random.default_rng(3).normal(size=(1, 12, MODEL_SAMPLES))
    missed = ecg.copy()
    missed[0, :, 500:520] += 0.8  # between two beats
    usual, other = (fit_leads(x.astype(np.float32), seen(ecg)).noise_mv.std() for x in (ecg, missed))
    assert other == pytest.approx(usual, rel=0.1)


def test_beats_come_when_they_are_asked_for(person) -> None:
    *_, fit = person
    beats = draw_beats(np.random.default_rng(1), np.array([72.0]), 60.0)
    trace = anchor_traces(fit, {}, beats)[0]
    peaks = R_PEAK_OFFSET_S + np.concatenate([[0.0], np.cumsum(beats[0])])
    magnitude = np.linalg.norm(trace, axis=0)
    for at in peaks[peaks < 9.9]:
        around = np.arange(round((at - 0.1) * MODEL_RATE_HZ), min(round((at + 0.1) * MODEL_RATE_HZ), MODEL_SAMPLES))
        assert around[magnitude[around].argmax()] / MODEL_RATE_HZ == pytest.approx(at, abs=0.012)
    short = anchor_traces(fit, {}, np.array([[0.9, 0.8]]))
    np.testing.assert_allclose(short, anchor_traces(fit, {}, np.array([[0.9, *[0.8] * 14]])), atol=1e-6)
    np.testing.assert_allclose(
        anchor_traces(fit, {"hr_bpm": np.array([75.0])}), anchor_traces(fit, {}, even(0.8)), atol=1e-5
    )


def test_it_abstains_with_a_reason() -> None:
    clean, noise = strip(even(0.9)), 0.3 * np.random.default_rng(0).normal(size=(1, 12, MODEL_SAMPLES))
    ecg = np.concatenate([clean] * 4 + [noise.astype(np.float32), 0 * clean])
    ecg[1, 3, 5] = np.nan
    rows = [seen(clean).row(0) for _ in ecg]
    rows[2]["p_present"], rows[3]["regular"] = 0.0, 0.0
    fit = fit_leads(ecg, rows)
    assert list(fit.abstained) == [False, True, True, True, True, True]
    assert list(fit.reason[:4]) == ["", "samples that are not finite", "no P wave", "irregular rhythm"]
    assert all(fit.reason[4:])
    assert list(fit.drawable) == [True, False, True, True, False, False]
    trace = anchor_traces(fit, {}, even(0.9, 6))
    assert np.isfinite(trace).all()
    assert (trace[1:] == 0).all()
    samples = anchor_traces(fit, {}, even(0.9, 6), abstain=False)
    np.testing.assert_allclose(samples[3], samples[0], atol=1e-6)
    assert (anchor_traces(fit, {}, np.full((6, 3), np.nan)) == 0).all()


def test_a_batch_is_its_rows() -> None:
    beats = np.concatenate([even(0.9), even(0.7)])
    ecg = strip(beats)
    both, own = fit_leads(ecg, seen(ecg)), seen(ecg)
    target = own.as_array(TARGET_INTERVALS) + np.array([0, 10, 0, 20, 10, 0, 0])
    traces = anchor_traces(both, target, beats)
    for i in range(2):
        alone = fit_leads(independent_from_leads(ecg[[i]]), [own.row(i)])
        np.testing.assert_allclose(anchor_traces(alone, target[[i]], beats[[i]])[0], traces[i], atol=2e-4)
        np.testing.assert_allclose(anchor_traces(both[i], target[[i]], beats[[i]])[0], traces[i], atol=1e-6)
    assert len(both[np.array([1, 0, 1])]) == 3
    assert all(len(getattr(both[1], f.name)) == 1 for f in fields(LeadFit))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda fit: fit_leads(np.zeros((1, 3, 1024)), [{}]), "to_model_grid"),
        (lambda fit: fit_leads(np.zeros((1, 12, 1024)), []), "measure the same strips"),
        (lambda fit: anchor_traces(fit, {"qtc": np.ones(1)}, even(0.9)), "check the spelling"),
        (lambda fit: anchor_traces(fit, np.zeros((1, 3)), even(0.9)), "expected \\(B, 7\\)"),
        (lambda fit: anchor_traces(fit, {}, np.ones(5)), "see draw_beats"),
    ],
)
def test_bad_input_is_answered_with_a_letter(person, call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(person[2])
