"""``FindingsSource``: whoever says how likely the 17 findings are on a strip; the second channel of a ``RiskModel``."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ecg_gym.waveform.intervals import Intervals


class FindingsSource(Protocol):
    """A network of ours, or one of another group (:mod:`ecg_gym.foreign`)."""

    sha256: str  # of its weights

    def probabilities(
        self, strips: np.ndarray, deterministic: str | None = None, intervals: Intervals | None = None
    ) -> np.ndarray:
        """Probabilities ``(B, 17)`` of ``FINDINGS`` for strips ``(B, 12, 1024)`` [mV] on the model grid.

        ``intervals`` are what is measured on them, for those who want to know. With ``deterministic="batch"`` a row's
        bits do not depend on the rows beside it.
        """
        ...
