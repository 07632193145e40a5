"""Strips are prepared as published: rate, filters, median and standardisation, each against a plain way to do it."""

from __future__ import annotations

import numpy as np
import pytest
from foreign import pulse_train
from scipy.signal import butter, filtfilt, iirnotch, medfilt

from ecg_gym.core import as_twelve_leads, independent_from_leads
from ecg_gym.foreign.preprocessing import at_rate, fm_input, founder_input, running_median


def test_a_tone_keeps_its_place_and_height_at_500_hz() -> None:
    t, u = np.arange(1024) / 102.4, np.arange(5000) / 500
    strips = np.tile(np.sin(2 * np.pi * 3.2 * t) + 0.3 * t, (1, 12, 1)).astype(np.float32)
    x = at_rate(strips, 500.0)
    assert x.shape == (1, 12, 5000)
    expected = np.sin(2 * np.pi * 3.2 * u) + 0.3 * u
    np.testing.assert_allclose(x[0, 4, 250:-250], expected[250:-250], atol=0.02)


def test_the_median_has_zeros_beyond_the_ends_like_scipys_own() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 700))
    np.testing.assert_array_equal(running_median(x, 201)[0], [medfilt(row, 201) for row in x[0]])


def test_ecgfounder_sees_filtered_leads_with_one_mean_and_one_sd() -> None:
    strips = pulse_train(2)
    x = founder_input(strips)
    assert x.shape == (2, 12, 5000)
    assert x.dtype == np.float32
    lead = at_rate(strips, 500.0)[1, 6]
    for b, a in (iirnotch(50, 30, 500), butter(4, [0.67, 40], "bandpass", fs=500)):
        lead = filtfilt(b, a, lead)
    lead = lead - medfilt(lead, 201)
    np.testing.assert_allclose(np.corrcoef(lead, x[1, 6])[0, 1], 1, atol=1e-9)
    np.testing.assert_allclose(x.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((1, 2)), 1, atol=1e-4)
    assert x.std(2).std(1).min() > 0.1, "leads keep their proportions"
    np.testing.assert_allclose(founder_input(3 * strips), x, atol=1e-3)


def test_ecg_fm_sees_each_lead_standardised_over_the_strip_and_then_halved() -> None:
    strips = pulse_train(2)
    strips[:, 8] = 0.7  # a flat lead
    x = fm_input(strips)
    assert x.shape == (2, 2, 12, 2500)
    assert x.dtype == np.float32
    whole = x.transpose(0, 2, 1, 3).reshape(2, 12, 5000)
    np.testing.assert_allclose(np.delete(whole.std(-1), 8, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(whole.mean(-1), 0, atol=1e-5)
    np.testing.assert_array_equal(whole[:, 8], 0)
    lead = at_rate(strips, 500.0)[0, 1]
    np.testing.assert_allclose(x[0, 1, 1], ((lead - lead.mean()) / lead.std())[2500:], atol=1e-5)


def test_eight_leads_are_twelve_and_other_shapes_are_refused() -> None:
    eight = independent_from_leads(pulse_train(1))
    np.testing.assert_array_equal(fm_input(eight), fm_input(as_twelve_leads(eight)))
    with pytest.raises(ValueError, match="to_model_grid"):
        founder_input(np.zeros((1, 12, 1000)))
