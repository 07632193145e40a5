"""The nouns of a decision: a ``Plan`` is a ranked table of ``Candidate`` rows and everything needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ecg_gym.core import Patient, Treatment

NOTICE = "Research only, never bedside."


@dataclass(frozen=True)
class Change:
    """Predicted change of one interval over the futures in which it could be measured; NaN where it could not."""

    before: float  # the interval before the treatment, in its own unit
    mean: float  # mean change
    low: float  # 5 % of the futures change less
    high: float  # 95 % of the futures change less
    measured: int  # futures in which it could be measured

    @classmethod
    def between(cls, before: float, after: np.ndarray) -> Change:
        """The change from one value to the K values of the futures."""
        moved = (after - before)[np.isfinite(after - before)]
        if not len(moved):
            return cls(before, math.nan, math.nan, math.nan, 0)
        low, high = np.quantile(moved, [0.05, 0.95])
        return cls(before, float(moved.mean()), float(low), float(high), len(moved))


@dataclass(frozen=True)
class Candidate:
    """One treatment, what the world expects of it, and how sure it is."""

    treatment: Treatment
    mean: float  # mean risk of the futures, in [0, 1]
    sd: float  # their c4-corrected SD; NaN for a single future
    score: float  # S by the plan's measure, mean + lambda x SD unless told otherwise; lower is better
    score_ci: tuple[float, float]  # 95 % interval of S
    difference: float  # S minus the S of the best candidate
    difference_ci: tuple[float, float]  # its paired 95 % interval
    tie: int  # candidates with the same number cannot be told from the first of them; 1 holds the best
    n_nonfinite: int  # futures that were not finite: counted as risk 1, and ranked behind every finite candidate
    n_lethal: int  # futures that ended in a lethal rhythm: counted as risk 1
    changes: Mapping[str, Change]  # interval name -> predicted change
    remarks: tuple[str, ...]  # what the clinical rules say against it short of forbidding it
    risks: tuple[float, ...]  # (K,) the risk of each future, in the order of Plan.seeds
    better: float = math.nan  # P(its S is really lower than that of watching), sampling noise only; 1/2 for watching

    def to_json_dict(self) -> dict[str, Any]:
        """This row for ``json.dumps``; numbers that are not known become null."""
        row = asdict(self)
        row["intervals"] = row.pop("changes")
        return jsonable({**row, "treatment": str(self.treatment), "doses": [asdict(d) for d in self.treatment.doses]})


@dataclass(frozen=True)
class Excluded:
    """A treatment that the clinical rules forbid for this patient now, and why."""

    treatment: Treatment
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Preference:
    """For ``low <= lambda <= high`` this treatment has the lowest S (exact: S is a straight line in lambda)."""

    low: float
    high: float
    treatment: Treatment


@dataclass(frozen=True)
class Plan:
    """Treatments ranked by S, best first, with what it takes to repeat the ranking."""

    candidates: tuple[Candidate, ...]
    excluded: tuple[Excluded, ...]
    preferences: tuple[Preference, ...]
    patient: Patient
    record: str  # what the ECG was called; "" if nobody said
    k: int
    risk_aversion: float
    seed: int
    seeds: tuple[int, ...]  # (K,) the same for every candidate
    horizon: int  # steps; the treatment is given at the first and judged at each
    dt_hours: float
    intervals: Mapping[str, float]  # before the treatment
    risk_now: float  # risk of the pre-dose strip judged against itself
    model_sha256: str  # of the world's weights; "" for a world without weights
    risk_sha256: str
    model_calls: int  # rows times steps asked of the world
    measure: str = ""  # what S is, in words
    separation: float = math.nan  # P(the best really has the lowest S), over paired resamples; sampling noise only
    warnings: tuple[str, ...] = ()
    before: np.ndarray = field(default_factory=lambda: np.zeros((12, 0)), compare=False, repr=False)  # (12, 1024) [mV]
    samples: np.ndarray = field(default_factory=lambda: np.zeros((0, 12, 0)), compare=False, repr=False)
    """(K, 12, 1024) [mV]: the futures of the best candidate."""

    @property
    def best(self) -> Candidate:
        """The first of the ranking; look at :attr:`tied` before you believe in it."""
        return self.candidates[0]

    @property
    def tied(self) -> tuple[Candidate, ...]:
        """The candidates that cannot be told from the best, itself among them."""
        return tuple(c for c in self.candidates if c.tie == self.best.tie)

    def to_json_dict(self) -> dict[str, Any]:
        """The plan for ``json.dumps``: numbers, names and seeds, without the strips."""
        return jsonable(
            {
                "notice": NOTICE,
                "record": self.record,
                "patient": asdict(self.patient),
                "k": self.k,
                "risk_aversion": self.risk_aversion,
                "measure": self.measure,
                "separation": self.separation,
                "seed": self.seed,
                "seeds": self.seeds,
                "horizon": self.horizon,
                "dt_hours": self.dt_hours,
                "model_sha256": self.model_sha256,
                "risk_sha256": self.risk_sha256,
                "model_calls": self.model_calls,
                "intervals": dict(self.intervals),
                "risk_now": self.risk_now,
                "warnings": self.warnings,
                "candidates": [c.to_json_dict() for c in self.candidates],
                "excluded": [{"treatment": str(e.treatment), "reasons": e.reasons} for e in self.excluded],
                "preferences": [
                    {"lambda_low": p.low, "lambda_high": p.high, "treatment": str(p.treatment)}
                    for p in self.preferences
                ],
            }
        )


def jsonable(value: Any) -> Any:
    """``value`` in the words of strict JSON: NaN and infinity become null, sets are sorted, NumPy numbers plain."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
