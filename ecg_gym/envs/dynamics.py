"""What happens in an episode: how it begins, one step of every row, and what can be read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from ecg_gym.columns import FEMALE, NUMBERS, WORDS, Choice, Doses, Patients
from ecg_gym.core import State, Treatment, World, concatenate, row_streams
from ecg_gym.envs import consequences
from ecg_gym.envs.episode import (
    BLOOD,
    Episode,
    History,
    Moment,
    Outcome,
    Readings,
    Reward,
    Transition,
    most_doses,
)
from ecg_gym.envs.observability import USUAL, Tier, as_seen, leads_off, tier_named
from ecg_gym.envs.observations import (
    CHANGES,
    LATENT_LIMIT,
    MEASURED,
    MONITORED,
    PATIENT_FEATURES,
    STRIP_LIMIT_MV,
    Layout,
    conditions_of,
    doses_taken,
    medication_of,
)
from ecg_gym.envs.reward import RiskReward, mean_variance, price_terms, terms_of
from ecg_gym.envs.scenarios import Scenario, load_scenarios
from ecg_gym.look import READ, Look
from ecg_gym.pharmacology import indication_mask, violations
from ecg_gym.pharmacology.mask_kernel import compile_masks, unknown_conditions
from ecg_gym.powers import RunsAtAnyPace, measured_pressure
from ecg_gym.risk import FINDINGS, PRESSURE, RiskModel, pressure_term
from ecg_gym.risk.aggregate import LIKELY
from ecg_gym.streams import LEAD_SET, NOISE, Streams

Beside = tuple[State, Readings]  # untreated twins, and what harm is measured against
CONTRAINDICATIONS, INDICATIONS = MASKS = ("contraindications", "indications")


@dataclass(frozen=True)
class Task:
    """What the episodes are about: the same for all rows and for ever."""

    world: World
    risk: RiskModel
    menu: tuple[Treatment, ...]  # watch and wait first
    layout: Layout
    at_hand: np.ndarray  # (scenarios, menu) bool: which treatments there are, by scenario
    scenarios: tuple[Scenario, ...]  # that episodes may begin with
    horizon: int | None = None  # steps of an episode; None is the scenario's own
    dt_hours: float | None = None  # [h] of a step; None is the scenario's own
    clock: bool = True  # the time that is left is seen, so an episode that is out of time terminates
    invalid: str = "noop"  # what a treatment that is not allowed does
    samples: int = 1  # futures judged for the reward; the first is the one that happens
    risk_aversion: float = 0.0  # weight of their SD in the reward
    reward: Reward = field(default_factory=RiskReward)
    reward_timing: str = consequences.SEEN  # when rewards and costs arrive
    cost: bool = True  # the untreated twin is kept, and harm by treatment is told
    tier: Tier = field(default_factory=lambda: tier_named(USUAL))
    fidelity: str = "strip"  # or "vitals": readings without strips
    mask: str = CONTRAINDICATIONS  # which treatments are allowed: all that no rule forbids, or of those the indicated

    def clocks(self, scenario: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Steps ``(B,)`` of episodes of these scenarios, and the hours of a step ``(B,)`` or None for the world's own.

        A world that has no ``shortest_step_hours`` keeps its own pace; one that has makes longer steps of shorter ones.
        """
        table = tuple(load_scenarios().values())
        steps = np.array([s.clock.steps if self.horizon is None else self.horizon for s in table])[scenario]
        if self.dt_hours is not None or not isinstance(self.world, RunsAtAnyPace):
            return steps, None
        shortest = self.world.shortest_step_hours
        return steps, np.array([max(s.clock.dt_hours, shortest) for s in table])[scenario]


