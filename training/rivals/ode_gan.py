"""ECG ODE-GAN: a generator that emits parameters of McSharry's equation, our exact solution of it, a critic of beats.

Every independent lead has its own five waves. Without relaxation the exact solution is the sum of the waves at the
phase (``physiology.mcsharry.unit_waves`` with kappa = 0); it stands here in tensors, so that the critic's gradient
reaches the parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.rivals.adversary import Adversary
from training.rivals.condition import Condition
from training.rivals.layers import Critic, Listener, Shape
from training.rivals.typical_beats import BEFORE_S, COLUMNS, GRID_HZ, LEADS, UNIT_MV

Z = 64
CENTRE_S = (-0.16, -0.03, 0.0, 0.03, 0.30)  # [s after R] of P, Q, R, S, T, where training begins
WIDTH_S = (0.022, 0.010, 0.011, 0.012, 0.045)  # [s]
HEIGHT_MV = (0.1, -0.1, 0.8, -0.2, 0.25)
WAVES = len(CENTRE_S)


def beat_of(centre_s: Tensor, width_s: Tensor, height_mv: Tensor) -> Tensor:
    """Beats ``(B, L, 128)`` [mV] of waves ``(B, L, W)`` [s after R], [s], [mV]: McSharry's equation without relaxation,
    solved exactly, in an RR interval that holds the whole beat.
    """
    time = torch.arange(COLUMNS, device=centre_s.device) / GRID_HZ - BEFORE_S
    distance = (time - centre_s[..., None]) / width_s[..., None]
    return (height_mv[..., None] * torch.exp(-0.5 * distance**2)).sum(dim=2)


class WaveGenerator(nn.Module):
    """Noise and condition to waves, RR intervals and an isoelectric level; beats ``(B, LEADS + 2, 128)``."""

    centre: Tensor
    width: Tensor
    height: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden = 2 * shape.width
        self.listen = Listener(shape)
        self.layers = nn.Sequential(
            nn.Linear(Z + shape.condition, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.waves = nn.Linear(hidden, 3 * LEADS * WAVES)
        self.beats = nn.Linear(hidden, 2)  # mean RR and its SD, as in a beat
        self.level = nn.Linear(hidden, LEADS)
        for head in (self.waves, self.beats, self.level):
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        for name, values in (("centre", CENTRE_S), ("width", WIDTH_S), ("height", HEIGHT_MV)):
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(self, condition: Condition, noise: Tensor) -> Tensor:
        """Beats out of the noise of the waves ``(B, Z)``."""
        hidden = self.layers(torch.cat([noise, functional.silu(self.listen(condition))], dim=1))
        centre, width, height = self.waves(hidden).unflatten(1, (3, LEADS, WAVES)).unbind(dim=1)
        leads = beat_of(
            self.centre + 0.1 * centre, self.width * torch.exp(width.clamp(-1.5, 1.5)), self.height + height
        )
        leads = (leads + 0.1 * self.level(hidden)[:, :, None]) / UNIT_MV
        return torch.cat([leads, self.beats(hidden)[:, :, None].expand(-1, -1, COLUMNS)], dim=1)


class ODEGAN(Adversary):
    """The logistic GAN around it, with lazy R1."""

    noise_size = Z
    penalty_every = 16

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.generator, self.critic = WaveGenerator(shape), Critic(shape)
