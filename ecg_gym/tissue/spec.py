"""``Spec``: one structure out of 1,728, frozen, hashable, with a JSON form. What an agent chooses and a fit fills."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import product

from ecg_gym.tissue.reactions import REACTIONS

DIFFUSIONS = ("iso", "aniso", "spline", "nodes", "edge_mlp", "gcn", "flux_mlp", "free")
RESIDUALS = ("none", "uv", "uv_code")  # nothing, a network of (u, v), a network of (u, v, code of the node)
WIDTHS = (8, 16, 32)  # units of every network; control points of the spline field
REGULARISERS = ("weak", "medium", "strong")  # penalties times 0.1, 1, 10

_CHOICES = {
    "reaction": REACTIONS, "diffusion": DIFFUSIONS, "residual": RESIDUALS, "width": WIDTHS, "regulariser": REGULARISERS,
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Spec:
    """The structure of a tissue model. Raises ``ValueError`` for a choice outside the catalogue."""

    reaction: str = "ms"  # one of REACTIONS
    diffusion: str = "spline"  # one of DIFFUSIONS
    residual: str = "none"  # one of RESIDUALS
    width: int = 16  # one of WIDTHS
    regulariser: str = "medium"  # one of REGULARISERS

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; expected one of {choices}; check the spelling")

    def to_json(self) -> str:
        """One line of JSON, keys in order."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The spec written by :meth:`to_json`; raises ``ValueError`` for missing or unknown keys."""
        row = json.loads(text)
        names = {f.name for f in fields(cls)}
        if not isinstance(row, dict) or set(row) != names:
            raise ValueError(f"spec is {text[:200]!r}; expected a JSON object with {sorted(names)}; see Spec.to_json")
        return cls(**row)

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that name this structure on every machine (``hash`` differs between runs)."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def __str__(self) -> str:
        residual = "" if self.residual == "none" else f"+{self.residual}"
        return f"{self.reaction}/{self.diffusion}{residual} w{self.width} {self.regulariser}"


def specs(**only: tuple[str, ...] | tuple[int, ...]) -> Iterator[Spec]:
    """Every spec of the catalogue, or of the part that ``only`` allows: ``specs(reaction=("ap", "ms"))``."""
    if unknown := set(only) - set(_CHOICES):
        raise ValueError(
            f"specs got {sorted(unknown)}; expected keywords out of {sorted(_CHOICES)}; check the spelling"
        )
    for row in product(*(only.get(name, choices) for name, choices in _CHOICES.items())):
        yield Spec(*row)  # type: ignore[arg-type]
