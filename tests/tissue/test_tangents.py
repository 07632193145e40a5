"""Derivatives of a simulation: forward tangents against differences in float64, and against dual numbers."""

from __future__ import annotations

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

from ecg_gym.tissue import Spec, hearts
from ecg_gym.tissue.fitting import protocol_stimuli
from ecg_gym.tissue.model import Model, simulate
from ecg_gym.tissue.objective import Target
from ecg_gym.tissue.polishing import _duals, _tangents, flatten, unflatten
from ecg_gym.tissue.recording import DataSet
from ecg_gym.tissue.synthetic import observe


@pytest.fixture(scope="module")
def heart() -> DataSet:
    return hearts("ms", [0])[0]


@pytest.mark.parametrize("name", ["fhn", "ap", "fk"])
def test_tangents_are_dual_numbers(heart: DataSet, name: str) -> None:
    model = Model.nominal(Spec(name), heart.graph, 2)
    model.parameters["diffusion.field"] += 0.1
    data = [heart, heart]
    target, stimuli = Target.of(data, heart.train), protocol_stimuli(data, heart.train)
    fast = _tangents(model, stimuli, target, 0.5, 50, torch.arange(2))
    slow = _duals(model, stimuli, target, 0.5, 50, torch.arange(2))
    scale = float(slow[1].abs().max())
    torch.testing.assert_close(fast[0], slow[0], atol=1e-6, rtol=1e-4)
    assert float((fast[1] - slow[1]).abs().max()) < 2e-3 * scale


@pytest.mark.parametrize("kind", ["quarter", "electrodes", "times"])
def test_tangents_pass_through_every_kind_of_observation(heart: DataSet, kind: str) -> None:
    data = [observe(heart, kind, 0)]
    model = Model.nominal(Spec("ms"), heart.graph, 1)
    target, stimuli = Target.of(data, heart.train), protocol_stimuli(data, heart.train)
    fast = _tangents(model, stimuli, target, 0.5, 110, torch.arange(1))
    slow = _duals(model, stimuli, target, 0.5, 110, torch.arange(1))
    torch.testing.assert_close((fast[0] ** 2).sum(), (slow[0] ** 2).sum(), rtol=1e-3, atol=1e-6)
    assert float((fast[1] - slow[1]).abs().max()) < 1e-2 * float(slow[1].abs().max())


@pytest.mark.parametrize("name", ["rm", "ap", "mms"])
def test_forward_and_reverse_derivatives_are_those_of_differences(heart: DataSet, name: str) -> None:
    """Within 1 % of central differences in float64 over 200 ms, as the design asks."""
    model = Model.nominal(Spec(name), heart.graph, 1, dtype=torch.float64)
    base = flatten(model)
    k = base.shape[1]
    unit = torch.eye(k, dtype=torch.float64)

    def losses(flat: torch.Tensor) -> torch.Tensor:
        stimuli = protocol_stimuli([heart] * len(flat), heart.train, torch.float64)
        return (simulate(unflatten(model, flat), stimuli, 0.5, 400, 4).u ** 2).mean((0, 1, 2))

    with torch.no_grad():
        up, down = losses(torch.cat([base + 1e-5 * unit, base - 1e-5 * unit])).chunk(2)
    differences = (up - down) / 2e-5
    leaf = base.clone().requires_grad_()
    (reverse,) = torch.autograd.grad(losses(leaf).sum(), leaf)
    with torch.no_grad(), forward_ad.dual_level():
        forward = forward_ad.unpack_dual(losses(forward_ad.make_dual(base.repeat(k, 1), unit))).tangent.clone()
    scale = float(differences.abs().max())
    assert float((reverse[0] - differences).abs().max()) < 0.01 * scale
    assert float((forward - differences).abs().max()) < 0.01 * scale
