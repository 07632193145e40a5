"""A trained proposer: learned queries over the strip's latents and the patient's card score every item of the menu.

The role of BLIP in the paper (queries that look at an image and at words: Li 2023 arXiv 2301.12597), small: 8 queries
attend to the 128 columns of the codec's latent and to one token for each fact of the card. The target is the oracle's
ranking in the virtual patient: a softmax of minus its scores, where lower is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym import checkpoint
from ecg_gym.core import State, Treatment, independent_from_leads
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.conditioning import EXPOSURE, OBSERVED, PEOPLE, FeatureScale, exposures, observe_strips, people

if TYPE_CHECKING:
    from ecg_gym.world_model.vae import VAE

KIND = "ranking_proposer"
CARD = (*OBSERVED, *EXPOSURE, *PEOPLE)


@dataclass(frozen=True)
class RankingConfig:
    """Size of the network, and the menu that it scores."""

    menu: tuple[str, ...] = ()  # treatments, as they are written
    card: tuple[str, ...] = CARD
    channels: int = 4  # of the codec's latent
    columns: int = 128  # of the codec's latent
    width: int = 128
    queries: int = 8
    heads: int = 4
    layers: int = 2
    codec_sha256: str = ""


class Crossing(nn.Module):
    """Queries look at tokens, then at each other, then think: three residual parts, each normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.across = nn.MultiheadAttention(width, heads, batch_first=True)
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """``(B, Q, width)`` to the same shape."""
        queries = queries + self.across(self.norms[0](queries), tokens, tokens, need_weights=False)[0]
        own = self.norms[1](queries)
        queries = queries + self.among(own, own, own, need_weights=False)[0]
        return queries + self.think(self.norms[2](queries))


class RankingNet(nn.Module):
    """Scores ``(B, items)``, higher is better, from latents ``(B, C, T)`` and a scaled card ``(B, F)``."""

    def __init__(self, config: RankingConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.column = nn.Linear(config.channels, width)
        self.place = nn.Parameter(0.02 * torch.randn(config.columns, width))
        self.fact = nn.Parameter(0.02 * torch.randn(len(config.card), width))  # which fact it is
        self.value = nn.Parameter(0.02 * torch.randn(len(config.card), width))  # times how much
        self.queries = nn.Parameter(0.02 * torch.randn(config.queries, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Crossing(width, config.heads) for _ in range(config.layers))
        self.head = nn.Linear(config.queries * width, len(config.menu))
        self.offset: Tensor
        self.scale: Tensor
        self.register_buffer("offset", torch.zeros(len(config.card)))
        self.register_buffer("scale", torch.ones(len(config.card)))

    def forward(self, latent: Tensor, card: Tensor) -> Tensor:
        """Scores of the menu."""
        strip = self.column(latent.transpose(1, 2)) + self.place
        facts = self.fact + card[:, :, None] * self.value
        tokens = self.norm(torch.cat([strip, facts], dim=1))
        queries = self.queries.expand(len(latent), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        return self.head(queries.flatten(1))

    def loss(self, latent: Tensor, card: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy to ``target (B, items)``, a distribution over the items that ``mask (B, items)`` holds."""
        scores = self(latent, card).masked_fill(~mask, -1e9)
        return -(target * functional.log_softmax(scores, dim=1)).sum(1).mean()

    def scaled(self, raw: np.ndarray) -> np.ndarray:
        """The card ``(B, F)`` for the network of a raw one."""
        scale = FeatureScale(self.config.card, self.offset.double().numpy(), self.scale.double().numpy())
        return scale(raw, self.config.card)


def raw_card(state: State) -> np.ndarray:
    """What is measured, on board and known of each patient ``(B, len(CARD))``, in its own units; NaN is unknown."""
    parts = (observe_strips(state.ecg), exposures(state.doses, state.patients, state.hours), people(state.patients))
    return np.concatenate(parts, axis=1).astype(float)


@torch.no_grad()
def latents_of(codec: VAE, strips: np.ndarray) -> np.ndarray:
    """Latents ``(B, C, T)`` float32 of strips ``(B, 12, 1024)`` [mV]."""
    leads = np.ascontiguousarray(independent_from_leads(strips), dtype=np.float32)
    return torch.cat([codec.encode(part) for part in torch.from_numpy(leads).split(32)]).numpy()


class LearnedProposer:
    """The trained network as a proposer."""

    def __init__(self, network: RankingNet, codec: VAE, sha256: str = "") -> None:
        self.network, self.codec, self.sha256 = network.eval(), codec, sha256

    @classmethod
    def load(cls, path: str | Path, codec_path: str | Path | None = None) -> LearnedProposer:
        """The weights at ``path``, with the codec they were trained with (default: the package's)."""
        from ecg_gym.world_model.vae import VAE

        stored = checkpoint.load(path, KIND)
        network = checkpoint.build(lambda config: RankingNet(config_of(config)), stored)
        checkpoint.restore(network, stored)
        where = Path(codec_path or checkpoint.ASSETS / "vae.safetensors")
        if checkpoint.sha256(where) != network.config.codec_sha256:
            raise ValueError(
                f"{path} was trained with the codec {network.config.codec_sha256[:12]}...; expected that one, {where} "
                "is another; pass its path, or train anew"
            )
        return cls(network, VAE.load(codec_path), stored.sha256)

    @torch.no_grad()
    def propose(self, state: State, rng: np.random.Generator) -> list[Treatment]:
        """The menu, best score first, watching left out; draws nothing from ``rng``."""
        card = torch.from_numpy(self.network.scaled(raw_card(state)))
        scores = self.network(torch.from_numpy(latents_of(self.codec, state.ecg)), card)[0].numpy()
        by_name = {str(treatment): treatment for treatment in FORMULARY.menu() if treatment}
        names = [self.network.config.menu[i] for i in np.argsort(-scores, kind="stable")]
        return [by_name[name] for name in names if name in by_name]


def config_of(values: dict) -> RankingConfig:
    """The configuration that a checkpoint holds."""
    return RankingConfig(**{**values, "menu": tuple(values["menu"]), "card": tuple(values["card"])})