def begin(task: Task, state: State, rngs: Sequence[np.random.Generator], scenario: np.ndarray | None = None) -> Episode:
    """Episodes that start at these states; ``rngs`` are drawn from in tiers that spoil what is seen, only.

    ``scenario (B,)`` are rows of the table of scenarios, by default the first that the task begins with.
    """
    n, streams = len(state), row_streams(rngs, len(state))
    if scenario is None:
        scenario = np.full(n, tuple(load_scenarios()).index(task.scenarios[0].name))
    horizon, dt_hours = task.clocks(scenario)
    if dt_hours is not None:
        state = state.replaced(dt_hours=dt_hours)
    missing = leads_off(task.tier, streams.at(LEAD_SET))
    if task.fidelity == "vitals":
        baseline = read_vitals(task, state, None, None)
        start = baseline if task.tier.clear else read_vitals(task, state, None, missing)
    else:
        baseline = read(task, state.ecg, state.ecg, state)
        strips = as_seen(task.tier, state.ecg, missing, streams.at(NOISE))
        start = baseline if task.tier.clear else read(task, strips, strips, state)
    moment = Moment(_without_strips(task, state), streams, missing, None, start["risk"])
    episode = Episode(
        state=state, origin=state, baseline=baseline, start=start, now=start, last=start, truth=baseline,
        allowed=np.empty((n, 0), bool), steps=np.zeros(n, int), horizon=horizon, missing=missing,
        history=History.start(task.tier, moment), scenario=scenario, treated=np.zeros(n, bool), twin=state,
        pending=np.zeros((n, len(consequences.names_of(task, start)))),
        blood=Patients.of(state.patients).numbers[:, BLOOD], blood_hours=np.asarray(state.hours, float).copy(),
        delayed=task.tier.delayed,
    )  # fmt: skip
    return replace(episode, allowed=allowed_mask(task, episode))


def advance(
    task: Task, episode: Episode, entries: Sequence[int] | np.ndarray, rngs: Sequence[np.random.Generator]
) -> tuple[Episode, Outcome]:
    """One step of every row: the menu entry of each, if it is allowed, and ``dt_hours`` of waiting.

    Raises ``ValueError`` for an entry that is not allowed when ``task.invalid`` is "raise".
    """
    entry, streams = np.asarray(entries), row_streams(rngs, len(episode))
    refused = ~episode.allowed[np.arange(len(episode)), entry]
    if task.invalid == "raise" and refused.any():
        row = int(np.flatnonzero(refused)[0])
        raise ValueError(
            f"action means {task.menu[entry[row]]}, which is not allowed now; expected an action whose mask is true; "
            "look at info['action_mask'] or env.action_masks(), or pass invalid_action='noop'"
        )
    choice, rows = Choice(task.menu, np.where(refused, 0, entry)), np.arange(len(episode))
    beside: Beside | None = None
    if task.samples == 1 and task.fidelity == "vitals" and task.cost:
        state, truths, looks, beside = _with_twins(task, episode, choice, streams)
        truth, last = truths, looks
    elif task.samples == 1:
        state = task.world.step(episode.state, choice, streams)
        truth = truths = _read_true_strips(task, episode, rows, state)
        last = looks = truths if task.tier.clear else _read_view(task, episode, rows, state, streams)
    else:
        every = np.repeat(rows, task.samples)
        many, draws = choice.repeat(task.samples), streams.repeat(task.samples)
        crowd = task.world.step(episode.state.repeat(task.samples), many, draws)
        truths = _read_true_strips(task, episode, every, crowd)
        looks = truths if task.tier.clear else _read_view(task, episode, every, crowd, draws)
        real = np.arange(0, len(crowd), task.samples)
        state, truth, last = crowd[real], truths.take(real), looks.take(real)
    weighed = truths if task.reward_timing == consequences.END else looks
    risk = weighed["risk"]
    if task.samples > 1:
        risk = mean_variance(risk.reshape(-1, task.samples), task.risk_aversion)
    return _settle(task, episode, state, truth, last, refused, risk, choice, streams, beside)


