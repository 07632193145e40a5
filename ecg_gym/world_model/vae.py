"""The codec: ten seconds of 12-lead ECG in, a latent of C x 128 out, and back.

The paper has C = 4 channels; ``VAEConfig.latent_channels`` holds those of these weights.

Only the 8 independent leads are coded; the other four follow from them, so Einthoven's law holds exactly in whatever
is decoded. One latent column covers 78 ms. Convolutions only; their dilation grows, so that each column sees several
beats: what repeats from beat to beat needs coding once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym import checkpoint
from ecg_gym.core import INDEPENDENT_LEADS, LEADS, LIMB, MODEL_RATE_HZ, MODEL_SAMPLES

KIND = "vae"
PAPER_CHANNELS = 4  # Table 1 of the paper; what weights that do not say have
LATENT_LENGTH = 128
_N = len(INDEPENDENT_LEADS)
_INDEPENDENT = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]


@dataclass(frozen=True)
class VAEConfig:
    """The size of the codec. What it was trained for stands in ``training.train_codec``."""

    width: int = 128  # channels at the latent's resolution
    fine_width: int = 48  # channels at 512 samples
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1)  # one residual block each, in encoder and decoder
    latent_channels: int = PAPER_CHANNELS


def expand_leads(independent: Tensor) -> Tensor:
    """All 12 leads ``(..., 12, T)`` [mV] from the 8 independent ones ``(..., 8, T)`` [mV].

    ``core.limb_from_independent`` on tensors, by the same table ``LIMB``.
    """
    one, two = independent[..., 0, :], independent[..., 1, :]
    limb = torch.stack([a * one + b * two for a, b in LIMB], dim=-2)
    return torch.cat([limb, independent[..., 2:, :]], dim=-2)


class VAE(nn.Module):
    """The codec. ``encode`` and ``decode`` speak standardised latents; ``posterior`` and ``reconstruct`` raw ones."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VAEConfig | None = None) -> None:
        super().__init__()
        self.config = config or VAEConfig()
        self.encoder = _Encoder(self.config)
        self.decoder = _Decoder(self.config)
        self.register_buffer("latent_mean", torch.zeros(self.config.latent_channels, 1))
        self.register_buffer("latent_std", torch.ones(self.config.latent_channels, 1))

    @classmethod
    def load(cls, path: str | Path | None = None) -> VAE:
        """A trained codec in evaluation mode, from ``path`` or the weights that ship with the package."""
        result = checkpoint.load_packaged("vae.safetensors", KIND) if path is None else checkpoint.load(path, KIND)
        vae = checkpoint.build(
            lambda inputs: cls(VAEConfig(**{**inputs, "dilations": tuple(inputs["dilations"])})), result
        )
        checkpoint.restore(vae, result)
        return vae

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Channels and columns of a latent."""
        return self.config.latent_channels, LATENT_LENGTH

    def encode(self, signal: Tensor, mask: Tensor | None = None, rng: torch.Generator | None = None) -> Tensor:
        """The standardised latent ``(B, C, 128)`` of strips ``(B, 12 or 8, 1024)`` [mV] on the model grid.

        The posterior mean, or a sample from the posterior if ``rng`` is given. ``mask (B, 8)`` is true where an
        independent lead was recorded; the others are not read (they may be NaN), and filled in from the rest.
        """
        mean, log_variance = self.posterior(signal, mask)
        if rng is not None:
            noise = torch.randn(mean.shape, generator=rng, device=mean.device, dtype=mean.dtype)
            mean = mean + (log_variance / 2).exp() * noise
        return (mean - self.latent_mean) / self.latent_std

    def decode(self, latent: Tensor) -> Tensor:
        """The 12 leads ``(B, 12, 1024)`` [mV] of standardised latents ``(B, C, 128)``."""
        if latent.shape[1:] != self.latent_shape:
            raise ValueError(
                f"latent has shape {tuple(latent.shape)}; expected (B, {self.config.latent_channels}, "
                f"{LATENT_LENGTH}); add the batch axis with latent[None] or make it with VAE.encode"
            )
        return expand_leads(self.reconstruct(latent * self.latent_std + self.latent_mean))

    def posterior(self, signal: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the raw latent, both ``(B, C, 128)``, of strips ``(B, 12 or 8, 1024)`` [mV]."""
        independent = _independent(signal)
        present = torch.ones_like(independent[:, :, 0]) if mask is None else mask.to(independent.dtype)
        independent = torch.where(present[:, :, None] > 0, independent, 0.0)
        return self.encoder(independent, present)

    def reconstruct(self, raw_latent: Tensor) -> Tensor:
        """The 8 independent leads ``(B, 8, 1024)`` [mV] of a raw, not standardised, latent ``(B, C, 128)``."""
        return self.decoder(raw_latent)

    def set_latent_scale(self, mean: Tensor, std: Tensor) -> None:
        """Store the measured per-channel mean and standard deviation ``(C,)`` of raw latents."""
        self.latent_mean.copy_(mean.reshape(-1, 1))
        self.latent_std.copy_(std.reshape(-1, 1))


