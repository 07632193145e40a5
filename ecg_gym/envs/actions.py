"""What an agent may do: pick one treatment from a menu, as one number or as a pair of drug and dose level.

0 is always watch and wait. The menu depends on the arguments of the env alone, so the action space never changes; what
is allowed now is the mask's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from ecg_gym.core import WATCH, Treatment


class ActionCode(Protocol):
    """A way to write a menu entry as an action."""

    @property
    def menu(self) -> tuple[Treatment, ...]:
        """The treatments that actions stand for, watch and wait first."""
        ...

    def space(self) -> spaces.Space:
        """The action space."""
        ...

    def entry(self, action: Any) -> int:
        """The menu entry that an action means."""
        ...

    def action(self, entry: int) -> Any:
        """An action that means the menu entry."""
        ...

    def entries(self, actions: Any, n: int) -> np.ndarray:
        """The menu entries ``(n,)`` of a batch of actions."""
        ...

    def masks(self, allowed: np.ndarray) -> np.ndarray:
        """``mask`` of each row of ``(B, n)``."""
        ...

    def mask(self, allowed: np.ndarray) -> np.ndarray:
        """Actions that may be taken, as sb3-contrib wants them, out of the allowed menu entries ``(n,) bool``."""
        ...


@dataclass(frozen=True)
class DiscreteCode:
    """``Discrete(n)``: the action is the number of the menu entry."""

    menu: tuple[Treatment, ...]

    def space(self) -> spaces.Discrete:
        """``Discrete(n)``."""
        return spaces.Discrete(len(self.menu))

    def entry(self, action: Any) -> int:
        """The action itself; ValueError for one that is not in the space."""
        return _numbers(action, (len(self.menu),))[0]

    def action(self, entry: int) -> int:
        """The entry itself."""
        return int(entry)

    def entries(self, actions: Any, n: int) -> np.ndarray:
        """The menu entries ``(n,)`` of ``n`` actions; ValueError for one that is not in the space."""
        entries = np.asarray(actions)
        fits = entries.shape == (n,) and entries.dtype.kind in "iu"
        if fits and n and entries.min() >= 0 and entries.max() < len(self.menu):
            return entries.astype(np.int64)
        return np.array([self.entry(action) for action in actions], np.int64)

    def mask(self, allowed: np.ndarray) -> np.ndarray:
        """``(n,) bool``, a fresh copy."""
        return np.array(allowed, dtype=bool)

    def masks(self, allowed: np.ndarray) -> np.ndarray:
        """``(B, n) bool``, a fresh copy."""
        return np.array(allowed, dtype=bool)


@dataclass(frozen=True)
class DrugDoseCode:
    """``MultiDiscrete([drugs + 1, levels])``: drug 0 is watch and wait; a level beyond a drug's own means its highest.

    A mask per component cannot say "this drug, but not at that level": it allows a drug of which any dose is allowed
    and a level at which any drug is allowed. The pairs that slip through are left to ``invalid_action``.
    """

    menu: tuple[Treatment, ...]

    @property
    def table(self) -> tuple[tuple[int, ...], ...]:
        """Menu entries by drug (row) and level (column); row 0 is watch and wait."""
        drugs: dict[str, list[int]] = {}
        for entry, treatment in enumerate(self.menu):
            if treatment:
                drugs.setdefault(treatment.doses[0].drug, []).append(entry)
        levels = max((len(entries) for entries in drugs.values()), default=1)
        rows = [(0,) * levels, *(tuple(e[min(level, len(e) - 1)] for level in range(levels)) for e in drugs.values())]
        return tuple(rows)

    def space(self) -> spaces.MultiDiscrete:
        """``MultiDiscrete([drugs + 1, levels])``."""
        return spaces.MultiDiscrete(list(np.array(self.table).shape))

    def entry(self, action: Any) -> int:
        """The menu entry at this drug and level; ValueError for a pair that is not in the space."""
        drug, level = _numbers(action, np.array(self.table).shape)
        return self.table[drug][level]

    def action(self, entry: int) -> np.ndarray:
        """The first pair that means the entry, ``(2,) int64``."""
        return np.argwhere(np.array(self.table) == entry)[0].astype(np.int64)

    def entries(self, actions: Any, n: int) -> np.ndarray:
        """The menu entries ``(n,)`` of ``n`` actions; ValueError for one that is not in the space."""
        return np.array([self.entry(action) for action in actions], np.int64)

    def masks(self, allowed: np.ndarray) -> np.ndarray:
        """``(B, drugs + 1 + levels) bool``."""
        return np.stack([self.mask(row) for row in allowed])

    def mask(self, allowed: np.ndarray) -> np.ndarray:
        """``(drugs + 1 + levels,) bool``: drugs first, then levels."""
        pairs = np.asarray(allowed, dtype=bool)[np.array(self.table)]
        return np.concatenate([pairs.any(axis=1), pairs.any(axis=0)])


def _numbers(action: Any, sizes: Sequence[int]) -> tuple[int, ...]:
    """The action as one whole number per size, each from 0 and below it; ValueError otherwise."""
    try:
        numbers = np.asarray(action).reshape(-1)
    except (TypeError, ValueError):  # a ragged list, say
        numbers = np.array([None])
    whole = len(numbers) == len(sizes) and numbers.dtype.kind in "iub"
    if not whole or not all(0 <= int(x) < n for x, n in zip(numbers, sizes)):
        target_intervals = " and ".join(f"a whole number from 0 to {n - 1}" for n in sizes)
        raise ValueError(
            f"action is {str(action)[:100]!r}; expected {target_intervals}; draw one with env.action_space.sample()"
        )
    return tuple(int(x) for x in numbers)


CODES: dict[str, Callable[[tuple[Treatment, ...]], ActionCode]] = {
    "discrete": DiscreteCode,
    "multidiscrete": DrugDoseCode,
}


def action_code(kind: str, menu: Sequence[Treatment]) -> ActionCode:
    """The code called ``kind`` over a menu whose first entry is watch and wait."""
    if not isinstance(kind, str) or kind not in CODES:
        raise ValueError(f"actions is {kind!r}; expected one of {tuple(CODES)}; pass actions='discrete'")
    if not menu or menu[0] != WATCH:
        raise ValueError(f"the menu begins with {menu[:1]}; expected watch and wait first; use FORMULARY.menu(drugs)")
    return CODES[kind](tuple(menu))