def _with_twins(
    task: Task, episode: Episode, choice: Choice, streams: Streams
) -> tuple[State, Readings, Readings, Beside]:
    """The step of all rows and of their untreated twins as one batch: states, what is read off their true strips and
    off those that are seen, and the twins with what harm is measured against.
    """
    n = len(episode)
    rows, pair = np.arange(n), np.tile(np.arange(n), 2)
    if not (episode.treated | (choice.entry != 0)).any():
        state = task.world.step(episode.state, choice, streams)
        truth = _read_true_strips(task, episode, rows, state)
        last = truth if task.tier.clear else _read_view(task, episode, rows, state, streams)
        return state, truth, last, (state, last)
    watching = Choice(task.menu, np.concatenate([choice.entry, np.zeros(n, int)]))
    both = task.world.step(concatenate([episode.state, episode.twin]), watching, streams.take(pair))
    state, twin = both[rows], both[rows + n]
    if task.tier.clear:
        truth, other = _read_true_strips(task, episode, pair, both).halves()
        return state, truth, truth, (twin, other)
    if task.reward_timing == consequences.END:
        truth, other = _read_true_strips(task, episode, pair, both).halves()
        return state, truth, _read_view(task, episode, rows, state, streams), (twin, other)
    last, other = _read_view(task, episode, pair, both, streams.take(pair)).halves()
    return state, _read_true_strips(task, episode, rows, state), last, (twin, other)


def _settle(
    task: Task, before: Episode, state: State, truth: Readings, last: Readings, refused: np.ndarray, risk: np.ndarray,
    choice: Choice, streams: Streams, beside: Beside | None,
) -> tuple[Episode, Outcome]:  # fmt: skip
    """The episode once these strips have been taken: what is seen of them and when, what of reward and cost is still to
    come, and what arrives now."""
    true = task.reward_timing == consequences.END
    weighed = truth if true else last
    lost = ~(state.alive & (truth["finite"] != 0))
    if task.invalid == "terminate":
        lost |= refused
    intervals = {name: weighed[name] for name in _READ[:-1]}
    step = Transition(
        before.steps, before.state, state, choice, refused, lost, risk, intervals, before.horizon, most_doses(task.menu)
    )  # fmt: skip
    names = consequences.names_of(task, weighed)
    due = dict(price_terms(task.reward, step))
    treated, twin = consequences.untreated(task, before, state, choice, streams, beside[0] if beside else None)
    if task.cost:

        def judge(rows: np.ndarray, state: State, row_streams: Streams) -> Readings:
            if beside:
                return beside[1]
            return _read_true_strips(task, before, rows, state) if true or task.tier.clear else _read_view(
                task, before, rows, state, row_streams
            )  # fmt: skip

        due |= consequences.harm(
            names[len(due) :], treated, twin, weighed, lost, before.horizon - before.steps, streams, judge,
            whole=beside is not None,
        )  # fmt: skip
    steps = before.steps + 1
    over = lost | (steps >= before.horizon)
    table = np.array([due[name] for name in names]).T
    arrived, pending = consequences.deliver(task.reward_timing, task.tier.delayed, before.pending, table, over)
    n_terms = len(terms_of(task.reward))
    terms = dict(zip(names[:n_terms], arrived.T))
    costs = dict(zip(consequences.costs_of(names), arrived.T[n_terms:]))
    out_of_time = over & ~lost
    outcome = Outcome(
        arrived[:, :n_terms].sum(axis=1), terms, costs, lost, over if task.clock else lost,
        np.zeros_like(over) if task.clock else out_of_time, refused, choice,
    )  # fmt: skip
    now = before.last if task.tier.delayed else last
    moment = Moment(_without_strips(task, state), streams, before.missing, choice, last["risk"])
    after = replace(
        before, state=state, now=now, last=last, truth=truth, steps=steps, history=before.history.later(moment),
        allowed=_mask(task, now, state, before.patients_of(state), before.scenario), treated=treated, twin=twin,
        pending=pending,
    )  # fmt: skip
    return after, outcome


def _read_true_strips(task: Task, episode: Episode, rows: np.ndarray, state: State) -> Readings:
    """What is read off the true strips of ``state``, whose rows belong to these of the episode."""
    every = _every(rows, episode)
    if task.fidelity == "vitals":
        return read_vitals(task, state, episode.baseline if every else episode.baseline.take(rows), None)
    return read(task, episode.first if every else episode.first[rows], state.ecg, state)


