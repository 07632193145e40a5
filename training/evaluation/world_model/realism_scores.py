"""How real a set of strips looks beside another: a classifier's AUROC, Fréchet's distance, precision and recall.

The classifier learns from scratch on half of the people and judges the other half, both ways round. Distances are in
the features of the findings network, in the first principal components of the real strips.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.linalg import sqrtm
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym.risk.classifier import LARGEST_MV, FindingsConfig, FindingsNet, reader
from training import loop
from training.evaluation.result import estimate
from training.loop import Batch, LoopConfig

COMPONENTS = 32
NEIGHBOURS = 3  # Kynkäänniemi 2019, arXiv 1904.06991
SIZE = FindingsConfig(width=8, blocks=1)
STEPS, ROWS = 240, 32  # of the classifier: steps, rows of a batch
EVERY = 64  # strips that the encoder sees at once


class RealOrDrawn(nn.Module):
    """A small network of the findings' kind; its first logit says "drawn"."""

    def __init__(self) -> None:
        super().__init__()
        self.network = FindingsNet(SIZE)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy."""
        logit = self.network(batch["strip"])[:, 0]
        return functional.binary_cross_entropy_with_logits(logit, batch["drawn"]), {}


def drawn_scores(real: np.ndarray, synthetic: np.ndarray, patient: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Logits ``(2, N)`` that strips ``(N, 8, 1024)`` [mV] are drawn, of the real and of the drawn ones, each by a
    network that learned from other people.
    """
    who = np.unique(patient)
    fold = np.isin(patient, who[np.random.default_rng(0).permutation(len(who))[: len(who) // 2]])
    scores = np.zeros((2, len(real)))
    for side in (fold, ~fold):
        strips = np.concatenate([real[side], synthetic[side]])
        tensors = {
            "strip": torch.from_numpy(strips.astype(np.float32)),
            "drawn": torch.arange(2).repeat_interleave(int(side.sum())).float(),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            component = RealOrDrawn()
        config = LoopConfig(steps=steps, learning_rate=3e-3, warmup=10, weight_decay=0.01, ema_decay=0.98)
        state = loop.start(component, config)
        for _ in loop.train(state, loop.uniform_rows(tensors, ROWS)):
            pass
        network: nn.Module = state.ema.network  # type: ignore[assignment]
        for row, those in enumerate((real, synthetic)):
            scores[row, ~side] = _logits(network.eval(), those[~side])
    return scores


@torch.no_grad()
def _logits(network: nn.Module, strips: np.ndarray) -> np.ndarray:
    parts = torch.from_numpy(strips.astype(np.float32)).split(EVERY)
    return torch.cat([network(part)[:, 0] for part in parts]).numpy()


def auroc(scores: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    """``{value, ci95}``: how often a drawn strip is called drawn before a real one, of logits ``(2, N)``."""
    return estimate(lambda rows: area(scores[0, rows], scores[1, rows]), patient, 300)


def area(low: np.ndarray, high: np.ndarray) -> float:
    """The share of pairs in which ``high (M,)`` is above ``low (N,)``; ties count half (Mann and Whitney)."""
    ranks = rankdata(np.concatenate([low, high]))
    m, n = len(high), len(low)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (m * n)) if m and n else np.nan


@torch.no_grad()
def embedded(strips: np.ndarray) -> np.ndarray:
    """Features ``(N, F)`` of strips ``(N, 8, 1024)`` [mV] in the findings network that ships, before its head."""
    network = reader("").network
    parts = []
    for part in torch.from_numpy(strips.astype(np.float32)).split(EVERY):
        centred = part - part.median(dim=-1, keepdim=True).values
        x = network.body(centred.clamp(-LARGEST_MV, LARGEST_MV))
        parts.append(network.norm(torch.cat([x.mean(-1), x.amax(-1)], dim=1)))
    return torch.cat(parts).double().numpy()


def projection(real: np.ndarray, components: int = COMPONENTS) -> Callable[[np.ndarray], np.ndarray]:
    """Onto the first principal components of features ``(N, F)``, each scaled to an SD of 1 there."""
    mean = real.mean(axis=0)
    _, size, axes = np.linalg.svd(real - mean, full_matrices=False)
    rank = max(1, min(components, len(real) // 8))
    scale = np.maximum(size[:rank], 1e-9) / np.sqrt(max(1, len(real) - 1))
    return lambda features: (features - mean) @ axes[:rank].T / scale


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2) of features ``(N, F)`` and ``(M, F)`` (Heusel 2017)."""
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = np.real(sqrtm(first @ second))
    return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(first + second - 2 * root))


def precision_recall(real: np.ndarray, synthetic: np.ndarray) -> tuple[float, float]:
    """Share of drawn strips among the real ones, and of real ones among the drawn: within the distance of a neighbour's
    own ``NEIGHBOURS``-th neighbour, in features ``(N, F)``.
    """
    return _inside(synthetic, real), _inside(real, synthetic)


def _inside(points: np.ndarray, of: np.ndarray) -> float:
    own = np.linalg.norm(of[:, None] - of, axis=-1)
    k = min(NEIGHBOURS, len(of) - 1)
    radius = np.sort(own, axis=1)[:, k]
    return float((np.linalg.norm(points[:, None] - of, axis=-1) <= radius).any(axis=1).mean())
