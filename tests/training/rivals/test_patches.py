"""Patches: orthonormal, they give a strip back to some microvolts and keep Einthoven's law."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ecg_gym.core import independent_from_leads
from ecg_gym.virtual_patient import VirtualPatient
from training.rivals.patches import COMPONENTS, PatchBasis


@pytest.fixture(scope="module")
def strips() -> np.ndarray:
    return independent_from_leads(VirtualPatient().initial(60, np.random.default_rng(0)).ecg)


@pytest.fixture(scope="module")
def patches(strips: np.ndarray) -> PatchBasis:
    return PatchBasis.fit(strips[:40])


def test_a_strip_that_trained_nothing_comes_back(strips: np.ndarray, patches: PatchBasis) -> None:
    unseen = torch.from_numpy(strips[40:])
    latent = patches.encode(unseen)
    assert latent.shape == (20, *patches.latent_shape) == (20, COMPONENTS, 128)
    again = patches.decode(latent).numpy()
    error_mv = np.abs(independent_from_leads(again) - strips[40:])
    assert error_mv.mean() < 0.012  # a flat line is 0.1 off
    np.testing.assert_allclose(again[:, 1], again[:, 0] + again[:, 2], atol=1e-5)
    twice = patches.encode(torch.from_numpy(independent_from_leads(again).astype(np.float32)))
    np.testing.assert_allclose(twice, latent, atol=1e-3)


def test_the_numbers_have_one_size_on_the_whole_and_small_components_are_heard(
    strips: np.ndarray, patches: PatchBasis
) -> None:
    latent = patches.encode(torch.from_numpy(strips[:40])).numpy()
    assert np.sqrt(np.mean(latent**2)) == pytest.approx(1, abs=0.05)
    deviation = latent.std(axis=(0, 2))
    assert np.all(np.diff(deviation) < 0.02)
    assert deviation[-1] > 0.15


def test_it_is_what_it_was_as_json_and_a_missing_lead_counts_as_nothing(
    strips: np.ndarray, patches: PatchBasis
) -> None:
    again = PatchBasis.from_json_dict(json.loads(json.dumps(patches.to_json_dict())))
    assert again.sha256 == patches.sha256
    signal, there = torch.from_numpy(strips[:2]), torch.ones(2, 8, dtype=torch.bool)
    there[:, 5] = False
    gone = signal.clone()
    gone[:, 5] = 0
    assert torch.equal(again.encode(signal, there), patches.encode(gone))
