"""Inverse dynamics: which drug, at which dose, leads from this strip to those intervals; and projection onto the menu.

A network is trained on virtual trials to say which of the formulary's drugs (or watching) was given between two strips
of one person, and how much of its usual dose (as an inverse model of robotics, Agrawal 2016 arXiv 1606.07419). What was
on board afterwards is never shown: it contains the answer. To propose, a goal stands for the later strip: the expected
intervals of least risk within the population's reach. Each action that the network deems likely is followed by the
treatment whose expected effect lies nearest, for the case that the rules refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym import checkpoint
from ecg_gym.core import Dose, State, Treatment, independent_from_leads
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.conditioning import OBSERVED, PEOPLE, FeatureScale, observe_strips, people
from planners.proposers.effects import EFFECTS, effects, expected, limit_risk, project

if TYPE_CHECKING:
    from ecg_gym.world_model.vae import VAE

KIND = "inverse_dynamics"
GOALS = 5  # reachable outcomes of least risk, whose mean is the goal
FOLLOWED = 3  # of the likeliest actions, each followed by its nearest neighbour in effect


@dataclass(frozen=True)
class InverseConfig:
    """Size of the network and what it was trained to name."""

    features: tuple[str, ...] = ()  # names of its inputs, in order
    drugs: tuple[str, ...] = ()  # of its outputs; watching comes first and is not among them
    width: int = 192
    layers: int = 3
    dropout: float = 0.1
    codec_sha256: str = ""  # of the codec whose latents are among the inputs; empty without latents


class InverseNet(nn.Module):
    """Logits ``(B, 1 + drugs)`` and log dose over usual dose ``(B, drugs)`` from scaled features ``(B, F)``."""

    def __init__(self, config: InverseConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = len(config.features)
        for _ in range(config.layers):
            layers += [
                nn.Linear(before, config.width),
                nn.LayerNorm(config.width),
                nn.GELU(),
                nn.Dropout(config.dropout),
            ]
            before = config.width
        self.body = nn.Sequential(*layers)
        self.drug = nn.Linear(before, 1 + len(config.drugs))
        self.dose = nn.Linear(before, len(config.drugs))
        self.offset: Tensor
        self.scale: Tensor
        self.covariance: Tensor
        self.register_buffer("offset", torch.zeros(len(config.features)))
        self.register_buffer("scale", torch.ones(len(config.features)))
        self.register_buffer("covariance", torch.eye(len(EFFECTS)))  # of effects about the population's, [units^2]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of watching and of each drug; log ratio of the dose to its usual one, were it that drug."""
        hidden = self.body(features)
        return self.drug(hidden), self.dose(hidden)

    def scaled(self, raw: np.ndarray) -> np.ndarray:
        """Features ``(B, F)`` for the network of raw ones."""
        scale = FeatureScale(self.config.features, self.offset.double().numpy(), self.scale.double().numpy())
        return scale(raw, self.config.features)

    def loss(self, features: Tensor, label: Tensor, ratio: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of ``label (B,)`` (0 is watching) plus the Huber loss of the log dose ``ratio (B,)``."""
        logits, doses = self(features)
        which = functional.cross_entropy(logits, label)
        is_dose = label > 0
        own = doses.gather(1, (label - 1).clamp(min=0)[:, None]).squeeze(1)
        how_much = (functional.huber_loss(own, ratio, reduction="none") * is_dose).sum() / is_dose.sum().clamp(min=1)
        return which + how_much, {"drug": which.detach(), "dose": how_much.detach()}


def feature_names(latents: int) -> tuple[str, ...]:
    """The inputs: both strips' intervals, what has changed, the person, the hours, pooled latents of the first."""
    return (
        *(f"before.{name}" for name in OBSERVED),
        *(f"after.{name}" for name in EFFECTS),
        *(f"change.{name}" for name in EFFECTS),
        *PEOPLE,
        "hours",
        *(f"latent.{i}" for i in range(latents)),
    )


def raw_features(
    before: np.ndarray, after: np.ndarray, person: np.ndarray, hours: np.ndarray, latents: np.ndarray
) -> np.ndarray:
    """Raw inputs ``(B, F)`` in the order of :func:`feature_names`.

    ``before (B, len(OBSERVED))`` and ``after (B, len(EFFECTS))`` in their units, NaN where not measurable; ``person (B,
    len(PEOPLE))``; ``hours (B,)`` [h] between the strips; ``latents (B, L)``.
    """
    places = [OBSERVED.index(name) for name in EFFECTS]
    parts = (before, after, after - before[:, places], person, np.log1p(hours)[:, None], latents)
    return np.concatenate([np.asarray(part, dtype=float) for part in parts], axis=1)


@torch.no_grad()
def pooled_latents(codec: VAE | None, strips: np.ndarray) -> np.ndarray:
    """Mean and SD over time of each latent channel ``(B, 2 C)`` of strips ``(B, 8 or 12, 1024)`` [mV]; nothing without
    a codec."""
    if codec is None:
        return np.empty((len(strips), 0))
    leads = strips if strips.shape[1] == 8 else independent_from_leads(strips)
    rows = torch.from_numpy(np.ascontiguousarray(leads, dtype=np.float32))
    parts = [codec.encode(part) for part in rows.split(32)]
    return torch.cat([torch.cat([z.mean(-1), z.std(-1)], dim=1) for z in parts]).double().numpy()


@cache
def usual_amount(drug: str, unit: str, route: str) -> float:
    """The geometric mean of a drug's usual doses in one unit by one route; NaN where there is none."""
    amounts = [d.amount for d in FORMULARY.usual_doses(drug) if (d.unit, d.route) == (unit, route) and d.amount > 0]
    return math.exp(sum(map(math.log, amounts)) / len(amounts)) if amounts else math.nan


def dose_ratio(dose: Dose) -> float:
    """The logarithm of an amount over the usual one; 0 where there is no usual one."""
    usual = usual_amount(dose.drug, dose.unit, dose.route)
    return math.log(dose.amount / usual) if math.isfinite(usual) and dose.amount > 0 else 0.0


class InverseDynamics:
    """The trained network as a proposer."""

    def __init__(self, network: InverseNet, codec: VAE | None = None, hours: float = 1.0, sha256: str = "") -> None:
        if bool(network.config.codec_sha256) != (codec is not None):
            raise ValueError(
                f"the codec is {codec and type(codec).__name__} and the network's is "
                f"{network.config.codec_sha256[:12]!r}; expected both or neither; pass the codec it was trained with"
            )
        self.network, self.codec, self.hours, self.sha256 = network.eval(), codec, hours, sha256

    @classmethod
    def load(cls, path: str | Path, hours: float = 1.0, codec_path: str | Path | None = None) -> InverseDynamics:
        """The weights at ``path``, with the codec they were trained with (default: the package's)."""
        from ecg_gym.world_model.vae import VAE

        stored = checkpoint.load(path, KIND)
        network = checkpoint.build(lambda config: InverseNet(config_of(config)), stored)
        checkpoint.restore(network, stored)
        expected_sha256 = network.config.codec_sha256
        where = codec_path or checkpoint.ASSETS / "vae.safetensors"
        if expected_sha256 and checkpoint.sha256(where) != expected_sha256:
            raise ValueError(
                f"{path} was trained with the codec {expected_sha256[:12]}...; expected that one, {where} is another; "
                "pass its path, or train anew"
            )
        return cls(network, VAE.load(codec_path) if expected_sha256 else None, hours, stored.sha256)

    def propose(self, state: State, rng: np.random.Generator) -> list[Treatment]:
        """Menu items from the likeliest down; draws nothing from ``rng``."""
        menu = [treatment for treatment in FORMULARY.menu() if treatment]
        observed = observe_strips(state.ecg)[0]
        after = expected(state, observed, menu, self.hours)
        goal = self.goal(limit_risk(state, observed, after), after)
        raw = raw_features(
            observed[None], goal[None], people(state.patients), np.array([self.hours]),
            pooled_latents(self.codec, state.ecg),
        )  # fmt: skip
        order = [menu[i] for i in np.argsort(-self.scores(raw, menu), kind="stable")]
        changes, covariance = effects(after, observed), self.network.covariance.double().numpy()
        result: dict[Treatment, None] = {}
        for treatment in order[:FOLLOWED]:
            near = project(treatment, menu, changes, covariance)
            other = next((t for t in near if t.doses[0].drug != treatment.doses[0].drug), None)
            result |= dict.fromkeys([treatment, *([other] if other is not None else [])])
        return list(result | dict.fromkeys(order))

    def likelihood(
        self, state: State, observed_after: np.ndarray, menu: Sequence[Treatment], hours: float
    ) -> np.ndarray:
        """Scores ``(T,)`` of the items of ``menu``, had one of them led to ``observed_after (len(OBSERVED),)``."""
        after = observed_after[[OBSERVED.index(name) for name in EFFECTS]]
        latents = pooled_latents(self.codec, state.ecg)
        row = (observe_strips(state.ecg), after[None], people(state.patients), np.array([hours]), latents)
        return self.scores(raw_features(*row), menu)

    def goal(self, risk: np.ndarray, after: dict[str, np.ndarray]) -> np.ndarray:
        """The mean of the ``GOALS`` expected outcomes of least risk, ``(len(EFFECTS),)``."""
        least = np.argsort(risk, kind="stable")[:GOALS]
        return np.array([float(np.mean(np.asarray(after[name])[least])) for name in EFFECTS])

    @torch.no_grad()
    def scores(self, raw: np.ndarray, menu: Sequence[Treatment]) -> np.ndarray:
        """Log probability of each item's drug, less half the squared log distance of its dose, ``(T,)``."""
        logits, doses = self.network(torch.from_numpy(self.network.scaled(raw)))
        chances, ratios = torch.log_softmax(logits, -1)[0, 1:].numpy(), doses[0].numpy()
        place = {drug: i for i, drug in enumerate(self.network.config.drugs)}
        return np.array(
            [
                chances[place[dose.drug]] - 0.5 * (dose_ratio(dose) - ratios[place[dose.drug]]) ** 2
                if dose.drug in place
                else -np.inf
                for dose in (treatment.doses[0] for treatment in menu)
            ]
        )


def config_of(values: dict) -> InverseConfig:
    """The configuration that a checkpoint holds."""
    return InverseConfig(**{**values, "features": tuple(values["features"]), "drugs": tuple(values["drugs"])})
