"""A strip as its typical beat and back: intervals stay, Einthoven's law holds, what has no beat is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecg_gym.core import ECG, MODEL_RATE_HZ, R_PEAK_OFFSET_S, independent_from_leads
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform import find_r_peaks, measure
from training.rivals.typical_beats import CHANNELS, COLUMNS, LEADS, RR_S, RR_SPREAD, Beats, decode, encode


@pytest.fixture(scope="module")
def strips() -> np.ndarray:
    return VirtualPatient().initial(80, np.random.default_rng(0)).ecg


def test_intervals_of_a_strip_are_those_of_its_beat_laid_out(strips: np.ndarray) -> None:
    beats, has_beat = encode(strips)
    assert has_beat.mean() > 0.9
    was, now = (measure(ECG(rows[has_beat], MODEL_RATE_HZ)) for rows in (strips, decode(beats)))
    for name, limit in (("hr_bpm", 1.0), ("pr_ms", 2.0), ("qrs_ms", 2.0), ("qtcf_ms", 2.0)):
        assert np.nanmedian(np.abs(getattr(now, name) - getattr(was, name))) <= limit, name  # marks are 2 ms apart
    assert np.isnan(now.qtcf_ms).sum() <= np.isnan(was.qtcf_ms).sum() + 2


def test_einthovens_law_holds_and_r_stands_where_it_stands(strips: np.ndarray) -> None:
    laid = decode(encode(strips[:8])[0])
    np.testing.assert_allclose(laid[:, 1], laid[:, 0] + laid[:, 2], atol=1e-5)
    first = [peaks[0] / MODEL_RATE_HZ for peaks in find_r_peaks(ECG(laid, MODEL_RATE_HZ))]
    assert np.median(np.abs(np.array(first) - R_PEAK_OFFSET_S)) < 0.03


@pytest.mark.parametrize("rr_s", [0.4, 0.8, 1.4])
def test_beats_come_at_the_rate_that_is_drawn(rr_s: float) -> None:
    beat = np.zeros((1, CHANNELS, COLUMNS))
    beat[0, :LEADS, 45:48] = [2.0, 4.0, 2.0]
    beat[0, LEADS] = np.log(rr_s / RR_S) / RR_SPREAD
    beat[0, LEADS + 1] = -10.0  # no jitter
    (peaks,) = find_r_peaks(ECG(decode(beat), MODEL_RATE_HZ))
    assert np.diff(peaks).mean() / MODEL_RATE_HZ == pytest.approx(rr_s, rel=0.02)


def test_what_has_no_beat_is_said_and_a_missing_lead_is_flat(strips: np.ndarray) -> None:
    beats, has_beat = encode(np.zeros((2, 12, 1024), np.float32))
    assert not has_beat.any()
    assert not beats.any()
    signal = torch.from_numpy(independent_from_leads(strips[:1]).astype(np.float32))
    there = torch.ones(1, LEADS, dtype=torch.bool)
    there[:, 5] = False
    latent = Beats().encode(signal, there)
    assert latent.shape == (1, *Beats.latent_shape)
    assert float(latent[0, 5].abs().max()) < 1e-6
    np.testing.assert_allclose(Beats().encode(torch.from_numpy(strips[:1])), Beats().encode(signal), atol=1e-5)
