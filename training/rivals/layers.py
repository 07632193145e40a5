"""Parts that several rivals share: a condition as one vector, blocks that hear it, tokens, and a critic.

A strip is its typical beat, C x 128 numbers (`training.rivals.typical_beats`), cut into 32 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.rivals.condition import Condition

TOKENS = 32


@dataclass(frozen=True)
class Shape:
    """Of what is known and what is drawn."""

    channels: int  # of a beat
    columns: int
    facts: int  # numbers of a condition
    width: int = 64  # channels of a token
    condition: int = 64  # channels of a condition as a vector

    @property
    def form(self) -> tuple[int, int]:
        """Channels and columns of a beat."""
        return self.channels, self.columns


class Listener(nn.Module):
    """A condition as a vector ``(B, condition)``: its numbers, and the whole beat before."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.condition
        self.facts = nn.Sequential(nn.Linear(shape.facts, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.before = nn.Linear(shape.channels * shape.columns, width)

    def forward(self, condition: Condition) -> Tensor:
        """The vector of each row."""
        return self.facts(condition.facts) + self.before(condition.before.flatten(1))


class Patches(nn.Module):
    """A strip ``(B, channels, columns)`` as tokens ``(B, width, TOKENS)``."""

    def __init__(self, channels: int, columns: int, width: int) -> None:
        super().__init__()
        patch = columns // TOKENS
        self.conv = nn.Conv1d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """The tokens of each row."""
        return self.conv(x)


class Unpatch(nn.Module):
    """Tokens ``(B, width, TOKENS)`` as a strip ``(B, channels, columns)``."""

    def __init__(self, channels: int, columns: int, width: int) -> None:
        super().__init__()
        self.channels, self.columns = channels, columns
        self.head = nn.Conv1d(width, channels * columns // TOKENS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The strip of each row."""
        b, _, tokens = x.shape
        parts = self.head(x).reshape(b, self.channels, -1, tokens)
        return parts.transpose(2, 3).reshape(b, self.channels, self.columns)


class Block(nn.Module):
    """A residual block of two convolutions over tokens ``(B, width, n)`` that a vector shifts and scales."""

    def __init__(self, width: int, condition: int, kernel: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.film = nn.Linear(condition, 2 * width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """The tokens, plus what the block makes of them under ``vector (B, condition)``."""
        shift, scale = self.film(vector)[:, :, None].chunk(2, dim=1)
        y = self.first(functional.silu(x)) * (1 + scale) + shift
        return x + self.second(functional.silu(y))


class Attention(nn.Module):
    """Residual self-attention over tokens ``(B, width, n)``."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The tokens, plus what each takes from the others."""
        y = self.norm(x.transpose(1, 2))
        return x + self.attend(y, y, y, need_weights=False)[0].transpose(1, 2)


class Critic(nn.Module):
    """How real a beat looks under its condition, beside the beat before ``(B,)``: a score, and a projection on the
    condition (Miyato 2018).
    """

    def __init__(self, shape: Shape, attention: bool = False) -> None:
        super().__init__()
        self.listen = Listener(shape)
        self.patch = Patches(2 * shape.channels, shape.columns, shape.width)
        self.blocks = nn.ModuleList([Block(shape.width, shape.condition) for _ in range(3)])
        self.attend = Attention(shape.width) if attention else None
        self.score = nn.Linear(2 * shape.width, 1)
        self.project = nn.Linear(shape.condition, 2 * shape.width)

    def forward(self, strip: Tensor, condition: Condition) -> Tensor:
        """The score ``(B,)`` of each strip."""
        vector = functional.silu(self.listen(condition))
        x = self.patch(torch.cat([strip, condition.before], dim=1))
        for block in self.blocks:
            x = block(x, vector)
        if self.attend is not None:
            x = self.attend(x)
        x = functional.silu(x)
        pooled = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)
        return self.score(pooled)[:, 0] + (self.project(vector) * pooled).sum(dim=1)
