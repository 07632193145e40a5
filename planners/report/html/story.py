"""``tell(world, state, ...)`` returns a ``Story``: a plan, the futures behind it, and where the best of it may lead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecg_gym.core import WATCH, Patient, Randomness, State, Treatment, World, concatenate
from ecg_gym.pharmacology import Violation, violations
from ecg_gym.rollout import Judgement, RiskFunction, first_of, judged_now
from planners.advice import advise
from planners.branches import Branch, Course, branches
from planners.facts import Facts
from planners.plan import Plan
from planners.rollout import Progress

FIRSTS, SECONDS = 3, 5  # treatments of the what-if table: how many first, how many an hour later
LINES = 4  # courses followed over the hours, beside watching
SECOND_K = 8  # futures of each two-step course


@dataclass(frozen=True)
class Masked:
    """A treatment with what the clinical rules say of it."""

    treatment: Treatment
    violations: tuple[Violation, ...]


@dataclass(frozen=True)
class Barred:
    """A second treatment that the rules forbid after a first."""

    futures: int  # in how many they do
    reasons: tuple[str, ...]  # each once, in any of them


@dataclass(frozen=True)
class Story:
    """What a page about one patient tells."""

    plan: Plan
    futures: Mapping[Treatment, State]  # K hearts an hour (or dt) later
    lines: tuple[Branch, ...]  # the best treatment of each drug, followed over the hours; watching last
    pairs: Mapping[Course, Branch]  # a treatment, and another one a step later
    barred: Mapping[Course, Barred]  # pairs that are not followed, because the rules forbid the second treatment
    forbidden: tuple[Masked, ...]  # hard rules, in the order of their names
    remarked: tuple[Masked, ...]  # allowed, but
    patient: Patient
    missing: tuple[str, ...] = ()  # leads that were off
    facts: Mapping[str, str] = field(default_factory=dict)  # to repeat it: command, seeds, hashes


def tell(
    world: World,
    state: State,
    candidates: Iterable[Treatment],
    risk: RiskFunction,
    *,
    k: int = 16,
    risk_aversion: float = 0.6,
    seed: int = 0,
    steps: int = 4,
    record: str = "",
    first: np.ndarray | None = None,
    missing: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
    record_facts: Facts | None = None,
    by_name: bool = False,
    remarks: Sequence[str] = (),
    progress: Progress | None = None,
) -> Story:
    """Plan for a state of one patient, then follow the best over ``steps``; ``steps=1`` looks at the next strip only.

    Risk is judged against ``first (1, 12, 1024)`` [mV], by default the state's own strip; ``missing`` names leads of it
    that were off; ``record_facts``, ``by_name`` and ``remarks`` are what :func:`planners.advice.advise` takes.
    ``progress(done, total)`` is told about the rows of each part in turn.
    """
    candidates = tuple(candidates)
    witness = _Witness(world)
    ranked = advise(witness, state, candidates, risk, facts=record_facts, by_name=by_name, k=k, extra=0, seed=seed,
                    risk_aversion=risk_aversion, record=record, remarks=remarks, first=first,
                    progress=progress)  # fmt: skip
    futures = {c.treatment: concatenate(witness.hearts[c.treatment]) for c in ranked.candidates}
    leaders = one_per_drug([c.treatment for c in ranked.candidates])
    follow: list[Course] = [*[(t,) for t in leaders if t][:LINES], (WATCH,)]
    lines = branches(world, state, follow, ranked.seeds, risk, steps=steps, first=first, progress=progress)
    pairs, barred = _pairs(world, state, leaders, risk, ranked.seeds[:SECOND_K], steps, first, progress)
    objections = [Masked(t, _objections(t, state, world, risk)) for t in sorted(set(candidates) - {WATCH}, key=str)]
    return Story(
        plan=ranked,
        futures=futures,
        lines=lines,
        pairs=pairs,
        barred=barred,
        forbidden=tuple(m for m in objections if any(v.hard for v in m.violations)),
        remarked=tuple(m for m in objections if m.violations and not any(v.hard for v in m.violations)),
        patient=state.patients[0],
        missing=tuple(missing),
        facts=facts or {},
    )


def one_per_drug(ranked: Sequence[Treatment]) -> list[Treatment]:
    """The first treatment of each drug or set of drugs, in the order of the ranking."""
    result: dict[tuple[str, ...], Treatment] = {}
    for treatment in ranked:
        result.setdefault(tuple(dose.drug for dose in treatment.doses), treatment)
    return list(result.values())


def _pairs(
    world: World, state: State, leaders: Sequence[Treatment], risk: RiskFunction, seeds: Sequence[int], steps: int,
    first: np.ndarray | None, progress: Progress | None,
) -> tuple[dict[Course, Branch], dict[Course, Barred]]:  # fmt: skip
    """The best first treatments, each followed by the best others where the rules allow it in every future."""
    if steps < 2:
        return {}, {}
    firsts = [*[t for t in leaders if t][: FIRSTS - 1], WATCH]
    seconds = [*[t for t in leaders if t][:SECONDS], WATCH]
    courses: list[Course] = []
    barred = {}
    for branch in branches(world, state, [(now,) for now in firsts], seeds, risk, steps=1):
        for second in seconds:
            if (result := _forbidden(second, state, branch.state, world, risk)).futures:
                barred[(*branch.course, second)] = result
            else:
                courses.append((*branch.course, second))
    followed = branches(world, state, courses, seeds, risk, steps=steps, first=first, progress=progress)
    return {branch.course: branch for branch in followed}, barred


def _forbidden(treatment: Treatment, first: State, crowd: State, world: World, risk: RiskFunction) -> Barred:
    """In how many futures the rules forbid it, and why; the dead are not asked."""
    assessment = Judgement.of(risk, first_of(world, risk, first), crowd, world=world).assessment
    living = [i for i in range(len(crowd)) if crowd.alive[i]]
    hard = [[v.sentence for v in _violations(treatment, crowd[i], assessment, i) if v.hard] for i in living]
    reasons = tuple(dict.fromkeys(sentence for sentences in hard for sentence in sentences))
    return Barred(sum(map(bool, hard)), reasons)


def _objections(treatment: Treatment, state: State, world: World, risk: RiskFunction) -> tuple[Violation, ...]:
    assessment = judged_now(world, risk, state)
    return _violations(treatment, state, assessment, 0)


def _violations(treatment: Treatment, state: State, assessment: Any, row: int) -> tuple[Violation, ...]:
    """What the rules say of a treatment for a state of one, judged as ``row`` of a batch."""
    from ecg_gym.envs.dynamics import likely

    intervals = {name: float(value) for name, value in assessment.intervals.row(row).items()}
    findings = likely(assessment.probabilities[row])
    return violations(treatment, state.patients[0], intervals, state.doses[0], float(state.hours[0]), findings)


class _Witness:
    """A world that keeps what became of the hearts, by treatment, in the order of the seeds."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.hearts: dict[Treatment, list[State]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    @property
    def dt_hours(self) -> float:
        """The world's own."""
        return self._world.dt_hours

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """The world's own."""
        return self._world.initial(n, rng, **who)

    def observe(self, *args: Any, **kwargs: Any) -> State:
        """The world's own."""
        return self._world.observe(*args, **kwargs)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """The world's own, remembered."""
        after = self._world.step(state, treatments, rng)
        for row, treatment in enumerate(treatments):
            self.hearts.setdefault(treatment, []).append(after[row])
        return after
