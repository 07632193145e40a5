"""Who is a woman, and who takes what in which order: balanced, then shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ecg_gym.clinical_trial.protocol import Protocol


def assign(protocol: Protocol, n: int, rng: np.random.Generator) -> list[tuple[str, tuple[str, ...]]]:
    """Sex ("F", "M") and order of arms of each of ``n`` people; one arm each in a parallel design."""
    women = round(n * protocol.population.female)
    sexes = rng.permutation(["F"] * women + ["M"] * (n - women))
    names = [arm.name for arm in protocol.arms]
    if protocol.design == "parallel":
        possible: list[tuple[str, ...]] = [(name,) for name in names]
    elif protocol.sequences == "random":
        return [(str(sex), tuple(map(str, rng.permutation(names)))) for sex in sexes]
    elif isinstance(protocol.sequences, str):
        square = williams(len(names)) if protocol.sequences == "williams" else latin(len(names))
        possible = [tuple(names[i] for i in row) for row in square]
    else:
        possible = list(protocol.sequences)
    return [(str(sex), order) for sex, order in zip(sexes, _balanced(possible, n, rng))]


def _balanced(possible: Sequence[tuple[str, ...]], n: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """``n`` draws in blocks that hold each possibility once, every block shuffled."""
    samples: list[tuple[str, ...]] = []
    while len(samples) < n:
        samples += [possible[i] for i in rng.permutation(len(possible))]
    return samples[:n]


def latin(k: int) -> list[tuple[int, ...]]:
    """The cyclic Latin square: each treatment once in each period."""
    return [tuple((row + column) % k for column in range(k)) for row in range(k)]


def williams(k: int) -> list[tuple[int, ...]]:
    """Williams' design: each treatment equally often in each period and after each other one; 2k rows for odd k.

    Williams 1949, Aust J Sci Res A 2:149.
    """
    first = [0]
    for step in range(1, k):
        first.append((first[-1] + (step if step % 2 else -step)) % k)
    square = [tuple((x + row) % k for x in first) for row in range(k)]
    return square if k % 2 == 0 else square + [tuple(reversed(row)) for row in square]
