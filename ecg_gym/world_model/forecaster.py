"""Denoiser and projection together: what is trained, what is stored, and how a latent is drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecg_gym.world_model.anchor import Projection, ProjectionConfig
from ecg_gym.world_model.conditioning import FeatureScale
from ecg_gym.world_model.denoiser import Denoiser, DenoiserConfig
from ecg_gym.world_model.diffusion import Model, Noise, Schedule, guided, linear_schedule, sample

KIND = "world_model"


@dataclass(frozen=True)
class Known:
    """All that is known before the next latent is drawn, one row per patient."""

    before: Tensor  # (B, 4, 128) pre-dose latent
    condition: Tensor  # (B, F) features as the network likes them
    trace: Tensor  # (B, 1024) [mV] EPK, 0 where it abstains
    strength: Tensor  # (B,) scale of the anchor: 1 as trained, 0 where it abstains or is switched off

    def __len__(self) -> int:
        return len(self.before)

    def __getitem__(self, rows: slice | np.ndarray) -> Known:
        return Known(self.before[rows], self.condition[rows], self.trace[rows], self.strength[rows])


class Forecaster(nn.Module):
    """The learned part of the world model, apart from the codec."""

    def __init__(self, denoiser: DenoiserConfig, projection: ProjectionConfig, features: FeatureScale) -> None:
        super().__init__()
        self.features = features
        self.denoiser = Denoiser(denoiser, linear_schedule())
        self.projection = Projection(projection)

    @property
    def schedule(self) -> Schedule:
        """The noise schedule the denoiser was built for."""
        return self.denoiser.schedule

    def anchor(self, known: Known) -> Tensor:
        """z_EPK ``(B, 4, 128)``, 0 in rows without an anchor; not yet scaled by its strength."""
        return self.projection(known.trace, known.strength > 0)

    def estimator(self, known: Known, anchor: Tensor | None = None) -> Model:
        """The function ``(z, tau) -> z0hat`` for these rows, which samplers ask."""
        scaled = (self.anchor(known) if anchor is None else anchor) * known.strength[:, None, None]
        return lambda z, tau: self.denoiser(z, tau, known.before, scaled, known.condition)

    @torch.inference_mode()
    def draw(
        self, known: Known, noise: Tensor, sampler: str = "dpm++", steps: int | None = None, *,
        fresh: Noise | None = None, guidance_scale: float = 0.0, bf16: bool = False,
    ) -> Tensor:  # fmt: skip
        """One next latent ``(B, 4, 128)`` per row out of its own ``noise (B, 4, 128)``."""
        with torch.autocast(noise.device.type, torch.bfloat16, enabled=bf16):
            return self._draw(known, noise, sampler, steps, fresh, guidance_scale)

    def _draw(
        self, known: Known, noise: Tensor, sampler: str, steps: int | None, fresh: Noise | None, guidance_scale: float
    ) -> Tensor:
        anchor = self.anchor(known)
        model = guided(self.estimator(known, anchor), anchor, guidance_scale, self.schedule, known.strength > 0)
        return sample(model, noise, self.schedule, sampler, steps, fresh=fresh)

    def describe(self) -> dict[str, Any]:
        """The configuration :meth:`from_config` builds the same network from, as JSON."""
        features = self.features
        scale = {"offset": features.offset.tolist(), "scale": features.scale.tolist()}
        return {
            "denoiser": asdict(self.denoiser.config),
            "projection": asdict(self.projection.config),
            "features": {"names": list(features.names), **scale},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Forecaster:
        """An untrained network of the described size; see ``checkpoint.restore`` for its weights."""
        told = config["features"]
        features = FeatureScale(tuple(told["names"]), np.array(told["offset"]), np.array(told["scale"]))
        return cls(DenoiserConfig(**config["denoiser"]), ProjectionConfig(**config["projection"]), features)
