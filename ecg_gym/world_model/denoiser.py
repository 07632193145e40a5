"""The network that guesses a patient's next latent from a noisy one: convolutions that listen to a condition.

Sequence in, sequence out: the noisy latent, the reference strip's latent and the EPK anchor are side by side as
channels, four neighbouring columns make one token (78 ms each, 0.31 s together, 32 tokens), and depthwise convolutions
carry news between beats. The condition (intervals, drugs, person, hour) and the noise level set shift, scale and gate
of every block (FiLM, Perez 2018; gates that begin shut, Peebles 2023). Convolution, because on two cores it follows its
condition within half an hour where a transformer of the same size does not yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.world_model.diffusion import Schedule, to_sample
from ecg_gym.world_model.packed_linear import Dense
from ecg_gym.world_model.vae import LATENT_LENGTH, PAPER_CHANNELS


@dataclass(frozen=True)
class DenoiserConfig:
    """The size of the denoiser and what its output means."""

    n_features: int  # length of the condition vector
    width: int = 192  # channels per token
    blocks: int = 8
    condition_width: int = 128  # channels of the condition inside the network
    expansion: int = 3  # hidden channels of a block over its width
    kernel: int = 7  # tokens a block looks at
    patch: int = 4  # latent columns per token
    prediction: str = "v"  # what the layers put out; the denoiser itself always returns z0hat
    latent_channels: int = PAPER_CHANNELS


class Denoiser(nn.Module):
    """``z0hat = denoiser(z, tau, before, anchor, condition)``, all latents ``(B, C, 128)`` and standardised."""

    def __init__(self, config: DenoiserConfig, schedule: Schedule) -> None:
        super().__init__()
        self.config, self.schedule = config, schedule
        tokens, width = LATENT_LENGTH // config.patch, config.width
        self.patchify = nn.Conv1d(3 * config.latent_channels, width, config.patch, stride=config.patch)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width))  # the first R peak stands at a known column
        self.listen = _Condition(config)
        self.blocks = nn.ModuleList([_Block(config) for _ in range(config.blocks)])
        self.head = Dense(width, config.latent_channels * config.patch)
        nn.init.zeros_(self.head.weight)  # at first v = 0: the denoiser returns what it sees, less its noise
        nn.init.zeros_(self.head.bias)

    def forward(self, z: Tensor, tau: Tensor, before: Tensor, anchor: Tensor, condition: Tensor) -> Tensor:
        """The expected clean latent ``(B, C, 128)`` given the noisy ``z``.

        ``before`` is the latent of the strip that is redrawn, ``anchor`` the EPK latent times its strength
        (0 where it abstains), ``condition (B, n_features)`` the rest that is known, and ``tau (B,)`` the noise level.
        """
        hidden = functional.silu(self.listen(tau, before, condition))
        x = self.patchify(torch.cat([z, before, anchor], dim=1)).transpose(1, 2) + self.place  # (B, tokens, width)
        for block in self.blocks:
            x = block(x, hidden)
        return to_sample(self._unpatch(x).float(), z, tau, self.schedule, self.config.prediction)

    def _unpatch(self, x: Tensor) -> Tensor:
        b, tokens, _ = x.shape
        channels = self.config.latent_channels
        columns = self.head(x).reshape(b, tokens, channels, self.config.patch)
        return columns.transpose(1, 2).reshape(b, channels, LATENT_LENGTH)


class _Condition(nn.Module):
    """One vector ``(B, condition_width)`` out of the noise level, the condition and the whole pre-dose latent.

    The pre-dose latent comes twice: as channels it is seen in place, here it is seen from every beat, so that the
    last beat of the strip also knows whose T wave it draws.
    """

    frequencies: Tensor

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.condition_width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.facts = nn.Sequential(nn.Linear(config.n_features, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.person = nn.Linear(config.latent_channels * LATENT_LENGTH, width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("frequencies", _frequencies(width), persistent=False)

    def forward(self, tau: Tensor, before: Tensor, condition: Tensor) -> Tensor:
        angle = tau.to(condition.dtype)[:, None] * self.frequencies
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=1))
        return self.mix(time + self.facts(condition) + self.person(before.flatten(1)))


class _Block(nn.Module):
    """A ConvNeXt-style residual block (Liu 2022) whose shift, scale and gate come from the condition."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.expansion * config.width
        self.over_time = nn.Conv1d(width, width, config.kernel, padding=config.kernel // 2, groups=width)
        self.expand = Dense(width, hidden)
        self.contract = Dense(hidden, width)
        self.film = nn.Linear(config.condition_width, 3 * width)
        nn.init.zeros_(self.film.weight)  # every block begins as the identity
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        shift, scale, gate = self.film(hidden)[:, None].chunk(3, dim=2)
        y = self.over_time(x.transpose(1, 2)).transpose(1, 2)
        y = functional.layer_norm(y, y.shape[-1:])
        y = self.contract(self.expand.gelu(y * (1 + scale) + shift))
        return x + gate * y


def _frequencies(width: int) -> Tensor:
    """``width / 2`` angular frequencies, geometrically from 1 down to 1/10,000 per noising step (Vaswani 2017)."""
    return torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2))
