"""Prognosis and denoiser together: what is trained, what is stored, and how a latent is drawn from them."""

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
from ecg_gym.world_model.interval_model import IntervalModel, PrognosisConfig

KIND = "world_model"


@dataclass(frozen=True)
class DenoiserInputs:
    """All that the denoiser knows before the next latent is drawn, one row per patient."""

    before: Tensor  # (B, C, 128) latent of the reference strip
    condition: Tensor  # (B, F) features as the network likes them
    prior: Tensor  # EPK: its latent (B, C, 128), or with a projection its trace (B, 1024) [mV]; 0 where it abstains
    strength: Tensor  # (B,) scale of the anchor: 1 as trained, 0 where it abstains or is switched off

    def __len__(self) -> int:
        return len(self.before)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Channels and columns of what is drawn."""
        return tuple(self.before.shape[1:])

    def __getitem__(self, rows: slice | np.ndarray) -> DenoiserInputs:
        return DenoiserInputs(self.before[rows], self.condition[rows], self.prior[rows], self.strength[rows])


class Forecaster(nn.Module):
    """The learned part of the world model, apart from the codec.

    With a ``prognosis`` the next intervals are drawn first and the denoiser is told which ones to draw; without, it
    has to find them itself, as in the paper. With a ``projection`` the EPK is a trace of lead II that a network carries
    into latent space, as in the paper; without, it is a strip of all leads, and the codec does.
    """

    def __init__(
        self,
        denoiser: DenoiserConfig,
        features: FeatureScale,
        prognosis: PrognosisConfig | None = None,
        outlook: FeatureScale | None = None,
        projection: ProjectionConfig | None = None,
    ) -> None:
        super().__init__()
        self.features, self.outlook = features, outlook  # of the denoiser; of the prognosis
        self.denoiser = Denoiser(denoiser, linear_schedule())
        self.prognosis = None if prognosis is None else IntervalModel(prognosis)
        self.projection = None if projection is None else Projection(projection)

    @property
    def schedule(self) -> Schedule:
        """The noise schedule the denoiser was built for."""
        return self.denoiser.schedule

    def anchor(self, inputs: DenoiserInputs) -> Tensor:
        """z_EPK ``(B, C, 128)``, 0 in rows without an anchor; not yet scaled by its strength."""
        there = inputs.strength > 0
        if self.projection is not None:
            return self.projection(inputs.prior, there)
        return inputs.prior * there.to(inputs.prior.dtype)[:, None, None]

    def estimator(self, inputs: DenoiserInputs, anchor: Tensor | None = None) -> Model:
        """The function ``(z, tau) -> z0hat`` for these rows, which samplers ask."""
        scaled = (self.anchor(inputs) if anchor is None else anchor) * inputs.strength[:, None, None]
        return lambda z, tau: self.denoiser(z, tau, inputs.before, scaled, inputs.condition)

    @torch.inference_mode()
    def draw(
        self, inputs: DenoiserInputs, noise: Tensor, sampler: str = "dpm++", steps: int | None = None, *,
        fresh: Noise | None = None, guidance_scale: float = 0.0, taus: list[int] | None = None,
    ) -> Tensor:  # fmt: skip
        """One next latent ``(B, C, 128)`` per row out of its own ``noise (B, C, 128)``; see ``diffusion.sample``."""
        anchor = self.anchor(inputs)
        model = guided(self.estimator(inputs, anchor), anchor, guidance_scale, self.schedule, inputs.strength > 0)
        return sample(model, noise, self.schedule, sampler, steps, fresh=fresh, taus=taus)

    def describe(self) -> dict[str, Any]:
        """The configuration :meth:`from_config` builds the same network from, as JSON."""
        return {
            "denoiser": asdict(self.denoiser.config),
            "features": _scale(self.features),
            "prognosis": None if self.prognosis is None else asdict(self.prognosis.config),
            "outlook": None if self.outlook is None else _scale(self.outlook),
            "projection": None if self.projection is None else asdict(self.projection.config),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Forecaster:
        """An untrained network of the described size; see ``checkpoint.restore`` for its weights.

        Raises ValueError for a description of another version.
        """
        if missing := [
            key for key in ("denoiser", "features", "prognosis", "outlook", "projection") if key not in config
        ]:
            raise ValueError(
                f"the weights say nothing of {missing}; expected a world model of this version; retrain it with "
                "`ecg-gym train world-model`, or use the release that it was trained with"
            )
        prognosis, outlook, projection = (config[key] for key in ("prognosis", "outlook", "projection"))
        return cls(
            DenoiserConfig(**config["denoiser"]),
            _from_scale(config["features"]),
            None if prognosis is None else PrognosisConfig(**prognosis),
            None if outlook is None else _from_scale(outlook),
            None if projection is None else ProjectionConfig(**projection),
        )


def _scale(features: FeatureScale) -> dict[str, Any]:
    return {"names": list(features.names), "offset": features.offset.tolist(), "scale": features.scale.tolist()}


def _from_scale(row: Mapping[str, Any]) -> FeatureScale:
    return FeatureScale(tuple(row["names"]), np.array(row["offset"]), np.array(row["scale"]))
