"""``advise(world, state)``: a ranked plan in which nothing is recommended without a reason.

Only what has an indication is a candidate, unless it is asked for by name; and a drug stands above watching only if the
paired interval of the difference of their scores excludes 0. The few that might be better are sampled until that is
settled or a budget is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, Patient, State, Treatment, World
from ecg_gym.pharmacology import FORMULARY, Reasons, indications, resolve_medications
from ecg_gym.rollout import RiskFunction, judged_now
from planners.facts import Facts, facts_of_state
from planners.measures import Measure, resolved
from planners.plan import Candidate, Change, Excluded, Plan, Preference, Recommendation, Unindicated
from planners.racing import below, interval_of, paired
from planners.ranking import INTERVALS, Rules, admit, check
from planners.reserve import in_reserve
from planners.rollout import Futures, Progress, common_seeds, futures
from planners.scoring import lambda_intervals, mean_and_sd
from planners.second_opinion import second_opinion

if TYPE_CHECKING:
    from ecg_gym.foreign.judges import Judge

CONFIDENCE = 0.95
MOST_CONTENDERS = 5  # treatments that are sampled further to settle whether they beat watching
INDIFFERENCE = 0.005  # a difference of scores that does not matter either way
ROUNDING = 1e-6  # scores closer than this are equal: batches of other sizes round differently


def advise(
    world: World,
    state: State,
    candidates: Iterable[Treatment] | None = None,
    risk: RiskFunction | None = None,
    *,
    facts: Facts | None = None,
    by_name: bool = False,
    k: int = 16,
    extra: int = 320,
    risk_aversion: float = 0.6,
    measure: Measure | str | None = None,
    seed: int = 0,
    horizon: int = 1,
    record: str = "",
    remarks: Sequence[str] = (),
    rules: Rules | None = None,
    progress: Progress | None = None,
    particles: State | None = None,
    first: np.ndarray | None = None,
    judge: Judge | None = None,
) -> Plan:
    """Watching and the indicated of ``candidates`` (default: the formulary's menu), best first; see the module.

    ``facts`` are those of the measured record, by default of the state's own strip. ``by_name``: every candidate was
    asked for by name: it stays, and one without an indication says so and is never recommended. Each candidate has
    ``k`` futures; those that might be better than watching, and watching, share ``extra`` more. ``remarks`` of the
    record's reader go into ``Plan.warnings``. A ``judge`` from outside scores the leading candidates once more.
    Otherwise as :func:`planners.ranking.plan`.
    """
    check(state, k, horizon)
    measure = resolved(measure, risk_aversion)
    risk = _default_risk() if risk is None else risk
    facts = facts_of_state(state, risk, world) if facts is None else facts
    offered = tuple(FORMULARY.menu() if candidates is None else candidates)
    reasons = {treatment: _reasons(treatment, state, facts) for treatment in offered}
    menu = [t for t in offered if by_name or t == WATCH or reasons[t].indicated]
    allowed, excluded = admit(menu, state, facts.intervals, rules, facts.findings)
    sampling = _Sampling(world, state, risk, measure, seed, horizon, particles, first)
    treatments = list(allowed)
    sampling.draw(treatments, k, progress)
    eligible = [t for t in treatments if t != WATCH and reasons.get(t, _none(t)).indicated]
    settled, better = _settle(sampling, eligible, k, extra)
    rows = _rows(sampling, treatments, allowed, reasons, facts, better)
    dropped = tuple(Unindicated(t, reasons[t].sentence) for t in offered if t not in menu)
    recommendation = _recommendation(rows, settled, facts, len(eligible))
    best = sampling.futures[rows[0].treatment]
    order = [row.treatment for row in rows]
    opinion = None
    if judge is not None:
        opinion = second_opinion(judge, order, sampling.futures, state, measure, risk, first)
    return Plan(
        candidates=rows,
        excluded=excluded,
        preferences=_preferences(sampling, rows),
        patient=state.patients[0],
        record=record,
        k=k,
        risk_aversion=risk_aversion,
        seed=seed,
        seeds=common_seeds(seed, max(len(row.risks) for row in rows)),
        horizon=horizon,
        dt_hours=float(world.dt_hours),
        intervals=facts.intervals,
        risk_now=sampling.risk_now,
        model_sha256=str(getattr(world, "sha256", "")),
        risk_sha256=str(getattr(risk, "sha256", "")),
        model_calls=sampling.model_calls,
        measure=str(measure),
        warnings=_warnings(state.patients[0], rows, dropped, excluded, settled, facts, remarks),
        start=state,
        futures=best.ecg.rows[0],
        recommendation=recommendation,
        unindicated=dropped,
        findings=tuple(sorted(facts.findings)),
        second_opinion=opinion,
    )


def _default_risk() -> RiskFunction:
    from ecg_gym.risk import RiskModel  # loads torch, so only when it is needed

    return RiskModel.load()


def _reasons(treatment: Treatment, state: State, facts: Facts) -> Reasons:
    """Why a treatment would be given, by the measured record."""
    patient, doses, now = state.patients[0], tuple(state.doses[0]), float(state.hours[0])
    return indications(treatment, patient, facts.intervals, doses, now, facts.findings)


def _none(treatment: Treatment) -> Reasons:
    return Reasons((), (), tuple(dose.drug for dose in treatment.doses))


@dataclass
class _Sampling:
    """Futures by treatment, drawn further where it matters; column k is the same noise for all."""

    world: World
    state: State
    risk: RiskFunction
    measure: Measure
    seed: int
    horizon: int
    particles: State | None
    first: np.ndarray | None

    def __post_init__(self) -> None:
        self.futures: dict[Treatment, Futures] = {}
        self.model_calls = 0
        now = judged_now(self.world, self.risk, self.state)
        self.risk_now = float(now.total[0])

    def draw(self, treatments: Sequence[Treatment], more: int, progress: Progress | None = None) -> None:
        """``more`` futures of each; all of them have as many already."""
        done = self.futures[treatments[0]].risks.shape[1] if treatments[0] in self.futures else 0
        columns = np.arange(done, done + more)
        sample = futures(
            self.world, self.state, treatments, [common_seeds(self.seed, done + more)[k] for k in columns], self.risk,
            horizon=self.horizon, names=INTERVALS, first=self.first, progress=progress,
            particles=None if self.particles is None else self.particles[columns % len(self.particles)],
        )  # fmt: skip
        self.model_calls += sample.model_calls
        for row, treatment in enumerate(treatments):
            part = sample.of(row)
            before = self.futures.get(treatment)
            self.futures[treatment] = part if before is None else Futures.join([before, part])

    def losses(self, treatment: Treatment) -> np.ndarray:
        """What each future counts, ``(K,)``."""
        return self.measure.losses(self.futures[treatment])[0]

    def score(self, treatment: Treatment) -> float:
        """S of all its futures."""
        return float(self.measure.score(self.losses(treatment)))


def _settle(
    sampling: _Sampling, eligible: Sequence[Treatment], k: int, extra: int
) -> tuple[dict[Treatment, bool], frozenset[Treatment]]:
    """For each treatment that may be better than watching, whether that is settled; and those that are better.

    Bonferroni over treatments and rounds keeps the promise that, with probability 0.95, none is called better that is
    not. The ``MOST_CONTENDERS`` of lowest score that the first ``k`` futures leave open, and watching, are drawn again
    until they are settled or ``extra`` futures are spent.
    """
    if k < 2:
        return dict.fromkeys(eligible, False), frozenset()
    possible = [t for t in eligible if _against_watching(sampling, t, CONFIDENCE)[0] < -ROUNDING]
    rounds = 1 + extra // ((MOST_CONTENDERS + 1) * k)
    level = 1 - (1 - CONFIDENCE) / max(1, len(possible) * rounds)
    verdicts = {t: _verdict(sampling, t, level) for t in possible}
    contenders = sorted((t for t in possible if verdicts[t] is None), key=lambda t: (sampling.score(t), str(t)))
    contenders, cost = contenders[:MOST_CONTENDERS], 0
    while any(verdicts[t] is None for t in contenders) and cost + (len(contenders) + 1) * k <= extra:
        sampling.draw([WATCH, *contenders], k)  # together, so that every column stays paired
        cost += (len(contenders) + 1) * k
        verdicts |= {t: _verdict(sampling, t, level) for t in contenders}
    return {t: v is not None for t, v in verdicts.items()}, frozenset(t for t, v in verdicts.items() if v)


def _verdict(sampling: _Sampling, treatment: Treatment, level: float) -> bool | None:
    """Better than watching, not better by a difference that matters, or (None) not settled."""
    low, high = _against_watching(sampling, treatment, level)
    if high < -ROUNDING and bool(sampling.futures[treatment].finite.all()):
        return True
    return False if low > -INDIFFERENCE or high < -ROUNDING else None


def _against_watching(sampling: _Sampling, treatment: Treatment, level: float) -> tuple[float, float]:
    """The paired interval of S minus watching's S, over the futures that both have; NaN for a single one."""
    losses = sampling.losses(treatment)
    if len(losses) < 2:
        return np.nan, np.nan
    return interval_of(losses, sampling.losses(WATCH), sampling.measure.score, level)


def _rows(
    sampling: _Sampling, treatments: Sequence[Treatment], allowed: Mapping[Treatment, tuple[str, ...]],
    reasons: Mapping[Treatment, Reasons], facts: Facts, better: frozenset[Treatment],
) -> tuple[Candidate, ...]:  # fmt: skip
    """The candidates: what is better than watching, watching, and the rest; each part by score, but first of all what
    is not kept in reserve, if it cannot be told from the best.
    """

    def place(t: Treatment) -> tuple[Any, ...]:
        part = 0 if t in better else 1 if t == WATCH else 2
        return part, int((~sampling.futures[t].finite).sum()), sampling.score(t), str(t)

    order = sorted(treatments, key=place)
    score, leader = sampling.measure.score, sampling.losses(order[0])
    if in_reserve(reasons.get(order[0])):
        alike = (t for t in order if t in better and not in_reserve(reasons.get(t))
                 and _holds_zero(sampling.losses(t), leader, score))  # fmt: skip
        if best := next(alike, None):
            order.insert(0, order.pop(order.index(best)))
            leader = sampling.losses(best)
    rows = []
    for treatment in order:
        sample, losses = sampling.futures[treatment], sampling.losses(treatment)
        mean, sd = mean_and_sd(sample.risks[0])
        difference, error = paired(losses, sampling.losses(WATCH), score) if len(losses) > 1 else (np.nan, np.nan)
        against = interval_of(losses, leader, score) if len(losses) > 1 else (np.nan, np.nan)
        tied = treatment == order[0] or _holds_zero(losses, leader, score)
        why = reasons.get(treatment)
        rows.append(
            Candidate(
                treatment=treatment,
                mean=float(mean),
                sd=float(sd),
                score=sampling.score(treatment),
                score_ci=interval_of(losses, np.zeros_like(losses), score) if len(losses) > 1 else (np.nan, np.nan),
                difference=sampling.score(treatment) - sampling.score(order[0]),
                difference_ci=against,
                tie=1 if tied else 2,
                n_nonfinite=int((~sample.finite).sum()),
                n_lethal=int((~sample.alive).sum()),
                changes=_changes(sample, facts),
                remarks=allowed[treatment],
                risks=tuple(map(float, sample.risks[0])),
                better=0.5 if treatment == WATCH else below(difference, error, len(losses) - 1),
                indications=() if why is None or treatment == WATCH else why.present,
                indicated=treatment == WATCH or (why is not None and why.indicated),
                better_than_watching=treatment in better,
                from_watching=0.0 if treatment == WATCH else difference,
                from_watching_ci=(0.0, 0.0)
                if treatment == WATCH
                else _against_watching(sampling, treatment, CONFIDENCE),
            )
        )
    return tuple(rows)


def _holds_zero(losses: np.ndarray, leader: np.ndarray, score: Any) -> bool:
    """Whether the paired interval of the difference of two scores holds 0; it does for a single future."""
    low, high = interval_of(losses, leader, score) if len(losses) > 1 else (np.nan, np.nan)
    return not (low > 0 or high < 0)


def _changes(sample: Futures, facts: Facts) -> dict[str, Change]:
    """Predicted changes from the measured record, with the codec's own error taken out where that is possible."""
    changes = {}
    for name, after in sample.intervals.items():
        change = Change.between(facts.reference.get(name, np.nan), after[0])
        changes[name] = replace(change, before=facts.intervals.get(name, np.nan))
    return changes


def _preferences(sampling: _Sampling, rows: Sequence[Candidate]) -> tuple[Preference, ...]:
    """Who has the lowest S for which lambda, among those whose futures are finite."""
    finite = [i for i, row in enumerate(rows) if row.n_nonfinite == min(r.n_nonfinite for r in rows)]
    mean, sd = np.array([row.mean for row in rows]), np.array([row.sd for row in rows])
    return tuple(Preference(w.low, w.high, rows[w.winner].treatment) for w in lambda_intervals(mean, sd, finite))


def _recommendation(
    rows: Sequence[Candidate], settled: Mapping[Treatment, bool], facts: Facts, indicated: int
) -> Recommendation:
    """The first row, and why it is first."""
    first = rows[0]
    confidence = "usual" if facts.confident else "low: the reconstruction differs from the record"
    if first.better_than_watching:
        low, high = first.from_watching_ci
        why = (
            f"score below watching's by {-first.from_watching:.3f} (paired 95 % interval {-high:.3f} to {-low:.3f}, "
            f"{len(first.risks)} futures); given for "
            f"{'; '.join(sentence.partition(': ')[2] for sentence in first.indications)}"
        )
        lowest = min(rows, key=lambda row: (row.n_nonfinite, row.score))
        if lowest is not first and lowest.better_than_watching:
            why += f"; {lowest.treatment} scores {-lowest.difference:.3f} lower, cannot be told from it and is kept in "
            why += "reserve"
        return Recommendation(first.treatment, True, why, True, confidence)
    active = [row for row in rows if row.treatment != WATCH]
    if not indicated and not active:
        why = "no treatment has an indication in this record and this patient"
    elif not indicated:
        why = "no treatment that was asked for has an indication in this record and this patient"
    else:
        open_ones = [str(t) for t, sure in settled.items() if not sure]
        why = f"none of {indicated} indicated treatments is better than watching by a paired interval that excludes 0"
        if open_ones:
            why += f"; not settled within the budget for {', '.join(open_ones)}"
    return Recommendation(WATCH, False, why, all(settled.values()), confidence)


def _warnings(
    patient: Patient, rows: Sequence[Candidate], dropped: Sequence[Unindicated], excluded: Sequence[Excluded],
    settled: Mapping[Treatment, bool], facts: Facts, remarks: Sequence[str],
) -> tuple[str, ...]:  # fmt: skip
    """What a reader of the plan must know: what was not understood, what is missing, what is uncertain."""
    warnings = [*remarks, *resolve_medications(patient.medication)[1]]
    unknown = [name for name in ("potassium", "magnesium", "calcium") if getattr(patient, name) is None]
    lacking = {name: [u.treatment.doses[0].drug for u in dropped if name in u.sentence] for name in unknown}
    warnings += [f"{name} is unknown: {', '.join(dict.fromkeys(d))} not considered" for name, d in lacking.items() if d]
    warnings += [f"The reconstruction is not the record: {sentence}." for sentence in facts.disagreements]
    if len(rows[0].risks) == 1:
        warnings.append("One future per candidate: no spread, no intervals, nothing can be told apart.")
    if lost := sum(row.n_nonfinite for row in rows):
        warnings.append(f"{lost} futures were not finite; they count as risk 1 and rank last.")
    if open_ones := [str(treatment) for treatment, sure in settled.items() if not sure]:
        warnings.append(f"Whether {', '.join(open_ones)} beats watching was not settled within the budget.")
    return tuple(dict.fromkeys(warnings))
