"""Strips beside the slow ones of the same beats, at every rhythm, and the laws of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from slow_strips.replay import replayed

from ecg_gym.core import ECG, MODEL_RATE_HZ, R_PEAK_OFFSET_S, independent_from_leads, limb_from_independent
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import Heart, draw_heart, synthesise, synthesise_batch
from ecg_gym.virtual_patient.heart_arrays import HeartArrays, stacked
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.strip import marks_of
from ecg_gym.virtual_patient.strip_drawing import draw_strips
from ecg_gym.virtual_patient.strip_plan import StripPlan, plan_strips, row_of
from ecg_gym.waveform import measure

SECONDS = 10.0
ROWS = 6


def changes(n: int, seed: int = 0) -> list[Modulation]:
    rng = np.random.default_rng(seed)
    return [
        Modulation(
            conduction=rng.uniform(0.85, 1), atrial_conduction=rng.uniform(0.8, 1), jtpeak_ms=rng.normal(0, 10),
            tpeak_tend_ms=rng.gamma(1, 6),
        ) for _ in range(n)
    ]  # fmt: skip


def planned(hearts: Sequence[Heart], acting: Sequence[Modulation], seed: int = 3) -> StripPlan:
    keys = np.random.default_rng(seed).integers(0, 2**63, len(hearts)).astype(np.uint64)
    return plan_strips(HeartArrays.of(hearts), stacked(acting), keys, SECONDS)


def quiet(rhythm: str, **more: str) -> list[Heart]:
    rng = np.random.default_rng(1)
    return [replace(draw_heart(rng, rhythm=rhythm), noise=0.0, **more) for _ in range(ROWS)]


CASES = [(name, {}) for name in rhythms()] + [("sinus", {"conduction": "preexcited"})]
CASES += [("sinus", {"injury": territory, "scar": ""}) for territory in ("anterior", "inferior", "lateral")]


@pytest.mark.parametrize(("rhythm", "more"), CASES)
def test_beats_lie_within_microvolts_of_the_slow_ones(rhythm: str, more: dict[str, str]) -> None:
    """The slow way rounds events to half a millisecond: that, on the slope of a QRS, is the difference."""
    hearts, acting = quiet(rhythm, **more), changes(ROWS)
    plan = planned(hearts, acting)
    plan.trains.waves[:] = 0  # waves are drawn at random: see below
    fast = independent_from_leads(draw_strips(plan, MODEL_RATE_HZ))
    slow = np.stack([replayed(plan, i, heart, change) for i, (heart, change) in enumerate(zip(hearts, acting))])
    rms_uv = 1000 * np.sqrt(np.mean((fast - slow) ** 2, axis=(1, 2)))
    assert np.median(rms_uv) < 8
    assert rms_uv.max() < 40  # a slowness of conduction that was rounded to another of its 200 steps
    if np.abs(slow).max() > 0:
        assert np.corrcoef(fast.ravel(), slow.ravel())[0, 1] > 0.999


def test_intervals_are_those_of_the_slow_strips() -> None:
    hearts, acting = quiet("sinus") + quiet("af_rapid") + quiet("sinus_tachycardia"), changes(3 * ROWS)
    plan = planned(hearts, acting)
    plan.trains.waves[:] = 0
    fast = measure(ECG(draw_strips(plan, MODEL_RATE_HZ), MODEL_RATE_HZ))
    slow = np.stack([replayed(plan, i, heart, change) for i, (heart, change) in enumerate(zip(hearts, acting))])
    plain = measure(ECG(limb_from_independent(slow), MODEL_RATE_HZ))
    for name in ("pr_ms", "qrs_ms", "qt_ms", "tpeak_tend_ms"):
        error = getattr(fast, name) - getattr(plain, name)
        assert abs(np.nanmedian(error)) <= 1.0, name
        assert np.nanquantile(np.abs(error), 0.9) <= 2.1, name


@pytest.mark.parametrize("rate_hz", [100.0, 500.0, 512.0])
def test_a_batch_of_recordings_is_its_rows(rate_hz: float) -> None:
    hearts, acting = [draw_heart(np.random.default_rng(i)) for i in range(6)], changes(6)
    keys = np.random.default_rng(5).integers(2**63, size=6)
    strips, truths = synthesise_batch(hearts, acting, keys.astype(np.uint64), rate_hz, 6.0, [4.2] * 6)
    for i, (heart, change) in enumerate(zip(hearts, acting)):
        rng = SimpleNamespace(integers=lambda _, i=i: keys[i])
        alone, truth = synthesise(heart, change, rng, rate_hz, 6.0, 4.2)  # type: ignore[arg-type]
        np.testing.assert_array_equal(strips[i], alone)
        np.testing.assert_array_equal(truths[i].qrs_s, truth.qrs_s)
        assert str(truths[i].intervals) == str(truth.intervals)


@pytest.mark.parametrize("rhythm", ["sinus", "af_rapid", "torsade", "paced", "vf"])
def test_a_row_is_the_same_in_any_batch(rhythm: str) -> None:
    hearts, acting = [draw_heart(np.random.default_rng(i), rhythm=rhythm) for i in range(20)], changes(20)
    plan = planned(hearts, acting)
    together = draw_strips(plan, MODEL_RATE_HZ)
    for i in (0, 7, 19):
        np.testing.assert_array_equal(draw_strips(row_of(plan, i), MODEL_RATE_HZ)[0], together[i])
        again = plan_strips(HeartArrays.of([hearts[i]]), acting[i], plan.keys[[i]], SECONDS)
        np.testing.assert_array_equal(draw_strips(again, MODEL_RATE_HZ)[0], together[i])


@pytest.mark.parametrize("rate_hz", [250.0, 500.0, 1000.0])
def test_other_rates_sample_the_same_strip(rate_hz: float) -> None:
    plan = planned(quiet("sinus"), changes(ROWS))
    fine, coarse = draw_strips(plan, rate_hz), draw_strips(plan, MODEL_RATE_HZ)
    assert fine.shape == (ROWS, 12, round(SECONDS * rate_hz))
    spectrum = np.fft.rfft(fine, axis=-1)[..., :401]  # up to 40 Hz, where neither is filtered
    own = np.fft.rfft(coarse, axis=-1)[..., :401]
    edges = np.abs(spectrum / fine.shape[-1] - own / coarse.shape[-1]).max()
    assert edges < 0.002


def test_strips_begin_before_an_r_peak_and_marks_tell_where_it_is() -> None:
    plan = planned(quiet("sinus"), changes(ROWS))
    strips, rate_hz, apart = draw_strips(plan, 1024.0), 1024.0, []
    for i in range(ROWS):
        marks = marks_of(plan, i)
        first = marks["r_peak"][np.argmin(np.abs(marks["r_peak"] - R_PEAK_OFFSET_S))]
        size = np.linalg.norm(independent_from_leads(strips[i]), axis=0)
        around = size[round(0.3 * rate_hz) : round(0.5 * rate_hz)]
        for second in (first, R_PEAK_OFFSET_S):  # R and S of some people are equally high, or R has a flat top
            at = round(second * rate_hz)
            assert size[at - 3 : at + 4].max() > 0.95 * around.max()
        apart.append(abs(first - R_PEAK_OFFSET_S))
    assert np.max(apart) < 0.03
    assert np.sum(np.array(apart) < 0.003) >= ROWS - 2  # whose R is the highest by more than the grid can tell


def test_noise_is_added_at_the_electrodes_in_proportion_to_its_level() -> None:
    hearts = [replace(heart, noise=level) for heart in quiet("asystole")[:1] for level in (0.0, 1.0, 2.0)]
    hearts = [replace(heart, rhythm="asystole") for heart in hearts]
    keys = np.full(3, 5, np.uint64)
    none, one, two = draw_strips(plan_strips(HeartArrays.of(hearts), REST, keys, SECONDS), MODEL_RATE_HZ)
    assert not none.any()
    np.testing.assert_allclose(two, 2 * one, rtol=1e-5)
    np.testing.assert_allclose(one[1], one[0] + one[2], atol=1e-6)
    assert 0.005 < one[6:].std() < 0.06


@pytest.mark.parametrize(("rhythm", "low_hz", "high_hz"), [("af", 4.5, 8.0), ("vf", 3.5, 6.7), ("torsade", 3.0, 5.0)])
def test_waves_have_the_rate_of_the_table(rhythm: str, low_hz: float, high_hz: float) -> None:
    hearts = [replace(heart, r_gain=1.0) for heart in quiet(rhythm)]
    plan = planned(hearts, [REST] * ROWS)
    plan.trains.beats[:], plan.trains.p_waves[:] = 0, 0
    waves = draw_strips(plan, MODEL_RATE_HZ)[:, 6]
    swings = waves - waves.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(swings * np.hanning(1024), axis=1)) ** 2
    hz = np.fft.rfftfreq(1024, 1 / MODEL_RATE_HZ)
    assert low_hz < np.median(hz[np.argmax(power, axis=1)]) < high_hz
    assert 0.02 < np.abs(waves).max() < 2.0
