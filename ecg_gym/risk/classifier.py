"""Seventeen findings from a strip: a small one-dimensional convolutional network with calibrated probabilities.

Eight independent leads of the model grid go in (the other four follow from them), 17 logits come out; a sigmoid of
``slope * logit + weight * margin + intercept``, fitted per finding on people and sites held out from training (Platt
1999), is the probability. The margin is how far a measured interval is beyond what defines the finding: ``margins``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym import checkpoint
from ecg_gym.core import (
    ECG,
    INDEPENDENT_LEADS,
    LEADS,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    independent_from_leads,
    limb_from_independent,
)  # fmt: skip
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.risk.margins import DEFINED, STEEPNESS, margins
from ecg_gym.waveform import measure
from ecg_gym.waveform.intervals import Intervals

KIND = "risk"
PACKAGED = "risk.safetensors"
LARGEST_MV = 8.0  # beyond is an artefact; clipping keeps it from drowning the rest
BATCH = 64  # rows at once
LANES = 64  # float32 numbers that any processor's registers hold at once, unrolled
MICRO_BATCH = 8  # rows at once with deterministic="batch"


@dataclass(frozen=True)
class FindingsConfig:
    """Size of the network."""

    width: int = 32  # channels after the stem; the last stage has 4 times as many
    kernel: int = 7  # samples, in every block
    blocks: int = 2  # in each stage but the first, dilated 1, 4, 16, ...
    dropout: float = 0.1  # of whole features before the head, in training


class Block(nn.Module):
    """Depthwise convolution over time, then a two-layer mix of channels, added to its input; ``(B, C, L)``."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        reach = dilation * (kernel // 2)
        self.over_time = nn.Conv1d(channels, channels, kernel, padding=reach, dilation=dilation, groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        self.widen = nn.Conv1d(channels, 2 * channels, 1)
        self.narrow = nn.Conv1d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, T)`` to the same shape: the input plus what the block makes of it."""
        return x + self.narrow(functional.gelu(self.widen(self.norm(self.over_time(x)))))


class FindingsNet(nn.Module):
    """Logits ``(B, 17)`` from ``(B, 8, 1024)`` [mV]: four stages, each half as long, then mean and maximum."""

    def __init__(self, config: FindingsConfig | None = None) -> None:
        super().__init__()
        self.config = config or FindingsConfig()
        c, kernel = self.config.width, self.config.kernel
        widths = (c, 2 * c, 3 * c, 4 * c)
        layers: list[nn.Module] = []
        before = len(INDEPENDENT_LEADS)
        for stage, channels in enumerate(widths):
            reach = kernel // 2 if stage == 0 else 1
            layers.append(nn.Conv1d(before, channels, 2 * reach + 1, stride=2, padding=reach))
            if stage > 0:  # at full length blocks would take half of the time and see 70 ms
                layers += [Block(channels, kernel, 4**i) for i in range(self.config.blocks)]
            before = channels
        self.body = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(2 * before)
        self.dropout = nn.Dropout(self.config.dropout)
        self.head = nn.Linear(2 * before, len(FINDINGS))
        self.slope: Tensor
        self.margin_weight: Tensor
        self.intercept: Tensor
        self.register_buffer("slope", torch.ones(len(FINDINGS)))  # Platt's calibration, part of the weights
        self.register_buffer("margin_weight", torch.zeros(len(FINDINGS)))
        self.register_buffer("intercept", torch.zeros(len(FINDINGS)))

    def forward(self, strips: Tensor) -> Tensor:
        """Uncalibrated logits."""
        centred = strips - strips.median(dim=-1, keepdim=True).values
        x = self.body(centred.clamp(-LARGEST_MV, LARGEST_MV))
        return self.head(self.dropout(self.norm(torch.cat([x.mean(-1), x.amax(-1)], dim=1))))

    def probabilities(self, logits: Tensor, margins: Tensor) -> Tensor:
        """Calibrated probabilities ``(B, 17)`` of logits and margins ``(B, 17)``.

        Each row is padded to whole vector registers: the last few numbers of an array are otherwise worked out by other
        instructions, and a row's last bit would depend on its place in the batch.
        """
        weighed = self.slope * logits + self.margin_weight * margins.nan_to_num() + self.intercept
        decided = torch.from_numpy(DEFINED).to(margins.device) & margins.isfinite()
        calibrated = torch.where(decided, STEEPNESS * margins, weighed)
        padded = nn.functional.pad(calibrated, (0, -calibrated.shape[-1] % LANES))
        return torch.sigmoid(padded)[..., : calibrated.shape[-1]]


@cache
def reader(path: str = "") -> Findings:
    """The classifier at ``path``, by default that of the package's weights; loaded once."""
    return Findings.load(path or None)


class Findings:
    """The trained network behind a NumPy door."""

    def __init__(self, network: FindingsNet, sha256: str = "", metadata: dict | None = None) -> None:
        self.network = network.eval()
        self.sha256 = sha256
        self.metadata = metadata or {}

    @classmethod
    def load(cls, path: str | Path | None = None) -> Findings:
        """The packaged weights, or those at ``path``; ValueError when the file is not what it should be."""
        result = checkpoint.load_packaged(PACKAGED, KIND) if path is None else checkpoint.load(path, KIND)
        network = checkpoint.build(lambda value: FindingsNet(FindingsConfig(**value)), result)
        checkpoint.restore(network, result)
        return cls(network, result.sha256, result.metadata)

    @torch.no_grad()
    def probabilities(
        self, strips: np.ndarray, deterministic: str | None = None, intervals: Intervals | None = None
    ) -> np.ndarray:
        """Probabilities ``(B, 17)`` float64 of strips ``(B, 12 or 8, 1024)`` [mV].

        ``intervals`` are what is measured on them, measured here where they are not given.
        With ``deterministic="batch"`` the network always sees batches of one size, filled up by their last row, and a
        row's bits do not depend on the rows beside it.
        """
        if strips.shape[1:] not in ((len(LEADS), MODEL_SAMPLES), (len(INDEPENDENT_LEADS), MODEL_SAMPLES)):
            raise ValueError(
                f"strips have shape {strips.shape}; expected (B, 12, {MODEL_SAMPLES}) or (B, 8, {MODEL_SAMPLES}) [mV]; "
                "use ecg_gym.waveform.to_model_grid"
            )
        leads = independent_from_leads(strips) if strips.shape[1] == len(LEADS) else strips
        rows = torch.from_numpy(np.ascontiguousarray(leads, dtype=np.float32))
        if intervals is None:
            twelve = strips if strips.shape[1] == len(LEADS) else limb_from_independent(strips)
            intervals = measure(ECG(twelve, MODEL_RATE_HZ))
        beyond = torch.from_numpy(margins(intervals).astype(np.float32))
        size = MICRO_BATCH if deterministic else BATCH
        parts = [self._batch(part, margin, deterministic) for part, margin in zip(rows.split(size), beyond.split(size))]
        return torch.cat(parts).double().numpy() if parts else np.empty((0, len(FINDINGS)))

    def _batch(self, rows: Tensor, beyond: Tensor, deterministic: str | None) -> Tensor:
        lacking = MICRO_BATCH - len(rows) if deterministic and len(rows) else 0
        filled = torch.cat([rows, rows[-1:].expand(lacking, *rows.shape[1:])]) if lacking else rows
        return self.network.probabilities(self.network(filled)[: len(rows)], beyond)
