"""``FirstStrip``: a strip that a state begins at, and what is worked out of it once, when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_gym.core import State
from ecg_gym.physiology import Ectopy, LeadFit

FADE = 20  # samples over which the end of a strip gives way to its beginning
MOST_STRETCH = 2.0  # by which a strip without a typical beat is made faster or slower


class FirstStrip:
    """One strip that a state begins at, and what is worked out of it once, when it is asked for.

    Without a ``strip`` it is that of row ``origin[1]`` of the state ``origin[0]`` of another world, drawn when somebody
    looks at it.
    """

    __slots__ = ("_strip", "ectopy", "fit", "latent", "missing", "origin", "view")

    def __init__(
        self, strip: np.ndarray | None, missing: np.ndarray, latent: np.ndarray | None = None,
        origin: tuple[State, int] | None = None,
    ) -> None:  # fmt: skip
        self._strip = strip
        self.origin = origin
        self.missing = missing  # (8,) bool: independent leads that were not recorded
        self.latent = latent  # (C, 128) float32
        self.view: np.ndarray | None = None  # (12, 1024) as the codec sees it
        self.fit: LeadFit | None = None  # of one
        self.ectopy: Ectopy | None = None

    @property
    def strip(self) -> np.ndarray:
        """The strip as it was recorded ``(12, 1024)`` float32 [mV]."""
        if self._strip is None:
            record([self])
        assert self._strip is not None
        return self._strip

    def __eq__(self, other: object) -> bool:
        """The same recording; what was worked out of it follows."""
        if not isinstance(other, FirstStrip):
            return NotImplemented
        return np.array_equal(self.strip, other.strip, equal_nan=True) and np.array_equal(self.missing, other.missing)

    __hash__ = object.__hash__  # by identity, as before: a recording is large


Records = Sequence[FirstStrip] | np.ndarray  # (B,) of objects


def record(records: Records) -> None:
    """Draw the strips that nobody has looked at yet, those of one state together."""
    waiting: dict[int, list[FirstStrip]] = {}
    for one in dict.fromkeys(records):
        if one._strip is None and one.origin is not None:
            waiting.setdefault(id(one.origin[0]), []).append(one)
    for group in waiting.values():
        state, rows = group[0].origin[0], [one.origin[1] for one in group]  # type: ignore[index]
        for one, strip in zip(group, np.asarray(state[np.array(rows)].ecg, np.float32)):
            one._strip, one.origin = strip, None


def unfinished(records: Records, name: str) -> list[FirstStrip]:
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
