"""ECGFounder's network against a forward in plain NumPy and against numbers of the published class; its 17 findings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foreign import founder_forward, pulse_train, random_tensors

from ecg_gym.core import independent_from_leads
from ecg_gym.foreign.ecgfounder import ECGFounder, FounderConfig, FounderNet, findings_of, table, tasks, unused_shapes
from ecg_gym.risk.aggregate import FINDINGS

SMALL = FounderConfig(widths=(8, 12, 12, 20), blocks=(2, 1, 2, 2), group_width=4)
# Logits of the published MIT-licensed class, narrowed to SMALL, for random_tensors(seed 1) and the input below: the
# first five of the first strip and the last five of the second.
GOLDEN = [0.61011, -2.1451, 0.71065, -0.21874, 0.21857, -1.12454, 0.01443, 0.18056, -0.61023, -1.04514]


def shapes(network: FounderNet) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def small_network() -> FounderNet:
    network = FounderNet(SMALL).eval()
    tensors = random_tensors(shapes(network), 1)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    return network


@pytest.fixture(scope="module")
def network() -> FounderNet:
    return small_network()


def test_the_published_size_has_the_published_names_and_numbers() -> None:
    with torch.device("meta"):
        network = FounderNet()
    own, unused = shapes(network), unused_shapes(network)
    assert (len(own) + len(unused), len(unused)) == (509, 305)
    assert sum(torch.Size(s).numel() for s in (own | unused).values()) == 30_885_443
    assert own["stage_list.5.block_list.0.conv2.conv.weight"] == (1024, 16, 16)
    assert unused["stage_list.3.block_list.0.bn1.running_mean"] == (160,)


@torch.no_grad()
def test_outputs_are_those_of_the_published_class_and_of_the_second_forward(network) -> None:
    x = np.random.default_rng(5).standard_normal((2, 12, 1001)).astype(np.float32)
    logits = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose([*logits[0, :5], *logits[1, -5:]], GOLDEN, atol=1e-4)
    second = founder_forward({key: value.numpy() for key, value in network.state_dict().items()}, x, SMALL.blocks)
    np.testing.assert_allclose(logits, second, atol=1e-4)


@pytest.mark.parametrize("length", [64, 65, 67, 250])
@torch.no_grad()
def test_odd_lengths_are_padded_as_in_the_second_forward(network, length: int) -> None:
    x = np.random.default_rng(length).standard_normal((1, 12, length)).astype(np.float32)
    second = founder_forward({key: value.numpy() for key, value in network.state_dict().items()}, x, SMALL.blocks)
    np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), second, atol=1e-4)


def test_a_strip_has_the_same_findings_alone_in_another_order_and_by_its_eight_leads(network) -> None:
    judge = ECGFounder(network, "abc")
    strips = pulse_train(3)
    strips[:, 2:6] = pulse_train(3, 1)[:, 2:6]  # limb leads that do not follow: what is given is read, lead by lead
    p = judge.probabilities(strips)
    assert p.shape == (3, 17)
    np.testing.assert_allclose(judge.probabilities(strips[[2, 0, 1]]), p[[2, 0, 1]], atol=1e-6)
    np.testing.assert_array_equal(
        judge.probabilities(strips, "batch")[1:2], judge.probabilities(strips[1:2], "batch"), "strip by strip"
    )
    eight = independent_from_leads(strips)
    assert judge.probabilities(eight).shape == (3, 17)
    assert np.abs(judge.probabilities_of_tasks(eight) - judge.probabilities_of_tasks(strips)).max() > 1e-4
    assert set(judge.beyond_findings(strips)) == {"PROLONGED QT"}
    assert judge.probabilities(strips[:0]).shape == (0, 17)
    with pytest.raises(ValueError, match="to_model_grid"):
        judge.probabilities(strips[:, :7])


def test_the_table_names_150_different_tasks_and_a_source_for_every_finding() -> None:
    assert len(tasks()) == len(set(tasks())) == 150
    assert (tasks().index("PROLONGED QT") + 1, tasks().index("QT HAS LENGTHENED") + 1) == (81, 31)
    rows = table()["findings"]
    assert tuple(rows) == FINDINGS
    for name, row in rows.items():
        assert set(row) == {"tasks", "confidence", "source"}, name
        assert row["source"], name
        assert row["confidence"] in "HML", name
        assert set(row["tasks"]) <= set(tasks()), name
    assert not any("EVIDENT IN" in task or "HAS" in task for row in rows.values() for task in row["tasks"])


def test_a_finding_is_as_likely_as_the_likeliest_of_its_tasks() -> None:
    p = np.full((2, 150), 0.1)
    p[0, tasks().index("JUNCTIONAL BRADYCARDIA")] = 0.8
    p[0, tasks().index("RBBB AND LEFT ANTERIOR FASCICULAR BLOCK")] = 0.6
    result = dict(zip(FINDINGS, findings_of(p).T))
    assert result["Poor data quality"].tolist() == [0, 0]
    assert result["Bradycardia"].tolist() == [0.8, 0.1]
    assert result["Bifascicular block"].tolist() == result["Right bundle branch block"].tolist() == [0.6, 0.1]
    assert result["Left bundle branch block"].tolist() == [0.1, 0.1]
