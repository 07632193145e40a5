"""The nouns of a decision: a ``Plan`` is a ranked table of ``Candidate`` rows and everything needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

import numpy as np

from ecg_gym.core import Patient, State, Treatment
from planners.choice import Choice
from planners.second_opinion import SecondOpinion

NOTICE = "Research only, never bedside."


@dataclass(frozen=True)
class Change:
    """Predicted change of one interval over the futures in which it could be measured; NaN where it could not."""

    before: float  # the interval before the treatment, in its own unit
    mean: float  # mean change
    low: float  # 5 % of the futures change less
    high: float  # 95 % of the futures change less
    n: int  # futures in which it could be measured

    @classmethod
    def between(cls, before: float, after: np.ndarray) -> Change:
        """The change from one value to the K values of the futures."""
        changes = (after - before)[np.isfinite(after - before)]
        if not len(changes):
            return cls(before, math.nan, math.nan, math.nan, 0)
        low, high = np.quantile(changes, [0.05, 0.95])
        return cls(before, float(changes.mean()), float(low), float(high), len(changes))


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
    indications: tuple[str, ...] = ()  # what it would be given for, by the measured record and the known conditions
    indicated: bool = True  # False where it was asked for by name and nothing indicates it
    better_than_watching: bool = False  # its paired interval to watching excludes 0 and it is indicated
    from_watching: float = math.nan  # S minus the S of watching
    from_watching_ci: tuple[float, float] = (math.nan, math.nan)  # its paired 95 % interval

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
class Unindicated:
    """A treatment that is no candidate because nothing indicates it, and which unknown value might."""

    treatment: Treatment
    sentence: str


@dataclass(frozen=True)
class Recommendation:
    """What the plan comes down to: the first of the ranking."""

    treatment: Treatment
    better_than_watching: bool
    why: str  # one sentence
    settled: bool  # whether "better than watching?" was settled for every contender within the budget
    confidence: str  # "usual", or "low" and why

    def to_json_dict(self) -> dict[str, Any]:
        """For ``json.dumps``."""
        return {**asdict(self), "treatment": str(self.treatment)}


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
    k: int  # futures of each candidate; those in doubt may have more
    risk_aversion: float
    seed: int
    seeds: tuple[int, ...]  # (K,) or as many as any candidate has futures; the same for every candidate
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
    recommendation: Recommendation | None = None  # of ``advise``; the plain ranking recommends nothing
    unindicated: tuple[Unindicated, ...] = ()
    findings: tuple[str, ...] = ()  # of the record, more likely than not
    second_opinion: SecondOpinion | None = None  # of a network from outside, on the leading candidates
    choice: Choice | None = None  # of a language model, among the candidates; the ranking does not depend on it
    start: State | None = field(default=None, compare=False, repr=False)  # of one: the patient before the treatment
    futures: State | None = field(default=None, compare=False, repr=False)  # of K: those of the best candidate

    @property
    def before(self) -> np.ndarray:
        """The strip before ``(12, 1024)`` [mV]; ``(12, 0)`` in a plan read back from JSON."""
        return np.zeros((12, 0)) if self.start is None else self.start.ecg[0]

    @property
    def samples(self) -> np.ndarray:
        """The strips of the best candidate's futures ``(K, 12, 1024)`` [mV]; drawn when somebody looks."""
        return np.zeros((0, 12, 0)) if self.futures is None else self.futures.ecg

    @property
    def best(self) -> Candidate:
        """The first of the ranking; look at :attr:`tied` before you believe in it."""
        return self.candidates[0]

    @property
    def tied(self) -> tuple[Candidate, ...]:
        """The candidates that cannot be told from the best, itself among them."""
        return tuple(c for c in self.candidates if c.tie == self.best.tie)

    @property
    def outside(self) -> tuple[str, ...]:
        """What others say of the candidates, a sentence each: an imported network, a language model."""
        opinion = () if self.second_opinion is None else self.second_opinion.sentences()
        return (*opinion, *(() if self.choice is None else [self.choice.sentence(self.best.treatment)]))

    def _repr_html_(self) -> str:
        """The recommendation and the ranking as a table, for notebooks; ``planners.report`` draws the picture."""
        head = "".join(f"<th>{word}</th>" for word in ("treatment", "S", "from watching", "QTcF", "HR", "given for"))
        rows = "".join(map(_html_row, self.candidates))
        advice = self.recommendation
        lead = f"<p><b>{escape(f'{advice.treatment}: {advice.why}')}</b></p>" if advice is not None else ""
        notes = "".join(f"<li>{escape(words)}</li>" for words in (*self.outside, *self.warnings, NOTICE))
        return f"{lead}<table><tr>{head}</tr>{rows}</table><ul>{notes}</ul>"

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
                "findings": self.findings,
                "warnings": self.warnings,
                "recommendation": None if self.recommendation is None else self.recommendation.to_json_dict(),
                "second_opinion": None if self.second_opinion is None else self.second_opinion.to_json_dict(),
                "choice": None if self.choice is None else self.choice.to_json_dict(),
                "candidates": [c.to_json_dict() for c in self.candidates],
                "unindicated": [{"treatment": str(u.treatment), "why": u.sentence} for u in self.unindicated],
                "excluded": [{"treatment": str(e.treatment), "reasons": e.reasons} for e in self.excluded],
                "preferences": [
                    {"lambda_low": p.low, "lambda_high": p.high, "treatment": str(p.treatment)}
                    for p in self.preferences
                ],
            }
        )


def _html_row(row: Candidate) -> str:
    """One candidate as a row of HTML."""
    changes = [row.changes[name].mean if name in row.changes else math.nan for name in ("qtcf_ms", "hr_bpm")]
    numbers = [f"{row.score:.3f}", *(f"{x:+.3f}" if math.isfinite(x) else "-" for x in (row.from_watching,)),
               *(f"{x:+.0f}" if math.isfinite(x) else "-" for x in changes)]  # fmt: skip
    why = "; ".join(row.indications) if row.indicated else "no indication"
    cells = (str(row.treatment), *numbers, why)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


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