def _read_view(task: Task, episode: Episode, rows: np.ndarray, state: State, streams: Streams) -> Readings:
    """The same of the strips as they are seen."""
    every = _every(rows, episode)
    missing = episode.missing if every else tuple(episode.missing[row] for row in rows)
    if task.fidelity == "vitals":
        return read_vitals(task, state, episode.start if every else episode.start.take(rows), missing)
    first = episode.history.first_strips(rows, episode.origin)
    return read(task, first, as_seen(task.tier, state.ecg, missing, streams.at(NOISE)), state)


def _every(rows: np.ndarray, episode: Episode) -> bool:
    return len(rows) == len(episode) and np.array_equal(rows, np.arange(len(rows)))


def _without_strips(task: Task, state: State) -> State:
    """The state as a history keeps it: without strips that can be drawn again, where there are many."""
    return state.undrawn() if task.fidelity == "vitals" or len(state) > 1 else state


def read(task: Task, first: np.ndarray, strips: np.ndarray, state: State) -> Readings:
    """Everything that can be read off strips; NaN where not measurable."""
    judgement = task.risk(first, strips, state.patients, state.alive)
    pressure = measured_pressure(task.world, state)
    columns = [
        pressure if name == PRESSURE.quantity else np.asarray(getattr(judgement.intervals, name), dtype=float)
        for name in _READ
    ]
    whole = judgement.finite & np.isfinite(judgement.total)
    risk = np.where(whole, np.nan_to_num(judgement.total, nan=1.0), 1.0)
    return _readings(np.stack(columns), judgement.probabilities.T, judgement.terms, risk,
                     np.nan_to_num(judgement.cost, nan=1.0), judgement.finite)  # fmt: skip


def read_vitals(
    task: Task, state: State, baseline: Readings | None, missing: Sequence[tuple[str, ...]] | None
) -> Readings:
    """The same without strips: what the world says a measurement would say, judged against ``baseline``, or itself.

    ``missing`` are the leads that are off, in tiers that spoil what is seen; ``None`` reads the true strips.
    """
    look: Look = task.world.vitals(  # type: ignore[attr-defined]
        state, None if missing is None else (task.tier, missing), getattr(task.risk, "classifier", None) is not None
    )
    terms, total, cost = task.risk.judge(
        look if baseline is None else baseline, look, Patients.of(state.patients), state.alive
    )
    return _readings(look.intervals[_MEASURED_ROWS], look.probabilities, terms, total, cost, 1.0)


def _readings(
    intervals: np.ndarray, odds: np.ndarray, terms: Mapping[str, np.ndarray], risk: np.ndarray, cost: np.ndarray,
    finite: np.ndarray | float,
) -> Readings:  # fmt: skip
    """One table out of intervals by ``_READ (I, B)``, findings ``(17, B)`` and a judgement."""
    low = pressure_term(intervals[_PRESSURE])  # judged here for every risk: no strip shows it
    place = _reading_places((*terms, PRESSURE.name))
    table = np.empty((len(place), len(risk)))
    table[: len(_READ)], table[_FINDINGS] = intervals, odds
    table[_FINDINGS.stop : -4] = list(terms.values())
    table[-4], table[-1] = low, finite
    table[-3:-1] = 1 - (1 - np.array([risk, cost])) * (1 - low)
    return Readings(place, table)


_READ = (*(f.name for f in (*MEASURED, *MONITORED)), "n_beats")
_PRESSURE = _READ.index(PRESSURE.quantity)
_MEASURED_ROWS = np.array([READ.index(name) for name in _READ])
_FINDINGS = slice(len(_READ), len(_READ) + len(FINDINGS))  # rows of every table of readings
_CHANGED = np.array([_READ.index(f.name.removesuffix("_change")) for f in CHANGES])


@lru_cache(maxsize=8)
def _reading_places(terms: tuple[str, ...]) -> dict[str, int]:
    names = [*_READ, *finding_names(), *(f"risk_{name}" for name in terms), "risk", "cost", "finite"]
    return {name: i for i, name in enumerate(names)}


