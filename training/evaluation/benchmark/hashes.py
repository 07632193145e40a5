"""Hashes of what a row depends on: the tables that are the truth, what judges, any JSON value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import ecg_gym
from ecg_gym.envs.loading import load_risk
from ecg_gym.yaml_files import read_yaml

TABLES = ("pharmacology", "risk", "virtual_patient")  # packages whose YAML and JSON tables judge and are the truth
PROSE = ("description", "goal", "first_line", "pitfall", "sources", "helps")  # of a scenario; nothing is played by it


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@lru_cache(maxsize=4)
def risk_sha256(risk: str) -> str:
    """Of what judges; interval limits alone have no weights, and are named instead."""
    return str(getattr(load_risk(risk), "sha256", "") or risk)


@lru_cache(maxsize=1)
def tables_sha256() -> str:
    """Of the tables of drugs, clinical rules, limits, hearts and rhythms, names and contents, and of what is played of
    the scenarios.
    """
    home = Path(ecg_gym.__file__).parent
    files = sorted(p for name in TABLES for p in (home / name).iterdir() if p.suffix in (".yaml", ".json"))
    tables = [[p.relative_to(home).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()] for p in files]
    scenarios = read_yaml(home / "envs" / "scenarios.yaml")
    return digest([*tables, scenarios_sha256(scenarios)])


def scenarios_sha256(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Of whom the scenarios are about, what is on offer and when; words about them do not count."""
    return digest({name: {key: value for key, value in row.items() if key not in PROSE} for name, row in rows.items()})
