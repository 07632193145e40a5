"""Scores of realism where the answer is known: equal laws, other laws, and the study on a few people."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model import WorldModel
from training.evaluation.result import Size
from training.evaluation.world_model import realism
from training.evaluation.world_model.realism_scores import (
    area,
    auroc,
    drawn_scores,
    frechet,
    precision_recall,
    projection,
)


def test_area_counts_pairs_and_halves_ties() -> None:
    assert area(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 0
    assert area(np.zeros(3), np.zeros(5)) == 0.5
    assert np.isnan(area(np.zeros(0), np.zeros(2)))


def test_frechet_of_normal_laws_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20_000, 2)), 1.0 + 2.0 * rng.normal(size=(20_000, 2))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, b) == pytest.approx(2 * (1 + (2 - 1) ** 2), rel=0.05)


def test_precision_and_recall_tell_a_narrow_set_from_a_strange_one() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 3))
    narrow, strange = 0.1 * rng.normal(size=(200, 3)), 50 + rng.normal(size=(200, 3))
    precision, recall = precision_recall(real, narrow)
    assert precision > 0.9
    assert recall < 0.2
    assert precision_recall(real, strange) == (0, 0)
    assert precision_recall(real, real) == (1, 1)


def test_projection_has_unit_spread_on_what_it_was_made_of() -> None:
    real = np.random.default_rng(0).normal(size=(400, 6)) * [9, 4, 3, 2, 1, 1]
    np.testing.assert_allclose(projection(real, 4)(real).std(axis=0), 1, rtol=0.01)


@pytest.mark.parametrize(
    ("gain", "low", "high"), [(3.0, 0.95, 1.0), pytest.param(1.0, 0.25, 0.75, marks=pytest.mark.slow)]
)
def test_a_classifier_sees_what_there_is_to_see_and_no_more(gain: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = (rng.normal(size=(32, 8, 1024)).astype(np.float32) for _ in range(2))
    people = np.arange(32)
    assert low <= auroc(drawn_scores(real, synthetic * np.float32(gain), people, steps=12), people)["value"] <= high


@pytest.mark.slow
def test_the_study_stands_beside_its_floor() -> None:
    document = realism.study(WorldModel.load(), VirtualPatient(), Size(12, 1), quick=True)
    names = [row["row"] for row in document["rows"]]
    assert names == ["ours, drawn", "ours, latent diffusion", "the codec alone", "truth again"]
    assert document["metrics"]["auroc"]["baselines"].keys() == set(names[1:])
    assert all(0 <= row["auroc"] <= 1 and row["frechet"] >= -1e-6 for row in document["rows"])
    assert realism.figure(document).axes
