"""S independent small perceptrons as one set of tensors: the neural parts of a tissue model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def perceptron(
    rows: int, inputs: int, width: int, outputs: int, generator: torch.Generator, last: float = 0.1
) -> Weights:
    """Weights of ``rows`` networks with two hidden layers of tanh units; ``last`` scales the output layer."""

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(rows, *shape, generator=generator) * scale

    return {
        "w1": normal(inputs, width, scale=1.2 / math.sqrt(max(inputs / 2, 1))),
        "b1": normal(1, width, scale=0.5),
        "w2": normal(width, width, scale=1 / math.sqrt(width)),
        "b2": torch.zeros(rows, 1, width),
        "w3": normal(width, outputs, scale=last / math.sqrt(width)),
        "b3": torch.zeros(rows, 1, outputs),
    }


def apply(weights: Weights, x: Tensor) -> Tensor:
    """``(S, M, outputs)`` from ``x (S, M, inputs)``."""
    x = torch.tanh(torch.baddbmm(weights["b1"], x, weights["w1"]))
    x = torch.tanh(torch.baddbmm(weights["b2"], x, weights["w2"]))
    return torch.baddbmm(weights["b3"], x, weights["w3"])


def on_nodes(weights: Weights, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The outputs, each ``(M, B, S)``, for inputs of that shape."""
    m, b, s = torch.broadcast_shapes(*(x.shape for x in inputs))
    x = torch.stack([x.expand(m, b, s) for x in inputs], dim=-1).permute(2, 0, 1, 3).reshape(s, m * b, len(inputs))
    out = apply(weights, x).reshape(s, m, b, -1).permute(3, 1, 2, 0).contiguous()
    return tuple(out)
