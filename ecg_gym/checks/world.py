"""``check_world(world)`` returns nothing and raises ``AssertionError`` with one sentence for the first broken promise.

Everything above a World trusts these promises, so your own world is tested by our tests: call it in yours.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from ecg_gym.core import (
    ECG,
    LEADS,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    WATCH,
    Administration,
    State,
    Treatment,
    World,
    concatenate,
    independent_from_leads,
    limb_from_independent,
)

LARGEST_MV = 20.0  # a strip beyond this is not in mV
BATCH_TOLERANCE_MV = 1e-3  # kernels differ a little with the batch size; a row must not differ more than this


def check_world(world: World, treatments: Sequence[Treatment] | None = None, seed: int = 0) -> None:
    """Put a world through the promises of :class:`ecg_gym.core.World`; silence means that it keeps them.

    ``treatments`` are the ones to try (default: watch and wait, and the first two of the formulary's menu). Every check
    costs a few steps of the world.
    """
    _expect(isinstance(world, World), f"{type(world).__name__} lacks initial, observe, step or dt_hours")
    _expect(float(world.dt_hours) > 0, f"dt_hours is {world.dt_hours}; expected a positive number of hours")
    choice = list(treatments) if treatments is not None else _menu_sample()
    with untouched_global_randomness():
        state = world.initial(3, np.random.default_rng(seed))
        check_state(state, 3)
        for check in CHECKS:
            check(world, state, choice, seed)


def check_state(state: State, n: int) -> None:
    """Shapes, types, units and leads of a batch of ``n``; rows that are not alive may show anything finite."""
    _expect(isinstance(state, State), f"the world returned a {type(state).__name__}; expected a State")
    _expect(state.ecg.shape == (n, len(LEADS), MODEL_SAMPLES), f"ecg has shape {state.ecg.shape} for {n} rows")
    _expect(state.ecg.dtype == np.float32, f"ecg has dtype {state.ecg.dtype}; expected float32")
    _expect(bool(np.isfinite(state.ecg).all()), "ecg has values that are not finite")
    _expect(float(np.abs(state.ecg).max()) < LARGEST_MV, "ecg exceeds 20 mV; expected mV")
    twelve = limb_from_independent(independent_from_leads(state.ecg))
    _expect(bool(np.allclose(twelve, state.ecg, atol=1e-3)), "ecg breaks Einthoven's law by more than 1 microvolt")
    _expect(len(state.patients) == len(state.doses) == n, f"patients and doses must have {n} rows")
    _expect(state.hours.shape == (n,) and state.hours.dtype == np.float64, "hours must be float64 (B,)")
    _expect(state.alive.shape == (n,) and state.alive.dtype == np.bool_, "alive must be bool (B,)")
    for name, value in state.inner.items():
        _expect(isinstance(value, np.ndarray) and len(value) == n, f"inner[{name!r}] must be an array with {n} rows")


def check_initial_repeats(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """The same seed draws the same patients; another seed draws others."""
    again = world.initial(3, np.random.default_rng(seed))
    _expect(same(state, again), "initial with the same seed gives another batch")
    other = world.initial(3, np.random.default_rng(seed + 1))
    _expect(not np.array_equal(state.ecg, other.ecg), "initial ignores its rng: two seeds give the same strips")
    _expect(not np.array_equal(state.ecg[0], state.ecg[1]), "initial gives every row the same strip")


def check_clock_and_memory(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """A step takes ``dt_hours``, remembers what was given and when, and forgets nobody."""
    rows = [treatments[i % len(treatments)] for i in range(len(state))]
    before = pickle.loads(pickle.dumps(state))
    later = world.step(state, rows, np.random.default_rng(seed))
    check_state(later, len(state))
    _expect(same(state, before), "step changed the state that was handed in")
    _expect(not np.shares_memory(later.ecg, state.ecg), "step returned the memory it was given")
    alive = state.alive
    _expect(
        bool(np.allclose(later.hours[alive], state.hours[alive] + world.dt_hours)),
        f"hours went from {state.hours} to {later.hours}; expected {world.dt_hours} h more",
    )
    _expect(later.patients == state.patients, "step changed the patients")
    for i in np.flatnonzero(alive).tolist():
        doses = tuple(Administration(float(state.hours[i]), dose) for dose in rows[i].doses)
        _expect(
            later.doses[i] == state.doses[i] + doses,
            f"after {rows[i]} the row remembers {later.doses[i]}; expected {state.doses[i] + doses}",
        )


def check_step_repeats(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """The same seed gives the same future; another seed another sample of it."""
    rows = [treatments[-1]] * len(state)
    first, again = (world.step(state, rows, np.random.default_rng(seed)) for _ in range(2))
    _expect(same(first, again), "step with the same seed gives another future")
    other = world.step(state, rows, np.random.default_rng(seed + 1))
    _expect(not np.array_equal(first.ecg, other.ecg), "step ignores its rng: it must return a sample, not a mean")


def check_rows_are_independent(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """A row with its own generator has one future, alone or in a crowd, in any order."""
    rows = [treatments[i % len(treatments)] for i in range(len(state))]
    together = world.step(state, rows, _generators(seed, len(state)))
    for i in range(len(state)):
        alone = world.step(state[i], [rows[i]], [_generators(seed, len(state))[i]])
        _expect(close(alone, together[i]), f"row {i} stepped alone differs from row {i} in a batch of {len(state)}")
    order = np.arange(len(state))[::-1]
    turned = world.step(state[order], [rows[i] for i in order], [_generators(seed, len(state))[i] for i in order])
    _expect(close(turned[order], together), "the future of a row depends on the order of the batch")


def check_same_noise_same_heart(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """Two copies of a row with one treatment and one generator have one future: common random numbers work."""
    twins = state[0].repeat(2)
    later = world.step(twins, [treatments[-1]] * 2, [np.random.default_rng(seed), np.random.default_rng(seed)])
    _expect(close(later[0], later[1]), "twins with the same treatment and seed part ways")


def check_the_dead_stay(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """Rows that are not alive stay exactly as they are, and do not disturb the others."""
    alive = np.array([False] + [True] * (len(state) - 1))
    mixed = replace(state, alive=alive)
    later = world.step(mixed, [treatments[-1]] * len(state), _generators(seed, len(state)))
    _expect(same(later[0], mixed[0]), "a row that is not alive was changed by step")
    free = world.step(state, [treatments[-1]] * len(state), _generators(seed, len(state)))
    _expect(close(later[1:], free[1:]), "a row that is not alive changed the future of its neighbours")


def check_observe(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """A record becomes a batch of one that knows the patient and the doses already taken, and can be stepped."""
    ecg, patient = ECG(state.ecg[0], MODEL_RATE_HZ), state.patients[0]
    doses = tuple(Administration(-1.0, dose) for dose in treatments[-1].doses)
    view = world.observe(ecg, patient, doses)
    check_state(view, 1)
    _expect(view.patients == (patient,), "observe forgot the patient")
    _expect(view.doses == (doses,), f"observe remembers {view.doses[0]}; expected {doses}")
    _expect(float(view.hours[0]) == 0.0, f"observe starts at {view.hours[0]} h; expected 0")
    _expect(bool(view.alive[0]), "observe starts with a row that is not alive")
    _expect(same(view, world.observe(ecg, patient, doses)), "observe gives two states for one record")
    check_state(world.step(view, [WATCH], np.random.default_rng(seed)), 1)


def check_state_travels(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """A state can be sliced, repeated, joined and pickled, and its future is the same afterwards."""
    copy = pickle.loads(pickle.dumps(concatenate([state[:1], state[1:]])))
    _expect(same(copy, state), "a state that was cut and joined is not itself any more")
    rows = [treatments[0]] * len(state)
    futures = [world.step(s, rows, _generators(seed, len(state))) for s in (state, copy)]
    _expect(same(*futures), "a copy of a state has another future: something is kept outside the state")


def check_one_treatment_per_row(world: World, state: State, treatments: Sequence[Treatment], seed: int) -> None:
    """Too few treatments are refused, not recycled."""
    try:
        world.step(state, [WATCH], np.random.default_rng(seed))
    except ValueError:
        return
    raise AssertionError(f"step took 1 treatment for {len(state)} rows; expected a ValueError")


CHECKS: tuple[Callable[[World, State, Sequence[Treatment], int], None], ...] = (
    check_initial_repeats,
    check_clock_and_memory,
    check_step_repeats,
    check_rows_are_independent,
    check_same_noise_same_heart,
    check_the_dead_stay,
    check_observe,
    check_state_travels,
    check_one_treatment_per_row,
)


def same(a: State, b: State) -> bool:
    """Whether two states agree to the last bit."""
    return equal(a, b)


def equal(a: Any, b: Any) -> bool:
    """Whether two values agree to the last bit, arrays, mappings and dataclasses by their parts; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and a.dtype != object:
        floats = bool(np.issubdtype(a.dtype, np.inexact))
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=floats))
    if isinstance(a, np.ndarray | list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if is_dataclass(a) and not isinstance(a, type):
        return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b) or (a != a and b != b)


