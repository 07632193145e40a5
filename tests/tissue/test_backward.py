"""The compiled gradient of structures with a network is that of the simulation on tensors."""

from __future__ import annotations

import pytest
import torch

from ecg_gym.tissue import FitOptions, Pacing, Spec, backward, fit, hearts, sheet
from ecg_gym.tissue.model import Model, Stimuli, simulate

STIMULI = Stimuli.of([[Pacing(((0, 1),), (0.0,)), Pacing(((24,), (3,)), (4.0, 40.0))]] * 2, 25, torch.float64)


@pytest.mark.parametrize(
    ("spec", "more"),  # more diffusion: several steps of it per step of the reaction
    [
        (Spec("ms", "edge_mlp", "uv", 8), 0.0), (Spec("ap", "spline", "uv_code", 8), 1.4),
        (Spec("neural", "nodes", width=8), 0.0), (Spec("fk", "iso", "uv", 8), 0.0),
    ],
)  # fmt: skip
def test_voltages_and_gradients_are_those_of_tensors(spec: Spec, more: float) -> None:
    model = Model.nominal(spec, sheet(5), 2, seed=3, dtype=torch.float64)
    model.parameters["diffusion.log_d"] += torch.tensor([[0.0], [0.3]]) + more
    if spec.residual != "none":
        model.parameters["residual.w3"] += torch.linspace(-0.3, 0.4, 16, dtype=torch.float64).reshape(2, 8, 1)
    outcomes = []
    for compiled in (False, True):
        leaves = {name: value.clone().requires_grad_() for name, value in model.parameters.items()}
        trial = model.with_parameters(leaves)
        if compiled:
            u, share = backward.simulate(trial, STIMULI, 0.5, 160, 4)
        else:
            run = simulate(trial, STIMULI, 0.5, 160, 4)
            u, share = run.u, torch.zeros(2) if run.share is None else run.share
        weight = torch.linspace(-1, 1, u.numel(), dtype=u.dtype).reshape(u.shape)
        (((u * weight) ** 2).sum() + 10 * share.sum()).backward()
        outcomes.append((u.detach(), share.detach(), {name: leaf.grad for name, leaf in leaves.items()}))
    (u, share, slow), (v, ratio, fast) = outcomes
    assert float(u.max()) > 0.5  # a wave
    torch.testing.assert_close(v, u, atol=1e-8, rtol=0)
    torch.testing.assert_close(ratio.double(), share.double(), atol=1e-9, rtol=1e-5)
    for name, gradient in slow.items():
        if gradient is not None:
            assert float((fast[name] - gradient).abs().max()) < 1e-3 * float(gradient.abs().max().clamp(min=1e-9)), name


def test_structures_without_a_network_are_not_its_own() -> None:
    for spec in (Spec("ms", "spline"), Spec("ms", "gcn", "uv"), Spec("neural", "flux_mlp")):
        assert not backward.applies(Model.nominal(spec, sheet(3), 1))


def test_a_hybrid_learns_what_its_reaction_lacks() -> None:
    heart = hearts("fhn", [3], graph=sheet(5))[0]
    bare = fit([Spec("ap", "iso")], [heart])[0][0]
    spec = Spec("ap", "iso", "uv", 8)
    hybrid = fit([spec], [heart], FitOptions(stages=((1.0, 20, 0.03),)), {(spec, heart.key): bare})[0][0]
    assert hybrid.train_error < 0.9 * bare.train_error
    assert 0 < hybrid.residual_share < 1
