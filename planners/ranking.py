"""``plan(world, state)`` ranks every allowed treatment by S = mean risk + lambda x SD over K sampled futures.

This is the paper's ranking (mean-variance, lambda = 0.6) with what it takes to believe it: common random numbers across
candidates, K = 16 instead of 3, paired intervals, ties called ties, and futures that are not finite counted as worst.
Another ``measure`` (planners.measures) scores the same futures another way; intervals and ties follow it.
The spread is the world's own sampling spread; it knows nothing of errors of the world itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World
from ecg_gym.powers import weights_hash
from ecg_gym.rollout import BATCH_ROWS, RiskFunction, judged_now
from planners.history import pace_of
from planners.measures import Measure, resolved
from planners.plan import Candidate, Change, Excluded, Plan, Preference
from planners.rollout import Futures, Price, Progress, common_seeds, futures
from planners.scoring import interval, lambda_intervals, lower, mean_and_sd, paired_bootstrap, separation, ties

INTERVALS = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")
Rules = Callable[..., Sequence[Any]]  # the shape of ecg_gym.pharmacology.violations


def plan(
    world: World,
    state: State,
    candidates: Iterable[Treatment] | None = None,
    risk: RiskFunction | None = None,
    k: int = 16,
    risk_aversion: float = 0.6,
    seed: int = 0,
    progress: Progress | None = None,
    horizon: int = 1,
    *,
    drugs: Sequence[str] | None = None,
    record: str = "",
    rules: Rules | None = None,
    batch_rows: int = BATCH_ROWS,
    measure: Measure | str | None = None,
    particles: State | None = None,
    first: np.ndarray | None = None,
    price: Price | None = None,
) -> Plan:
    """The allowed ``candidates`` (default: the formulary's menu for ``drugs``) for one patient, best S first.

    "Watch and wait" is always among them. Each is given once, then watched until ``horizon`` steps have passed; its
    risk is the mean over the steps, judged against ``first (1, 12, 1024)`` [mV], by default ``state.ecg`` (which
    ``World.observe`` has already passed through the world's own codec). ``progress(done, total)`` is told about rows as
    they finish. The ranking depends neither on the order of ``candidates`` nor on ``batch_rows``. ``measure`` is a
    :class:`~planners.measures.Measure` or its name, by default mean + ``risk_aversion`` x SD. Future k starts at row k
    of ``particles``, where the belief has several. With a ``price`` (see :mod:`planners.pricing`) candidates are
    ranked by what their steps cost an env instead of by risk. A ``k`` of 1 has no spread: the lambda term is left
    out, with a warning. Raises ``ValueError`` for a state of several patients, a dead one, or a ``k``, ``horizon`` or
    ``risk_aversion`` out of range.
    """
    check(state, k, horizon)
    measure = resolved(measure, risk_aversion)
    examination = examine(world, state, candidates, risk, drugs, rules)
    seeds = common_seeds(seed, k)
    sampled = futures(
        world, state, list(examination.allowed), seeds, examination.risk,
        horizon=horizon, names=INTERVALS, batch_rows=batch_rows, progress=progress, particles=particles, first=first,
        price=price,
    )  # fmt: skip
    ranked, preferences, sure = rank(examination.allowed, sampled, examination.intervals, measure, seed)
    best = list(examination.allowed).index(ranked[0].treatment)
    return examination.plan(
        candidates=ranked,
        preferences=preferences,
        record=record,
        k=k,
        risk_aversion=risk_aversion,
        seed=seed,
        seeds=seeds,
        horizon=horizon,
        model_calls=sampled.model_calls,
        measure=str(measure),
        separation=sure,
        warnings=_remarks(ranked, k),
        futures=sampled.ecg.rows[best],
    )


@dataclass(frozen=True)
class Examined:
    """A patient looked at before anything is imagined."""

    world: World
    state: State
    risk: RiskFunction
    risk_now: float
    intervals: Mapping[str, float]
    allowed: Mapping[Treatment, tuple[str, ...]]  # with what speaks against each
    excluded: tuple[Excluded, ...]

    def plan(self, **ranking: Any) -> Plan:
        """A plan for this patient."""
        return Plan(
            excluded=self.excluded,
            patient=self.state.patients[0],
            dt_hours=pace_of(self.world, self.state),
            intervals=self.intervals,
            risk_now=self.risk_now,
            model_sha256=weights_hash(self.world),
            risk_sha256=str(getattr(self.risk, "sha256", "")),
            start=self.state,
            **ranking,
        )


def examine(
    world: World,
    state: State,
    candidates: Iterable[Treatment] | None = None,
    risk: RiskFunction | None = None,
    drugs: Sequence[str] | None = None,
    rules: Rules | None = None,
) -> Examined:
    """The strip judged against itself, and what the rules say to each candidate."""
    from ecg_gym.envs.dynamics import likely

    risk = _default_risk() if risk is None else risk
    now = judged_now(world, risk, state)
    intervals = {name: float(value) for name, value in now.intervals.row(0).items()}
    offered = _menu(drugs) if candidates is None else candidates
    allowed, excluded = admit(offered, state, intervals, rules, likely(now.probabilities[0]))
    return Examined(world, state, risk, float(now.total[0]), intervals, allowed, excluded)


def admit(
    treatments: Iterable[Treatment],
    state: State,
    intervals: Mapping[str, float],
    rules: Rules | None = None,
    findings: frozenset[str] = frozenset(),
) -> tuple[dict[Treatment, tuple[str, ...]], tuple[Excluded, ...]]:
    """The treatments this patient may have, with what speaks against each, and the forbidden ones with the reasons."""
    rules = _default_rules() if rules is None else rules
    allowed: dict[Treatment, tuple[str, ...]] = {WATCH: ()}
    excluded = []
    patient, doses, now = state.patients[0], state.doses[0], float(state.hours[0])
    for treatment in sorted(set(treatments) - {WATCH}, key=str):
        broken = rules(treatment, patient, intervals, doses, now, findings=findings)
        if hard := tuple(v.sentence for v in broken if v.hard):
            excluded.append(Excluded(treatment, hard))
        else:
            allowed[treatment] = tuple(v.sentence for v in broken)
    return allowed, tuple(excluded)


def rank(
    allowed: Mapping[Treatment, tuple[str, ...]],
    sampled: Futures,
    intervals: Mapping[str, float],
    measure: Measure,
    seed: int,
) -> tuple[tuple[Candidate, ...], tuple[Preference, ...], float]:
    """The candidates, best first, which of them wins for which lambda, and P(the first is best) over paired resamples.

    Candidates with futures that are not finite come after all others, whatever their S: nobody knows what they do.
    Equal scores are ordered by mean risk, then by name, watch and wait first.
    """
    treatments = list(allowed)
    mean, sd = mean_and_sd(sampled.risks)
    losses = measure.losses(sampled)
    scores = measure.score(losses)
    draws = paired_bootstrap(losses, measure.score, seed)
    lost = (~sampled.finite).sum(axis=1)

    def place(c: int) -> tuple[Any, ...]:
        return lost[c], scores[c], mean[c], bool(treatments[c]), str(treatments[c])

    order = sorted(range(len(treatments)), key=place)
    group = ties(order, draws)
    best, watching = order[0], treatments.index(WATCH)
    rows = tuple(
        Candidate(
            treatment=treatments[c],
            mean=float(mean[c]),
            sd=float(sd[c]),
            score=float(scores[c]),
            score_ci=interval(draws[c]),
            difference=float(scores[c] - scores[best]),
            difference_ci=interval(draws[c] - draws[best]),
            tie=int(group[c]),
            n_nonfinite=int(lost[c]),
            n_lethal=int((~sampled.alive[c]).sum()),
            changes={name: Change.between(intervals.get(name, np.nan), x[c]) for name, x in sampled.intervals.items()},
            remarks=allowed[treatments[c]],
            risks=tuple(map(float, sampled.risks[c])),
            better=lower(draws[c], draws[watching]),
        )
        for c in order
    )
    finite = [c for c in order if lost[c] == lost[best]]
    winners = lambda_intervals(mean, sd, finite)
    preferred = tuple(Preference(w.low, w.high, treatments[w.winner]) for w in winners)
    return rows, preferred, separation(draws, best)


def check(state: State, k: int, horizon: int) -> None:
    """``ValueError`` for a question that has no answer; a warning for a single future."""
    if len(state) != 1:
        raise ValueError(f"state holds {len(state)} patients; expected one; plan for each with state[i]")
    if not state.alive[0]:
        raise ValueError("the patient is not alive; expected a living one; start from another state")
    if k < 1 or horizon < 1:
        raise ValueError(f"k is {k} and horizon {horizon}; expected at least 1 each; pass k=16, horizon=1")
    if k == 1:
        sentence = "k is 1; a spread needs at least 2 futures; the lambda term is left out, pass k=16 to have it"
        warnings.warn(sentence, stacklevel=3)


def _remarks(ranked: Sequence[Candidate], k: int) -> tuple[str, ...]:
    """What a reader of the plan must be told."""
    remarks = ["One future per candidate: no spread, no intervals, nothing can be told apart."] if k == 1 else []
    lost = sum(c.n_nonfinite for c in ranked)
    if lost:
        remarks.append(f"{lost} of {k * len(ranked)} futures were not finite; they count as risk 1 and rank last.")
    if len(tied := [c for c in ranked if c.tie == ranked[0].tie]) > 1:
        remarks.append(f"{len(tied)} candidates cannot be told from the best.")
    return tuple(remarks)


def _menu(drugs: Sequence[str] | None) -> tuple[Treatment, ...]:
    from ecg_gym.pharmacology import FORMULARY

    return FORMULARY.menu(drugs)


def _default_rules() -> Rules:
    from ecg_gym.pharmacology import violations

    return violations


def _default_risk() -> RiskFunction:
    from ecg_gym.risk import RiskModel  # loads torch, so only when it is needed

    return RiskModel.load()
