"""``Look``: what is read of B people: intervals and signs of a strip, its 17 findings, and a cuff's mean pressure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

READ = (
    "hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtcf_ms", "jtpeakc_ms", "tpeak_tend_ms", "r_amplitude_mv", "t_amplitude_mv",
    "p_present", "regular", "n_beats", "map_mmhg",
)  # fmt: skip


N_FINDINGS = 17  # those of the risk model, in its order
CERTAIN = 1e-4  # the log odds of a finding are those of no surer one than this


@dataclass(frozen=True, eq=False)
class Look(Mapping[str, np.ndarray]):
    """One row per name, one column per strip."""

    intervals: np.ndarray  # (len(READ), B) by the names of ``waveform.Intervals``; NaN where not measurable
    probabilities: np.ndarray  # (17, B) of the findings; NaN where nobody judged them

    def __getitem__(self, name: str) -> np.ndarray:
        return self.intervals[_PLACE[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(READ)

    def __len__(self) -> int:
        return len(READ)

    def rows(self, names: tuple[str, ...]) -> np.ndarray:
        """Some of the readings ``(len(names), B)``."""
        return self.intervals[[_PLACE[name] for name in names]]

    @property
    def n(self) -> int:
        """How many strips."""
        return self.intervals.shape[1]

    @cached_property
    def findings(self) -> np.ndarray:
        """Which findings are likelier than not ``(17, B)`` bool."""
        with np.errstate(invalid="ignore"):
            return self.probabilities >= 0.5

    def take(self, rows: Any) -> Look:
        """Some of the strips."""
        return Look(self.intervals[:, rows], self.probabilities[:, rows])

    @classmethod
    def empty(cls, n: int) -> Look:
        """Room for ``n`` strips; nobody has judged their findings."""
        return cls(np.full((len(READ), n), np.nan), np.full((N_FINDINGS, n), np.nan))


_PLACE = {name: i for i, name in enumerate(READ)}


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """The logarithm of the odds of probabilities, none surer than ``CERTAIN``; NaN stays."""
    p = np.clip(np.asarray(probabilities, float), CERTAIN, 1 - CERTAIN)
    return np.log(p / (1 - p))