_RULED = _READ[:-1]  # what clinical rules may ask for


def allowed_mask(task: Task, episode: Episode) -> np.ndarray:
    """Menu entries at hand that ``task.mask`` allows by what is seen, ``(B, n)`` bool; watching always is."""
    return _mask(task, episode.now, episode.state, episode.patients, episode.scenario)


def _mask(task: Task, reading: Readings, state: State, patients: Patients, scenario: np.ndarray) -> np.ndarray:
    masks = compile_masks(task.menu, _RULED, FINDINGS)
    unknown = unknown_conditions(len(WORDS))
    if unknown.any() and unknown[patients.group].any():
        for patient in patients:  # says which
            violations(task.menu[-1], patient, {}, (), 0.0)
    there = reading.table[_FINDINGS] >= LIKELY
    hours = np.asarray(state.hours, float)
    mask = masks(reading.table[: len(_RULED)], there, patients, Doses.of(state.doses), hours, task.at_hand[scenario])
    if task.mask == INDICATIONS:
        for row in range(len(state)):
            seen_intervals = {name: float(reading[name][row]) for name in _RULED}
            findings = frozenset(name for name, likely_now in zip(FINDINGS, there[:, row]) if likely_now)
            mask[row] &= indication_mask(
                task.menu, patients[row], seen_intervals, state.doses[row], float(hours[row]), findings
            )
    return mask


def likely(probabilities: np.ndarray) -> frozenset[str]:
    """The findings that are more likely than not, out of one row of probabilities (17,); none where they are NaN."""
    return frozenset(name for name, probability in zip(FINDINGS, probabilities) if probability >= LIKELY)


def features(task: Task, episode: Episode) -> np.ndarray:
    """The observation vectors ``(B, d)`` float32 in [-1, 1]."""
    state, layout, now, people, n = episode.state, task.layout, episode.now, episode.patients, len(episode)
    dt = float(task.world.dt_hours) if state.dt_hours is None else state.dt_hours
    hours = np.asarray(state.hours, float)
    left = np.maximum(1 - episode.steps / episode.horizon, 0)
    has_labs = ~np.isnan(episode.blood).all(axis=1)
    age_hours = np.where(has_labs, hours - episode.blood_hours, np.nan)
    blocks = (
        now.table[: len(_RULED)], now.table[_CHANGED] - episode.start.table[_CHANGED], now.table[_FINDINGS],
        people.numbers.T[_PERSONAL], conditions_of(people, layout.conditions),
        [age_hours], medication_of(people, layout.medication),
        (np.arange(len(layout.reasons))[:, None] == episode.scenario).astype(float),
        (hours if task.clock else np.nan, dt, left if task.clock else np.nan, now["risk"]),
        doses_taken(state, task.menu), episode.allowed.T.astype(float),
    )  # fmt: skip
    return layout.vector(blocks, n)


_PERSONAL = np.array([FEMALE if f.name == "female" else NUMBERS.index(f.name) for f in PATIENT_FEATURES])


def strips(episode: Episode) -> np.ndarray:
    """The newest strips that were seen ``(B, 12, 1024)`` [mV], within the bounds of the space."""
    newest = episode.history.newest_strips(episode.state, episode.delayed)
    return np.clip(np.nan_to_num(newest), -STRIP_LIMIT_MV, STRIP_LIMIT_MV).astype(np.float32)


def latents(task: Task, episode: Episode) -> np.ndarray:
    """The current latents ``(B, ...)`` within the bounds of the space; only states of a world model have them."""
    return np.clip(np.nan_to_num(task.world.latents(episode.state)), -LATENT_LIMIT, LATENT_LIMIT).astype(  # type: ignore[attr-defined]
        np.float32
    )


def finding_names() -> tuple[str, ...]:
    """The 17 findings as feature names, in their order."""
    return tuple("finding_" + name.lower().replace(" ", "_").replace("-", "_") for name in FINDINGS)
