"""``Codec``: strips to latents and back; ours, or an imported one. A denoiser belongs to one codec, by its hash."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ecg_gym import checkpoint
from ecg_gym.world_model import diffusets_vae, vae


class Codec(Protocol):
    """What a world model needs of a codec. Latents are standardised by mean and SD that were measured on strips."""

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Channels and columns of a latent."""
        ...

    def encode(self, signal: Tensor, mask: Tensor | None = None, rng: torch.Generator | None = None) -> Tensor:
        """Latents ``(B, *latent_shape)`` of strips ``(B, 12 or 8, 1024)`` [mV]; ``mask (B, 8)``: recorded leads."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Strips ``(B, 12, 1024)`` [mV] of latents; Einthoven's law holds."""
        ...


def load_codec(path: str | Path | None = None) -> Codec:
    """The codec at ``path``, of whichever kind it says it is; by default the one in the package."""
    if path is not None and checkpoint.metadata(path).get("kind") == diffusets_vae.KIND:
        return diffusets_vae.DiffuSETSVAE.load(path)
    return vae.VAE.load(path)
