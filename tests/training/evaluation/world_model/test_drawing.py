"""Misses, findings and rhythms of drawn strips, worked out by hand; then a few strips of the shipped weights."""

import numpy as np
import pytest
from worlds import AnalyticWorld

from ecg_gym.world_model.conditioning import OBSERVED
from training.evaluation.result import Size
from training.evaluation.world_model import drawing
from training.evaluation.world_model.drawing import CODEC, COPY, DIFFUSION, ONCE, SHIPPED

AT = {name: i for i, name in enumerate(OBSERVED)}


def looks(**columns):
    table = np.zeros((len(next(iter(columns.values()))), len(OBSERVED)))
    for name, values in columns.items():
        table[:, AT[name]] = values
    return table


def test_a_miss_counts_by_its_size_and_what_cannot_be_read_by_nothing():
    off = looks(qrs_ms=[3.0, -5.0, np.nan, 40.0])
    error = {SHIPPED: off, ONCE: 2 * off, DIFFUSION: off, COPY: off, CODEC: off}
    group = np.array(["sinus", "sinus", "sinus", "rare"])
    metrics = drawing._misses(error, group, np.arange(4))
    assert metrics["sinus_qrs_ms"]["value"] == 4.0
    assert metrics["sinus_qrs_ms"]["baselines"][ONCE] == 8.0
    assert metrics["sinus_qrs_ms_bias"]["value"] == -1.0
    assert metrics["rare_qrs_ms_median"]["value"] == 40.0
    assert not any(name.startswith("af") for name in metrics)


def test_a_rhythm_is_turned_when_p_waves_or_regularity_come_or_go():
    target = looks(p_present=[1, 1, 0, 0], regular=[1, 1, 0, 0])
    read = looks(p_present=[1, 0, 0, 0], regular=[1, 1, 0, 1])
    assert drawing._turned(target, read).tolist() == [0, 1, 0, 1]


def test_kappa_is_one_for_the_same_findings_and_about_zero_for_others():
    rng = np.random.default_rng(0)
    a, b = rng.random((400, 17)) < 0.2, rng.random((400, 17)) < 0.2
    assert drawing._kappa(a, a, np.arange(400))["value"] == pytest.approx(1)
    assert abs(drawing._kappa(a, b, np.arange(400))["value"]) < 0.06


def test_a_world_that_draws_nothing_is_refused():
    with pytest.raises(ValueError, match="expected a world model"):
        drawing.study(AnalyticWorld(), AnalyticWorld(), Size(8, 1))


@pytest.mark.slow
def test_the_loop_brings_strips_nearer_to_what_was_said():
    from ecg_gym.virtual_patient import VirtualPatient
    from ecg_gym.world_model import WorldModel

    document = drawing.study(WorldModel.load(), VirtualPatient(), Size(patients=30, samples=1))
    miss = document["metrics"]["sinus_qtcf_ms"]
    assert miss["value"] < miss["baselines"][ONCE]
    assert document["examples"]
    drawing.figure(document)
    assert any(line["miss"] == "findings_kappa" for line in drawing.summary(document))
