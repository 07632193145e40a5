"""The compiled loop: the catalogue's own rates, and the same voltages as the simulation on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecg_gym.tissue import REACTIONS, Pacing, Spec, kernel, reaction, sheet
from ecg_gym.tissue.model import Model, Stimuli, simulate

MECHANISTIC = [name for name in REACTIONS if name != "neural"]


@pytest.mark.parametrize("name", MECHANISTIC)
def test_compiled_rates_are_those_of_the_catalogue(name: str) -> None:
    row = reaction(name)
    values = np.zeros(len(kernel.NAMES))
    for parameter in row.parameters:
        values[kernel.NAMES.index(parameter.name)] = parameter.value
    u = np.array([-0.2, 0.02, 0.4, 0.97])
    hidden = 0.8 * np.array(row.rest)[:, None] + np.array([0.05, 0.1, -0.02, 0.0])
    out = np.empty((1 + len(hidden), len(u)))
    kernel._rates(REACTIONS.index(name), u, hidden, values.view(kernel.RECORD), out)
    du, others = row.rates(u, tuple(hidden), row.nominal)
    np.testing.assert_allclose(out, [du, *others], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "diffusion"), [("ms", "spline"), ("ap", "edge_mlp"), ("bocf", "iso")])
@pytest.mark.parametrize("more", [0.0, 1.2])  # one step of diffusion per step of the reaction, or several
def test_voltages_are_those_of_tensors(name: str, diffusion: str, more: float) -> None:
    model = Model.nominal(Spec(name, diffusion), sheet(5), 2)
    model.parameters["diffusion.log_d"] += torch.tensor([[0.0], [0.3]]) + more
    stimuli = Stimuli.of([[Pacing(((0, 1),), (0.0,)), Pacing(((24,), (3,)), (4.0, 40.0))]] * 2, 25)
    with torch.no_grad():
        slow = simulate(model, stimuli, 0.5, 120, 8).u
    fast = kernel.voltages(model, stimuli, 0.5, 120, 8)
    assert float(slow.max()) > 0.5  # a wave
    torch.testing.assert_close(fast, slow, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", MECHANISTIC)
def test_two_seconds_of_random_tissue_are_finite(name: str) -> None:
    """1,050 draws in all, parameters anywhere within their bounds: seven reactions, five diffusions."""
    rng, count = np.random.default_rng([3, *name.encode()]), 30
    rows = reaction(name).parameters
    low, high = (np.log([getattr(row, side) for row in rows]) for side in ("low", "high"))
    stimuli = Stimuli.of([[Pacing(((0, 1, 4),), (0.0,))]] * count, 16)
    for diffusion in kernel.DIFFUSIONS:
        model = Model.nominal(Spec(name, diffusion), sheet(4), count)
        for key, value in model.parameters.items():
            value += torch.as_tensor(0.5 * rng.standard_normal(value.shape), dtype=value.dtype)
            if key == "reaction":
                value[:] = torch.as_tensor(rng.uniform(low, high, value.shape))
        u = kernel.voltages(model, stimuli, 0.5, 4000, 20)
        assert bool(torch.isfinite(u).all())
        if len(reaction(name).hidden) == 1:  # those of two variables need no bounds; fk and bocf reach them at extremes
            assert float(u.min()) > -0.6
            assert float(u.max()) < 1.4


def test_structures_that_the_loop_does_not_know_run_on_tensors() -> None:
    model = Model.nominal(Spec("ms", "gcn"), sheet(3), 1)
    stimuli = Stimuli.of([[Pacing(((0,),), (0.0,))]], 9)
    assert not kernel.applies(model)
    assert kernel.voltages(model, stimuli, 0.5, 8, 4).shape == (2, 9, 1, 1)
