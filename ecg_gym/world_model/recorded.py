"""``Recorded``: a strip that a state begins at, and what is worked out of it once, when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_gym.physiology import Ectopy, LeadFit

FADE = 20  # samples over which the end of a strip gives way to its beginning
MOST_STRETCH = 2.0  # by which a strip without a typical beat is made faster or slower


class Recorded:
    """One strip that a state begins at, and what is worked out of it once, when it is asked for."""

    __slots__ = ("ectopy", "fit", "latent", "missing", "seen", "strip")

    def __init__(self, strip: np.ndarray, missing: np.ndarray, latent: np.ndarray | None = None) -> None:
        self.strip = strip  # (12, 1024) float32 [mV]
        self.missing = missing  # (8,) bool: independent leads that were not recorded
        self.latent = latent  # (C, 128) float32
        self.seen: np.ndarray | None = None  # (12, 1024) as the codec sees it
        self.fit: LeadFit | None = None  # of one
        self.ectopy: Ectopy | None = None

    def __eq__(self, other: object) -> bool:
        """The same recording; what was worked out of it follows."""
        if not isinstance(other, Recorded):
            return NotImplemented
        return np.array_equal(self.strip, other.strip, equal_nan=True) and np.array_equal(self.missing, other.missing)

    __hash__ = object.__hash__  # by identity, as before: a recording is large


Records = Sequence[Recorded] | np.ndarray  # (B,) of objects


def unfinished(records: Records, name: str) -> list[Recorded]:
    """The different ones of these strips that lack something."""
    return [record for record in dict.fromkeys(records) if getattr(record, name) is None]


def stretch(strip: np.ndarray, faster: float, key: int) -> np.ndarray:
    """A strip ``(12, T)`` [mV] at another rate from another moment on; its end fades into its beginning."""
    t = strip.shape[1]
    weight = (np.arange(FADE) + 1) / (FADE + 1)
    around = np.array(strip[:, : t - FADE])
    around[:, :FADE] = weight * around[:, :FADE] + (1 - weight) * strip[:, t - FADE :]
    begin = np.random.default_rng([key, 1]).uniform(0, t)
    at = (begin + faster * np.arange(t)) % (t - FADE)
    grid = np.arange(t - FADE + 1)
    return np.stack([np.interp(at, grid, np.append(lead, lead[0])) for lead in around]).astype(np.float32)
