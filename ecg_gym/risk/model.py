"""``RiskModel``: strips before and after -> one number in [0, 1] per row, with everything it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_gym.columns import FEMALE, Patients
from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, Patient
from ecg_gym.look import Look
from ecg_gym.risk import aggregate, limits
from ecg_gym.risk.cache import MeasuredStrips
from ecg_gym.risk.source import FindingsSource
from ecg_gym.waveform import measure
from ecg_gym.waveform.intervals import Intervals

FINDINGS_TERM = "findings"


@dataclass(frozen=True)
class Risk:
    """The judgement of B strips."""

    total: np.ndarray  # (B,) in [0, 1]; 1 where not finite or not alive
    cost: np.ndarray  # (B,) in [0, 1]: the safety part, what a treatment can do harm by
    terms: dict[str, np.ndarray]  # (B,) in [0, 1] each: every limit, no_beats, findings
    intervals: Intervals  # of the strips after
    probabilities: np.ndarray  # (B, 17) of the findings, in the order of aggregate.FINDINGS; NaN without a classifier
    finite: np.ndarray  # (B,) bool: every sample of both strips is a number
    readable: np.ndarray  # (B,) bool: poor data quality is not likely

    def __len__(self) -> int:
        return len(self.total)


class RiskModel:
    """risk = 1 - prod(1 - term) over the interval limits and the aggregated findings.

    Pass both strips through the same codec: a change of risk should not be an artefact of decoding.
    """

    def __init__(
        self,
        classifier: FindingsSource | None = None,
        aggregation: str = "adverse",
        use_limits: bool = True,
        deterministic: str | None = None,  # "batch": a row's bits do not depend on its batch (slower for few rows)
    ) -> None:
        if deterministic not in (None, "batch"):
            raise ValueError(f"deterministic is {deterministic!r}; expected None or 'batch'; check the spelling")
        self.classifier = classifier
        self.deterministic = deterministic
        self._measure = MeasuredStrips()
        self.aggregation = aggregation
        self.use_limits = use_limits
        self._aggregate = aggregate.aggregate_named(aggregation)
        if classifier is None and not use_limits:
            raise ValueError(
                "neither limits nor a classifier is in use; expected at least one channel; "
                "use RiskModel.load(use_limits=False) for the findings alone"
            )

    @classmethod
    def load(
        cls, path: str | Path | None = None, aggregation: str = "adverse", use_limits: bool = True,
        deterministic: str | None = None,
    ) -> RiskModel:  # fmt: skip
        """Both channels, with the packaged weights or those at ``path``.

        ``aggregation="mean", use_limits=False`` is the paper's risk, literally.
        """
        from ecg_gym.risk.classifier import Findings  # torch, only here

        return cls(Findings.load(path), aggregation, use_limits, deterministic)

    @classmethod
    def limits_only(cls) -> RiskModel:
        """The interval limits alone: no weights, no torch."""
        return cls()

    @property
    def sha256(self) -> str:
        """Hash of the classifier's weights; empty without one."""
        return self.classifier.sha256 if self.classifier is not None else ""

    def __call__(
        self,
        before: np.ndarray,  # (B, 12, 1024) [mV] on the model grid
        after: np.ndarray,  # (B, 12, 1024) [mV]
        patients: Sequence[Patient],
        alive: np.ndarray | None = None,  # (B,) bool
    ) -> Risk:
        """The risk of ``after`` for hearts that showed ``before``."""
        before, after = np.asarray(before), np.asarray(after)
        _check(before, after, patients)
        same = before is after  # an episode's first strip is judged against itself
        finite = np.isfinite(before).all(axis=(1, 2)) & np.isfinite(after).all(axis=(1, 2))
        before, after = (np.where(finite[:, None, None], strips, 0) for strips in (before, after))
        first = self._measure(before) if self.use_limits else None
        intervals = first if first is not None and same else measure(ECG(after, MODEL_RATE_HZ))
        terms: dict[str, np.ndarray] = {}
        probabilities = np.full((len(after), len(aggregate.FINDINGS)), np.nan)
        readable = np.ones(len(after), dtype=bool)
        if self.classifier is not None:
            probabilities = self.classifier.probabilities(after, self.deterministic, intervals)
            readable = aggregate.readable(probabilities)
        if first is not None:
            terms |= limits.interval_terms(first, intervals, patients, aggregate.paced(probabilities))
        if self.classifier is not None:
            terms[FINDINGS_TERM] = self._share() * self._aggregate(probabilities)
        lost = ~finite if alive is None else ~finite | ~np.asarray(alive, dtype=bool)
        return Risk(
            total=np.where(lost, 1.0, limits.together(terms)),
            cost=np.where(lost, 1.0, limits.cost(terms)) if self.use_limits else lost.astype(float),
            terms=terms,
            intervals=intervals,
            probabilities=probabilities,
            finite=finite,
            readable=readable & finite,
        )

    def of_looks(self, before: Look, after: Look, patients: Sequence[Patient], alive: np.ndarray) -> Risk:
        """The risk of what is read ``after`` for hearts that read ``before``: as of strips, without the strips."""
        terms, total, cost = self.judge(before, after, Patients.of(patients), np.asarray(alive, bool))
        probabilities = after.probabilities.T
        with np.errstate(invalid="ignore"):
            readable = ~(probabilities[:, aggregate.POOR_QUALITY] >= aggregate.UNREADABLE)
        sound = np.ones(len(total), bool)
        return Risk(total, cost, terms, Intervals.from_readings(after), probabilities, sound, readable)

    def judge(
        self,
        baseline: Mapping[str, np.ndarray],  # what was read off the first strips, (B,) by name
        look: Mapping[str, np.ndarray],  # what is read off those after; ``probabilities (17, B)`` if it is a Look
        patients: Patients,
        alive: np.ndarray,  # (B,) bool
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Terms, risk and cost ``(B,)`` of readings: the same judgement as of strips, without the strips."""
        terms: dict[str, np.ndarray] = {}
        cost = total = np.zeros(len(patients))
        if self.use_limits:
            paced = None if self.classifier is None else aggregate.paced(look.probabilities.T)  # type: ignore[attr-defined]
            terms, cost, total = limits.judge(baseline, look, patients.numbers[:, FEMALE], paced)
        if self.classifier is not None:
            from_findings = self._share() * self._aggregate(look.probabilities.T)  # type: ignore[attr-defined]
            from_findings = np.where(alive | np.isfinite(from_findings), from_findings, 0.0)  # no one reads the dead
            terms[FINDINGS_TERM] = from_findings
            total = 1 - (1 - total) * (1 - from_findings)
        return terms, np.where(alive, total, 1.0), np.where(alive, cost, 1.0)

    def _share(self) -> float:
        return aggregate.SHARE if self.use_limits else 1.0


def _check(before: np.ndarray, after: np.ndarray, patients: Sequence[Patient]) -> None:
    shape = (len(patients), len(LEADS), MODEL_SAMPLES)
    if before.shape != shape or after.shape != shape:
        raise ValueError(
            f"before has shape {before.shape} and after {after.shape} for {len(patients)} patients; expected {shape} "
            "in mV on the model grid, a strip before for every strip after; use ecg_gym.waveform.to_model_grid"
        )