def close(a: State, b: State) -> bool:
    """Whether two states show the same strip within ``BATCH_TOLERANCE_MV`` and agree on everything told."""
    value = a.doses == b.doses and np.array_equal(a.hours, b.hours) and np.array_equal(a.alive, b.alive)
    return value and bool(np.allclose(a.ecg, b.ecg, atol=BATCH_TOLERANCE_MV))


@contextmanager
def untouched_global_randomness() -> Iterator[None]:
    """A block after which the global generators of random, NumPy and (if loaded) torch must stand where they stood."""
    before = _global_randomness()
    yield
    after = _global_randomness()
    if not before[-1]:  # torch was not loaded yet, so there is nothing to compare its generator with
        before, after = before[:-1], after[:-1]
    _expect(after == before, "a global random generator was used; randomness is an argument")


def _global_randomness() -> tuple[Any, ...]:
    torch = sys.modules.get("torch")
    kind, key, *rest = np.random.get_state()  # noqa: NPY002 - looked at, never used
    numbers = torch.random.get_rng_state().numpy().tobytes() if torch is not None else b""
    return random.getstate(), kind, np.asarray(key).tobytes(), tuple(rest), numbers


def _generators(seed: int, n: int) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(n)]


def _menu_sample() -> list[Treatment]:
    from ecg_gym.pharmacology import FORMULARY

    return list(FORMULARY.menu()[:3])


def _expect(promise: bool, sentence: str) -> None:
    if not promise:
        raise AssertionError(sentence)
