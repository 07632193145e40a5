"""The findings network: shapes, size, the NumPy door, and that its training loop can learn what is plainly there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym.core import limb_from_independent
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.risk.classifier import KIND, Findings, FindingsConfig, FindingsNet
from ecg_gym.world_model import checkpoint
from training import platt, train_findings
from training.data import findings as findings_data
from training.data.findings import Labelled

FAST, SLOW = FINDINGS.index("Tachycardia"), FINDINGS.index("Bradycardia")


def pulses(n: int, seed: int) -> Labelled:
    """Strips of bare pulses at 40 or 140 a minute, labelled by their rate; every other label unknown."""
    rng = np.random.default_rng(seed)
    fast = rng.random(n) < 0.5
    period_s = np.where(fast, 60 / 140, 60 / 40) * rng.uniform(0.9, 1.1, n)
    time = np.arange(1024) / 102.4
    phase = (time / period_s[:, None] + rng.random((n, 1))) % 1 - 0.5
    wave = np.exp(-0.5 * (phase * period_s[:, None] / 0.02) ** 2)
    signal = wave[:, None, :] * rng.uniform(0.5, 1.5, (n, 8, 1)) + 0.01 * rng.standard_normal((n, 8, 1024))
    findings = np.full((n, 17), -1, np.int8)
    findings[:, FAST], findings[:, SLOW] = fast, ~fast
    split = np.array(["train", "train", "train", "val", "test"])[np.arange(n) % 5]
    return Labelled(signal.astype(np.float16), findings, split, np.zeros(n, bool))


def test_the_default_network_is_small() -> None:
    assert sum(p.numel() for p in FindingsNet().parameters()) <= 400_000


def test_twelve_leads_are_read_as_their_eight() -> None:
    torch.manual_seed(0)
    door = Findings(FindingsNet(FindingsConfig(width=8, blocks=1)))
    eight = np.random.default_rng(0).normal(size=(3, 8, 1024)).astype(np.float32)
    p = door.probabilities(eight)
    np.testing.assert_allclose(door.probabilities(limb_from_independent(eight)), p, atol=1e-6)
    np.testing.assert_allclose(door.probabilities(eight[[2, 0, 1]]), p[[2, 0, 1]], atol=1e-6)
    assert p.shape == (3, 17)
    assert ((p >= 0) & (p <= 1)).all()
    with pytest.raises(ValueError, match="to_model_grid"):
        door.probabilities(eight[:, :7])


def test_unknown_labels_teach_nothing() -> None:
    torch.manual_seed(0)
    trainer = train_findings.FindingsTrainer(FindingsNet(FindingsConfig(width=8, blocks=1, dropout=0.0)))
    batch = {"input": torch.randn(4, 8, 1024), "findings": torch.full((4, 17), -1.0)}
    batch["findings"][:, FAST] = 1.0
    trainer.loss(batch, torch.Generator())[0].backward()
    by_row = trainer.network.head.weight.grad.abs().sum(dim=1)
    assert by_row[FAST] > 0
    assert (by_row[[i for i in range(17) if i != FAST]] == 0).all()


def test_training_finds_a_rate_calibrates_it_and_comes_back_from_disk(tmp_path: Path) -> None:
    strips = pulses(200, seed=1)
    preset = replace(
        train_findings.PRESETS["tiny"],
        loop=replace(train_findings.PRESETS["tiny"].loop, steps=60),
        model=FindingsConfig(width=8, blocks=1),
    )
    losses = [logs["loss"] for _, logs in train_findings.train(preset, strips, tmp_path, show=False)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    door = Findings.load(tmp_path / "risk.safetensors")
    test = strips.of("test")
    p = door.probabilities(test.signal.astype(np.float32))
    assert platt.auroc(p[:, FAST], test.findings[:, FAST]) > 0.95
    assert np.abs(p[:, FAST] - test.findings[:, FAST]).mean() < 0.25
    result = door.metadata["metrics"]["virtual"]["Tachycardia"]
    assert result["brier"] < 0.5 * result["brier_of_prevalence"]
    assert "auroc" not in door.metadata["metrics"]["virtual"]["Infarction"]
    assert door.sha256 == checkpoint.sha256(tmp_path / "risk.safetensors")
    assert checkpoint.load(tmp_path / "risk.safetensors", KIND).config == {**door.network.config.__dict__}


def test_augmentation_keeps_rate_and_height() -> None:
    strips = pulses(20, seed=2)
    for row in range(20):
        original = strips.signal[row].astype(np.float32)
        changed = train_findings.augment(original, np.random.default_rng(row))
        assert changed.shape == (8, 1024)
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        spectrum = [
            np.abs(np.fft.rfft(x - x.mean(axis=1, keepdims=True)))[:, 5:60].sum(axis=0) for x in (original, changed)
        ]
        assert abs(int(spectrum[0].argmax()) - int(spectrum[1].argmax())) <= 1


def test_platt_recovers_a_known_distortion_and_leaves_rare_findings_alone() -> None:
    rng = np.random.default_rng(0)
    true_logit = rng.normal(-1, 2, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-true_logit))).astype(int)
    slope, intercept = platt.platt((true_logit - 0.7) / 0.4, labels)
    assert slope == pytest.approx(0.4, abs=0.02)
    assert intercept == pytest.approx(0.7, abs=0.05)
    assert platt.platt(true_logit[:50], np.zeros(50, int)) == (1.0, 0.0)


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(3)
    score, labels = rng.integers(0, 6, 60).astype(float), rng.integers(0, 2, 60)
    cases, others = score[labels == 1], score[labels == 0]
    pairs = (cases[:, None] > others) + 0.5 * (cases[:, None] == others)
    assert platt.auroc(score, labels) == pytest.approx(pairs.mean())


def test_calibration_error_by_hand() -> None:
    p, labels = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0, 1, 1, 1])
    assert platt.calibration_error(p, labels) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)


@pytest.mark.parametrize(
    ("statements", "present", "absent", "unknown"),
    [
        (["SR", "NORM"], {1}, {3, 4, 6, 8, 13, 15, 16}, {0}),
        (["AFIB", "LAFB", "CRBBB"], {6, 12, 13}, {1, 14}, {3, 8, 7}),
        (["SBRAD", "1AVB"], {1, 8, 10, 11}, {3}, {0}),
        (["CRBBB", "SR"], {13}, {12}, {0}),
        (["PACE", "IVCD"], {16}, {1}, {3, 8, 13, 14}),
        (["IMI"], {15}, {6}, {1}),
        (["LPR", "SR"], {1}, {2}, {10, 11}),
    ],
)
def test_statements_become_findings(statements: list[str], present: set, absent: set, unknown: set) -> None:
    result = findings_data.findings_of(statements)
    assert {i for i in present if result[i] == 1} == present
    assert {i for i in absent if result[i] == 0} == absent
    assert {i for i in unknown if result[i] == -1} == unknown
