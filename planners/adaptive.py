"""``plan_adaptively(world, state)``: the ranking of ``plan``, sampled until the best is separated or a budget is spent.

Candidates that are surely not the best are left with the futures they have; see :mod:`planners.racing` for the promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World
from ecg_gym.rollout import RiskFunction
from planners.base import PlanInfo, allowed_treatments
from planners.baselines import already_masked
from planners.measures import Measure, resolved
from planners.model_based import ModelBasedPlanner
from planners.plan import Candidate, Change, Plan, Preference
from planners.racing import Race, below, interval_of, paired
from planners.ranking import INTERVALS, Examined, Rules, check, examine
from planners.rollout import Futures, Price, common_seeds, futures
from planners.scoring import lambda_intervals, mean_and_sd

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


def plan_adaptively(
    world: World,
    state: State,
    candidates: Iterable[Treatment] | None = None,
    risk: RiskFunction | None = None,
    budget: int = 320,
    measure: Measure | str | None = None,
    seed: int = 0,
    horizon: int = 1,
    *,
    start: int = 6,
    batch: int = 4,
    confidence: float = 0.95,
    indifference: float = 0.01,
    drugs: Sequence[str] | None = None,
    record: str = "",
    rules: Rules | None = None,
    particles: State | None = None,  # future k starts at row k, again from the first when they run out
    first: np.ndarray | None = None,
    price: Price | None = None,  # what steps cost instead of their risk; see planners.pricing
) -> Plan:
    """The allowed candidates, best first, with as many futures each as it took; ``plan.k`` is the most of any.

    At most ``budget`` row-steps are asked of the world. ``plan.separation`` is a lower bound of P(the first is really
    best) and intervals are paired Student intervals. Future k of every candidate that has one is drawn with the same
    noise. Raises ``ValueError`` as ``plan`` does, and for a budget of fewer than 3 futures for each.
    """
    check(state, 3, horizon)
    measure = resolved(measure)
    examination = examine(world, state, candidates, risk, drugs, rules)
    treatments = list(examination.allowed)
    race = Race(len(treatments), measure.score, budget // horizon, start, batch, confidence, indifference)
    seeds = common_seeds(seed, race.budget)
    parts: list[list[Futures]] = [[] for _ in treatments]
    while race.running:
        columns = race.columns
        samples = futures(
            world, state, [treatments[arm] for arm in race.left], [seeds[k] for k in columns], examination.risk,
            horizon=horizon, names=INTERVALS, first=first, price=price,
            particles=None if particles is None else particles[np.array(columns) % len(particles)],
        )  # fmt: skip
        for place, arm in enumerate(race.left):
            parts[arm].append(samples.of(place))
        race.tell(measure.losses(samples))
    k = max(map(len, race.losses))
    ranked, preferences = _ranked(examination, race, [Futures.join(part) for part in parts], measure)
    best = treatments.index(ranked[0].treatment)
    return examination.plan(
        candidates=ranked,
        preferences=preferences,
        record=record,
        k=k,
        risk_aversion=float(getattr(measure, "risk_aversion", np.nan)),
        seed=seed,
        seeds=seeds[:k],
        horizon=horizon,
        model_calls=race.usage * horizon,
        measure=str(measure),
        separation=race.certainty(),
        warnings=_remarks(race, ranked),
        futures=Futures.join(parts[best]).ecg.rows[0],
    )


def _ranked(
    examined: Examined, race: Race, sampled: Sequence[Futures], measure: Measure
) -> tuple[tuple[Candidate, ...], tuple[Preference, ...]]:
    """Those that are left first, then by score; candidates with futures that are not finite come last."""
    treatments = list(examined.allowed)
    scores = [float(measure.score(losses)) for losses in race.losses]
    moments = [mean_and_sd(part.risks[0]) for part in sampled]
    lost = [int((~part.finite).sum()) for part in sampled]

    def place(c: int) -> tuple[Any, ...]:
        return lost[c], c not in race.left, scores[c], moments[c][0], bool(treatments[c]), str(treatments[c])

    order = sorted(range(len(treatments)), key=place)
    best, watching = order[0], treatments.index(WATCH)
    nothing = np.zeros(max(map(len, race.losses)))
    rows = []
    for c in order:
        difference = interval_of(race.losses[c], race.losses[best], measure.score)
        tied = c == best or difference[0] <= 0
        rows.append(
            Candidate(
                treatment=treatments[c],
                mean=float(moments[c][0]),
                sd=float(moments[c][1]),
                score=scores[c],
                score_ci=interval_of(race.losses[c], nothing, measure.score),
                difference=scores[c] - scores[best],
                difference_ci=difference,
                tie=1 if tied else 2,
                n_nonfinite=lost[c],
                n_lethal=int((~sampled[c].alive).sum()),
                changes={
                    name: Change.between(examined.intervals.get(name, np.nan), x[0])
                    for name, x in sampled[c].intervals.items()
                },
                remarks=examined.allowed[treatments[c]],
                risks=tuple(map(float, sampled[c].risks[0])),
                better=_better(race, c, watching),
            )
        )
    mean, sd = (np.array([float(m[i]) for m in moments]) for i in (0, 1))
    winners = lambda_intervals(mean, sd, [c for c in order if lost[c] == lost[best]])
    return tuple(rows), tuple(Preference(w.low, w.high, treatments[w.winner]) for w in winners)


def _better(race: Race, arm: int, watching: int) -> float:
    """P(an arm's score is really lower than that of watching)."""
    difference, error = paired(race.losses[arm], race.losses[watching], race.score)
    return below(difference, error, min(len(race.losses[arm]), len(race.losses[watching])) - 1)


def _remarks(race: Race, ranked: Sequence[Candidate]) -> tuple[str, ...]:
    """How it ended."""
    sizes = [len(losses) for losses in race.losses]
    remarks = [f"Sampled adaptively: {min(sizes)} to {max(sizes)} futures each, {race.usage} of {race.budget}."]
    if len(race.left) > 1:
        remarks.append(f"The budget was spent before {len(race.left)} candidates could be told apart.")
    if lost := sum(row.n_nonfinite for row in ranked):
        remarks.append(f"{lost} futures were not finite; they count as risk 1 and rank last.")
    return tuple(remarks)


class AdaptivePlanner(ModelBasedPlanner):
    """Ranks everything that is allowed with no more futures than it takes to tell the best; see ``plan_adaptively``."""

    def __init__(
        self,
        env: Any,
        *,
        budget: int = 320,
        horizon: int = 1,
        start: int = 6,
        batch: int = 4,
        confidence: float = 0.95,
        indifference: float = 0.01,
        **imagining: Any,  # world, risk, measure, risk_aversion, belief, particles, seed: see ImaginingPlanner
    ) -> None:
        super().__init__(env, **imagining)
        self.budget, self.horizon = budget, horizon
        self.how: dict[str, Any] = {
            "start": start,
            "batch": batch,
            "confidence": confidence,
            "indifference": indifference,
        }

    def choose(self, env: ECGInterventionEnv, state: State) -> PlanInfo:
        """The best of the allowed, with its plan."""
        believed, options = self.believed(env, state), allowed_treatments(env)
        budget = max(self.budget - believed.model_calls, 3 * self.horizon * len(options))
        ranked = plan_adaptively(
            self.world_of(env), believed.state, options, self.risk_of(env), budget, self.measure, self.seed,
            self.horizon, rules=already_masked, particles=believed.particles, first=believed.first,
            price=self.price_of(env), **self.how,
        )  # fmt: skip
        return PlanInfo(
            treatment=ranked.best.treatment,
            model_calls=ranked.model_calls + believed.model_calls,
            n_nonfinite=sum(candidate.n_nonfinite for candidate in ranked.candidates),
            plan=ranked,
            score=ranked.best.score,
            separation=ranked.separation,
            better=ranked.best.better,
            spread=ranked.best.sd,
            samples=len(ranked.best.risks),
            ess=believed.ess,
        )
