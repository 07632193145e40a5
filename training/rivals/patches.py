"""The space that rivals draw in: patches of 8 samples of 8 leads, in their principal components.

Our codec's latents are nearly white: neighbouring columns have a correlation of 0.18, and a strip and the next one of
the same heart are as far apart as two strangers. A small generator learns nothing there in minutes. Here beats look
like beats, and a strip before can be copied.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecg_gym.core import INDEPENDENT_LEADS, MODEL_SAMPLES, limb_from_independent

LEADS = len(INDEPENDENT_LEADS)
COLUMNS = 128
SAMPLES = MODEL_SAMPLES // COLUMNS  # of one lead in a patch
COMPONENTS = 32  # of 64 numbers of a patch: 7 uV of a strip are lost


@dataclass(frozen=True)
class PatchBasis:
    """Between strips ``(B, 8, 1024)`` [mV] and ``(B, COMPONENTS, 128)``; made by :meth:`fit`."""

    mean: np.ndarray  # (64,) [mV] of a patch
    basis: np.ndarray  # (64, COMPONENTS) orthonormal columns
    scale: np.ndarray  # (COMPONENTS,) [mV] of one

    @classmethod
    def fit(cls, strips: np.ndarray) -> PatchBasis:
        """Of the patches of strips ``(N, 8, 1024)`` [mV].

        Components keep the order of their size, at the root of it: the small ones, which hold the edges of a QRS, are
        heard too.
        """
        patches = _patches(np.asarray(strips, np.float64)).reshape(-1, LEADS * SAMPLES)
        size, basis = np.linalg.eigh(np.cov(patches.T))
        order = np.argsort(size)[::-1][:COMPONENTS]
        deviation = np.sqrt(np.maximum(size[order], 1e-12))
        scale = np.sqrt(deviation)
        return cls(patches.mean(axis=0), basis[:, order], scale * np.sqrt(np.mean(deviation**2 / scale**2)))

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Channels and columns."""
        return len(self.scale), COLUMNS

    @property
    def sha256(self) -> str:
        """Of the numbers."""
        return hashlib.sha256(b"".join(part.tobytes() for part in (self.mean, self.basis, self.scale))).hexdigest()

    def encode(self, signal: Tensor, mask: Tensor | None = None, rng: torch.Generator | None = None) -> Tensor:
        """``(B, COMPONENTS, 128)`` of strips ``(B, 8, 1024)`` [mV]; leads outside of ``mask (B, 8)`` count as 0."""
        if mask is not None:
            signal = signal * mask[:, :, None]
        score = (_patches(signal.numpy().astype(np.float64)) - self.mean) @ self.basis / self.scale
        return torch.from_numpy(np.ascontiguousarray(score.transpose(0, 2, 1), dtype=np.float32))

    def decode(self, latent: Tensor) -> Tensor:
        """Strips ``(B, 12, 1024)`` float32 [mV]."""
        score = latent.numpy().astype(np.float64).transpose(0, 2, 1) * self.scale
        patches = (score @ self.basis.T + self.mean).reshape(len(score), COLUMNS, LEADS, SAMPLES)
        strips = patches.transpose(0, 2, 1, 3).reshape(len(score), LEADS, MODEL_SAMPLES)
        return torch.from_numpy(limb_from_independent(strips).astype(np.float32))

    def to_json_dict(self) -> dict[str, Any]:
        """As lists."""
        return {name: getattr(self, name).tolist() for name in ("mean", "basis", "scale")}

    @classmethod
    def from_json_dict(cls, data: dict[str, Any]) -> PatchBasis:
        """What :meth:`to_json_dict` gave."""
        return cls(*(np.array(data[name], float) for name in ("mean", "basis", "scale")))


def _patches(strips: np.ndarray) -> np.ndarray:
    """``(B, 128, 64)`` of ``(B, 8, 1024)``."""
    return strips.reshape(len(strips), LEADS, COLUMNS, SAMPLES).transpose(0, 2, 1, 3).reshape(len(strips), COLUMNS, -1)