class _Encoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        fine, width = config.fine_width, config.width
        self.stem = nn.Conv1d(2 * _N, fine, 9, stride=2, padding=4)  # the mask rides along as 8 constant channels
        self.fine = _Residual(fine)
        self.down = nn.Conv1d(fine, width, 8, stride=4, padding=2)
        self.blocks = nn.Sequential(*[_Residual(width, dilation) for dilation in config.dilations])
        self.head = nn.Conv1d(width, 2 * config.latent_channels, 1)

    def forward(self, independent: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([independent, present[:, :, None].expand_as(independent)], dim=1)
        x = self.blocks(self.down(self.fine(self.stem(x))))
        mean, log_variance = self.head(x).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)


class _Decoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        fine, width = config.fine_width, config.width
        self.stem = nn.Conv1d(config.latent_channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*[_Residual(width, dilation) for dilation in config.dilations])
        self.up = nn.Conv1d(width, 4 * fine, 1)
        self.fine = nn.Sequential(_Residual(fine), _Residual(fine))
        self.head = nn.Conv1d(fine, 2 * _N, 9, padding=4)  # two neighbouring samples per column

    def forward(self, latent: Tensor) -> Tensor:
        x = self.up(self.blocks(self.stem(latent)))
        return _unfold_time(self.head(self.fine(_unfold_time(x, 4))), 2).float()


class _Residual(nn.Module):
    """Two short convolutions beside the identity.

    Dense ones: on CPUs they reach the full speed of the machine, where a depthwise one waits for memory, and a
    millisecond buys more.
    """

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        nn.init.zeros_(self.second.weight)  # a block begins as the identity

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.gelu(self.first(functional.gelu(self.norm(x)))))


def _unfold_time(x: Tensor, factor: int) -> Tensor:
    """``(B, C * factor, T)`` to ``(B, C, T * factor)``: channels become neighbouring samples (Shi 2016)."""
    b, c, t = x.shape
    return x.reshape(b, c // factor, factor, t).transpose(2, 3).reshape(b, c // factor, t * factor)


def _independent(signal: Tensor) -> Tensor:
    """The 8 independent leads of ``(B, 12 or 8, 1024)`` [mV]; ValueError for any other shape."""
    if signal.ndim != 3 or signal.shape[1] not in (_N, len(LEADS)) or signal.shape[2] != MODEL_SAMPLES:
        raise ValueError(
            f"signal has shape {tuple(signal.shape)}; expected (B, 12, {MODEL_SAMPLES}) or (B, 8, {MODEL_SAMPLES}) in "
            f"mV at {MODEL_RATE_HZ} Hz; bring records there with ecg_gym.waveform.to_model_grid"
        )
    return signal if signal.shape[1] == _N else signal[:, _INDEPENDENT]
