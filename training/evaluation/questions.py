"""Held-out virtual patients, asked the same question in any world: what will this strip look like after that treatment?

    queries = transitions(truth, 96, seed=0)                          # who is given what, and when
    true = futures(truth, queries.start, queries, k=8, look=measured)   # (K, N, intervals): the same heart, eight times
    samples = futures(world, seen(world, queries), queries, k=16, look=measured)

The patients come from seeds that no training uses (shards of trials are made from ``[design.seed, shard]``). Every row
of noise belongs to a patient and a sample number, never to a treatment: arms are compared under common random numbers.
Nothing here knows which world it asks; only :func:`strangers` and :func:`truths` ask a virtual patient for its truth.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np

from ecg_gym.core import (
    ECG,
    MODEL_RATE_HZ,
    WATCH,
    Administration,
    Patient,
    State,
    Treatment,
    World,
    concatenate,
    limb_from_independent,
)
from ecg_gym.datasets.transitions import TrialDesign, draw_treatment
from ecg_gym.powers import Assimilates, DrawsOtherPatients, Emits, StartsFrom, Truthful
from ecg_gym.rollout import judged_now
from ecg_gym.virtual_patient.world import pressure_of
from ecg_gym.waveform import measure

INTERVALS = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms", "jtpeakc_ms", "tpeak_tend_ms")
SHORT = {name: name.removesuffix("_bpm").removesuffix("_ms") for name in INTERVALS}  # in names of metrics
HELD_OUT = 20_260_517_580  # first word of every seed here; training's are years
PURPOSES = {"validation": 1, "test": 2}
STREAMS = {"true": 10, "again": 11, "stranger": 12, "model": 13}  # futures that must not share their noise
STEPS_HOURS = (1.0, 2.0, 4.0)  # that the world model is trained on
CHUNK = 256  # rows drawn at once

Look = Callable[[State, State], Mapping[str, np.ndarray]]  # (before, after) -> what to keep, (B, ...) each
Draw = Callable[[Patient, np.random.Generator], tuple[Treatment, bool]]  # a treatment, and whether training met it not


@dataclass(frozen=True)
class Questions:
    """N times: this heart, this treatment, so long. A patient may be asked about more than once."""

    start: State  # N rows, as the truth knows them
    treatments: tuple[Treatment, ...]
    patient: np.ndarray  # (N,) int, which heart: the cluster of its rows, and the owner of its noise
    arm: np.ndarray  # (N,) str
    dt_hours: np.ndarray  # (N,) [h]
    held_out: np.ndarray  # (N,) bool: a dose level or a pair of drugs that training does not meet
    earlier: tuple[State, ...] = ()  # N rows each: the looks before ``start``, in their order
    looks: np.ndarray | None = None  # (N,) how many of them each person has had; None is none

    def __len__(self) -> int:
        return len(self.treatments)

    def __getitem__(self, rows: np.ndarray) -> Questions:
        rows = np.arange(len(self))[rows]
        return Questions(
            self.start[rows],
            tuple(self.treatments[i] for i in rows),
            self.patient[rows],
            self.arm[rows],
            self.dt_hours[rows],
            self.held_out[rows],
            tuple(state[rows] for state in self.earlier),
            None if self.looks is None else self.looks[rows],
        )

    def with_treatments(self, treatments: Sequence[Treatment], arm: str | None = None) -> Questions:
        """The same patients, given something else."""
        name = self.arm if arm is None else np.full(len(self), arm)
        return replace(self, treatments=tuple(treatments), arm=name)

    @property
    def placebo(self) -> Questions:
        """The same patients, watched."""
        return self.with_treatments([WATCH] * len(self), "placebo")


def held_out_patients(
    truth: World, n: int, seed: int, split: str = "test", keep: Callable[[State], np.ndarray] | None = None, **who: Any
) -> State:
    """``n`` people of the truth's population that training never met, at hour 0; the same ones for the same arguments.

    ``split`` is "test", or "validation" for what may be fitted after training. ``keep`` says which of a batch are
    wanted, ``(B,)`` bool; more are drawn until there are enough. ``who`` goes to ``truth.initial``. Raises ValueError
    if hardly anybody is wanted.
    """
    rng = np.random.default_rng([HELD_OUT, PURPOSES[split], seed])
    parts: list[State] = []
    samples = result = 0
    while result < n:
        if samples > 50 * n:
            raise ValueError(
                f"{result} of {samples} people drawn were wanted; expected {n}; ask for a group that is less rare"
            )
        size = n if keep is None else max(8, n - result)
        people = truth.initial(size, rng, **who)
        samples += size
        targets = people.alive if keep is None else people.alive & keep(people)
        if targets.any():
            parts.append(people[targets])
            result += int(targets.sum())
    return concatenate(parts)[:n]


def transitions(
    truth: World,
    n: int,
    seed: int,
    split: str = "test",
    draw: Draw | None = None,
    steps: int = 2,
    design: TrialDesign | None = None,
) -> Questions:
    """One question for each of ``n`` people: the transitions of a virtual trial, as training met them, of new patients.

    Half come fresh, half have 1 to ``steps`` steps with treatments of their own behind them. Step lengths and
    treatments follow ``design`` (a fifth is nothing); a quarter of the test split's are held out, none of
    validation's. Those who die before they are asked are left out, so that N may be a little below ``n``.
    """
    design = design or TrialDesign(watch=(0.2,))
    rng = np.random.default_rng([HELD_OUT, PURPOSES[split], seed, 1])
    choose = draw or (lambda patient, generator: draw_treatment(patient, generator, design, split))
    people = held_out_patients(truth, n, seed, split)
    dt = np.array([float(hours) for hours in rng.choice(design.dt_hours, size=len(people))])
    before = np.where(rng.random(len(people)) < 0.5, 0, rng.integers(1, max(1, steps) + 1, size=len(people)))
    parts = []
    for hours in np.unique(dt):
        rows = np.flatnonzero(dt == hours)
        world, state = at_step(truth, hours), people[rows]
        earlier = []
        for step in range(steps):
            earlier.append(state)
            treatments = [choose(patient, rng)[0] for patient in state.patients]
            later = world.step(state, treatments, [generator("true", seed, int(i), 1000 + step) for i in rows])
            state = later.where(before[rows] > step, state)
        queries = [choose(patient, rng) for patient in state.patients]
        parts.append(
            Questions(
                state,
                tuple(treatment for treatment, _ in queries),
                rows,
                np.array([str(treatment) for treatment, _ in queries]),
                dt[rows],
                np.array([held_out for _, held_out in queries]),
                tuple(earlier),
                before[rows],
            )[state.alive]
        )
    return joined(parts)


def joined(parts: Sequence[Questions]) -> Questions:
    """Several tables of questions in one."""
    return Questions(
        concatenate([part.start for part in parts]),
        tuple(treatment for part in parts for treatment in part.treatments),
        np.concatenate([part.patient for part in parts]),
        np.concatenate([part.arm for part in parts]),
        np.concatenate([part.dt_hours for part in parts]),
        np.concatenate([part.held_out for part in parts]),
        tuple(concatenate(states) for states in zip(*(part.earlier for part in parts))),
        np.concatenate([np.zeros(len(part), int) if part.looks is None else part.looks for part in parts]),
    )


def seen_by(world: World, state: State) -> State:
    """The same patients as ``world`` sees them: by their strips, what is known of them and what they have taken.

    Uses ``world.start_from`` where there is one, ``observe`` strip by strip otherwise; hours and doses are kept.
    """
    if isinstance(world, StartsFrom):
        return world.start_from(state)
    states = [
        world.observe(ECG(strip, MODEL_RATE_HZ), patient, doses)
        for strip, patient, doses in zip(state.ecg, state.patients, state.doses)
    ]
    return replace(concatenate(states), doses=state.doses, hours=state.hours.copy(), alive=state.alive.copy())


def observe_first(world: World, queries: Questions) -> State:
    """The patients of the questions as ``world`` sees them, every different one looked at once and remembered.

    A world that assimilates starts from each person's first strip and takes in every later one.
    """
    key = (id(world), id(queries.start))
    if key not in _SEEN:
        while len(_SEEN) >= MOST_KEPT:
            _SEEN.pop(next(iter(_SEEN)))
        start, place = queries.start, dict[Any, int]()
        if queries.looks is not None and queries.looks.any() and isinstance(world, Assimilates):
            _SEEN[key] = ((world, start), _followed(world, queries))
            return _SEEN[key][1]
        of = [
            place.setdefault((strip.tobytes(), patient, doses, float(hours)), len(place))
            for strip, patient, doses, hours in zip(start.ecg, start.patients, start.doses, start.hours)
        ]
        _, first = np.unique(of, return_index=True)
        _SEEN[key] = ((world, start), seen_by(world, start[first])[np.array(of)])
    return _SEEN[key][1]


def _followed(world: Any, queries: Questions) -> State:
    """Each person's first strip, and every later one taken in at its hour."""
    assert queries.looks is not None
    state = seen_by(world, queries.earlier[0])
    for number, then in enumerate([*queries.earlier[1:], queries.start], start=1):
        there = queries.looks >= number
        if there.any():
            current = state.replaced(hours=then.hours, doses=then.doses)
            state = world.assimilate(current, ECG(then.ecg, MODEL_RATE_HZ), pressure_of(then)).where(there, state)
    return state


