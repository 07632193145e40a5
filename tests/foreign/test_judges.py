"""A judge is looked up by name or path, and an absent one says how to get it; it is a risk model's second channel."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from foreign import pulse_train

from ecg_gym import checkpoint
from ecg_gym.core import Patient
from ecg_gym.foreign import ecg_fm, ecgfounder
from ecg_gym.foreign.judges import FOLDER, judge_named, path_of
from ecg_gym.risk import RiskModel

FOUNDER = ecgfounder.FounderConfig(widths=(8, 12), blocks=(1, 1), group_width=4)
FM = ecg_fm.FMConfig(features=4, width=12, hidden=8, layers=1, heads=2, positions=4, groups=3)


def written(path: Path, kind: str, network) -> Path:
    checkpoint.save(path, kind, network.state_dict(), asdict(network.config), data={}, metrics={}, half=False)
    return path


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    written(path_of("ecgfounder"), ecgfounder.KIND, ecgfounder.FounderNet(FOUNDER))
    written(tmp_path / "mine.safetensors", ecg_fm.KIND, ecg_fm.FMNet(FM))
    return tmp_path


def test_names_and_paths_lead_to_the_networks(weights) -> None:
    assert isinstance(judge_named("ecgfounder"), ecgfounder.ECGFounder)
    assert isinstance(judge_named(str(weights / "mine.safetensors")), ecg_fm.ECGFM)


def test_what_is_not_there_is_refused_with_the_command_that_gets_it(weights) -> None:
    with pytest.raises(ValueError, match="weights import FILE --as ecg-fm"):
        judge_named("ecg-fm")
    with pytest.raises(ValueError, match="expected ecgfounder or ecg-fm"):
        judge_named("cardiologist")
    with pytest.raises(ValueError, match="expected 'ecgfounder'"):
        judge_named(str(written(weights / "other.safetensors", "vae", ecgfounder.FounderNet(FOUNDER))))


def test_a_judge_is_the_second_channel_of_a_risk_model(weights) -> None:
    judge = judge_named("ecgfounder")
    strips, people = pulse_train(2), [Patient(), Patient()]
    risk = RiskModel(judge)
    result = risk(strips, strips, people)
    assert risk.sha256 == judge.sha256
    np.testing.assert_array_equal(result.probabilities, judge.probabilities(strips))
    assert result.readable.all(), "it cannot see poor quality, so nothing is unreadable to it"
    assert (result.total >= RiskModel.limits_only()(strips, strips, people).total - 1e-12).all()
