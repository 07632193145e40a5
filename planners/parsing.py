"""Words on the command line, made into the nouns of ecg_gym.core; each refusal says what would have been right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from ecg_gym.core import PLAUSIBLE, WATCH, Administration, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import CONDITIONS, FORMULARY

_SHORT = {
    "age": "age_years",
    "weight": "weight_kg",
    "height": "height_cm",
    "k": "potassium",
    "mg": "magnesium",
    "ca": "calcium",
    "crcl": "creatinine_clearance",
}
_NAMES = tuple(f.name for f in fields(Patient))
_GIVEN = re.compile(r"^(?P<dose>.+?)\s*@\s*(?P<hours>[-+]?\d+(?:\.\d+)?)\s*h?$")


def parse_patient(text: str, start: Patient | None = None) -> Patient:
    """A patient from ``"age=71,sex=F,K=3.1,conditions=heart_failure+asthma"`` or from a YAML or JSON file.

    ``start`` holds what the record already says; the words override it. Unknown keys are errors.
    """
    values = _read_mapping(text)
    known: dict[str, Any] = {}
    for key, value in values.items():
        name = _SHORT.get(key.lower(), key.lower())
        if name not in _NAMES:
            raise ValueError(
                f"patient has the key {key!r}; expected one of {', '.join(sorted({*_NAMES, *_SHORT}))}; "
                "write for example --patient age=71,sex=F,K=3.1"
            )
        known[name] = _patient_value(name, value)
    return replace(start or Patient(), **known)


def _read_mapping(text: str) -> dict[str, Any]:
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        if not path.is_file():
            raise ValueError(f"patient file {text} is not there; expected a YAML or JSON file; check the path")
        try:
            loaded = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(
                f"patient file {text} cannot be read ({error}); expected YAML or JSON; mend the file"
            ) from error
        if not isinstance(loaded, dict):
            raise ValueError(f"patient file {text} holds {type(loaded).__name__}; expected keys and values; mend it")
        return {str(key): value for key, value in loaded.items()}
    pairs = [part for part in text.split(",") if part.strip()]
    if bad := [part for part in pairs if "=" not in part]:
        raise ValueError(f"patient holds {bad[0]!r}; expected key=value pairs with commas; write age=71,sex=F")
    return {key.strip(): value.strip() for key, value in (part.split("=", 1) for part in pairs)}


def _patient_value(name: str, value: Any) -> Any:
    if name == "sex":
        letter = str(value)[:1].upper()
        if letter not in ("F", "M"):
            raise ValueError(f"sex is {value!r}; expected F or M; leave it out when it is unknown")
        return letter
    if name in ("conditions", "medication"):
        if not isinstance(value, str | list | tuple | set):
            raise ValueError(f"{name} is {value!r}; expected words; write {name}=asthma+lupus, or a list")
        names = re.split(r"[+;\s]+", value) if isinstance(value, str) else list(value)
        chosen = frozenset(str(n).strip().lower() for n in names if str(n).strip())
        if name == "conditions" and (unknown := chosen - set(CONDITIONS)):
            raise ValueError(
                f"conditions name {sorted(unknown)}; expected names out of {', '.join(CONDITIONS)}; join several with +"
            )
        return chosen
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}; expected a number; leave it out when it is unknown") from None
    low, high, unit = PLAUSIBLE[name]
    if not low <= number <= high:
        raise ValueError(f"{name} is {number:g}; expected {low:g} to {high:g} {unit}; check the figure and its unit")
    return number


def parse_given(texts: Sequence[str], patient: Patient) -> tuple[Administration, ...]:
    """Doses already taken, from words such as ``"dofetilide 0.5 mg PO @ -2h"`` (hours before the record, so <= 0)."""
    given = []
    for text in texts:
        match = _GIVEN.match(text.strip())
        if match is None:
            raise ValueError(
                f"given is {text!r}; expected 'DRUG AMOUNT UNIT ROUTE @ -HOURSh'; write 'dofetilide 0.5 mg PO @ -2h'"
            )
        hours = float(match["hours"])
        if hours > 0:
            raise ValueError(f"given is {text!r}, in the future; expected hours <= 0; write @ -{hours:g}h")
        given.append(Administration(hours, FORMULARY.check(parse_dose(match["dose"]), patient)))
    return tuple(sorted(given))


def parse_candidates(text: str | None, patient: Patient) -> tuple[Treatment, ...]:
    """The candidates for a plan, watch and wait always among them.

    ``None`` is the whole menu; otherwise names and doses with commas: ``"verapamil, dofetilide 0.25 mg PO"``; a bare
    name stands for that drug's usual doses, and ``a + b`` for a combination.
    """
    if text is None:
        return FORMULARY.menu()
    candidates: list[Treatment] = [WATCH]
    for part in filter(None, (p.strip() for p in text.split(","))):
        if re.search(r"\d", part):
            doses = tuple(FORMULARY.check(parse_dose(word), patient) for word in part.split("+"))
            candidates.append(Treatment(doses))
        else:
            candidates.extend(FORMULARY.menu([part.lower().replace(" ", "_")]))
    return tuple(dict.fromkeys(candidates))
