"""What happens in an episode: how it begins, one step of every row, and what can be read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from ecg_gym.columns import FEMALE, NUMBERS, WORDS, Choice, Doses, Patients
from ecg_gym.core import State, Treatment, World, row_streams
from ecg_gym.envs.episode import (
    LIKELY,
    Episode,
    History,
    Moment,
    Outcome,
    Readings,
    Reward,
    Transition,
    doses_of,
)
from ecg_gym.envs.observability import USUAL, Tier, leads_off, seen, tier_named
from ecg_gym.envs.observations import (
    CHANGES,
    LATENT_LIMIT,
    MEASURED,
    PATIENT_FEATURES,
    STRIP_LIMIT_MV,
    Layout,
    conditions_of,
    doses_taken,
)
from ecg_gym.envs.reward import RiskReward, mean_variance, priced
from ecg_gym.look import READ, Look
from ecg_gym.pharmacology import indication_mask, violations
from ecg_gym.pharmacology.mask_kernel import compile_masks, unknown_conditions
from ecg_gym.risk import FINDINGS, RiskModel
from ecg_gym.streams import LEAD_SET, NOISE, Streams

CONTRAINDICATIONS, INDICATIONS = MASKS = ("contraindications", "indications")


@dataclass(frozen=True)
class Task:
    """What the episodes are about: the same for all rows and for ever."""

    world: World
    risk: RiskModel
    menu: tuple[Treatment, ...]  # watch and wait first
    layout: Layout
    horizon: int = 8  # steps, for the cost of dying and the share of steps left
    invalid: str = "noop"  # what a treatment that is not allowed does
    samples: int = 1  # futures judged for the reward; the first is the one that happens
    risk_aversion: float = 0.0  # weight of their SD in the reward
    reward: Reward = field(default_factory=RiskReward)
    tier: Tier = field(default_factory=lambda: tier_named(USUAL))
    fidelity: str = "strip"  # or "vitals": readings without strips
    mask: str = CONTRAINDICATIONS  # which treatments are allowed: all that no rule forbids, or of those the indicated


def begin(task: Task, state: State, rngs: Sequence[np.random.Generator]) -> Episode:
    """Episodes that start at these states; ``rngs`` are drawn from in tiers that spoil what is seen, only."""
    n, streams = len(state), row_streams(rngs, len(state))
    missing = leads_off(task.tier, streams.at(LEAD_SET))
    if task.fidelity == "vitals":
        home = read_vitals(task, state, None, None)
        start = home if task.tier.clear else read_vitals(task, state, None, missing)
    else:
        home = read(task, state.ecg, state.ecg, state)
        strips = seen(task.tier, state.ecg, missing, streams.at(NOISE))
        start = home if task.tier.clear else read(task, strips, strips, state)
    moment = Moment(_kept(task, state), streams, missing, None, start["risk"])
    return Episode(
        state=state, origin=state, home=home, start=start, now=start, last=start, judged=home,
        allowed=allowed(task, state, start), steps=np.zeros(n, int), horizon=np.full(n, task.horizon),
        missing=missing, history=History.start(task.tier, moment), delayed=task.tier.delayed,
    )  # fmt: skip


def advance(
    task: Task, episode: Episode, entries: Sequence[int] | np.ndarray, rngs: Sequence[np.random.Generator]
) -> tuple[Episode, Outcome]:
    """One step of every row: the menu entry of each, if it is allowed, and ``dt_hours`` of waiting.

    Raises ``ValueError`` for an entry that is not allowed when ``task.invalid`` is "raise".
    """
    wanted, streams = np.asarray(entries), row_streams(rngs, len(episode))
    refused = ~episode.allowed[np.arange(len(episode)), wanted]
    if task.invalid == "raise" and refused.any():
        row = int(np.flatnonzero(refused)[0])
        raise ValueError(
            f"action means {task.menu[wanted[row]]}, which is not allowed now; expected an action whose mask is true; "
            "look at info['action_mask'] or env.action_masks(), or pass invalid_action='noop'"
        )
    given = Choice(task.menu, np.where(refused, 0, wanted))
    if task.samples == 1:
        crowd = task.world.step(episode.state, given, streams)
    else:
        crowd = task.world.step(
            episode.state.repeat(task.samples), given.repeat(task.samples), streams.repeat(task.samples)
        )
    rows = np.repeat(np.arange(len(episode)), task.samples) if task.samples > 1 else None
    if task.fidelity == "vitals":
        true = read_vitals(task, crowd, episode.home if rows is None else episode.home.take(rows), None)
    else:
        first = episode.first if rows is None else episode.first[rows]
        true = read(task, first, crowd.ecg, crowd)
    risks = true["risk"].reshape(-1, task.samples)
    real = np.arange(0, len(crowd), task.samples)
    state, truth = (crowd, true) if rows is None else (crowd[real], true.take(real))
    after = _after(task, episode, state, truth, given, streams)
    lost = ~state.alive | ~truth["finite"].astype(bool)
    if task.invalid == "terminate":
        lost |= refused
    risk = mean_variance(risks, task.risk_aversion)
    most = int(doses_of(task.menu).max())
    intervals = {name: truth[name] for name in _READ[:-1]}
    step = Transition(
        episode.steps, episode.state, state, given, refused, lost, risk, intervals, episode.horizon, most
    )  # fmt: skip
    terms = priced(task.reward, step)
    return after, Outcome(np.sum(list(terms.values()), axis=0), terms, lost, refused, given)


def _after(
    task: Task, before: Episode, state: State, truth: Readings, given: Sequence[Treatment], streams: Streams
) -> Episode:
    """The episode once these strips have been taken: what is seen of them, and when."""
    if task.tier.clear:
        last = truth
    elif task.fidelity == "vitals":
        last = read_vitals(task, state, before.start, before.missing)
    else:
        strips = seen(task.tier, state.ecg, before.missing, streams.at(NOISE))
        last = read(task, _first_seen(before), strips, state)
    now = before.last if task.tier.delayed else last
    moment = Moment(_kept(task, state), streams, before.missing, given, last["risk"])
    return replace(
        before, state=state, now=now, last=last, judged=truth, allowed=allowed(task, state, now),
        steps=before.steps + 1, history=before.history.later(moment),
    )  # fmt: skip


def _kept(task: Task, state: State) -> State:
    """The state as a history keeps it: without strips that can be drawn again, where there are many."""
    return state.undrawn() if task.fidelity == "vitals" or len(state) > 1 else state


def _first_seen(episode: Episode) -> np.ndarray:
    """The first strips as they were seen, ``(B, 12, 1024)`` [mV]."""
    return np.stack([episode.history.first(row).ecg for row in range(len(episode))])


def read(task: Task, first: np.ndarray, strips: np.ndarray, state: State) -> Readings:
    """Everything that can be read off strips; NaN where not measurable."""
    judgement = task.risk(first, strips, state.patients, state.alive)
    measured = [np.asarray(getattr(judgement.intervals, name), dtype=float) for name in _READ]
    whole = judgement.finite & np.isfinite(judgement.total)
    risk = np.where(whole, np.nan_to_num(judgement.total, nan=1.0), 1.0)
    return _readings(np.stack(measured), judgement.probabilities.T, judgement.terms, risk,
                     np.nan_to_num(judgement.cost, nan=1.0), judgement.finite)  # fmt: skip


def read_vitals(task: Task, state: State, home: Readings | None, missing: Sequence[tuple[str, ...]] | None) -> Readings:
    """The same without strips: what the world says a measurement would say, judged against ``home``, or itself.

    ``missing`` are the leads that are off, in tiers that spoil what is seen; ``None`` reads the true strips.
    """
    look: Look = task.world.vitals(  # type: ignore[attr-defined]
        state, None if missing is None else (task.tier, missing), getattr(task.risk, "classifier", None) is not None
    )
    terms, total, cost = task.risk.judge(look if home is None else home, look, Patients.of(state.patients), state.alive)
    return _readings(look.intervals[_MEASURED_ROWS], look.probabilities, terms, total, cost, 1.0)


def _readings(
    measured: np.ndarray, odds: np.ndarray, terms: Mapping[str, np.ndarray], risk: np.ndarray, cost: np.ndarray,
    finite: np.ndarray | float,
) -> Readings:  # fmt: skip
    """One table out of intervals by ``_READ (I, B)``, findings ``(17, B)`` and a judgement."""
    place = _reading_places(tuple(terms))
    table = np.empty((len(place), len(risk)))
    table[: len(_READ)], table[_FINDINGS] = measured, odds
    for row, term in enumerate(terms.values(), _FINDINGS.stop):
        table[row] = term
    table[-3], table[-2], table[-1] = risk, cost, finite
    return Readings(place, table)


_READ = (*(f.name for f in MEASURED), "n_beats")
_MEASURED_ROWS = np.array([READ.index(name) for name in _READ])
_FINDINGS = slice(len(_READ), len(_READ) + len(FINDINGS))  # rows of every table of readings
_CHANGED = np.array([_READ.index(f.name.removesuffix("_change")) for f in CHANGES])


@lru_cache(maxsize=8)
def _reading_places(terms: tuple[str, ...]) -> dict[str, int]:
    names = [*_READ, *finding_names(), *(f"risk_{name}" for name in terms), "risk", "cost", "finite"]
    return {name: i for i, name in enumerate(names)}


_RULED = tuple(f.name for f in MEASURED)  # what clinical rules may ask for


def allowed(task: Task, state: State, reading: Readings) -> np.ndarray:
    """Menu entries that ``task.mask`` allows now, ``(B, n)`` bool; watch and wait always."""
    masks, patients = compile_masks(task.menu, _RULED, FINDINGS), Patients.of(state.patients)
    if unknown_conditions(len(WORDS))[patients.group].any():
        for patient in patients:  # says which
            violations(task.menu[-1], patient, {}, (), 0.0)
    with np.errstate(invalid="ignore"):
        there = reading.table[_FINDINGS] >= LIKELY
    mask = masks(reading.table[: len(_RULED)], there, patients, Doses.of(state.taken), np.asarray(state.hours, float))
    if task.mask == INDICATIONS:
        for row in range(len(state)):
            seen_intervals = {f.name: float(reading[f.name][row]) for f in MEASURED}
            named = frozenset(name for name, likely_now in zip(FINDINGS, there[:, row]) if likely_now)
            mask[row] &= indication_mask(
                task.menu, state.patients[row], seen_intervals, state.taken[row], float(state.hours[row]), named
            )
    return mask


def likely(probabilities: np.ndarray) -> frozenset[str]:
    """The findings that are more likely than not, out of one row of probabilities (17,); none where they are NaN."""
    return frozenset(name for name, probability in zip(FINDINGS, probabilities) if probability >= LIKELY)


def features(task: Task, episode: Episode) -> np.ndarray:
    """The observation vectors ``(B, d)`` float32 in [-1, 1]."""
    state, now, people = episode.state, episode.now.table, Patients.of(episode.state.patients)
    dt = float(task.world.dt_hours) if state.dt_hours is None else state.dt_hours
    left = np.clip(1 - episode.steps / episode.horizon, 0, 1)
    blocks = (
        now[: len(MEASURED)], now[_CHANGED] - episode.start.table[_CHANGED], now[_FINDINGS],
        people.numbers.T[_PERSONAL], conditions_of(people, task.layout.conditions),
        (state.hours, dt, left, episode.now["risk"]), doses_taken(state, task.menu),
    )  # fmt: skip
    return task.layout.vector(blocks, len(state))


_PERSONAL = np.array([FEMALE if f.name == "female" else NUMBERS.index(f.name) for f in PATIENT_FEATURES])


def strips(episode: Episode) -> np.ndarray:
    """The newest strips that were seen ``(B, 12, 1024)`` [mV], within the bounds of the space."""
    newest = np.stack([episode.history.newest(row, episode.delayed).ecg for row in range(len(episode))])
    return np.clip(np.nan_to_num(newest), -STRIP_LIMIT_MV, STRIP_LIMIT_MV).astype(np.float32)


def latents(episode: Episode) -> np.ndarray:
    """The current latents ``(B, ...)`` within the bounds of the space; only states of a world model have them."""
    return np.clip(np.nan_to_num(episode.state.inner["latent"]), -LATENT_LIMIT, LATENT_LIMIT).astype(np.float32)


def finding_names() -> tuple[str, ...]:
    """The 17 findings as feature names, in their order."""
    return tuple("finding_" + name.lower().replace(" ", "_").replace("-", "_") for name in FINDINGS)
