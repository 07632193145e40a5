"""``Dense`` is ``nn.Linear``: the same parameters and answers, however it gets there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from ecg_gym.world_model import packed_linear
from ecg_gym.world_model.denoiser import Denoiser, DenoiserConfig
from ecg_gym.world_model.diffusion import linear_schedule
from ecg_gym.world_model.packed_linear import Dense


@pytest.fixture
def layers() -> tuple[Dense, nn.Linear]:
    torch.manual_seed(0)
    quick, plain = Dense(48, 80), nn.Linear(48, 80)
    plain.load_state_dict(quick.state_dict())
    return quick, plain


@torch.no_grad()
def test_it_answers_like_linear_for_every_shape(layers: tuple[Dense, nn.Linear]) -> None:
    quick, plain = layers
    for x in (torch.randn(48), torch.randn(7, 48), torch.randn(3, 5, 48), torch.randn(0, 5, 48)):
        torch.testing.assert_close(quick(x), plain(x), atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(quick.gelu(x), functional.gelu(plain(x)), atol=2e-6, rtol=1e-5)
    turned = torch.randn(48, 9).T
    torch.testing.assert_close(quick(turned), plain(turned), atol=2e-6, rtol=1e-5)


def test_it_learns_like_linear_and_forgets_what_it_packed(layers: tuple[Dense, nn.Linear]) -> None:
    quick, plain = layers
    x = torch.randn(6, 48)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(quick(x), plain(x), atol=2e-6, rtol=1e-5)
        for layer in layers:
            optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
            layer(x).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
    assert torch.equal(quick.weight, plain.weight)
    with torch.no_grad():
        quick.weight.mul_(2)
        torch.testing.assert_close(quick(x), functional.linear(x, 2 * plain.weight, plain.bias), atol=2e-6, rtol=1e-5)
        quick.load_state_dict(plain.state_dict())
        torch.testing.assert_close(quick(x), plain(x), atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_a_copy_has_weights_of_its_own(layers: tuple[Dense, nn.Linear]) -> None:
    quick, plain = layers
    x = torch.randn(4, 48)
    quick(x)
    twin = copy.deepcopy(quick)
    twin.weight.zero_()
    assert torch.equal(twin(x), twin.bias.expand(4, -1))
    torch.testing.assert_close(quick(x), plain(x), atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_mixed_precision_and_doubles_go_the_plain_way(layers: tuple[Dense, nn.Linear]) -> None:
    quick, plain = layers
    x = torch.randn(5, 48)
    with torch.autocast("cpu", torch.bfloat16):
        assert quick(x).dtype == torch.bfloat16
        assert torch.equal(quick.gelu(x), functional.gelu(plain(x)))
    assert torch.equal(quick.double()(x.double()), plain.double()(x.double()))


@torch.no_grad()
def test_a_denoiser_says_the_same_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    config = DenoiserConfig(n_features=9, width=32, blocks=2)
    network = Denoiser(config, linear_schedule())
    for parameter in network.parameters():  # heads and gates begin at zero
        parameter.add_(0.05 * torch.randn_like(parameter))
    z, before, anchor = torch.randn(3, 3, 4, 128).unbind()
    value = (z, torch.tensor([900, 300, 5]), before, anchor, torch.randn(3, 9))
    quick = network(*value)
    monkeypatch.setattr(packed_linear, "_THERE", False)
    torch.testing.assert_close(quick, network(*value), atol=1e-5, rtol=0)
