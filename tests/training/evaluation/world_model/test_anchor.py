"""The study of the anchor: its scores on exact cases, and the whole of it on a handful of people."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ecg_gym.virtual_patient import VirtualPatient
from training.evaluation.world_model import anchor


def test_scores_on_exact_cases() -> None:
    strip = np.random.default_rng(0).normal(size=(2, 8, 1024))
    rmse, correlation = anchor._scores(strip + 3, strip)
    np.testing.assert_allclose(rmse, 0, atol=1e-9)
    np.testing.assert_allclose(correlation, 1)
    rmse, correlation = anchor._scores(np.zeros_like(strip), strip)
    np.testing.assert_allclose(rmse, 1e3 * strip.std(axis=-1))
    np.testing.assert_allclose(correlation, 0)


@pytest.mark.slow
def test_told_intervals_and_beats_the_anchor_beats_every_copy() -> None:
    document = anchor.study(VirtualPatient(), 10)
    json.dumps(document, allow_nan=False)
    sinus = document["metrics"]["sinus_rmse_uv"]
    others = sinus["baselines"]
    assert sinus["value"] < 0.3 * others[anchor.COPY]
    assert sinus["value"] < others["five waves of lead II"]
    assert others["the strip after, drawn again"] < others["beats only"]
    assert document["metrics"]["coverage"]["value"] <= document["metrics"]["coverage_without_abstaining"]["value"]
