"""Strips with known findings: virtual patients, who know everything, and PTB-XL, whose cardiologists know most."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ecg_gym.core import MODEL_SAMPLES, independent_from_leads
from ecg_gym.io import write_npz
from ecg_gym.risk.aggregate import FINDINGS

UNKNOWN = -1
CHUNK = 32  # virtual people made together
STRIPS_EACH = 5  # a new person costs as much as four strips
SCP_TABLE = Path(__file__).with_name("scp_findings.yaml")
PTBXL_SOURCE = "PTB-XL 1.0.3, CC BY 4.0, Wagner 2020 doi:10.1038/s41597-020-0495-6"
VIRTUAL_SOURCE = "virtual patients of this package, Apache-2.0"


@dataclass(frozen=True)
class Labelled:
    """``N`` strips on the model grid with what is known of their findings."""

    signal: np.ndarray  # (N, 8, 1024) float16 [mV]
    findings: np.ndarray  # (N, 17) int8: 1 present, 0 absent, -1 unknown
    split: np.ndarray  # (N,) str: "train", "val" (calibration) or "test"; a person is in one only
    real: np.ndarray  # (N,) bool: a person's, not a virtual patient's

    def __len__(self) -> int:
        return len(self.signal)

    def where(self, rows: np.ndarray) -> Labelled:
        """The chosen rows."""
        return Labelled(self.signal[rows], self.findings[rows], self.split[rows], self.real[rows])

    def of(self, split: str, real: bool | None = None) -> Labelled:
        """One split, of one origin if asked."""
        return self.where((self.split == split) & (True if real is None else self.real == real))


def concatenate(parts: Sequence[Labelled]) -> Labelled:
    """All strips in one set."""
    return Labelled(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Labelled.__dataclass_fields__)
    )


def empty() -> Labelled:
    """No strips."""
    signal = np.empty((0, 8, MODEL_SAMPLES), np.float16)
    return Labelled(signal, np.empty((0, len(FINDINGS)), np.int8), np.empty(0, "<U5"), np.empty(0, bool))


def virtual(n: int, seed: int) -> Labelled:
    """About ``n`` strips of virtual people: before, and hour by hour under treatments drawn from the menu.

    Of every eight people one is held out for calibration and one for the test, with all of their strips.
    """
    people = -(-n // STRIPS_EACH)
    sizes = [min(CHUNK, people - start) for start in range(0, people, CHUNK)]
    return concatenate([virtual_chunk(size, seed, i) for i, size in enumerate(sizes)]) if sizes else empty()


def virtual_chunk(people: int, seed: int, index: int) -> Labelled:
    """The strips of ``people`` virtual people; the same for the same seed and index."""
    from ecg_gym.pharmacology import FORMULARY
    from ecg_gym.virtual_patient import VirtualPatient

    world, menu, rng = VirtualPatient(), FORMULARY.menu(), np.random.default_rng([seed, index])
    split = np.array([{6: "val", 7: "test"}.get(person % 8, "train") for person in range(people)])
    state, parts = world.initial(people, rng), []
    for hour in range(STRIPS_EACH):
        if hour > 0:
            state = world.step(state, [menu[i] for i in rng.integers(len(menu), size=people)], rng)
        truth = np.array([t.findings for t in world.truth(state)], dtype=np.int8)
        parts.append(_labelled(state.ecg, truth, split, real=False).where(state.alive))
    return concatenate(parts)


def ptbxl(folder: Path) -> Labelled:
    """PTB-XL's 100 Hz records under ``folder`` with their statements; the two last folds are held out.

    Folds keep a patient's records together. A record that cannot be read or has no beats is left out.
    """
    from ecg_gym.datasets import read_record
    from ecg_gym.waveform import to_model_grid

    rows = list(csv.DictReader((folder / "labels.csv").open(newline="")))
    last = sorted({int(row["strat_fold"]) for row in rows})[-2:]
    held_out = dict(zip(last, ("val", "test")))
    signals, labels, splits = [], [], []
    for row in rows:
        name = f"{int(row['ecg_id']):05d}_lr"
        path = folder / "records100" / f"{int(row['ecg_id']) // 1000 * 1000:05d}" / name
        try:
            ecg = to_model_grid(read_record(path).ecg)
        except (ValueError, OSError):
            continue
        signals.append(ecg.signal.reshape(12, MODEL_SAMPLES))
        labels.append(findings_of(row["scp_codes"].split(";")))
        splits.append(held_out.get(int(row["strat_fold"]), "train"))
    return _labelled(np.stack(signals), np.array(labels, np.int8), np.array(splits), real=True)


def findings_of(statements: Sequence[str]) -> list[int]:
    """What a set of SCP-ECG statements says of each finding: 1, 0 or -1 for unknown, ``(17,)``."""
    said = set(statements)
    return [_finding(said, _scp_table()[name]) for name in FINDINGS]


def _finding(said: set[str], rule: dict[str, Any]) -> int:
    if rule.get("never_stated"):
        return UNKNOWN
    here = bool(said & set(rule["any"])) and (not rule.get("and_any") or bool(said & set(rule["and_any"])))
    if "lacks_if" in rule:  # absent only where another statement excludes it
        excluded = bool(said & set(rule["lacks_if"]))
        return UNKNOWN if here == excluded else int(here)
    return 1 if here else UNKNOWN if said & set(rule.get("unclear", ())) else 0


@cache
def _scp_table() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(SCP_TABLE.read_text(encoding="utf-8"))


def _labelled(ecg: np.ndarray, findings: np.ndarray, split: np.ndarray, real: bool) -> Labelled:
    return Labelled(independent_from_leads(ecg).astype(np.float16), findings, split, np.full(len(ecg), real))


def save(strips: Labelled, path: Path) -> None:
    """Write an npz aside and rename it."""
    write_npz(path, {name: getattr(strips, name) for name in Labelled.__dataclass_fields__}, compressed=True)


def load(path: Path) -> Labelled:
    """The strips of a file written by ``save``."""
    with np.load(path, allow_pickle=False) as file:
        return Labelled(*(file[name] for name in Labelled.__dataclass_fields__))
