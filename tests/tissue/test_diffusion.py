"""Diffusion operators: conservative and dissipative whatever the parameters say, gradients by hand are right."""

from __future__ import annotations

import math

import pytest
import torch

from ecg_gym.tissue import DIFFUSIONS, Spec, sheet
from ecg_gym.tissue.diffusion import TorchGraph, flow
from ecg_gym.tissue.model import Model, Stimuli, simulate
from ecg_gym.tissue.recording import Pacing

PROMISING = [kind for kind in DIFFUSIONS if kind != "free"]


def random_model(kind: str, rows: int, seed: int, side: int = 5, reaction: str = "ms") -> Model:
    """Models whose diffusion parameters are far from their neutral start."""
    model = Model.nominal(Spec(reaction, kind), sheet(side), rows, seed, torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.parameters.items():
        if name.startswith("diffusion."):
            value += torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return model


@pytest.mark.parametrize("kind", PROMISING)
def test_current_is_conserved_and_energy_never_grows(kind: str) -> None:
    for seed in range(5):
        operator = random_model(kind, 20, seed).operator()
        u = torch.randn(25, 2, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        flux = operator(u)
        assert float(flux.sum(0).abs().max()) < 1e-10
        assert float((u * flux).sum(0).max()) < 1e-12


def test_free_message_passing_promises_neither() -> None:
    operator = random_model("free", 20, 0).operator()
    u = torch.randn(25, 2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(operator(u).sum(0).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", PROMISING)
def test_the_bound_is_above_every_eigenvalue(kind: str) -> None:
    if kind == "flux_mlp":
        pytest.skip("depends on u; its bound is covered by the stability of long runs")
    operator = random_model(kind, 6, 3).operator()
    eigenvalues = torch.linalg.eigvalsh((operator.dense() + operator.dense().transpose(1, 2)) / 2)
    assert float(-eigenvalues.min()) <= operator.bound() + 1e-9


def test_flow_has_the_gradients_of_its_definition() -> None:
    graph = TorchGraph(sheet(4), torch.float64)
    u = torch.randn(16, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    c = torch.rand(24, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: flow(a, b, graph), (u, c), check_forward_ad=True)


@pytest.mark.parametrize("kind", PROMISING)
def test_half_a_second_of_random_tissue_stays_inside_its_bounds_and_goes_quiet(kind: str) -> None:
    model = random_model(kind, 10, 1)
    stimuli = Stimuli.of([[Pacing(((0, 1, 5),), (0.0,))]] * 10, 25, torch.float64)
    with torch.no_grad():
        u = simulate(model, stimuli, 0.5, 1000, 20).u
    assert bool(torch.isfinite(u).all())
    assert float(u.max()) < 1.4
    assert float(u[-1].abs().max()) < 0.05


def test_implicit_steps_agree_with_explicit_ones_and_stand_a_fine_mesh() -> None:
    model = random_model("iso", 2, 0)
    stimuli = Stimuli.of([[Pacing(((0, 1, 5),), (0.0,))]] * 2, 25, torch.float64)
    with torch.no_grad():
        explicit = simulate(model, stimuli, 0.02, 2000, 100).u
        implicit = simulate(model, stimuli, 0.02, 2000, 100, implicit=True).u
        stiff = Model.nominal(Spec("ms", "iso"), sheet(5, 0.2), 1)  # explicit would need steps of 0.01 ms
        fine = simulate(stiff, Stimuli.of([[Pacing(((0, 1, 5),), (0.0,))]], 25), 0.5, 400, 4, implicit=True).u
    assert float((explicit - implicit).abs().mean()) < 0.005
    assert bool(torch.isfinite(fine).all())
    assert float(fine.max()) > 0.7


def test_operators_that_see_u_have_no_matrix() -> None:
    with pytest.raises(ValueError, match="linear in u"):
        random_model("flux_mlp", 1, 0).operator().dense()


def test_the_uncut_conductance_of_iso_is_the_diffusivity_over_the_square_of_the_distance() -> None:
    operator = Model.nominal(Spec("ms", "iso"), sheet(5), 1).operator()
    assert float(operator.conductance[0, 0, 0]) == pytest.approx(1.07 / 4)
    assert math.isclose(operator.bound(), 8 * 1.07 / 4, rel_tol=1e-5)
