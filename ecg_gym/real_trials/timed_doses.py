"""Doses with their hours, as words and as ``Administration``: ``verapamil 120 mg PO @ 1.5h``."""

from __future__ import annotations

import re
from dataclasses import replace

from ecg_gym.core import Administration, Dose, Patient, parse_dose
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.pharmacology.doses import amount_in

_TIMED = re.compile(r"^(?P<dose>.+?)\s*@\s*(?P<hours>[-+]?\d+(?:\.\d+)?)\s*h?$")


def timed_dose(administration: Administration) -> str:
    """A dose with its hour as ``doses`` spells it: ``verapamil 120 mg PO @ 1.5h``."""
    dose = administration.dose
    over = f" over {60 * dose.duration_hours:.12g} min" if dose.duration_hours else ""
    return f"{dose.drug} {dose.amount:.12g} {dose.unit} {dose.route}{over} @ {administration.hours:.12g}h"


def timed(text: str, patient: Patient, latest: float | None = None, clock: float = 0.0) -> Administration:
    """A dose with its hour from words such as ``verapamil 120 mg PO @ 1.5h``, moved to a clock that reads ``clock``.

    Unlike in care, a real dose may exceed the formulary's largest. ValueError for an unknown drug, unit or route, and
    for an hour after ``latest`` [h].
    """
    match = _TIMED.match(text)
    if match is None:
        raise ValueError(
            f"it holds {text!r}; expected 'DRUG AMOUNT UNIT ROUTE @ HOURSh'; write 'dofetilide 0.5 mg PO @ 0h'"
        )
    hours = float(match["hours"])
    if latest is not None and hours > latest:
        raise ValueError(f"{text!r} is after record_after ({latest:g} h); expected doses before it; take it out")
    return Administration(clock + hours, real_dose(parse_dose(match["dose"]), patient))


def real_dose(dose: Dose, patient: Patient) -> Dose:
    """A dose that was really given, in the formulary's spelling; ValueError for an unknown drug, route or unit."""
    if dose.drug not in FORMULARY.names:
        raise ValueError(
            f"drug is {dose.drug!r}; expected one of {', '.join(FORMULARY.names)}; leave others in medication"
        )
    routes = FORMULARY[dose.drug].routes
    whole = replace(dose, route=dose.route or next(iter(routes)))
    if whole.route not in routes:
        raise ValueError(f"route of {dose.drug} is {whole.route!r}; expected {' or '.join(routes)}; correct it")
    form = FORMULARY.check(replace(whole, amount=0.0), patient)
    whole = replace(whole, duration_hours=form.duration_hours)
    if form.unit == whole.unit:
        return whole
    return replace(whole, unit=form.unit, amount=amount_in(form.unit, whole, FORMULARY[dose.drug], patient))
