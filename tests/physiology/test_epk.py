"""The prior on whole strips: it returns to its patient, moves as asked, and knows when to keep silent."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import MODEL_RATE_HZ, R_PEAK_OFFSET_S
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.physiology import epk, epk_trace, epk_traces, mcsharry

SINUS = {"rr_ms": 900.0, "p_present": 1.0, "regular": 1.0}
GAINS = np.array([0.6, 1, 0.4, -0.8, 0.2, 0.7, -0.5, 0.3, 0.6, 1, 1, 0.8])  # of lead II in each lead; II itself is 1


def strips(n: int = 1, rr_s: float = 0.9, noise_mv: float = 0.01, seed: int = 0) -> np.ndarray:
    """``(n, 12, 1024)`` [mV]: Gaussian beats with PR 160, QRS 88 and QT 396 ms and white noise."""
    centre = np.tile([-0.164, -0.032, 0.0, 0.032, 0.272], (n, 1))
    width = np.tile([0.020, 0.006, 0.009, 0.006, 0.040], (n, 1))
    height = np.tile([0.12, -0.10, 1.0, -0.15, 0.30], (n, 1))
    waves = mcsharry.from_times(centre, width, height, np.full(n, rr_s))
    phase = mcsharry.turn(np.full((n, 1), rr_s), np.full(n, -2 * np.pi * R_PEAK_OFFSET_S / rr_s), 1024, MODEL_RATE_HZ)
    lead, _ = mcsharry.gaussians(waves, phase)
    noise = noise_mv * np.random.default_rng(seed).normal(size=(n, 12, 1024))
    return (GAINS[:, None] * lead[:, None] + noise).astype(np.float32)


def measured(trace: np.ndarray, rr_s: float) -> dict[str, float]:
    """Intervals [ms] of a lead-II trace ``(1024,)`` by fitting it anew."""
    fit, _ = epk.fit_strips((GAINS[:, None] * trace)[None].astype(np.float32), np.array([rr_s]))
    return {
        name: float(x[0]) for name, x in mcsharry.intervals_ms(fit.waves(np.array([rr_s])), np.array([rr_s])).items()
    }


def test_without_a_change_the_prior_is_the_patient() -> None:
    ecg = strips()
    trace, quality, abstained = epk_trace(ecg[0], SINUS, REST, REST)
    assert not abstained
    assert quality > 0.99
    assert trace.shape == (1024,)
    assert trace.dtype == np.float32
    assert np.corrcoef(trace, ecg[0, 1])[0, 1] > 0.99
    assert np.sqrt(np.mean((trace - ecg[0, 1]) ** 2)) < 0.03
    assert trace[:80].argmax() == round(R_PEAK_OFFSET_S * MODEL_RATE_HZ)


def test_asked_changes_are_seen_on_the_strip() -> None:
    change = Modulation(jtpeak_ms=40, tpeak_tend_ms=30, pr_ms=25)
    rest, _, _ = epk_trace(strips()[0], SINUS, REST, REST)
    trace, _, _ = epk_trace(strips()[0], SINUS, REST, change)
    before, after = measured(rest, 0.9), measured(trace, 0.9)
    assert after["qt_ms"] - before["qt_ms"] == pytest.approx(70, abs=5)
    assert after["tpeak_tend_ms"] - before["tpeak_tend_ms"] == pytest.approx(30, abs=4)
    assert after["pr_ms"] - before["pr_ms"] == pytest.approx(25, abs=5)
    assert after["qrs_ms"] - before["qrs_ms"] == pytest.approx(0, abs=4)


def test_only_the_difference_of_the_modulations_counts() -> None:
    ecg, on_board = strips(), Modulation(jtpeak_ms=25, sinus_rate=1.1)
    same, _, _ = epk_trace(ecg[0], SINUS, on_board, on_board)
    rest, _, _ = epk_trace(ecg[0], SINUS, REST, REST)
    np.testing.assert_allclose(same, rest, atol=1e-6)


def test_the_rate_follows_the_modulation_or_a_given_series() -> None:
    fast, _, _ = epk_trace(strips()[0], SINUS, REST, Modulation(sinus_rate=1.25))
    beats_s = np.array([0.8, 1.0, 0.9, 1.1, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9])
    uneven, _, _ = epk_trace(strips()[0], SINUS, REST, Modulation(sinus_rate=1.25), beats_s)
    for trace, rr in ((fast, np.full(10, 0.72)), (uneven, beats_s)):
        for r_s in R_PEAK_OFFSET_S + np.cumsum(rr)[:6]:
            around = np.arange(round((r_s - 0.1) * MODEL_RATE_HZ), round((r_s + 0.1) * MODEL_RATE_HZ))
            assert around[trace[around].argmax()] / MODEL_RATE_HZ == pytest.approx(r_s, abs=0.012)


@pytest.mark.parametrize(
    ("row", "after"),
    [
        ({**SINUS, "p_present": 0.0}, REST),
        ({**SINUS, "regular": 0.0}, REST),
        ({**SINUS, "rr_ms": np.nan}, REST),
        (SINUS, Modulation(av_block=0.9)),
    ],
)
def test_it_abstains_where_five_waves_a_beat_are_no_description(row: dict, after: Modulation) -> None:
    trace, _, abstained = epk_trace(strips()[0], row, REST, after)
    assert abstained
    assert (trace == 0).all()


def test_it_abstains_on_noise_and_on_what_is_not_a_number() -> None:
    ecg = np.concatenate([strips(), 0.3 * np.random.default_rng(0).normal(size=(1, 12, 1024)), strips(), 0 * strips()])
    ecg[2, 4, 100] = np.nan
    anchor = epk_traces(ecg.astype(np.float32), [SINUS] * 4, REST, REST)
    np.testing.assert_array_equal(anchor.abstained, [False, True, True, True])
    assert np.isfinite(anchor.trace_mv).all()
    assert anchor.quality[2] == anchor.quality[3] == 0


def test_a_batch_is_its_rows() -> None:
    ecg = np.concatenate([strips(2, seed=1), strips(1, rr_s=0.75, seed=2)])
    rows = [SINUS, SINUS, {**SINUS, "rr_ms": 750.0}]
    after = [REST, Modulation(jtpeak_ms=30), Modulation(sinus_rate=0.9)]
    anchor = epk_traces(ecg, rows, REST, after)
    for i in range(3):
        trace, quality, abstained = epk_trace(ecg[i], rows[i], REST, after[i])
        np.testing.assert_allclose(anchor.trace_mv[i], trace, atol=1e-4)
        assert (anchor.quality[i], anchor.abstained[i]) == (pytest.approx(quality, abs=1e-6), abstained)


def test_a_wrong_shape_is_answered_with_a_letter() -> None:
    with pytest.raises(ValueError, match="to_model_grid"):
        epk_traces(strips()[:, :8], [SINUS], REST, REST)
