"""Drugs that slow the elimination of others: exposure multipliers that come and go with the inhibitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology.figures import Block, read_table


@dataclass(frozen=True)
class Interaction:
    """While ``by`` is on board, exposure to ``of`` is multiplied: its clearance is divided by ``exposure``."""

    by: str  # may be a drug outside the formulary, from ``Patient.medication``
    of: str
    exposure: float
    lasts_hours: float  # after the inhibitor's last dose
    source: str


@cache
def interactions() -> tuple[Interaction, ...]:
    """All interactions of ``interactions.yaml``."""
    return tuple(_parse(i, row) for i, row in enumerate(read_table("interactions.yaml")))


def _parse(index: int, row: object) -> Interaction:
    block = Block.of(f"interactions[{index}]", row)
    block.expect({"by", "of", "exposure", "lasts"})
    return Interaction(
        by=str(block.data["by"]),
        of=str(block.data["of"]),
        exposure=block.number("exposure", "1"),
        lasts_hours=block.number("lasts", "h"),
        source=str(block.source),
    )


@cache
def _on(drug: str) -> tuple[Interaction, ...]:
    return tuple(i for i in interactions() if i.of == drug)


def clearance_changes(drug: str, given: Sequence[Administration], patient: Patient) -> list[tuple[float, float]]:
    """Factors on the clearance of ``drug`` over time: ``(from_hours, factor)``, the first from minus infinity.

    Several inhibitors multiply. One in ``patient.medication`` is always on board.
    """
    always, switches = 1.0, []
    for interaction in _on(drug):
        factor = 1 / interaction.exposure
        if interaction.by in patient.medication:
            always *= factor
        elif times := sorted(a.hours for a in given if a.dose.drug == interaction.by):
            switches += [
                (at, f)
                for start, end in _spans(times, interaction.lasts_hours)
                for at, f in ((start, factor), (end, 1 / factor))
            ]
    changes = [(float("-inf"), always)]
    for at, factor in sorted(switches):
        changes.append((at, changes[-1][1] * factor))
    return changes


def _spans(times: list[float], lasts: float) -> list[tuple[float, float]]:
    """When an inhibitor is on board, given its dose times: overlapping spans are one."""
    spans: list[tuple[float, float]] = []
    for time in times:
        if spans and time <= spans[-1][1]:
            spans[-1] = (spans[-1][0], time + lasts)
        else:
            spans.append((time, time + lasts))
    return spans
