"""What an agent may choose: a ``Candidate`` is a structure and how hard it is fitted; an action leads to another one.

Every action is a total function of candidates. Which of them make sense now is for the mask of the environment to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import TypeVar

from ecg_gym.tissue.spec import DIFFUSIONS, REACTIONS, REGULARISERS, RESIDUALS, WIDTHS, Spec

T = TypeVar("T")
EFFORTS = (0.25, 1.0, 2.0)  # of the iterations of a usual fit
RESTARTS = (0, 1, 2)  # other random starts
LADDER = ("iso", "aniso", "gcn", "spline", "edge_mlp", "nodes", "flux_mlp")  # of diffusions, from stiff to flexible
ACTIONS = (
    *(f"reaction {name}" for name in REACTIONS),
    *(f"diffusion {name}" for name in DIFFUSIONS),
    "add residual",
    "remove residual",
    "widen",
    "narrow",
    "regulariser up",
    "regulariser down",
    "refine",
    "simplify",
    "more iterations",
    "restart",
    "stop",
)
STOP = ACTIONS.index("stop")


@dataclass(frozen=True, order=True)
class Candidate:
    """One structure, fitted with so much effort from such a start."""

    spec: Spec
    effort: float = 1.0  # one of EFFORTS
    restart: int = 0  # one of RESTARTS

    @property
    def key(self) -> str:
        """A name for files: the spec's key, effort and restart."""
        return f"{self.spec.key}-{self.effort:g}-{self.restart}"

    def __str__(self) -> str:
        more = f" x{self.effort:g}" if self.effort != 1 else ""
        return f"{self.spec}{more}" + (f" restart {self.restart}" if self.restart else "")


@dataclass(frozen=True)
class Space:
    """The part of the catalogue that is searched."""

    reactions: tuple[str, ...] = REACTIONS
    diffusions: tuple[str, ...] = DIFFUSIONS
    residuals: tuple[str, ...] = RESIDUALS
    widths: tuple[int, ...] = WIDTHS
    regularisers: tuple[str, ...] = REGULARISERS
    efforts: tuple[float, ...] = EFFORTS
    restarts: tuple[int, ...] = RESTARTS

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """All structures, in the order of the catalogue."""
        parts = (self.reactions, self.diffusions, self.residuals, self.widths, self.regularisers)
        return tuple(Spec(*row) for row in product(*parts))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates; their place here is their number in an environment."""
        return tuple(Candidate(*row) for row in product(self.specs, self.efforts, self.restarts))

    @cached_property
    def index(self) -> dict[Candidate, int]:
        """The number of each candidate."""
        return {candidate: number for number, candidate in enumerate(self.candidates)}

    @property
    def usual_effort(self) -> float:
        """1, or the most that the space has."""
        return 1.0 if 1.0 in self.efforts else max(self.efforts)

    @property
    def start(self) -> Candidate:
        """What the first action changes; it has not been fitted."""
        middle = self.widths[len(self.widths) // 2], self.regularisers[len(self.regularisers) // 2]
        return Candidate(Spec(self.reactions[0], self.diffusions[0], self.residuals[0], *middle), self.usual_effort)

    def apply(self, action: str, candidate: Candidate) -> Candidate:
        """The candidate that the action leads to; itself where there is nothing to change."""
        spec = self._edit(action, candidate.spec)
        if spec != candidate.spec:
            return Candidate(spec, self.usual_effort, 0)
        if action == "more iterations":
            return replace(candidate, effort=_step(self.efforts, candidate.effort, +1))
        if action == "restart":
            return replace(candidate, restart=_step(self.restarts, candidate.restart, +1))
        return candidate

    def _edit(self, action: str, spec: Spec) -> Spec:
        kind, _, name = action.partition(" ")
        if kind == "reaction":
            return replace(spec, reaction=name)
        if kind == "diffusion":
            return replace(spec, diffusion=name)
        if action == "add residual":
            return replace(spec, residual=_step(self.residuals, spec.residual, +1))
        if action == "remove residual":
            return replace(spec, residual=self.residuals[0])
        if action in ("widen", "narrow"):
            return replace(spec, width=_step(self.widths, spec.width, +1 if action == "widen" else -1))
        if kind == "regulariser":
            return replace(spec, regulariser=_step(self.regularisers, spec.regulariser, +1 if name == "up" else -1))
        if action == "refine":
            return replace(spec, diffusion=self._rung(spec.diffusion, +1))
        if action == "simplify":
            if spec.residual != self.residuals[0]:
                return replace(spec, residual=_step(self.residuals, spec.residual, -1))
            return replace(spec, diffusion=self._rung(spec.diffusion, -1))
        return spec

    def _rung(self, diffusion: str, by: int) -> str:
        rungs = tuple(name for name in LADDER if name in self.diffusions)
        if diffusion in rungs:
            return _step(rungs, diffusion, by)
        return rungs[-1] if by < 0 and rungs else diffusion  # "free" is above the ladder


FULL = Space(efforts=(1.0, 2.0))
SMALL = Space(
    ("ap", "ms", "fhn", "rm"), ("iso", "aniso", "spline"), ("none", "uv"), (16,), ("medium",), (0.25, 1.0), (0,)
)
TWELVE = Space(SMALL.reactions, SMALL.diffusions, ("none",), (16,), ("medium",), (1.0,), (0,))  # of the shipped table
SPACES = {"full": FULL, "small": SMALL, "twelve": TWELVE}


@cache
def features(space: Space) -> tuple[tuple[str, object], ...]:
    """The choices that a spec is one-hot in, as (field, value)."""
    parts = {
        "reaction": REACTIONS,
        "diffusion": DIFFUSIONS,
        "residual": RESIDUALS,
        "width": WIDTHS,
        "regulariser": REGULARISERS,
    }
    return tuple((name, value) for name, values in parts.items() for value in values)


def _step(values: Sequence[T], value: T, by: int) -> T:
    """The neighbour of a value in its list; the same at the end, and the first for a value that is not in it."""
    if value not in values:
        return values[0]
    return values[min(max(values.index(value) + by, 0), len(values) - 1)]
