"""``second_opinion``: the best candidates of a plan judged once more by a network from outside, and where it differs.

All candidates are scored by ours; the few that lead are scored again with the findings of another group's network
in place of ours. Interval limits are the same in both, so what differs are the findings. Nothing is ranked anew: a
disagreement is shown and left to the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import State, Treatment
from ecg_gym.risk.aggregate import FINDINGS
from planners.measures import Measure
from planners.rollout import Futures

if TYPE_CHECKING:
    from ecg_gym.foreign.judges import Judge

MOST = 5  # candidates that are judged again
FAR = 0.3  # mean probabilities of a finding further apart than this disagree


@dataclass(frozen=True)
class Difference:
    """A finding on which the two networks disagree: mean probability over the futures."""

    finding: str
    ours: float
    theirs: float


@dataclass(frozen=True)
class Opinion:
    """What the other network thinks of one candidate."""

    treatment: Treatment
    mean: float  # mean risk of the futures, in [0, 1]
    score: float  # S by the plan's measure
    rank: int  # by their S among the candidates judged again; 1 is best
    differences: tuple[Difference, ...]
    beyond: Mapping[str, float]  # what the 17 findings do not say: statement -> mean probability


@dataclass(frozen=True)
class SecondOpinion:
    """The leading candidates in the order of the plan, judged from outside."""

    judge: str
    sha256: str  # of its weights
    rows: tuple[Opinion, ...]

    @property
    def best(self) -> Treatment:
        """The candidate that the other network scores best."""
        return min(self.rows, key=lambda row: row.rank).treatment

    @property
    def agrees(self) -> bool:
        """Whether both put the same candidate first."""
        return self.best == self.rows[0].treatment

    def sentences(self) -> list[str]:
        """What a reader of the plan should know, a sentence each."""
        order = ", ".join(f"{row.treatment} {row.score:.3f}" for row in sorted(self.rows, key=lambda row: row.rank))
        verdict = "puts the same first" if self.agrees else f"puts {self.best} first"
        lines = [f"Second opinion, {self.judge}: {verdict}. S by its findings, best first: {order}."]
        lines += [
            f"{self.judge} on {row.treatment}: "
            + ", ".join(f"{d.finding.lower()} {d.theirs:.2f} (ours {d.ours:.2f})" for d in row.differences)
            for row in self.rows
            if row.differences
        ]
        for name in dict.fromkeys(name for row in self.rows for name in row.beyond):
            parts = ", ".join(f"{row.treatment} {row.beyond[name]:.2f}" for row in self.rows if name in row.beyond)
            lines.append(f"{self.judge}, {name.lower()}: {parts}.")
        return lines

    def to_json_dict(self) -> dict[str, Any]:
        """For ``planners.plan.jsonable``."""
        rows = [{**asdict(row), "treatment": str(row.treatment)} for row in self.rows]
        return {"judge": self.judge, "sha256": self.sha256, "agrees": self.agrees, "rows": rows}


def second_opinion(
    judge: Judge,
    order: Sequence[Treatment],
    futures: Mapping[Treatment, Futures],
    state: State,
    measure: Measure,
    ours: Any,
    first: np.ndarray | None = None,
) -> SecondOpinion:
    """The first ``MOST`` of ``order`` judged by ``judge`` from the last strips of their futures.

    ``state`` is the patient before the treatment, ``ours`` the plan's risk model, whose aggregation and limits are
    kept; ``first (1, 12, 1024)`` [mV] is what it judged against, by default the strip of ``state``.
    """
    from ecg_gym.risk import RiskModel

    aggregation, limits = getattr(ours, "aggregation", "adverse"), getattr(ours, "use_limits", True)
    theirs = RiskModel(judge, aggregation, limits)
    leading = list(order[:MOST])
    rows = []
    for treatment in leading:
        part = futures[treatment]
        strips, alive = part.ecg[0], part.alive[0]
        before = np.repeat(state.ecg if first is None else first, len(strips), axis=0)
        patients = state.repeat(len(strips)).patients
        assessment = theirs(before, strips, patients, alive)
        own = ours(before, strips, patients, alive)
        losses = measure.losses(replace(part, risks=assessment.total[None]))[0]
        living = strips[alive & assessment.finite]
        beyond = {name: float(p.mean()) for name, p in judge.beyond_findings(living).items()} if len(living) else {}
        rows.append(
            Opinion(
                treatment=treatment,
                mean=float(assessment.total.mean()),
                score=float(measure.score(losses)),
                rank=0,
                differences=_differences(own.probabilities, assessment.probabilities),
                beyond=beyond,
            )
        )
    places = {i: rank for rank, i in enumerate(np.argsort([row.score for row in rows], kind="stable"), start=1)}
    ranked = tuple(replace(row, rank=int(places[i])) for i, row in enumerate(rows))
    return SecondOpinion(judge.name, judge.sha256, ranked)


def _differences(ours: np.ndarray, theirs: np.ndarray) -> tuple[Difference, ...]:
    """Findings whose mean probability over the futures differs by more than ``FAR``, the furthest first."""
    a, b = ours.mean(axis=0), theirs.mean(axis=0)
    with np.errstate(invalid="ignore"):
        far = [i for i in np.argsort(-np.abs(a - b), kind="stable") if abs(a[i] - b[i]) > FAR]
    return tuple(Difference(FINDINGS[i], float(a[i]), float(b[i])) for i in far)
