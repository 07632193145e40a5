"""What happens in an episode: how it begins, one step of every row, and what can be read of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ecg_gym.core import WATCH, State, Treatment, World, row_generators
from ecg_gym.envs.episode import LIKELY, Episode, Outcome, Reading, Reward, Transition
from ecg_gym.envs.observability import USUAL, SeenStrip, Tier, leads_off, seen, tier_named
from ecg_gym.envs.observations import (
    CHANGES,
    CLOCK,
    LATENT_LIMIT,
    MEASURED,
    STRIP_LIMIT_MV,
    Layout,
    doses_taken,
    patient_features,
)
from ecg_gym.envs.reward import RiskReward, mean_variance, priced
from ecg_gym.pharmacology import action_mask, indication_mask
from ecg_gym.risk import FINDINGS, RiskModel

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
    mask: str = CONTRAINDICATIONS  # which treatments are allowed: all that no rule forbids, or of those the indicated


def begin(task: Task, state: State, rngs: Sequence[np.random.Generator]) -> Episode:
    """Episodes that start at these states; ``rngs`` are drawn from in tiers that spoil what is seen, only."""
    missing = leads_off(task.tier, rngs)
    strips = seen(task.tier, state.ecg, missing, rngs)
    truth, reading = _both(task, state.ecg, strips, state)
    looks = zip(state.hours, strips, missing, reading["risk"])
    recorded = tuple((SeenStrip(float(h), strip, off, risk=float(risk)),) for h, strip, off, risk in looks)
    return Episode(
        state=state, first=state.ecg, start=reading, now=reading, last=reading, judged=truth,
        allowed=allowed(task, state, reading), steps=np.zeros(len(state), int), missing=missing, recorded=recorded,
        delayed=task.tier.delayed,
    )  # fmt: skip


def advance(
    task: Task, episode: Episode, entries: Sequence[int], rngs: Sequence[np.random.Generator]
) -> tuple[Episode, Outcome]:
    """One step of every row: the menu entry of each, if it is allowed, and ``dt_hours`` of waiting.

    Raises ``ValueError`` for an entry that is not allowed when ``task.invalid`` is "raise".
    """
    refused = ~episode.allowed[np.arange(len(episode)), entries]
    if task.invalid == "raise" and refused.any():
        row = int(np.flatnonzero(refused)[0])
        raise ValueError(
            f"action means {task.menu[entries[row]]}, which is not allowed now; expected an action whose mask is true; "
            "look at info['action_mask'] or env.action_masks(), or pass invalid_action='noop'"
        )
    given = tuple(WATCH if no else task.menu[entry] for no, entry in zip(refused, entries))
    crowd = task.world.step(
        episode.state.repeat(task.samples),
        [treatment for treatment in given for _ in range(task.samples)],
        rngs if task.samples == 1 else [g for rng in rngs for g in row_generators(rng, task.samples)],
    )
    true = read(task, np.repeat(episode.first, task.samples, axis=0), crowd.ecg, crowd)
    risks = true["risk"].reshape(-1, task.samples)
    real = slice(None, None, task.samples)
    state, truth = crowd[real], {name: values[real] for name, values in true.items()}
    after = _after(task, episode, state, truth, given, rngs)
    lost = ~state.alive | ~truth["finite"].astype(bool)
    if task.invalid == "terminate":
        lost |= refused
    risk = mean_variance(risks, task.risk_aversion)
    most = max(len(treatment.doses) for treatment in task.menu)
    intervals = {feature.name: truth[feature.name] for feature in MEASURED}
    step = Transition(
        episode.steps, episode.state, state, given, refused, lost, risk, intervals, task.horizon, most
    )  # fmt: skip
    terms = priced(task.reward, step)
    return after, Outcome(np.sum(list(terms.values()), axis=0), terms, lost, refused, given)


def _after(
    task: Task, before: Episode, state: State, truth: Reading, given: tuple[Treatment, ...],
    rngs: Sequence[np.random.Generator],
) -> Episode:  # fmt: skip
    """The episode once these strips have been taken: what is seen of them, and when."""
    strips = seen(task.tier, state.ecg, before.missing, rngs)
    last = truth if task.tier.clear else read(task, _first_seen(before), strips, state)
    now = before.last if task.tier.delayed else last
    recorded = tuple(
        (*past[:-1], replace(past[-1], given=treatment), SeenStrip(float(hours), strip, off, risk=float(risk)))
        for past, treatment, hours, strip, off, risk in zip(
            before.recorded, given, state.hours, strips, before.missing, last["risk"]
        )
    )
    return replace(
        before, state=state, now=now, last=last, judged=truth, allowed=allowed(task, state, now),
        steps=before.steps + 1, recorded=recorded,
    )  # fmt: skip


def _first_seen(episode: Episode) -> np.ndarray:
    """The first strips as they were seen, ``(B, 12, 1024)`` [mV]."""
    return np.stack([past[0].ecg for past in episode.recorded])


def _both(task: Task, strips: np.ndarray, as_seen: np.ndarray, state: State) -> tuple[Reading, Reading]:
    """What is read off the first strips, and off what is seen of them."""
    truth = read(task, strips, strips, state)
    return truth, truth if task.tier.clear else read(task, as_seen, as_seen, state)


def read(task: Task, first: np.ndarray, strips: np.ndarray, state: State) -> dict[str, np.ndarray]:
    """Everything that can be read off strips, one array ``(B,)`` per name; NaN where not measurable."""
    judgement = task.risk(first, strips, state.patients, state.alive)
    rows = [judgement.intervals.row(i) for i in range(len(state))]
    columns = {f.name: np.array([row[f.name] for row in rows], dtype=float) for f in MEASURED}
    columns |= {name: judgement.probabilities[:, i] for i, name in enumerate(finding_names())}
    columns |= {f"risk_{name}": np.asarray(term, dtype=float) for name, term in judgement.terms.items()}
    risk = np.where(judgement.finite & np.isfinite(judgement.total), np.nan_to_num(judgement.total, nan=1.0), 1.0)
    return columns | {
        "risk": risk,
        "cost": np.nan_to_num(judgement.cost, nan=1.0),
        "finite": judgement.finite.astype(float),
    }


def allowed(task: Task, state: State, reading: Reading) -> np.ndarray:
    """Menu entries that ``task.mask`` allows now, ``(B, n)`` bool; watch and wait always."""
    masks = []
    for row in range(len(state)):
        findings = likely(np.array([reading[name][row] for name in finding_names()]))
        intervals = {f.name: float(reading[f.name][row]) for f in MEASURED}
        given, now = state.taken[row], float(state.hours[row])
        about = (task.menu, state.patients[row], intervals, given, now, findings)
        mask = action_mask(*about)
        masks.append(mask & indication_mask(*about) if task.mask == INDICATIONS else mask)
    return np.stack(masks)


def likely(probabilities: np.ndarray) -> frozenset[str]:
    """The findings that are more likely than not, out of one row of probabilities (17,); none where they are NaN."""
    return frozenset(name for name, probability in zip(FINDINGS, probabilities) if probability >= LIKELY)


def features(task: Task, episode: Episode) -> np.ndarray:
    """The observation vectors ``(B, d)`` float32 in [-1, 1]."""
    state, columns = episode.state, dict(episode.now)
    for feature in CHANGES:
        name = feature.name.removesuffix("_change")
        columns[feature.name] = episode.now[name] - episode.start[name]
    columns |= patient_features(state.patients, task.layout.conditions) | doses_taken(state, task.menu)
    clock = {
        "hours": state.hours,
        "dt_hours": np.full(len(state), task.world.dt_hours),
        "steps_left": np.clip(1 - episode.steps / task.horizon, 0, 1),
        "risk": episode.now["risk"],
    }
    assert clock.keys() == {f.name for f in CLOCK}
    return task.layout.vector(columns | clock)


def strips(episode: Episode) -> np.ndarray:
    """The newest strips that were seen ``(B, 12, 1024)`` [mV], within the bounds of the space."""
    newest = np.stack([row[-1].ecg for row in episode.sights])
    return np.clip(np.nan_to_num(newest), -STRIP_LIMIT_MV, STRIP_LIMIT_MV).astype(np.float32)


def latents(episode: Episode) -> np.ndarray:
    """The current latents ``(B, ...)`` within the bounds of the space; only states of a world model have them."""
    return np.clip(np.nan_to_num(episode.state.inner["latent"]), -LATENT_LIMIT, LATENT_LIMIT).astype(np.float32)


def finding_names() -> tuple[str, ...]:
    """The 17 findings as feature names, in their order."""
    return tuple("finding_" + name.lower().replace(" ", "_").replace("-", "_") for name in FINDINGS)
