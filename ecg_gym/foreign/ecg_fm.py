"""ECG-FM: the 17 findings of a strip by a transformer over its two halves, with the training weights taken out.

wav2vec 2.0 (Baevski 2020) with four convolutions of stride 2, a convolutional positional encoding and twelve
post-norm layers; fine-tuned by McKeen 2024 doi:10.48550/arXiv.2408.05178, MIT licence. Its loss counted a positive
case ``w`` times, which multiplies the odds by ``w``: ``ln w`` is subtracted from each logit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ecg_gym import checkpoint
from ecg_gym.core import LEADS
from ecg_gym.foreign.preprocessing import fm_input
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.waveform.intervals import Intervals
from ecg_gym.yaml_files import read_yaml

KIND = "ecg-fm"
TABLE = Path(__file__).with_name("ecg_fm.yaml")
BATCH = 4  # strips at once


@dataclass(frozen=True)
class FMConfig:
    """Size of the network; the defaults are the published weights."""

    features: int = 256  # channels of the convolutions
    convolutions: int = 4  # each halves the length
    width: int = 768
    hidden: int = 3072  # of the feed-forward part
    layers: int = 12
    heads: int = 12
    positions: int = 128  # taps of the positional convolution
    groups: int = 16  # of the positional convolution
    labels: int = 17


class Extractor(nn.Module):
    """``(B, 12, T)`` to ``(B, features, T / 2^convolutions)``; the first output is normalised over time by channel."""

    def __init__(self, config: FMConfig) -> None:
        super().__init__()
        n = config.features
        layers = []
        for i in range(config.convolutions):
            parts: list[nn.Module] = [nn.Conv1d(n if i else len(LEADS), n, 2, 2, bias=False), nn.Identity()]
            layers.append(nn.Sequential(*parts, *([] if i else [nn.GroupNorm(n, n)]), nn.GELU()))
        self.conv_layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features over time."""
        for layer in self.conv_layers:
            x = layer(x)
        return x


class Positions(nn.Module):
    """What a grouped convolution over time adds to each frame; the surplus last frame is cut off."""

    def __init__(self, config: FMConfig) -> None:
        super().__init__()
        n = config.width
        self.pos_conv = nn.Sequential(
            nn.Conv1d(n, n, config.positions, padding=config.positions // 2, groups=config.groups)
        )
        self.surplus = 1 - config.positions % 2

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same shape."""
        y = self.pos_conv(x.transpose(1, 2))
        return functional.gelu(y[..., : y.shape[-1] - self.surplus]).transpose(1, 2)


class Attention(nn.Module):
    """Scaled dot-product attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.k_proj, self.v_proj, self.q_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same shape."""
        b, t, width = x.shape
        q, k, v = (
            part(x).reshape(b, t, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, width))


class Layer(nn.Module):
    """Attention and a feed-forward part, each added to its input and normalised afterwards."""

    def __init__(self, config: FMConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.width, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1, self.fc2 = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same shape."""
        x = self.self_attn_layer_norm(x + self.self_attn(x))
        return self.final_layer_norm(x + self.fc2(functional.gelu(self.fc1(x))))


class Transformer(nn.Module):
    """A norm, then the layers."""

    def __init__(self, config: FMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)`` to the same shape."""
        x = self.layer_norm(x)
        for layer in self.layers:
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Frames ``(B, T / 16, width)`` of a segment ``(B, 12, T)``."""

    def __init__(self, config: FMConfig) -> None:
        super().__init__()
        self.feature_extractor = Extractor(config)
        self.layer_norm = nn.LayerNorm(config.features)
        self.post_extract_proj = nn.Linear(config.features, config.width)
        self.conv_pos = Positions(config)
        self.encoder = Transformer(config)

    def forward(self, x: Tensor) -> Tensor:
        """Frames over time."""
        x = self.post_extract_proj(self.layer_norm(self.feature_extractor(x).transpose(1, 2)))
        return self.encoder(x + self.conv_pos(x))


class FMNet(nn.Module):
    """Logits ``(B, 17)`` of segments ``(B, 12, 2500)``: a linear map of the mean frame."""

    def __init__(self, config: FMConfig | None = None) -> None:
        super().__init__()
        self.config = config or FMConfig()
        self.encoder = Encoder(self.config)
        self.proj = nn.Linear(self.config.width, self.config.labels)

    def forward(self, x: Tensor) -> Tensor:
        """Logits as trained, positive cases weighted."""
        return self.proj(self.encoder(x).mean(1))


@cache
def positive_weights() -> np.ndarray:
    """How often each positive case was counted in training, ``(17,)`` in the order of ``FINDINGS``."""
    rows = read_yaml(TABLE)["positive_weight"]["value"]
    return np.array([float(rows[finding]) for finding in FINDINGS])


def corrected(logits: np.ndarray) -> np.ndarray:
    """Probabilities ``(..., 17)`` of logits ``(..., 17)`` that were trained with positive cases weighted."""
    return 1 / (1 + np.exp(np.log(positive_weights()) - logits))


class ECGFM:
    """The imported network as a source of findings: the mean probability of the two halves of a strip."""

    name = KIND

    def __init__(self, network: FMNet, sha256: str = "", metadata: dict | None = None) -> None:
        self.network, self.sha256, self.metadata = network.eval(), sha256, metadata or {}

    @classmethod
    def load(cls, path: str | Path) -> ECGFM:
        """The weights at ``path``, as ``ecg-gym weights import`` wrote them; ValueError for any other file."""
        stored = checkpoint.load(path, KIND)
        network = checkpoint.build(lambda config: FMNet(FMConfig(**config)), stored)
        checkpoint.restore(network, stored)
        return cls(network, stored.sha256, stored.metadata)

    @torch.no_grad()
    def logits(self, strips: np.ndarray, deterministic: str | None = None) -> np.ndarray:
        """Logits ``(B, 2, 17)`` float64 of both halves of strips ``(B, 12 or 8, 1024)`` [mV], as trained."""
        halves = torch.from_numpy(fm_input(strips))
        parts = [self.network(part.flatten(0, 1)) for part in halves.split(1 if deterministic else BATCH)]
        return torch.cat(parts).double().reshape(-1, 2, len(FINDINGS)).numpy() if parts else np.empty((0, 2, 17))

    def probabilities(
        self, strips: np.ndarray, deterministic: str | None = None, intervals: Intervals | None = None
    ) -> np.ndarray:
        """Probabilities ``(B, 17)`` float64 of our findings; with ``"batch"`` strip by strip, free of the batch."""
        return corrected(self.logits(strips, deterministic)).mean(axis=1)

    def beyond_findings(self, strips: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing: the network has the 17 findings only."""
        return {}


def folded(tensors: dict[str, Any]) -> dict[str, Any]:
    """The file's tensors with the positional convolution's weight made of its direction and length.

    Both spellings of PyTorch's weight normalisation (Salimans 2016) are read: ``weight_g``, ``weight_v`` and
    ``parametrizations.weight.original0``, ``original1``. The length is one number per tap.
    """
    path = "encoder.conv_pos.pos_conv.0."
    result = dict(tensors)
    for length, direction in SPELLINGS:
        if path + length in result:
            g, v = (np.asarray(result.pop(path + name), dtype=np.float64) for name in (length, direction))
            size = np.sqrt((v**2).sum(axis=(0, 1), keepdims=True))
            result[path + "weight"] = (g * v / size).astype(np.float32)
    return result


SPELLINGS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
