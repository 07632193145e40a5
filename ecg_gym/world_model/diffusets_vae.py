"""DiffuSETS' variational autoencoder as a codec: ten seconds of 12 leads to 4 x 128 numbers and back.

Lai 2025 doi:10.48550/arXiv.2501.05932. Three traps of the published network are kept as they are: the norm inside the
attention block is stored and never applied; leads stand in the order of MIMIC-IV-ECG, aVF before aVL; and latents are
multiplied by 0.18215, which is not one over their SD. Its weights come without a licence: nothing of them ships.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym import checkpoint
from ecg_gym.core import INDEPENDENT_LEADS, LEADS, MODEL_SAMPLES
from ecg_gym.world_model.vae import LATENT_LENGTH, expand_leads

KIND = "diffusets-vae"
SCALE = 0.18215  # of published latents; the number of Stable Diffusion's image codec, taken over by the authors
THEIR_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
_TO_THEIRS = [LEADS.index(lead) for lead in THEIR_LEADS]
_OUR_INDEPENDENT = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]
_INDEPENDENT = [THEIR_LEADS.index(lead) for lead in INDEPENDENT_LEADS]


@dataclass(frozen=True)
class DiffuSETSConfig:
    """Size of the network; the defaults are the published weights."""

    widths: tuple[int, int, int] = (128, 256, 512)  # at 1024, 512 and at 256 samples and below
    channels: int = 4  # of the latent
    groups: int = 32  # of the norms


class Residual(nn.Module):
    """Two convolutions of three samples, each behind a group norm and a swish; plus the input."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.groupnorm_1, self.conv_1 = nn.GroupNorm(groups, before), nn.Conv1d(before, after, 3, padding=1)
        self.groupnorm_2, self.conv_2 = nn.GroupNorm(groups, after), nn.Conv1d(after, after, 3, padding=1)
        self.residual_layer = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, before, T)`` to ``(B, after, T)``."""
        inner = self.conv_1(functional.silu(self.groupnorm_1(x)))
        return self.conv_2(functional.silu(self.groupnorm_2(inner))) + self.residual_layer(x)


class SelfAttention(nn.Module):
    """One head over time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same shape."""
        q, k, v = self.in_proj(x).chunk(3, dim=-1)
        return self.out_proj(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(x.shape[-1]), dim=-1) @ v)


class AttentionBlock(nn.Module):
    """Attention plus its input; ``groupnorm`` belongs to the file and is not applied."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(groups, width)
        self.attention = SelfAttention(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, T)`` to the same shape."""
        return x + self.attention(x.transpose(1, 2)).transpose(1, 2)


class Halving(nn.Conv1d):
    """A convolution of stride 2 with one zero on the right."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, T)`` to ``(B, width, T / 2)``."""
        return super().forward(functional.pad(x, (0, 1)))


def _encoder(config: DiffuSETSConfig) -> nn.Sequential:
    a, b, c = config.widths
    block = _block(config)
    return nn.Sequential(
        nn.Conv1d(len(LEADS), a, 3, padding=1), block(a, a), block(a, a),
        Halving(a), block(a, b), block(b, b),
        Halving(b), block(b, c), block(c, c),
        Halving(c), block(c, c), block(c, c), block(c, c), AttentionBlock(c, config.groups), block(c, c),
        nn.GroupNorm(config.groups, c), nn.SiLU(),
        nn.Conv1d(c, 2 * config.channels, 3, padding=1), nn.Conv1d(2 * config.channels, 2 * config.channels, 1),
    )  # fmt: skip


def _decoder(config: DiffuSETSConfig) -> nn.Sequential:
    a, b, c = config.widths
    block = _block(config)

    def doubling(width: int) -> tuple[nn.Module, nn.Module]:
        return nn.Upsample(scale_factor=2), nn.Conv1d(width, width, 3, padding=1)

    return nn.Sequential(
        nn.Conv1d(config.channels, config.channels, 1), nn.Conv1d(config.channels, c, 3, padding=1),
        block(c, c), AttentionBlock(c, config.groups), *(block(c, c) for _ in range(4)),
        *doubling(c), *(block(c, c) for _ in range(3)),
        *doubling(c), block(c, b), block(b, b), block(b, b),
        *doubling(b), block(b, a), block(a, a), block(a, a),
        nn.GroupNorm(config.groups, a), nn.SiLU(), nn.Conv1d(a, len(LEADS), 3, padding=1),
    )  # fmt: skip


