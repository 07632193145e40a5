"""Drugs that change the elimination or absorption of others: multipliers that come and go with the culprit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology.constants import Block, read_table
from ecg_gym.pharmacology.medication import ingredients
from ecg_gym.pharmacology.stopping import stopped_at


@dataclass(frozen=True)
class Interaction:
    """While ``by`` is on board, exposure to ``of`` is multiplied: its clearance is divided by ``exposure``.

    ``absorption`` multiplies the rate of absorption, which raises the peak and leaves the area. An enzyme that is
    inactivated comes to its new level as slowly as it is made anew: with ``turnover_hours`` h, exposure t hours after
    the first dose is multiplied by 1 + (exposure - 1)(1 - 2^(-t/h)), in steps. ``by`` and ``of`` may be one drug,
    which then builds up.
    """

    by: str  # may be a drug outside the formulary, from ``Patient.medication``
    of: str
    exposure: float
    absorption: float
    lasts_hours: float  # after the culprit's last dose
    turnover_hours: float  # half-life of the approach to the full effect; 0 is at once
    source: str


@cache
def interactions() -> tuple[Interaction, ...]:
    """All interactions of ``interactions.yaml``."""
    return tuple(_parse(i, row) for i, row in enumerate(read_table("interactions.yaml")))


def _parse(index: int, row: object) -> Interaction:
    block = Block.of(f"interactions[{index}]", row)
    block.expect({"by", "of", "exposure", "absorption", "lasts", "turnover"})
    return Interaction(
        by=str(block.data["by"]),
        of=str(block.data["of"]),
        exposure=block.number("exposure", "1"),
        absorption=block.number("absorption", "1", 1.0),
        lasts_hours=block.number("lasts", "h"),
        turnover_hours=block.number("turnover", "h", 0.0),
        source=str(block.source),
    )


@cache
def _on(drug: str) -> tuple[Interaction, ...]:
    return tuple(i for i in interactions() if i.of == drug)


def changes(drug: str, doses: Sequence[Administration], patient: Patient) -> list[tuple[float, float, float]]:
    """Factors on clearance and absorption of ``drug`` over time: ``(from_hours, clearance, absorption)``.

    The first is from minus infinity. Several culprits multiply; one in ``patient.medication`` is on board until it is
    stopped.
    """
    always, switches = (1.0, 1.0), []
    for interaction in _on(drug):
        clearance, absorption = 1 / interaction.exposure, interaction.absorption
        if interaction.by in ingredients(patient.medication):
            always = (always[0] * clearance, always[1] * absorption)
            if (ends := stopped_at(doses) + interaction.lasts_hours) < float("inf"):
                switches.append((ends, interaction.exposure, 1 / absorption))
        elif times := sorted(a.hours for a in doses if a.dose.drug == interaction.by):
            for start, end in _spans(times, interaction.lasts_hours):
                reached = 1.0
                for after, exposure in steps_of(interaction):
                    if start + after < end:
                        switches.append((start + after, reached / exposure, absorption if reached == 1.0 else 1.0))
                        reached = exposure
                switches.append((end, reached, 1 / absorption))
    result = [(float("-inf"), *always)]
    for at, clearance, absorption in sorted(switches):
        result.append((at, result[-1][1] * clearance, result[-1][2] * absorption))
    return result


def steps_of(interaction: Interaction) -> list[tuple[float, float]]:
    """``(hours after the start, factor on exposure)``: at once, or in steps, the last of them full."""
    if interaction.turnover_hours == 0:
        return [(0.0, interaction.exposure)]
    middle = [(k * interaction.turnover_hours, 1 - 2.0 ** -(k + 0.25)) for k in (0.5, 1, 1.5, 2, 3, 4)]
    steps = [*middle, (5 * interaction.turnover_hours, 1.0)]
    return [(hours, 1 + (interaction.exposure - 1) * share) for hours, share in steps]


def _spans(times: list[float], lasts: float) -> list[tuple[float, float]]:
    """When an inhibitor is on board, given its dose times: overlapping spans are one."""
    spans: list[tuple[float, float]] = []
    for time in times:
        if spans and time <= spans[-1][1]:
            spans[-1] = (spans[-1][0], time + lasts)
        else:
            spans.append((time, time + lasts))
    return spans
