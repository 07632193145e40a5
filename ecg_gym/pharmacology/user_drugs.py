"""Drugs of your own: rows of the formulary's form in YAML files that the variable ``ECG_GYM_DRUGS`` names.

    ECG_GYM_DRUGS=my_drugs.yaml ecg-gym plan ...

The rows come after those of the package and are checked as strictly. Beside the drugs a file may hold ``sources:``, the
citations its figures name. Several files are separated as in ``PATH``. The files are read once, at first use, because
every array over drugs has their number; a variable reaches the workers of a vector env too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

VARIABLE = "ECG_GYM_DRUGS"
SOURCES = "sources"


@cache
def own_table() -> Mapping[str, Any]:
    """All rows of all files, drugs by name, and under ``sources`` their citations; empty where none is named.

    Raises ValueError for a file that is not there or holds no mapping, and for a name that two files use.
    """
    rows: dict[str, Any] = {SOURCES: {}}
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        drugs = _read(Path(name))
        cited = drugs.pop(SOURCES, None) or {}
        for table, new in ((rows, drugs), (rows[SOURCES], cited)):
            if twice := sorted(table.keys() & new.keys()):
                raise ValueError(f"{name} has {twice} once more; expected every name in one file; rename it")
            table.update(new)
    return rows


def with_own(table: Mapping[str, Any], part: str = "") -> Mapping[str, Any]:
    """A table of the package with the own rows after it: the drugs, or the citations with ``part="sources"``.

    Raises ValueError for a name that the package has already: its drugs stay what they are.
    """
    own = own_table()
    added = own[SOURCES] if part == SOURCES else {name: row for name, row in own.items() if name != SOURCES}
    if clashes := sorted(table.keys() & added.keys()):
        raise ValueError(f"{VARIABLE} brings {clashes}, which the package has; expected new names; rename yours")
    return {**table, **added}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{VARIABLE} names {path}, which cannot be read ({' '.join(str(error).split())}); "
            "expected a YAML file of drugs; write its full path, see examples/your_own_drug.yaml"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get(SOURCES) or {}, dict):
        raise ValueError(f"{path} holds {str(content)[:60]!r}; expected drugs by name; see examples/your_own_drug.yaml")
    return content
