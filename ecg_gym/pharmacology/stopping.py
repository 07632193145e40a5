"""What is taken of what was ordered: ``stop_medication`` ends standing orders, running infusions and other medication.

A standing order is a dose of a later hour that was there before the stop; what is ordered after the stop is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ecg_gym.core import Administration
from ecg_gym.pharmacology.drugs import RATES
from ecg_gym.pharmacology.formulary import FORMULARY


def doses_taken(doses: Sequence[Administration]) -> tuple[Administration, ...]:
    """The doses that are taken of those in ``doses``, sorted by hour; ``doses`` stands in the order of the orders.

    An infusion of a drug that runs at a stop ends there; a procedure goes on.
    """
    parts: list[Administration] = []
    for each in doses:
        if FORMULARY[each.dose.drug].stops_medication:
            parts = [part for earlier in parts if (part := _until(earlier, each.hours))]
        parts.append(each)
    return tuple(sorted(parts, key=lambda each: each.hours))


def stopped_at(doses: Sequence[Administration]) -> float:
    """The hour of the first ``stop_medication``; inf where there is none."""
    return min((a.hours for a in doses if FORMULARY[a.dose.drug].stops_medication), default=math.inf)


def _until(each: Administration, hour: float) -> Administration | None:
    """What is taken of a dose up to an hour at which all is stopped."""
    if FORMULARY[each.dose.drug].procedure:
        return each
    if each.hours > hour:
        return None
    over = each.dose.duration_hours
    if each.dose.route == "PO" or each.hours + over <= hour:
        return each
    share = (hour - each.hours) / over
    amount = each.dose.amount if each.dose.unit.endswith(RATES) else each.dose.amount * share
    return replace(each, dose=replace(each.dose, amount=amount, duration_hours=over * share)) if share > 0 else None
