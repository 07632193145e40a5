"""The formulary: every drug by name, what doses of it make sense, and the menu a planner starts from.

``FORMULARY`` reads its table on first use, so importing the package stays cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ecg_gym.core import WATCH, Dose, Patient, Treatment
from ecg_gym.pharmacology.constants import read_table
from ecg_gym.pharmacology.doses import amount_in, milligrams
from ecg_gym.pharmacology.drugs import Drug, Route, parse_drug
from ecg_gym.pharmacology.user_drugs import with_own

_ROUNDING = 1e-9  # a dose may exceed its maximum by this share: 1/3 three times is still one


class Formulary(Mapping[str, Drug]):
    """Drugs by name, in the order of the table. The order is that of every ``(n_drugs,)`` array."""

    def __init__(self, table: str | Mapping[str, Any] = "formulary.yaml") -> None:
        self._table = table

    @cached_property
    def _drugs(self) -> dict[str, Drug]:
        table = with_own(read_table(self._table)) if isinstance(self._table, str) else self._table
        return {name: parse_drug(name, data) for name, data in table.items()}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return tuple(self._drugs)

    @cached_property
    def medicines(self) -> tuple[str, ...]:
        """The names of what is a drug and no procedure, in order."""
        return tuple(name for name, drug in self._drugs.items() if not drug.procedure)

    @cached_property
    def procedures(self) -> tuple[str, ...]:
        """The names of what is done to a patient and is no drug, in order: a shock, a pacemaker, dialysis."""
        return tuple(name for name, drug in self._drugs.items() if drug.procedure)

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of a drug in ``names``."""
        return {name: i for i, name in enumerate(self.names)}

    def __getitem__(self, name: str) -> Drug:
        return self._drugs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._drugs)

    def __len__(self) -> int:
        return len(self._drugs)

    def check(self, dose: Dose, patient: Patient) -> Dose:
        """The dose in the formulary's own spelling: name, unit, route, duration filled in.

        Raises ValueError for an unknown drug, a route or unit that does not fit, a negative amount, and more than the
        largest single dose.
        """
        name = dose.drug.strip().lower().replace(" ", "_").replace("-", "_")
        if name not in self:
            raise ValueError(
                f"drug is {dose.drug!r}; expected one of {', '.join(self.names)}; "
                "add a row of your own if it is missing, see examples/your_own_drug.py"
            )
        drug = self[name]
        unit = dose.unit.strip()
        route = self._route(drug, dose).form(unit)
        if not 0 <= dose.amount < float("inf"):
            raise ValueError(f"amount of {name} is {dose.amount}; expected a number from 0; correct the dose")
        if not 0 <= dose.duration_hours < float("inf"):
            raise ValueError(f"{name} runs for {dose.duration_hours} h; expected 0 or longer; correct the duration")
        duration = dose.duration_hours or route.duration_hours
        if route.unit.split("/")[1:] == unit.split("/")[1:]:  # the same kind, such as mcg for mg
            amount = amount_in(route.unit, replace(dose, unit=unit, duration_hours=duration), drug, patient)
            unit = route.unit
        else:
            amount = dose.amount
        checked = Dose(name, amount, unit, route.name, duration)
        self._refuse_too_much(checked, drug, route, patient)
        return checked

    def menu(self, drugs: Sequence[str] | None = None) -> tuple[Treatment, ...]:
        """Watch and wait first, then each drug's usual doses as treatments of one, in the formulary's order."""
        if drugs is not None and (unknown := [name for name in drugs if name not in self]):
            raise ValueError(f"drugs are {unknown}; expected names out of {', '.join(self.names)}; check the spelling")
        names = self.names if drugs is None else [name for name in self.names if name in set(drugs)]
        return (WATCH, *(Treatment((dose,)) for name in names for dose in self.usual_doses(name)))

    def usual_doses(self, name: str) -> tuple[Dose, ...]:
        """The standard doses of one drug, by all its routes."""
        forms = [form for route in self[name].routes.values() for form in route.forms]
        return tuple(Dose(name, amount, f.unit, f.name, f.duration_hours) for f in forms for amount in f.usual)

    def _route(self, drug: Drug, dose: Dose) -> Route:
        if not dose.route:  # the first route in whose unit the dose can be written
            fitting = [r for r in drug.routes.values() if r.form(dose.unit).unit == dose.unit]
            return (fitting or list(drug.routes.values()))[0]
        route = drug.routes.get(dose.route.upper())
        if route is None:
            raise ValueError(
                f"route of {drug.name} is {dose.route!r}; expected {' or '.join(drug.routes)}; give it another way"
            )
        return route

    def _refuse_too_much(self, dose: Dose, drug: Drug, route: Route, patient: Patient) -> None:
        limit = replace(dose, amount=route.max_single, unit=route.unit)
        if milligrams(dose, drug, patient) > milligrams(limit, drug, patient) * (1 + _ROUNDING):
            raise ValueError(
                f"dose is {dose}; expected at most {route.max_single:g} {route.unit} of {drug.name} {route.name} "
                "at once; lower the amount"
            )


FORMULARY = Formulary()
