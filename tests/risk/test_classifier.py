"""The findings network: shapes, size, the NumPy door, and that its training loop can learn what is plainly there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym import checkpoint
from ecg_gym.core import ECG, limb_from_independent
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.risk.classifier import KIND, Findings, FindingsConfig, FindingsNet, reader
from ecg_gym.risk.margins import margins
from ecg_gym.waveform import measure
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
    return Labelled(signal.astype(np.float16), findings, split, np.full(n, "virtual"))


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


def test_a_reader_is_the_packaged_one_or_that_of_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = FindingsConfig(width=8, blocks=1)
    path = tmp_path / "findings.safetensors"
    checkpoint.save(path, KIND, FindingsNet(config).state_dict(), config, data={}, metrics={})
    assert reader(str(path)).network.config == config
    assert reader().sha256 == Findings.load().sha256 != reader(str(path)).sha256


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
    slope, weight, intercept = platt.platt((true_logit - 0.7) / 0.4, labels)
    assert slope == pytest.approx(0.4, abs=0.02)
    assert intercept == pytest.approx(0.7, abs=0.05)
    assert weight == 0
    assert platt.platt(true_logit[:50], np.zeros(50, int)) == (1.0, 0.0, 0.0)


def test_platt_takes_a_margin_beside_the_logit_and_counts_weights() -> None:
    rng = np.random.default_rng(1)
    logit, margin = rng.normal(0, 1, 20_000), rng.uniform(-3, 3, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logit + 1.5 * margin - 1)))).astype(int)
    assert platt.platt(logit, labels, margin) == pytest.approx((0.5, 1.5, -1.0), abs=0.06)
    twice = platt.platt(np.tile(logit, 2), np.tile(labels, 2), np.tile(margin, 2))
    assert platt.platt(logit, labels, margin, np.full(20_000, 2.0)) == pytest.approx(twice, abs=1e-3)


def test_margins_are_signed_bounded_and_say_what_absence_means() -> None:
    intervals = measure(ECG(np.zeros((3, 12, 1024)), 102.4))
    quantities = replace(
        intervals, hr_bpm=np.array([101.0, 58.0, np.nan]), pr_ms=np.array([220.0, np.nan, 500.0]),
        qrs_ms=np.array([100.0, 130.0, np.nan]),
    )  # fmt: skip
    column = {name: margins(quantities)[:, i] for i, name in enumerate(FINDINGS)}
    np.testing.assert_allclose(column["Tachycardia"], [1, -3, np.nan])
    np.testing.assert_allclose(column["Bradycardia"], [-3, 2, np.nan])
    np.testing.assert_allclose(column["1st degree atrioventricular block"], [1, -3, 3])
    np.testing.assert_allclose(column["Atrioventricular block"], [1, 0, 3])
    np.testing.assert_allclose(column["Left bundle branch block"], [-2, 1, 0])
    assert not column["Infarction"].any()


def test_another_site_is_judged_by_a_calibration_that_never_saw_it() -> None:
    """A site whose labels are all turned round ruins a calibration only where it takes part."""
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (600, 17))
    labels = (rng.random((600, 17)) < 1 / (1 + np.exp(-logits))).astype(int)
    site = np.repeat(["virtual", "PTB-XL", "elsewhere"], 200)
    labels[400:] = 1 - labels[400:]
    split = np.where(site == "elsewhere", "site", "val")
    scored = train_findings.Scored(logits, np.zeros((600, 17)), labels, split, site)
    assert train_findings.calibration(scored)[0].mean() < 0.4
    apart = train_findings.calibration(scored, without="elsewhere")
    assert apart[0].mean() == pytest.approx(1.0, abs=0.15)
    split = np.where(site == "elsewhere", "site", np.where(np.arange(600) % 2, "val", "test"))
    strips = Labelled(np.zeros((600, 8, 1024), np.float16), labels, split, site)
    result = train_findings.report(replace(scored, split=split), strips)
    assert result["elsewhere"]["Infarction"]["auroc"] < 0.2
    assert result["elsewhere"]["Infarction"]["sensitivity"] < 0.4
    assert result["PTB-XL"]["Infarction"]["n"] == 100


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
    ("table", "statements", "present", "absent", "unknown"),
    [
        ("scp", ["SR", "NORM"], {1}, {3, 4, 6, 8, 13, 15, 16}, {0}),
        ("scp", ["AFIB", "LAFB", "CRBBB"], {6, 12, 13}, {1, 14}, {3, 8, 7}),
        ("scp", ["SBRAD", "1AVB"], {1, 8, 10, 11}, {3}, {0}),
        ("scp", ["CRBBB", "SR"], {13}, {12}, {0}),
        ("scp", ["PACE", "IVCD"], {16}, {1}, {3, 8, 13, 14}),
        ("scp", ["IMI"], {15}, {6}, {1}),
        ("scp", ["LPR", "SR"], {1}, {2}, {10, 11}),
        ("snomed", ["426783006", "270492004"], {1, 10, 11}, {3, 6, 14}, {0}),
        ("snomed", ["164890007", "59118001"], {7, 13}, {1, 12}, {3, 6, 8}),
        ("ludb", ["Sinus rhythm", "Complete left bundle branch block"], {1, 14}, {13, 15}, {0}),
        ("ludb", ["Atrial fibrillation", "Ischemia: lateral wall"], {6}, {1, 10}, {3, 8, 15}),
    ],
)
def test_statements_become_findings(table: str, statements: list[str], present: set, absent: set, unknown: set) -> None:
    result = findings_data.findings_of(statements, table)
    assert {i for i in present if result[i] == 1} == present
    assert {i for i in absent if result[i] == 0} == absent
    assert {i for i in unknown if result[i] == -1} == unknown


@pytest.mark.parametrize(("reader", "folder", "site"), [
    (findings_data.ludb, "ludb", {"LUDB"}),
    (findings_data.challenge, "challenge_2020_2021", {"CPSC", "Georgia", "Chapman-Shaoxing and Ningbo", "PTB"}),
])  # fmt: skip
def test_records_of_other_sites_are_read_with_their_statements(real_data, reader, folder: str, site: set[str]) -> None:
    strips = reader(real_data(folder))
    assert set(strips.site) == site
    assert set(strips.split) == {"site"}
    assert len(strips) > 80
    cases = dict(zip(FINDINGS, (strips.findings == 1).sum(axis=0)))
    assert cases["Sinus rhythm"] > 50
    assert cases["Atrial fibrillation"] >= 5


def test_a_measured_rate_decides_and_the_network_is_asked_only_where_there_is_none() -> None:
    torch.manual_seed(0)
    network = FindingsNet(FindingsConfig(width=8, blocks=1))
    logits, beyond = torch.full((3, 17), -4.0), torch.zeros(3, 17)
    beyond[:, FAST] = torch.tensor([3.0, -3.0, torch.nan])
    p = network.probabilities(logits, beyond)[:, FAST]
    assert p[0] > 0.99
    assert p[1] < 0.01
    assert p[2] == pytest.approx(torch.sigmoid(torch.tensor(-4.0)).item())
