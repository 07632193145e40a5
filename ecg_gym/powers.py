"""What a World may do beside ``initial``, ``observe`` and ``step``: optional powers, each a protocol of its own.

    if isinstance(world, Truthful): world.truth(state)

A world has a power by having its members; nothing is inherited or registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ecg_gym.columns import Patients
from ecg_gym.core import State, Treatment
from ecg_gym.look import Look
from ecg_gym.streams import Streams


@runtime_checkable
class Truthful(Protocol):
    """Knows the truth behind its strips, such as the virtual patient."""

    def truth(self, state: State) -> Sequence[Any]:
        """One record per row with ``intervals`` by name [ms, 1/min], noise-free, and ``findings``."""
        ...


@runtime_checkable
class StartsFrom(Protocol):
    """Takes over patients of another world, from what their strips and charts say."""

    def start_from(self, state: State) -> State:
        """The same patients as this world sees them; hours and doses are kept."""
        ...


@runtime_checkable
class Assimilates(Protocol):
    """Corrects what it believes of a patient by a strip that was really recorded."""

    def assimilate(self, state: State, *args: Any, **how: Any) -> State:
        """The state, with the new strip taken into account."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """Was learned: its weights have a hash."""

    sha256: str


@runtime_checkable
class Latent(Protocol):
    """Draws its strips from a latent, which ``obs="latent"`` shows."""

    latent_shape: tuple[int, ...]

    def latents(self, state: State) -> np.ndarray:
        """The latent of each row's strip ``(B, *latent_shape)``, standardised."""
        ...


@runtime_checkable
class RepeatsBatches(Protocol):
    """Can make a row's bits independent of its batch: ``deterministic="batch"``."""

    deterministic: str | None


@runtime_checkable
class DrawsOtherPatients(Protocol):
    """Gives its hearts the hidden sensitivity of other people, which no strip shows."""

    def strangers(self, state: State, rng: np.random.Generator) -> State | None:
        """The same hearts, with what cannot be read off them drawn anew."""
        ...


@runtime_checkable
class ReadsVitals(Protocol):
    """Knows what a measurement of a strip would say without drawing it: ``fidelity="vitals"``."""

    def vitals(
        self, state: State, recording: tuple[Any, Sequence[tuple[str, ...]]] | None = None, findings: bool = True
    ) -> Look:
        """The readings of each row; ``recording`` is a tier that spoils them and the leads that are off in each row."""
        ...


@runtime_checkable
class MeasuresPressure(Protocol):
    """Knows what a cuff says, which no strip does."""

    def pressure(self, state: State) -> np.ndarray:
        """Mean arterial pressure of each row ``(B,)`` [mmHg]."""
        ...


def measured_pressure(world: Any, state: State) -> np.ndarray:
    """What a cuff says of each row ``(B,)`` [mmHg]; NaN in a world that knows no pressure."""
    return world.pressure(state) if isinstance(world, MeasuresPressure) else np.full(len(state), np.nan)


@runtime_checkable
class Emits(ReadsVitals, Protocol):
    """Says what a look at its strips will read before it draws them: its futures are judged by what is said."""

    emits: bool  # whether these weights do

    def first_look(self, state: State) -> Look:
        """What was read off each person's first strip."""
        ...


@runtime_checkable
class DrawsTogether(Protocol):
    """Draws people of different kinds at once, each out of its own stream."""

    def begin(self, people: Patients, words: Sequence[Mapping[str, Any]], streams: Streams) -> State:
        """States of these people, each with the words of ``initial`` that hold for them."""
        ...


@runtime_checkable
class KnowsTreatments(Protocol):
    """Can say which treatments it has learned or models; envs offer no others in it."""

    def knows(self, treatment: Treatment) -> bool:
        """Whether its answer to this treatment means anything."""
        ...


@runtime_checkable
class RunsAtAnyPace(Protocol):
    """Steps each row by its own ``state.dt_hours``."""

    shortest_step_hours: float  # [h] that it can answer for; an env makes longer steps of shorter ones


def weights_hash(world: Any) -> str:
    """The hash of a world's weights, "" for one that was not learned."""
    return str(world.sha256) if isinstance(world, Weighted) else ""
