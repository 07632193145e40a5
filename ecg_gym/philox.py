"""Philox4x64-10 as a Numba function: the numbers that ``numpy.random.Philox`` gives at the same key and counter.

Salmon 2011, doi:10.1145/2063384.2063405. NumPy counts up before it draws, so its first four words at a counter
``(0, s, e, p)`` are the block ``(1, s, e, p)`` here.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ecg_gym.compiled import compiled_exact

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@njit(inline="always")
def _high(a, b):
    """The upper 64 bits of a 128-bit product."""
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a1 * b0 + ((a0 * b0) >> _HALF)
    lower = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _HALF) + (lower >> _HALF)


@compiled_exact
def block(k0, k1, c0, c1, c2, c3):
    """Four words of 64 bits at a key and a counter, all uint64."""
    for _ in range(10):
        h0, l0 = _high(_M0, c0), _M0 * c0
        h1, l1 = _high(_M1, c2), _M1 * c2
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 += _W0
        k1 += _W1
    return c0, c1, c2, c3


@njit(inline="always")
def unit(word):
    """A number in [0, 1) from a word, as NumPy makes it."""
    return np.float64(word >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled_exact
def fill_uniform(key, counter, out):
    """``out (B, n)`` in [0, 1): row b from key ``(B, 2)`` and counter words 1..3 ``(B, 3)``."""
    for b in range(out.shape[0]):
        for j in range(0, out.shape[1], 4):
            words = block(
                key[b, 0], key[b, 1], np.uint64(j // 4 + 1), counter[b, 0], counter[b, 1], counter[b, 2]
            )  # fmt: skip
            for i in range(min(4, out.shape[1] - j)):
                out[b, j + i] = unit(words[i])


@compiled_exact
def normal(u, v):
    """A standard normal number out of two uniform ones (Box and Muller 1958)."""
    return math.sqrt(-2.0 * math.log1p(-u)) * math.cos(2.0 * math.pi * v)
