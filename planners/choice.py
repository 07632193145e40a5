"""``Choice``: what a language model recommended among the candidates of a plan, and how it said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecg_gym.core import Treatment


@dataclass(frozen=True)
class Choice:
    """What a language model recommends; ``treatment`` is None where it gave no usable answer."""

    treatment: Treatment | None
    reason: str  # word for word, never parsed
    agrees: bool  # with the first of the ranking
    slips: tuple[str, ...]  # one word for each reply that was of no use

    def sentence(self, first: Treatment) -> str:
        """One line for people."""
        if self.treatment is None:
            return f"The language model gave no usable answer ({', '.join(self.slips)})."
        verdict = "as the ranking does" if self.agrees else f"the ranking puts {first} first"
        return f'The language model recommends {self.treatment}, {verdict}: "{self.reason}"'

    def to_json_dict(self) -> dict[str, Any]:
        """For ``json.dumps``."""
        name = None if self.treatment is None else str(self.treatment)
        return {"treatment": name, "reason": self.reason, "agrees": self.agrees, "slips": list(self.slips)}