def futures(
    world: World,
    start: State,
    queries: Questions,
    k: int,
    look: Look,
    seed: int = 0,
    stream: str = "model",
    chunk: int = CHUNK,
    progress: Callable[[int], None] = lambda rows: None,
    keep: bool = True,
) -> dict[str, np.ndarray]:
    """``k`` futures of every question: what ``look`` keeps of them, ``(K, N, ...)`` each.

    ``start`` are the N patients as this world knows them. Sample j of a patient has the same noise whatever is given,
    and ``stream`` keeps the noise of two sets of futures apart. ``progress`` hears how many questions were answered.

    Asked again in this process with the very same arguments (the same objects), the answer is remembered, unless
    ``keep`` is False (strips are heavy).
    """
    key = (id(world), id(start), id(queries), k, getattr(look, "__qualname__", "") + str(id(look)), seed, stream)
    if key in _KEPT:
        return _KEPT[key][1]
    answers: dict[str, list[np.ndarray]] = {}
    places: list[np.ndarray] = []
    for hours in np.unique(queries.dt_hours):
        stepped = at_step(world, float(hours))
        mine = np.flatnonzero(queries.dt_hours == hours)
        size = max(1, chunk // k)
        for rows in (mine[i : i + size] for i in range(0, len(mine), size)):
            before = start[rows].repeat(k)
            treatments = [queries.treatments[i] for i in rows for _ in range(k)]
            noise = [generator(stream, seed, int(queries.patient[i]), sample) for i in rows for sample in range(k)]
            results = look(before, stepped.step(before, treatments, noise))
            for name, values in results.items():
                shape = (len(rows), k, *np.shape(values)[1:])
                answers.setdefault(name, []).append(np.asarray(values).reshape(shape))
            places.append(rows)
            progress(len(rows))
    order = np.argsort(np.concatenate(places))
    result = {name: np.moveaxis(np.concatenate(parts)[order], 1, 0) for name, parts in answers.items()}
    if not keep:
        return result
    while len(_KEPT) >= MOST_KEPT:
        _KEPT.pop(next(iter(_KEPT)))
    _KEPT[key] = ((world, start, queries, look), result)  # holding them keeps their ids from being used again
    return result


MOST_KEPT = 32
_KEPT: dict[tuple[Any, ...], tuple[tuple[Any, ...], dict[str, np.ndarray]]] = {}
_SEEN: dict[tuple[int, int], tuple[tuple[World, State], State]] = {}


def measure_step(before: State, after: State) -> dict[str, np.ndarray]:
    """A look: the measured ``intervals (B, 6)``, columns ``INTERVALS``, NaN where they could not be; ``alive (B,)``."""
    return {"intervals": intervals_of(after.ecg), "alive": after.alive}


def intervals_of(ecg: np.ndarray) -> np.ndarray:
    """Intervals ``(B, 6)``, columns ``INTERVALS``, measured from strips ``(B, 12, 1024)`` [mV]; NaN where unknown."""
    return np.asarray(measure(ECG(ecg, MODEL_RATE_HZ)).as_array(INTERVALS))


def judge_by(risk: Any) -> Look:
    """A look: the ``risk (B,)`` of the strip after, given the one before; and what :func:`measured` keeps."""

    def look(before: State, after: State) -> dict[str, np.ndarray]:
        judgement = risk(before.ecg, after.ecg, after.patients, after.alive)
        intervals = np.asarray(judgement.intervals.as_array(INTERVALS))
        return {"risk": np.asarray(judgement.total), "intervals": intervals, "alive": after.alive}

    return look


def latents_in(world: Any) -> Look:
    """A look at futures of ``world``: what it draws its strips from, ``latent (B, C, 128)``."""
    return lambda before, after: {"latent": np.asarray(world.latents(after))}


def read_in(world: World) -> Look:
    """A look at futures of ``world``: as :func:`measured`, of what is said of strips where the world emits that."""
    if not _emits(world):
        return measure_step

    def look(before: State, after: State) -> dict[str, np.ndarray]:
        values = world.vitals(after, None, False)  # type: ignore[attr-defined]
        return {"intervals": np.stack([values[name] for name in INTERVALS], axis=1), "alive": after.alive}

    return look


def judged_in(world: World, risk: Any) -> Look:
    """A look at futures of ``world``: as :func:`judged`, of what is said of strips where the world emits that."""
    if not (_emits(world) and hasattr(risk, "of_looks")):
        return judge_by(risk)

    def look(before: State, after: State) -> dict[str, np.ndarray]:
        was, values = (world.vitals(state) for state in (before, after))  # type: ignore[attr-defined]
        total = risk.of_looks(was, values, after.patients, after.alive).total
        intervals = np.stack([values[name] for name in INTERVALS], axis=1)
        return {"risk": np.asarray(total), "intervals": intervals, "alive": after.alive}

    return look


def _emits(world: World) -> bool:
    return isinstance(world, Emits) and world.emits


def risk_before(risk: Any, state: State, world: World | None = None) -> np.ndarray:
    """Risk ``(N,)`` of the strips of a state, nothing having changed; of what ``world`` says of them if it emits."""
    if world is not None and _emits(world):
        return np.asarray(judged_now(world, risk, state).total)
    return np.asarray(risk(state.ecg, state.ecg, state.patients, state.alive).total)


def ordered(before: State, after: State) -> dict[str, np.ndarray]:
    """A look: the intervals ``asked (B, 6)`` that a world model drew first, and then its strips by them."""
    from ecg_gym.world_model.conditioning import OBSERVED

    return {"asked": np.asarray(after.inner["observed"])[:, [OBSERVED.index(name) for name in INTERVALS]]}


def draws_intervals_first(world: Any) -> bool:
    """Whether the world has a prognosis, so that :func:`ordered` can be looked at."""
    return getattr(getattr(world, "forecaster", None), "prognosis", None) is not None


def strips(before: State, after: State) -> dict[str, np.ndarray]:
    """A look: the strips themselves, ``ecg (B, 12, 1024)`` [mV]; 49 kB each."""
    return {"ecg": after.ecg}


def truths(truth: World) -> Look:
    """A look: the noise-free ``truth (B, 6)``, columns ``INTERVALS``; measured where a world knows no truth."""

    def look(before: State, after: State) -> dict[str, np.ndarray]:
        return {"truth": truth_of(truth, after)}

    return look


def truth_of(truth: World, state: State) -> np.ndarray:
    """What the truth knows of its own strips ``(B, 6)``, columns ``INTERVALS``; measured where it knows nothing."""
    if not isinstance(truth, Truthful):
        return intervals_of(state.ecg)
    rows = [[float(facts.intervals[name]) for name in INTERVALS] for facts in truth.truth(state)]
    return np.array(rows).reshape(len(state), len(INTERVALS))


def both(*looks: Look) -> Look:
    """Several looks at one future."""

    def look(before: State, after: State) -> dict[str, np.ndarray]:
        return {name: value for one in looks for name, value in one(before, after).items()}

    return look


def strangers(truth: World, state: State, rng: np.random.Generator) -> State | None:
    """The same hearts with the hidden sensitivity of other people: what nobody can read off a strip is drawn anew.

    Futures of strangers are those of the best forecaster there can be, who knows the heart and the law of the
    population but not how this person answers. A world may bring its own ``strangers(state, rng)``; ``None`` if the
    world has no hidden truth that is known here.
    """
    if isinstance(truth, DrawsOtherPatients):
        return truth.strangers(state, rng)
    if "heart" not in state.inner:
        return None
    from ecg_gym.pharmacology import draw_sensitivities
    from ecg_gym.virtual_patient.world import with_sensitivities

    return with_sensitivities(state, draw_sensitivities(state.patients, rng))


def doses_after(queries: Questions) -> tuple[tuple[Administration, ...], ...]:
    """Everything each patient will have taken when the step is over."""
    return tuple(
        (*past, *(Administration(float(hours), dose) for dose in treatment.doses))
        for past, hours, treatment in zip(queries.start.doses, queries.start.hours, queries.treatments)
    )


def pharmacology_alone(queries: Questions) -> np.ndarray:
    """Intervals after the step ``(N, 6)``, columns ``INTERVALS``, by population pharmacology: EPK without a network.

    The measured interval of the strip before, moved by what the doses and the clock change in an average heart; NaN
    where the strip before could not be measured.
    """
    from ecg_gym.world_model.conditioning import observe_strips, population_forecast

    start, end = queries.start, queries.start.hours + queries.dt_hours
    observed = observe_strips(start.ecg)
    result = population_forecast(observed, start.patients, start.doses, doses_after(queries), start.hours, end)
    return np.stack([result[name] for name in INTERVALS], axis=1)


def pharmacology_strips(queries: Questions) -> np.ndarray:
    """Strips after the step ``(N, 12, 1024)`` [mV] by population pharmacology: EPK alone, drawn in all leads.

    McSharry's waves of this patient's strip, moved by what the doses change in an average heart, at even beats; the
    strip before, unchanged, where there is nothing to draw.
    """
    from ecg_gym.physiology import anchor_traces, fit_leads
    from ecg_gym.physiology.multilead import target_after
    from ecg_gym.world_model.conditioning import measure_strips, modulations

    start = queries.start
    was = modulations(start.doses, start.patients, start.hours)
    now = modulations(doses_after(queries), start.patients, start.hours + queries.dt_hours)
    fit = fit_leads(start.ecg, measure_strips(start.ecg))
    samples = limb_from_independent(anchor_traces(fit, target_after(fit, was, now), abstain=False))
    has_prior = np.abs(samples).max(axis=(1, 2)) > 0
    return np.where(has_prior[:, None, None], samples, start.ecg).astype(np.float32)


def futures_of_other_patients(
    truth: World,
    queries: Questions,
    k: int,
    look: Look,
    seed: int = 0,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, np.ndarray] | None:
    """As :func:`futures` of the truth, but every sample is another person with the same heart; ``None`` if unknown."""
    rng = np.random.default_rng([HELD_OUT, STREAMS["stranger"], seed])
    many = strangers(truth, queries.start.repeat(k), rng)
    if many is None:
        return None
    rows = np.repeat(np.arange(len(queries)), k)
    each = replace(
        queries[rows], start=many, patient=queries.patient[rows] * 1_000 + np.tile(np.arange(k), len(queries))
    )
    result = futures(truth, many, each, 1, look, seed, "stranger", progress=lambda n: progress(n // k))
    return {
        name: np.moveaxis(values[0].reshape(len(queries), k, *values.shape[2:]), 1, 0)
        for name, values in result.items()
    }


def at_step(world: World, dt_hours: float) -> World:
    """The same world with another step length."""
    if world.dt_hours == dt_hours:
        return world
    if is_dataclass(world):
        return replace(world, dt_hours=dt_hours)
    other = copy.copy(world)
    other.dt_hours = dt_hours  # type: ignore[misc]
    return other


def generator(stream: str, seed: int, patient: int, sample: int) -> np.random.Generator:
    """The noise of one future of one patient."""
    return np.random.default_rng([HELD_OUT, STREAMS[stream], seed, patient, sample])


def mean_known(values: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Mean over samples ``(K, ...)`` of those that could be measured; NaN where fewer than ``least`` of them could."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    total = np.where(finite, values, 0).sum(axis=0)
    return np.where(count >= max(1, least * len(values)), total / np.maximum(count, 1), np.nan)


def unmeasured(values: np.ndarray, truth: np.ndarray) -> float:
    """Share of samples ``(K, N)`` that could not be measured where the truth ``(N,)`` could."""
    queries = values[:, np.isfinite(truth)]
    return float(1 - np.isfinite(queries).mean()) if queries.size else float("nan")


def fair_crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """CRPS ``(N,)`` of samples ``(K, N)`` against the truth ``(N,)``, unbiased in K (Gneiting 2007, Ferro 2014).

    Samples that are NaN are left out; NaN where fewer than half of them, or fewer than two, are known. One sample (K =
    1) is a point forecast: its absolute error.
    """
    k, n = samples.shape
    if k == 1:
        return np.abs(samples[0] - truth)
    finite = np.isfinite(samples)
    count = finite.sum(axis=0)
    error = np.where(finite, np.abs(samples - truth), 0).sum(axis=0) / np.maximum(count, 1)
    ordered = np.sort(samples, axis=0)  # NaN last
    place = np.arange(1, k + 1)[:, None]
    weight = np.where(place <= count, 2 * place - count - 1, 0)
    pairs = (weight * np.nan_to_num(ordered)).sum(axis=0) / np.maximum(count * (count - 1), 1)
    return np.where((count >= max(2, k / 2)) & np.isfinite(truth), error - pairs, np.nan).reshape(n)
