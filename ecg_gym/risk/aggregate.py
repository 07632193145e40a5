"""The second channel as one number: probabilities of 17 findings ``(B, 17)`` to a risk ``(B,)`` in [0, 1].

``adverse`` is ours; ``mean``, ``max`` and ``top3`` are the paper's, taken literally: they count sinus rhythm as a risk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("findings.yaml")


@dataclass(frozen=True)
class Margin:
    """The interval that defines a finding."""

    quantity: str  # of ``waveform.Intervals``
    side: str  # "high" or "low": where the finding lies
    at: float
    per: float  # one unit of the margin, in units of the quantity
    absent: float  # margin where the interval cannot be measured
    source: str
    defines: bool = False  # the interval alone decides, where it is measured


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    name: str
    group: str  # findings of a group imply or exclude each other and count once
    severity: float  # in [0, 1]
    confidence: str
    source: str
    margin: Margin | None = None


_table = read_yaml(TABLE)
ROWS = tuple(
    Finding(**{**row, "margin": Margin(**row["margin"]) if "margin" in row else None}) for row in _table["findings"]
)
FINDINGS = tuple(row.name for row in ROWS)  # in the order of every probability array
POOR_QUALITY = FINDINGS.index("Poor data quality")
PACEMAKER = FINDINGS.index("Electronic pacemaker")
LIKELY = 0.5  # a finding counts as there from this probability
UNREADABLE = float(_table["unreadable"]["value"])  # a likelier poor quality than this closes the gate
SHARE = float(_table["share"]["value"])  # the largest part of the risk that findings alone can make


def readable(probabilities: np.ndarray) -> np.ndarray:
    """Whether each strip can be read ``(B,)`` bool: poor data quality is a gate and never a risk."""
    return probabilities[:, POOR_QUALITY] < UNREADABLE


def paced(probabilities: np.ndarray) -> np.ndarray:
    """Whether a pacemaker is likelier than not on each strip ``(B,)`` bool; where nobody judged them, not."""
    with np.errstate(invalid="ignore"):
        return np.asarray(probabilities[:, PACEMAKER] >= LIKELY)


def adverse(probabilities: np.ndarray) -> np.ndarray:
    """1 - prod over groups of (1 - the largest severity x probability in the group)."""
    weighted = probabilities * np.array([finding.severity for finding in ROWS])
    groups = np.array([finding.group for finding in ROWS])
    heaviest = [weighted[:, groups == group].max(axis=1) for group in dict.fromkeys(groups)]
    return 1 - np.prod([1 - part for part in heaviest], axis=0)


def mean(probabilities: np.ndarray) -> np.ndarray:
    """The paper's mean over all 17."""
    return probabilities.mean(axis=1)


def maximum(probabilities: np.ndarray) -> np.ndarray:
    """The paper's max over all 17."""
    return probabilities.max(axis=1)


def top3(probabilities: np.ndarray) -> np.ndarray:
    """The paper's mean of the three largest."""
    return np.sort(probabilities, axis=1)[:, -3:].mean(axis=1)


AGGREGATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "adverse": adverse,
    "mean": mean,
    "max": maximum,
    "top3": top3,
}


def aggregate_named(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The aggregate of that name; ValueError for an unknown one."""
    if name not in AGGREGATES:
        raise ValueError(f"aggregate is {name!r}; expected one of {list(AGGREGATES)}; 'adverse' is the default")
    return AGGREGATES[name]
