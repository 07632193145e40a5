"""What is remembered of a person's earlier looks: running sums of each level about what pharmacology expected of it.

A level is an interval of a look (rate as a logarithm). With ``e`` the change that an average heart of this first look
would have shown by then, and ``r`` what the look showed beyond it, five sums are enough for the mean of ``r``, and for
how strongly this person answers (the slope of ``r`` on ``e``). A look in another rhythm begins the sums anew.
"""

from __future__ import annotations

import numpy as np

from ecg_gym.world_model.conditioning import (
    ELECTROLYTES,
    LEVELS,
    MEASURED,
    MODULATION,
    OBSERVED,
    SUMS,
    Look,
    expected_intervals,
)

_P = OBSERVED.index("p_present")


def nothing(n: int) -> np.ndarray:
    """No earlier looks of ``n`` people: ``(n, len(SUMS) * len(LEVELS))`` float32."""
    return np.zeros((n, len(SUMS) * len(LEVELS)), np.float32)


def remembered(memory: np.ndarray, baseline: Look, last: Look, now: Look) -> np.ndarray:
    """``memory (B, ...)`` of what came before ``last``, with ``last`` taken in, for people whose next look is ``now``.

    What was remembered is forgotten where ``now`` and ``last`` disagree about P waves.
    """
    e, r = beyond(baseline, last)
    finite = np.isfinite(e) & np.isfinite(r)
    e, r = np.where(finite, e, 0.0), np.where(finite, r, 0.0)
    more = np.stack([e * e, e * r, r, finite.astype(float)], axis=1).reshape(len(memory), -1)
    with np.errstate(invalid="ignore"):
        same = last.observed[:, _P] == now.observed[:, _P]
    return np.where(same[:, None], memory + more, 0.0).astype(np.float32)


def beyond(baseline: Look, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """How far an average heart of the first look has moved by a later one, and the person beyond it: ``(B, 6)``."""
    there, then = levels(look.observed), levels(baseline.observed)
    expected = levels_expected(baseline, look.exposure)
    return expected - then, there - expected


def levels(observed: np.ndarray) -> np.ndarray:
    """The levels ``(B, 6)`` of measurements ``(B, len(OBSERVED))``; the rate as a logarithm."""
    return _logarithmic(observed[:, [OBSERVED.index(name) for name in LEVELS]])


def levels_expected(baseline: Look, exposure: np.ndarray) -> np.ndarray:
    """The levels ``(B, 6)`` of average hearts of the first look once they have ``exposure`` on board."""
    then = {name: baseline.observed[:, i].astype(float) for i, name in enumerate(MEASURED)}
    was, now = (
        {word: each[:, len(ELECTROLYTES) + i].astype(float) for i, word in enumerate(MODULATION)}
        for each in (baseline.exposure, exposure)
    )
    expected = expected_intervals(then, baseline.observed[:, _P], was, now)
    return _logarithmic(np.stack([expected[name] for name in LEVELS], axis=1))


def _logarithmic(levels: np.ndarray) -> np.ndarray:
    result = np.array(levels, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        result[:, 0] = np.log(result[:, 0])
    return result
