"""Words on the command line, made into the nouns of ecg_gym.core; each refusal says what would have been right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from ecg_gym.core import WATCH, Administration, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY, known_conditions, resolve_medications
from ecg_gym.plausibility import number_of, sex_of

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
    facts: dict[str, Any] = {}
    for key, value in values:
        name = _SHORT.get(key.lower(), key.lower())
        if name not in _NAMES:
            raise ValueError(
                f"patient has the key {key!r}; expected one of {', '.join(sorted({*_NAMES, *_SHORT}))}; "
                "write for example --patient age=71,sex=F,K=3.1"
            )
        if name in facts:
            raise ValueError(f"patient has {name} twice; expected each key once; leave one out")
        facts[name] = _patient_value(name, value)
    return replace(start or Patient(), **facts)


def _read_mapping(text: str) -> list[tuple[str, Any]]:
    """Keys and values in their order, a key perhaps twice."""
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        if not path.is_file():
            raise ValueError(f"patient file {text} is not there; expected a YAML or JSON file; check the path")
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(
                f"patient file {text} cannot be read ({error}); expected YAML or JSON; mend the file"
            ) from error
        if not isinstance(loaded, dict):
            raise ValueError(f"patient file {text} holds {type(loaded).__name__}; expected keys and values; mend it")
        return [(str(key), value) for key, value in loaded.items()]
    pairs = [part for part in text.split(",") if part.strip()]
    if bad := [part for part in pairs if "=" not in part]:
        raise ValueError(f"patient holds {bad[0]!r}; expected key=value pairs with commas; write age=71,sex=F")
    return [(key.strip(), value.strip()) for key, value in (part.split("=", 1) for part in pairs)]


def _patient_value(name: str, value: Any) -> Any:
    if name == "sex":
        return sex_of(str(value))
    if name not in ("conditions", "medication"):
        return number_of(name, value)
    if not isinstance(value, str | list | tuple | set):
        raise ValueError(f"{name} is {value!r}; expected words; write {name}=asthma+lupus, or a list")
    separators = r"[+;\s]+" if name == "conditions" else r"[+;]+"  # a name of a drug may have several words
    names = re.split(separators, value) if isinstance(value, str) else list(value)
    words = frozenset(str(n).strip() for n in names if str(n).strip())
    if name == "medication":
        resolve_medications(words)  # raises for a name that nobody knows; what was written is kept, for the remarks
        return words
    conditions = frozenset(word.lower() for word in words)
    if unknown := conditions - set(known_conditions()):
        raise ValueError(
            f"conditions name {sorted(unknown)}; expected names out of {', '.join(known_conditions())}; "
            "join several with +"
        )
    return conditions


def parse_given(texts: Sequence[str], patient: Patient) -> tuple[Administration, ...]:
    """Doses already taken, from words such as ``"dofetilide 0.5 mg PO @ -2h"`` (hours before the record, so <= 0)."""
    doses = []
    for text in texts:
        match = _GIVEN.match(text.strip())
        if match is None:
            raise ValueError(
                f"given is {text!r}; expected 'DRUG AMOUNT UNIT ROUTE @ -HOURSh'; write 'dofetilide 0.5 mg PO @ -2h'"
            )
        hours = float(match["hours"])
        if hours > 0:
            raise ValueError(f"given is {text!r}, in the future; expected hours <= 0; write @ -{hours:g}h")
        doses.append(Administration(hours, FORMULARY.check(parse_dose(match["dose"]), patient)))
    return tuple(sorted(doses))


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