def _block(config: DiffuSETSConfig) -> Callable[[int, int], Residual]:
    return lambda before, after: Residual(before, after, config.groups)


class DiffuSETSVAE(nn.Module):
    """The codec: ``encode`` and ``decode`` speak latents standardised by what was measured at import."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: DiffuSETSConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiffuSETSConfig()
        self.encoder, self.decoder = _encoder(self.config), _decoder(self.config)
        self.register_buffer("latent_mean", torch.zeros(self.config.channels, 1))
        self.register_buffer("latent_std", torch.ones(self.config.channels, 1))

    @classmethod
    def load(cls, path: str | Path) -> DiffuSETSVAE:
        """The weights at ``path``, as ``ecg-gym weights import`` wrote them; ValueError for any other file."""
        stored = checkpoint.load(path, KIND)
        network = checkpoint.build(
            lambda inputs: cls(DiffuSETSConfig(**{**inputs, "widths": tuple(inputs["widths"])})), stored
        )
        checkpoint.restore(network, stored)
        return network

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Channels and columns of a latent."""
        return self.config.channels, LATENT_LENGTH

    def encode(self, signal: Tensor, mask: Tensor | None = None, rng: torch.Generator | None = None) -> Tensor:
        """The standardised latent ``(B, 4, 128)`` of strips ``(B, 12 or 8, 1024)`` [mV] on the model grid.

        The posterior mean, or a sample from the posterior if ``rng`` is given. ``mask (B, 8)`` is true where an
        independent lead was recorded; the network knows no missing leads, so that the others are flat.
        """
        if mask is not None:
            eight = signal if signal.shape[1] == len(INDEPENDENT_LEADS) else signal[:, _OUR_INDEPENDENT]
            signal = torch.where(mask[:, :, None] > 0, eight, torch.zeros_like(eight))
        mean, log_variance = self.posterior(signal)
        if rng is not None:
            noise = torch.randn(mean.shape, generator=rng, device=mean.device, dtype=mean.dtype)
            mean = mean + (log_variance / 2).exp() * noise
        return (SCALE * mean - self.latent_mean) / self.latent_std

    def decode(self, latent: Tensor) -> Tensor:
        """The 12 leads ``(B, 12, 1024)`` [mV] of standardised latents ``(B, 4, 128)``; Einthoven's law holds.

        The network decodes every lead by itself; the eight independent ones are kept and the others worked out.
        """
        if latent.shape[1:] != (self.config.channels, LATENT_LENGTH):
            raise ValueError(
                f"latent has shape {tuple(latent.shape)}; expected (B, {self.config.channels}, {LATENT_LENGTH}); add "
                "the batch axis with latent[None] or make it with encode"
            )
        return expand_leads(self.leads(latent)[:, _INDEPENDENT])

    def posterior(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``(B, 4, 128)``, before the published scale, of strips ``(B, 12 or 8, 1024)`` [mV]."""
        signal = expand_leads(signal) if signal.shape[1] == len(INDEPENDENT_LEADS) else signal
        if signal.shape[1:] != (len(LEADS), MODEL_SAMPLES):
            raise ValueError(
                f"signal has shape {tuple(signal.shape)}; expected (B, 12 or 8, {MODEL_SAMPLES}) in mV on the "
                "model grid; use ecg_gym.waveform.to_model_grid"
            )
        mean, log_variance = self.encoder(signal[:, _TO_THEIRS]).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def leads(self, latent: Tensor) -> Tensor:
        """All that the decoder says ``(B, 12, 1024)`` [mV], leads in the order of ``THEIR_LEADS``."""
        return self.decoder((latent * self.latent_std + self.latent_mean) / SCALE)

    @torch.no_grad()
    def measure_latents(self, signal: Tensor) -> None:
        """Store mean and SD of the latents of ``signal (B, 12, 1024)`` [mV], by channel."""
        raw = torch.cat([SCALE * self.posterior(part)[0] for part in signal.split(4)])
        self.latent_mean.copy_(raw.mean((0, 2))[:, None])
        self.latent_std.copy_(raw.std((0, 2))[:, None].clamp_min(1e-6))
