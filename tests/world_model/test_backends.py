"""Backends: the same answers within what each promises, asked for once, and a clear word where one is not there."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ecg_gym.world_model import backends
from ecg_gym.world_model.backends import BACKENDS, TOLERANCE, accelerated
from ecg_gym.world_model.denoiser import Denoiser, DenoiserConfig
from ecg_gym.world_model.diffusion import linear_schedule, sample

torch.set_num_threads(1)


class Forecaster(nn.Module):
    """A denoiser with weights that matter, and something beside it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.denoiser = Denoiser(DenoiserConfig(5, width=32, blocks=2, condition_width=16), linear_schedule())
        self.projection = nn.Linear(2, 2)
        for parameter in self.denoiser.parameters():  # as trained: no gate shut, no head at zero
            nn.init.normal_(parameter, std=0.1)

    def estimator(self, known):
        before, anchor, condition = known
        return lambda z, tau: self.denoiser(z, tau, before, anchor, condition)


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster().eval()


def network_inputs(rows, seed=0):
    rng = torch.Generator().manual_seed(seed)
    z, before, anchor = torch.randn(3, rows, 4, 128, generator=rng)
    return z, torch.randint(1, 1001, (rows,), generator=rng), before, anchor, torch.randn(rows, 5, generator=rng)


def relative_error(result, exact):
    return ((result - exact).square().mean().sqrt() / exact.square().mean().sqrt()).item()


def agrees(forecaster, backend, rows):
    other = accelerated(forecaster, backend)
    with torch.inference_mode():
        for n in rows:
            exact, result = forecaster.denoiser(*network_inputs(n)), other.denoiser(*network_inputs(n))
            assert result.shape == exact.shape
            assert result.dtype == torch.float32
            assert relative_error(result, exact) <= TOLERANCE[backend]
        z, _, before, anchor, condition = network_inputs(10, seed=1)
        samples = [
            sample(f.estimator((before, anchor, condition)), z, linear_schedule(), "dpm++") for f in (forecaster, other)
        ]
    assert relative_error(samples[1], samples[0]) <= TOLERANCE[backend]


def test_bf16_agrees(forecaster):
    agrees(forecaster, "bf16", (1, 3, 65))


@pytest.mark.slow
def test_compiled_agrees(forecaster):
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler; install g++ to test backend 'compile'")
    agrees(forecaster, "compile", (1, 9, 64, 65))


@pytest.mark.slow
def test_openvino_agrees(forecaster):
    pytest.importorskip("openvino", reason=f"pip install 'openvino>={backends.OPENVINO}' to test it")
    agrees(forecaster, "openvino", (1, 9, 64, 65))


def test_eager_is_the_same_object_and_others_are_kept_and_share_the_rest(forecaster):
    assert accelerated(forecaster, "eager") is forecaster
    other = accelerated(forecaster, "bf16")
    assert accelerated(forecaster, "bf16") is other
    assert other.projection is forecaster.projection
    assert other.denoiser is not forecaster.denoiser
    assert isinstance(forecaster.denoiser, Denoiser)
    assert other.denoiser.schedule is forecaster.denoiser.schedule


def test_nothing_is_compiled_before_it_is_asked_for(forecaster, monkeypatch):
    def compiled(*_, **__):
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", compiled)
    accelerated(forecaster, "eager").denoiser(*network_inputs(2))
    accelerated(forecaster, "bf16").denoiser(*network_inputs(2))


def test_blocks_are_filled_up_and_what_filled_them_is_dropped(monkeypatch):
    monkeypatch.setattr(backends, "ROWS", 4)
    sizes = []

    def run(x, y):
        sizes.append(len(x))
        return x + y

    x, y = torch.arange(10.0)[:, None], torch.ones(10, 1)
    torch.testing.assert_close(backends._in_blocks(run, (x, y)), x + y)
    assert sizes == [4, 4, 4]


def test_what_is_not_there_is_said(forecaster, monkeypatch):
    with pytest.raises(ValueError, match="backend is 'fast'; expected one of"):
        accelerated(forecaster, "fast")
    monkeypatch.setattr(backends, "_there", lambda package: False)
    monkeypatch.setattr(backends, "shutil", SimpleNamespace(which=lambda name: None))
    for backend, words in (("openvino", "pip install"), ("compile", "g\\+\\+")):
        with pytest.raises(RuntimeError, match=words) as caught:
            accelerated(forecaster, backend)
        assert "expected" in str(caught.value)
        assert "bf16" in str(caught.value)
    assert set(TOLERANCE) == set(BACKENDS)
