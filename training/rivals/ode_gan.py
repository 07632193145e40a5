"""ECG ODE-GAN: a generator that emits parameters of McSharry's equation, our exact solution of it, a critic on mV.

Every independent lead has its own five waves; the beats are shared, each with a jitter of its own. Without relaxation
the exact solution is the sum of the waves at the phase (``physiology.mcsharry.unit_waves`` with kappa = 0); it stands
here in tensors, so that the critic's gradient reaches the parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.core import INDEPENDENT_LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S
from training.rivals.adversary import Adversary
from training.rivals.condition import Condition
from training.rivals.layers import Critic, Listener, Shape

Z = 64
LEADS = len(INDEPENDENT_LEADS)
BEATS = 48  # of 10 s at 288/min
FASTEST_S, SLOWEST_S = 0.22, 2.5  # [s] of RR
CENTRE_S = (-0.16, -0.03, 0.0, 0.03, 0.30)  # [s after R] of P, Q, R, S, T, where training begins
WIDTH_S = (0.022, 0.010, 0.011, 0.012, 0.045)  # [s]
HEIGHT_MV = (0.1, -0.1, 0.8, -0.2, 0.25)
WAVES = len(CENTRE_S)


def waves_at(centre_s: Tensor, width_s: Tensor, height_mv: Tensor, beats_s: Tensor, first_s: float) -> Tensor:
    """The trajectories ``(B, L, N)`` [mV] of waves ``(B, L, W)`` [s after R], [s], [mV] at beats ``beats_s (B, K)``
    [s], the first R peak at ``first_s`` [s]; McSharry's equation without relaxation, solved exactly.
    """
    time = torch.arange(MODEL_SAMPLES, device=beats_s.device) / MODEL_RATE_HZ
    peaks = first_s + functional.pad(beats_s.cumsum(dim=1), (1, 0))  # (B, K + 1)
    since = ((time >= peaks.detach()[:, :, None]).sum(dim=1) - 1).clamp(0, beats_s.shape[1] - 1)  # (B, N)
    rr = beats_s.gather(1, since)
    phase = (time - peaks.gather(1, since))[:, None]  # (B, 1, N) [s]
    total = torch.zeros(len(beats_s), centre_s.shape[1], MODEL_SAMPLES, device=beats_s.device)
    for w in range(centre_s.shape[2]):
        distance = phase - centre_s[:, :, w, None]
        distance = distance - rr[:, None] * torch.round((distance / rr[:, None]).detach())
        total = total + height_mv[:, :, w, None] * torch.exp(-0.5 * (distance / width_s[:, :, w, None]) ** 2)
    return total


class WaveGenerator(nn.Module):
    """Noise and condition to waves, beats and an isoelectric level; ``(B, 8, 1024)`` [mV]."""

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
        self.beats = nn.Linear(hidden, 2)  # mean RR and the size of its jitter
        self.level = nn.Linear(hidden, LEADS)
        for head in (self.waves, self.beats, self.level):
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        for name, values in (("centre", CENTRE_S), ("width", WIDTH_S), ("height", HEIGHT_MV)):
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(self, condition: Condition, noise: Tensor) -> Tensor:
        """Strips out of the noise of the waves and the jitter of the beats, ``(B, Z + BEATS)``."""
        z, jitter = noise.split([Z, BEATS], dim=1)
        hidden = self.layers(torch.cat([z, functional.silu(self.listen(condition))], dim=1))
        centre, width, height = self.waves(hidden).unflatten(1, (3, LEADS, WAVES)).unbind(dim=1)
        mean, spread = self.beats(hidden).chunk(2, dim=1)
        beats_s = 0.85 * torch.exp(mean + torch.exp((spread - 4.0).clamp(max=-1.0)) * jitter)
        strip = waves_at(
            self.centre + 0.1 * centre, self.width * torch.exp(width.clamp(-1.5, 1.5)), self.height + height,
            beats_s.clamp(FASTEST_S, SLOWEST_S), R_PEAK_OFFSET_S,
        )  # fmt: skip
        return strip + 0.1 * self.level(hidden)[:, :, None]


class ODEGAN(Adversary):
    """The logistic GAN around it, with lazy R1."""

    in_mv = True
    noise_size = Z + BEATS
    penalty_every = 16

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.generator, self.critic = WaveGenerator(shape), Critic(shape, (LEADS, MODEL_SAMPLES))
