"""ECGFounder: 150 diagnostic statements of a 12-lead strip, and 17 findings made of them.

Network: a 1-D residual network of bottleneck blocks with grouped convolutions (RegNet's design, Radosavovic 2020),
squeeze and excitation (Hu 2018) and swish, without batch norm although the file stores its numbers. Li 2025
doi:10.1056/AIoa2401033; layers and shapes as published with the MIT-licensed weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from ecg_gym.foreign.preprocessing import founder_input
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.waveform.intervals import Intervals
from ecg_gym.yaml_files import read_yaml

KIND = "ecgfounder"
TABLE = Path(__file__).with_name("ecgfounder.yaml")
BATCH = 8  # strips at once


@dataclass(frozen=True)
class FounderConfig:
    """Size of the network; the defaults are the published 12-lead weights."""

    widths: tuple[int, ...] = (64, 160, 160, 400, 400, 1024, 1024)  # channels of each stage
    blocks: tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)  # in each stage; the first of a stage halves the length
    kernel: int = 16  # samples
    group_width: int = 16  # channels of a group
    tasks: int = 150


class SameConv(nn.Module):
    """A convolution whose output has ``ceil(T / stride)`` samples: zeros on both sides, the odd one on the right."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(before, after, kernel, stride, groups=groups)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, before, T)`` to ``(B, after, ceil(T / stride))``."""
        length = x.shape[-1]
        lacking = max(0, (-(-length // self.stride) - 1) * self.stride + self.kernel - length)
        return self.conv(functional.pad(x, (lacking // 2, lacking - lacking // 2)))


class Bottleneck(nn.Module):
    """1 x 1, grouped, 1 x 1 convolution, each behind a swish; gated by channel; plus the input.

    Where the block halves the length, its input is padded by one zero on the right and max-pooled over 2; where it
    has more channels than its input, zeros are put on both sides of the channels.
    """

    def __init__(self, before: int, after: int, config: FounderConfig, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = SameConv(before, after, 1)
        self.conv2 = SameConv(after, after, config.kernel, stride, after // config.group_width)
        self.conv3 = SameConv(after, after, 1)
        self.se_fc1 = nn.Linear(after, after // 2)
        self.se_fc2 = nn.Linear(after // 2, after)
        self.stride, self.first, self.added = stride, first, after - before

    def forward(self, x: Tensor) -> Tensor:
        """``(B, before, T)`` to ``(B, after, ceil(T / stride))``."""
        inner = self.conv1(x if self.first else functional.silu(x))
        inner = self.conv3(functional.silu(self.conv2(functional.silu(inner))))
        gate = torch.sigmoid(self.se_fc2(functional.silu(self.se_fc1(inner.mean(-1)))))
        skip = functional.max_pool1d(functional.pad(x, (0, 1)), 2) if self.stride == 2 else x
        left = self.added // 2
        skip = functional.pad(skip, (0, 0, left, self.added - left)) if self.added else skip
        return inner * gate[:, :, None] + skip


class Stage(nn.Module):
    """Blocks of one width."""

    def __init__(self, before: int, after: int, count: int, config: FounderConfig, first: bool) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(
            Bottleneck(after if i else before, after, config, 1 if i else 2, first and i == 0) for i in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, before, T)`` to ``(B, after, ceil(T / 2))``."""
        for block in self.block_list:
            x = block(x)
        return x


class FounderNet(nn.Module):
    """Logits ``(B, 150)`` from ``(B, 12, T)``, standardised at 500 Hz."""

    def __init__(self, config: FounderConfig | None = None) -> None:
        super().__init__()
        self.config = config or FounderConfig()
        widths = self.config.widths
        self.first_conv = SameConv(len(LEADS), widths[0], self.config.kernel, 2)
        self.stage_list = nn.ModuleList(
            Stage(widths[max(i - 1, 0)], width, count, self.config, i == 0)
            for i, (width, count) in enumerate(zip(widths, self.config.blocks))
        )
        self.dense = nn.Linear(widths[-1], self.config.tasks)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the tasks."""
        x = functional.silu(self.first_conv(x))
        for stage in self.stage_list:
            x = stage(x)
        return self.dense(x.mean(-1))


def unused_shapes(network: FounderNet) -> dict[str, tuple[int, ...]]:
    """Name to shape of what the published file stores and nothing reads: batch norms that are switched off."""
    shapes = dict(_batch_norm("first_bn", network.config.widths[0]))
    for s, stage in enumerate(network.stage_list):
        for b, block in enumerate(stage.block_list):  # type: ignore[arg-type]
            path = f"stage_list.{s}.block_list.{b}"
            before, after = block.conv1.conv.in_channels, block.conv1.conv.out_channels
            for name, channels in (("bn1", before), ("bn2", after), ("bn3", after)):
                shapes.update(_batch_norm(f"{path}.{name}", channels))
    return shapes


def _batch_norm(path: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield f"{path}.{name}", (channels,)
    yield f"{path}.num_batches_tracked", ()


@cache
def table() -> dict[str, Any]:
    """``ecgfounder.yaml``: the tasks in the order of the network's output, and which of them make a finding."""
    return read_yaml(TABLE)


def tasks() -> tuple[str, ...]:
    """The 150 diagnostic statements, in the order of the network's output."""
    return tuple(table()["tasks"])


def findings_of(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities ``(B, 17)`` of our findings from those of the tasks ``(B, 150)``.

    A finding is as likely as the likeliest of its tasks: the least that the probability of one or more of them can be.
    A finding without a task has probability 0: the network cannot see it.
    """
    places = {name: i for i, name in enumerate(tasks())}
    result = np.zeros((len(probabilities), len(FINDINGS)))
    for i, finding in enumerate(FINDINGS):
        columns = [places[name] for name in table()["findings"][finding]["tasks"]]
        if columns:
            result[:, i] = probabilities[:, columns].max(axis=1)
    return result


class ECGFounder:
    """The imported network as a source of findings; ``probabilities_of_tasks`` has what the 17 lack, QT above all."""

    name = KIND

    def __init__(self, network: FounderNet, sha256: str = "", metadata: dict | None = None) -> None:
        self.network, self.sha256, self.metadata = network.eval(), sha256, metadata or {}

    @classmethod
    def load(cls, path: str | Path) -> ECGFounder:
        """The weights at ``path``, as ``ecg-gym weights import`` wrote them; ValueError for any other file."""
        stored = checkpoint.load(path, KIND)
        network = checkpoint.build(lambda config: FounderNet(_config(config)), stored)
        checkpoint.restore(network, stored)
        return cls(network, stored.sha256, stored.metadata)

    @torch.no_grad()
    def probabilities_of_tasks(self, strips: np.ndarray, deterministic: str | None = None) -> np.ndarray:
        """Probabilities ``(B, 150)`` float64 of strips ``(B, 12 or 8, 1024)`` [mV] on the model grid."""
        inputs = torch.from_numpy(founder_input(strips))
        parts = [self.network(part) for part in inputs.split(1 if deterministic else BATCH)]
        return torch.sigmoid(torch.cat(parts)).double().numpy() if parts else np.empty((0, self.network.config.tasks))

    def probabilities(
        self, strips: np.ndarray, deterministic: str | None = None, intervals: Intervals | None = None
    ) -> np.ndarray:
        """Probabilities ``(B, 17)`` float64 of our findings; with ``"batch"`` strip by strip, free of the batch."""
        return findings_of(self.probabilities_of_tasks(strips, deterministic))

    def beyond_findings(self, strips: np.ndarray) -> dict[str, np.ndarray]:
        """What the 17 findings are blind to: statement -> probability ``(B,)``."""
        names: Sequence[str] = table()["beyond_findings"]["tasks"]
        rows = self.probabilities_of_tasks(strips)
        return {name: rows[:, tasks().index(name)] for name in names}


def _config(values: dict[str, Any]) -> FounderConfig:
    return FounderConfig(**{**values, "widths": tuple(values["widths"]), "blocks": tuple(values["blocks"])})
