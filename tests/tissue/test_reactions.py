"""The reaction catalogue: rest is at rest, NumPy and torch agree, fronts have the closed form's speed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecg_gym.tissue import REACTIONS, cable, reaction
from ecg_gym.tissue.reactions import front_speed

MECHANISTIC = [name for name in REACTIONS if name != "neural"]


@pytest.mark.parametrize("name", MECHANISTIC)
def test_rest_is_at_rest_and_a_strong_stimulus_makes_an_action_potential(name: str) -> None:
    r = reaction(name)
    u, hidden = np.zeros(1), tuple(np.array([value]) for value in r.rest)
    du, dh = r.rates(u, hidden, r.nominal, np)
    assert abs(float(du[0])) < 2e-3
    assert all(abs(float(d[0])) < 2e-3 for d in dh)
    active = 0.0
    for step in range(20000):
        du, dh = r.rates(u, hidden, r.nominal, np)
        u = u + 0.05 * (du + 0.45 * (step < 60))
        hidden = tuple(h + 0.05 * d for h, d in zip(hidden, dh))
        active += 0.05 * float(u[0] > 0.3)
    assert 60 < active < 450
    assert float(u[0]) < 0.1


@pytest.mark.parametrize("name", MECHANISTIC)
def test_numpy_and_torch_agree(name: str) -> None:
    r, rng = reaction(name), np.random.default_rng(0)
    u, hidden = rng.uniform(-0.2, 1.1, 50), tuple(rng.uniform(0, 1, 50) for _ in r.rest)
    plain = r.rates(u, hidden, r.nominal, np)
    tensors = r.rates(torch.as_tensor(u), tuple(map(torch.as_tensor, hidden)), r.nominal, torch)
    np.testing.assert_allclose(tensors[0].numpy(), plain[0], rtol=1e-10, atol=1e-12)
    for a, b in zip(tensors[1], plain[1]):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", MECHANISTIC)
def test_every_nominal_value_lies_inside_its_bounds(name: str) -> None:
    assert all(row.low < row.value < row.high for row in reaction(name).parameters)


@pytest.mark.parametrize(("name", "diffusion"), [("rm", 0.5), ("ap", 0.8), ("mms", 0.3)])
def test_a_front_travels_at_the_closed_forms_speed(name: str, diffusion: float) -> None:
    r, spacing, n = reaction(name), 0.1, 260
    operator = cable(n, spacing).laplacian(np.full(n - 1, diffusion / spacing**2))
    dt = 0.3 * spacing**2 / diffusion
    u, hidden = np.zeros(n), tuple(np.full(n, value) for value in r.rest)
    u[:20] = 1.0
    reached = np.full(n, np.nan)
    for step in range(100000):
        du, dh = r.rates(u, hidden, r.nominal, np)
        u = u + dt * (du + operator @ u)
        hidden = tuple(h + dt * d for h, d in zip(hidden, dh))
        reached[np.isnan(reached) & (u > 0.5)] = step * dt
        if not np.isnan(reached[-20]):
            break
    between = slice(100, n - 40)
    speed = np.polyfit(reached[between], spacing * np.arange(n)[between], 1)[0]
    assert speed == pytest.approx(front_speed(name, r.nominal, diffusion), rel=0.03)


def test_an_unknown_reaction_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        reaction("hodgkin")
