"""Random numbers by counter, for compiled loops: a stream is a key, and a row's numbers depend on its key only.

SplitMix64 (Steele 2014 doi:10.1145/2660193.2660195): the n-th number is a mix of ``key + n gamma``. Streams of one key
for different purposes begin at mixed keys, so that more draws for one purpose do not move those of another.
"""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@compiled
def _mixed(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


@compiled
def stream(key: np.uint64, purpose: int) -> np.ndarray:
    """A stream ``(1,)`` uint64 of a row's key, one for each purpose; drawing from it moves it on."""
    state = np.empty(1, np.uint64)
    state[0] = _mixed(np.uint64(key) + _mixed(np.uint64(purpose + 1) * _GAMMA))
    return state


@compiled
def uniform(state: np.ndarray) -> float:
    """In [0, 1)."""
    state[0] += _GAMMA
    return (_mixed(state[0]) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def between(state: np.ndarray, low: float, high: float) -> float:
    """Uniform between two numbers."""
    return low + (high - low) * uniform(state)


@compiled
def below(state: np.ndarray, n: int) -> int:
    """A whole number from 0 to n - 1."""
    return min(int(uniform(state) * n), n - 1)


@compiled
def normal(state: np.ndarray) -> float:
    """Standard normal (Box and Muller 1958)."""
    radius = math.sqrt(-2 * math.log(1 - uniform(state)))
    return radius * math.cos(2 * math.pi * uniform(state))


@compiled
def gamma(state: np.ndarray, shape: float) -> float:
    """Gamma-distributed, of scale 1 and a shape of at least 1 (Marsaglia and Tsang 2000 doi:10.1145/358407.358414)."""
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = normal(state)
        v = (1 + c * x) ** 3
        if v > 0 and math.log(1 - uniform(state)) < 0.5 * x * x + d - d * v + d * math.log(v):
            return d * v
