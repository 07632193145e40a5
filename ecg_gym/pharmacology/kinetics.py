"""How much drug is where, and when: linear compartments solved exactly by their eigenvalues.

A drug in a person is a linear system ``x' = A x + b u``. With ``A = -V diag(rates) V^-1`` one mg is answered by a sum
of exponentials, ``y_o(t) = sum_k W[o, k] exp(-rates[k] t)``, and an infusion by its integral. What costs time (the
eigenvectors) is done once per drug, route and person; a concentration is then one small matrix product.

States: depot, centre, two peripheral compartments, effect compartment, metabolite. Amounts in mg, volumes in L, time in
h, so that mg/L x 1000 = ng/mL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

OUTPUTS = ("plasma", "effect", "metabolite", "body")  # ng/mL, ng/mL, ng/mL, mg
_DEPOT, _CENTRE, _SECOND, _THIRD, _EFFECT, _METABOLITE = range(6)
_GAP = 1e-5  # relative distance below which two rates would spoil the eigenvectors


@dataclass(frozen=True)
class Compartments:
    """The rate parameters of one drug by one route in one person."""

    clearance: float  # [L/h]
    volume: float  # [L] of the centre
    flow_2: float = 0.0  # [L/h] between centre and second compartment
    volume_2: float = 1.0  # [L]
    flow_3: float = 0.0  # [L/h]
    volume_3: float = 1.0  # [L]
    absorption: float = 0.0  # [1/h]; 0 is straight into the centre
    lag: float = 0.0  # [h] before absorption begins
    fraction: float = 1.0  # mg of active drug that arrive per mg given
    equilibration: float = 0.0  # ke0 [1/h] of the effect site; 0 is at once
    metabolite_fraction: float = 0.0  # mg of metabolite formed per mg cleared
    metabolite_clearance: float = 1.0  # [L/h]
    metabolite_volume: float = 1.0  # [L]
    presystemic: float = 0.0  # mg of metabolite formed on the way in, per mg of parent that is absorbed

    def with_factors(self, clearance: float, absorption: float = 1.0) -> Compartments:
        """The same person with clearance and rate of absorption times a factor (an inhibitor's is below one)."""
        if clearance == absorption == 1.0:
            return self
        return replace(self, clearance=self.clearance * clearance, absorption=self.absorption * absorption)


@dataclass(frozen=True)
class Response:
    """What one mg does: ``W`` and the rates, plus what is needed to go on from a state."""

    rates: np.ndarray  # (K,) [1/h], positive
    weights: np.ndarray  # (4, K): OUTPUTS of one mg at time zero are weights @ exp(-rates t)
    read: np.ndarray  # (4, K): outputs of the modes
    modes: np.ndarray  # (K, K) eigenvectors V, in amounts
    entry: np.ndarray  # (K,): V^-1 b, one mg at the entrance
    lag: float

    def __call__(self, hours: np.ndarray, duration: np.ndarray) -> np.ndarray:
        """Outputs ``(4, ...)`` of one mg, ``hours (...)`` after its start, spread evenly over ``duration (...)`` [h].

        Zero before the dose. A duration of zero is a bolus.
        """
        return np.moveaxis(self.decay(hours, duration) @ self.weights.T, -1, 0)

    def decay(self, hours: np.ndarray, duration: np.ndarray) -> np.ndarray:
        """How much of each mode's unit input is left, ``(..., K)``."""
        hours = np.asarray(hours, dtype=float) - self.lag
        duration = np.asarray(duration, dtype=float)
        run = np.clip(hours, 0.0, duration)[..., None]  # how long the infusion has run by now
        since = (np.maximum(hours, 0.0))[..., None] - run  # and how long it has been over
        span = np.where(duration > 0, duration, 1.0)[..., None]
        infused = -np.expm1(-self.rates * run) / (self.rates * span)
        shape = np.where(duration[..., None] > 0, infused, 1.0)
        return np.where((hours >= 0)[..., None], shape * np.exp(-self.rates * since), 0.0)


@lru_cache(maxsize=8192)
def response(system: Compartments) -> Response:
    """The unit response of a system, with nearly equal rates moved apart by 0.01 % so that eigenvectors exist."""
    system = _separated(system)
    matrix, states = _matrix(system)
    eigenvalues, modes = np.linalg.eig(matrix[np.ix_(states, states)])
    rates, modes = -eigenvalues.real, modes.real
    entry = np.linalg.solve(modes, (np.array(states) == _entrance(system)).astype(float)) * system.fraction
    read = _outputs(system)[:, states] @ modes
    lag = system.lag if system.absorption > 0 else 0.0
    return Response(rates, read * entry, read, modes, entry, lag)


def _entrance(system: Compartments) -> int:
    return _DEPOT if system.absorption > 0 else _CENTRE


def _matrix(s: Compartments) -> tuple[np.ndarray, list[int]]:
    """The full rate matrix ``(6, 6)`` [1/h] and the states this drug really has."""
    a = np.zeros((6, 6))
    states = [_CENTRE]
    a[_CENTRE, _CENTRE] = -s.clearance / s.volume
    if s.absorption > 0:
        states.append(_DEPOT)
        a[_DEPOT, _DEPOT] = -s.absorption
        a[_CENTRE, _DEPOT] = s.absorption
    for state, flow, volume in ((_SECOND, s.flow_2, s.volume_2), (_THIRD, s.flow_3, s.volume_3)):
        if flow > 0:
            states.append(state)
            a[_CENTRE, _CENTRE] -= flow / s.volume
            a[state, _CENTRE] = flow / s.volume
            a[_CENTRE, state] = flow / volume
            a[state, state] = -flow / volume
    if s.equilibration > 0:
        states.append(_EFFECT)
        a[_EFFECT, _CENTRE] = s.equilibration
        a[_EFFECT, _EFFECT] = -s.equilibration
    if s.metabolite_fraction > 0 or s.presystemic > 0:
        states.append(_METABOLITE)
        a[_METABOLITE, _CENTRE] = s.metabolite_fraction * s.clearance / s.volume
        a[_METABOLITE, _METABOLITE] = -s.metabolite_clearance / s.metabolite_volume
        if s.absorption > 0:
            a[_METABOLITE, _DEPOT] = s.presystemic * s.absorption
    return a, sorted(states)


def _outputs(s: Compartments) -> np.ndarray:
    """What is read off the six states: ``(4, 6)``, in the order and units of ``OUTPUTS``."""
    c = np.zeros((4, 6))
    c[0, _CENTRE] = 1000 / s.volume
    c[1, _EFFECT if s.equilibration > 0 else _CENTRE] = 1000 / s.volume
    c[2, _METABOLITE] = 1000 / s.metabolite_volume
    c[3, [_CENTRE, _SECOND, _THIRD]] = 1.0
    return c


def _separated(s: Compartments) -> Compartments:
    """The same system with absorption, equilibration and metabolite rates clear of each other and of all others."""
    core = replace(s, absorption=0.0, equilibration=0.0, metabolite_fraction=0.0, presystemic=0.0)
    matrix, states = _matrix(core)
    rates = list(-np.linalg.eigvals(matrix[np.ix_(states, states)]).real)

    def clear(rate: float) -> float:
        while any(abs(rate - other) < _GAP * rate for other in rates):
            rate *= 1 + 10 * _GAP
        rates.append(rate)
        return rate

    factors = {name: clear(getattr(s, name)) for name in ("absorption", "equilibration") if getattr(s, name) > 0}
    if s.metabolite_fraction > 0 or s.presystemic > 0:
        factors["metabolite_clearance"] = clear(s.metabolite_clearance / s.metabolite_volume) * s.metabolite_volume
    return replace(s, **factors)


def outputs(
    systems: list[tuple[float, Compartments]],
    doses: list[tuple[float, float, float]],
    hours: np.ndarray,
) -> np.ndarray:
    """Outputs ``(4, T)`` at ``hours (T,)`` of ``doses``: (start [h], amount [mg], duration [h]) each.

    ``systems`` is the person over time: ``(from_hours, Compartments)`` in order, the first from minus infinity. One
    entry is the closed form; with more (an inhibitor comes or goes) the amounts are carried over each change, which is
    exact too.
    """
    hours = np.atleast_1d(np.asarray(hours, dtype=float))
    total = np.zeros((len(OUTPUTS), len(hours)))
    steady: dict[Compartments, list[tuple[float, float, float]]] = {}  # doses that see one system to the end
    for start, amount, duration in doses:
        if amount == 0:
            continue
        changes = [(at, s) for at, s in systems[1:] if at > start]
        first = [s for at, s in systems if at <= start][-1]
        if changes:
            total += amount * _piecewise(first, changes, start, duration, hours)
        else:
            steady.setdefault(first, []).append((start, amount, duration))
    for system, rows in steady.items():
        starts, amounts, durations = np.array(rows).T[:, :, None]
        unit = response(system)
        total += unit.weights @ (amounts[:, :, None] * unit.decay(hours - starts, durations)).sum(axis=0).T
    return np.maximum(total, 0.0)


def _piecewise(
    first: Compartments, changes: list[tuple[float, Compartments]], start: float, duration: float, hours: np.ndarray
) -> np.ndarray:
    """Outputs ``(4, T)`` of one mg in a person whose rates change at given hours."""
    result = np.zeros((len(OUTPUTS), len(hours)))
    unit = response(first)
    content = np.zeros(len(unit.rates))  # of the modes, at the start of each piece
    begin, inside = start, False
    for end, following in [*changes, (np.inf, first)]:
        here = (hours >= begin) & (hours < end)
        if here.any():
            result[:, here] = unit.read @ _advance(unit, content, begin, hours[here], start, duration, inside)
        if np.isinf(end):
            break
        amounts = unit.modes @ _advance(unit, content, begin, np.array([end]), start, duration, inside)[:, 0]
        inside = inside or end - start >= unit.lag
        unit = response(following)
        content = np.linalg.solve(unit.modes, amounts)
        begin = end
    return result


def _advance(
    unit: Response, content: np.ndarray, begin: float, until: np.ndarray, start: float, duration: float, inside: bool
) -> np.ndarray:
    """Contents of the modes ``(K, T)`` at ``until``, from ``content`` at ``begin`` and what still enters after it."""
    rest = content[:, None] * np.exp(-np.outer(unit.rates, until - begin))
    opens = start + unit.lag
    if duration == 0:
        return rest if inside else rest + (unit.entry * unit.decay(until - start, np.zeros(until.shape))).T
    low, high = np.maximum(begin, opens), np.clip(until, begin, opens + duration)
    run = np.maximum(high - low, 0.0)
    after = np.maximum(until - np.maximum(high, low), 0.0)
    entered = -np.expm1(-np.outer(unit.rates, run)) / (unit.rates[:, None] * duration)
    return rest + unit.entry[:, None] * entered * np.exp(-np.outer(unit.rates, after))
