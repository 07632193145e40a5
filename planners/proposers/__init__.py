"""Who proposes treatments: ``propose(state, rng) -> list[Treatment]``, and the gate that every proposal has to pass."""

from planners.proposers.gate import Proposals, Proposer, Refusal, proposed
from planners.proposers.listed import Enumeration, Guideline

__all__ = ["Enumeration", "Guideline", "Proposals", "Proposer", "Refusal", "proposed"]
