"""ECG-FM's network against a forward in plain NumPy and one made of PyTorch's own layers; the prior taken out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foreign import fm_forward, pulse_train, random_tensors

from ecg_gym.foreign.ecg_fm import ECGFM, SPELLINGS, FMConfig, FMNet, corrected, folded, positive_weights
from ecg_gym.risk.aggregate import FINDINGS

SMALL = FMConfig(features=8, width=24, hidden=40, layers=2, heads=4, positions=16, groups=3)
# Logits of the same numbers in torch.nn.TransformerEncoderLayer and weight_norm, for random_tensors(seed 2), spelling
# weight_g: the first five of the first segment and the last five of the second.
GOLDEN = [-1.31565, 0.59058, 0.97386, -0.00476, 2.11087, -0.17083, 0.66397, 0.21851, -0.70959, 1.13668]
POSITIONS = "encoder.conv_pos.pos_conv.0."


def tensors_of(config: FMConfig, spelling: tuple[str, str]) -> dict[str, np.ndarray]:
    shapes = {key: tuple(value.shape) for key, value in FMNet(config).state_dict().items()}
    whole = shapes.pop(POSITIONS + "weight")
    shapes |= {POSITIONS + spelling[0]: (1, 1, whole[2]), POSITIONS + spelling[1]: whole}
    return random_tensors(shapes, 2)


def loaded(tensors: dict[str, np.ndarray]) -> FMNet:
    network = FMNet(SMALL).eval()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in folded(tensors).items()})
    return network


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return tensors_of(SMALL, SPELLINGS[0])


def test_the_published_size_has_the_published_names_and_numbers() -> None:
    with torch.device("meta"):
        own = {key: value.shape for key, value in FMNet().state_dict().items()}
    assert len(own) + 1 == 209, "in the file one weight is two, its length and its direction"
    assert sum(shape.numel() for shape in own.values()) + 128 == 90_386_321
    assert own["encoder.conv_pos.pos_conv.0.weight"] == (768, 48, 128)


@torch.no_grad()
def test_outputs_are_those_of_torchs_layers_and_of_the_second_forward(tensors) -> None:
    x = np.random.default_rng(6).standard_normal((2, 12, 500)).astype(np.float32)
    logits = loaded(tensors)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose([*logits[0, :5], *logits[1, -5:]], GOLDEN, atol=1e-4)
    np.testing.assert_allclose(logits, fm_forward(tensors, x, SMALL.layers, SMALL.heads), atol=1e-4)


def test_both_spellings_of_weight_normalisation_are_one_network(tensors) -> None:
    other = dict(tensors)
    for old, new in zip(*SPELLINGS):
        other[POSITIONS + new] = other.pop(POSITIONS + old)
    for key, value in loaded(tensors).state_dict().items():
        assert torch.equal(value, loaded(other).state_dict()[key]), key
    x = np.random.default_rng(6).standard_normal((1, 12, 160)).astype(np.float32)
    np.testing.assert_array_equal(fm_forward(tensors, x, 2, 4), fm_forward(other, x, 2, 4))


def test_half_a_strip_becomes_156_frames() -> None:
    network = FMNet(SMALL)
    assert network.encoder(torch.zeros(1, 12, 2500)).shape == (1, 156, SMALL.width)


def test_the_weights_of_positive_cases_are_taken_out_of_the_odds() -> None:
    w = positive_weights()
    assert w.shape == (17,)
    assert w[FINDINGS.index("Sinus rhythm")] < 1
    assert w[FINDINGS.index("Ventricular tachycardia")] > 1000
    even = corrected(np.zeros((1, 17)))[0]  # a network that says one half has seen one case in 1 + w
    np.testing.assert_allclose(even, 1 / (1 + w), rtol=1e-12)
    p = np.linspace(0.001, 0.999, 17)
    np.testing.assert_allclose(corrected(np.log(w * p / (1 - p))), p, rtol=1e-9)


def test_a_strip_has_the_mean_of_its_halves_alone_or_in_company(tensors) -> None:
    judge = ECGFM(loaded(tensors), "abc")
    strips = pulse_train(2)
    halves = corrected(judge.logits(strips))
    assert halves.shape == (2, 2, 17)
    np.testing.assert_allclose(judge.probabilities(strips), halves.mean(1))
    np.testing.assert_array_equal(judge.probabilities(strips, "batch")[1:], judge.probabilities(strips[1:], "batch"))
    swapped = strips[:, [1, 0, *range(2, 12)]]
    assert np.abs(judge.probabilities(swapped) - judge.probabilities(strips)).max() > 1e-4, "leads are told apart"
    louder = judge.probabilities(strips * np.arange(1, 13, dtype=np.float32)[:, None])
    np.testing.assert_allclose(louder, judge.probabilities(strips), atol=1e-5)
    assert judge.beyond_findings(strips) == {}
