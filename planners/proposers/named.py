"""``proposer_named(words, ...)``: a proposer by its name, ``NAME`` or ``NAME:FILE`` where it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ecg_gym.rollout import RiskFunction
from planners.proposers.gate import Proposer
from planners.proposers.listed import Enumeration, Guideline

if TYPE_CHECKING:
    from ecg_gym.llm import ChatClient

NAMES = ("enumeration", "guideline", "inverse", "learned", "llm")
TRAINED = {"inverse": "inverse", "learned": "proposer"}  # name -> the command that trains it


def check_name(words: str, has_client: bool) -> None:
    """``ValueError`` for words that no proposer can be made of: unknown, without its weights, or without a server."""
    name, _, file = words.partition(":")
    if name not in NAMES:
        raise ValueError(f"--proposer is {words!r}; expected one of {', '.join(NAMES)}; choose one")
    if name in TRAINED and (not file or not Path(file).is_file()):
        raise ValueError(
            f"--proposer is {words!r}; expected {name}:FILE with trained weights; train them with "
            f"`ecg-gym train {TRAINED[name]}`"
        )
    if name == "llm" and not has_client:
        raise ValueError("--proposer is 'llm' without --endpoint; expected a server or replay://FILE; pass --endpoint")


def proposer_named(
    words: str, risk: RiskFunction, *, client: ChatClient | None = None, send_strip: bool = False, hours: float = 1.0
) -> Proposer:
    """The proposer that ``words`` name; ``risk`` reads strips, ``hours`` [h] is the step that is planned for.

    ``ValueError`` as :func:`check_name`, and for weights that do not fit.
    """
    check_name(words, client is not None)
    name, _, file = words.partition(":")
    if name == "inverse":
        from planners.proposers.inverse import InverseDynamics

        return InverseDynamics.load(file, hours)
    if name == "learned":
        from planners.proposers.learned import LearnedProposer

        return LearnedProposer.load(file)
    if client is not None and name == "llm":
        from planners.proposers.chat import ChatProposer

        return ChatProposer(client, risk, send_strip)
    return Enumeration() if name == "enumeration" else Guideline(risk)
