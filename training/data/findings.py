"""Strips with known findings: virtual patients, who know everything, and records, whose cardiologists know most.

The network learns from virtual people and PTB-XL. Records of other sites only calibrate it and judge it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym import core
from ecg_gym.core import MODEL_SAMPLES, independent_from_leads
from ecg_gym.io import write_npz
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.yaml_files import read_yaml

UNKNOWN = -1
CHUNK = 32  # virtual people made together
STRIPS_EACH = 5  # a new person costs as much as four strips
VIRTUAL, PTBXL, LUDB = "virtual", "PTB-XL", "LUDB"
SOURCES = {
    VIRTUAL: "virtual patients of this package, Apache-2.0",
    PTBXL: "PTB-XL 1.0.3, CC BY 4.0, Wagner 2020 doi:10.1038/s41597-020-0495-6",
    LUDB: "LUDB 1.0.1, ODC-By 1.0, Kalyakulina 2020 doi:10.1109/ACCESS.2020.3029211",
}
CHALLENGE_SOURCE = "Challenge 2020-2021, CC BY 4.0, Perez Alday 2020 doi:10.1088/1361-6579/abc960"
CHALLENGE_SITES = {  # by the letters a record's name begins with; HR repeats PTB-XL and is left out
    "A": "CPSC", "Q": "CPSC", "S": "PTB", "E": "Georgia", "JS": "Chapman-Shaoxing and Ningbo",
}  # fmt: skip
LUDB_COLUMNS = ("Rhythms", "Conduction abnormalities", "Extrasystolies", "Cardiac pacing", "Ischemia")


@dataclass(frozen=True)
class Labelled:
    """``N`` strips on the model grid with what is known of their findings."""

    signal: np.ndarray  # (N, 8, 1024) float16 [mV]
    findings: np.ndarray  # (N, 17) int8: 1 present, 0 absent, -1 unknown
    split: np.ndarray  # (N,) str: "train", "val" (calibration), "test" or "site" (other sites); a person is in one only
    site: np.ndarray  # (N,) str: where it was recorded, "virtual" for virtual people

    def __len__(self) -> int:
        return len(self.signal)

    def where(self, rows: np.ndarray) -> Labelled:
        """The chosen rows."""
        return Labelled(self.signal[rows], self.findings[rows], self.split[rows], self.site[rows])

    def of(self, split: str, real: bool | None = None) -> Labelled:
        """One split, of one origin if asked."""
        return self.where((self.split == split) & (True if real is None else (self.site != VIRTUAL) == real))


def concatenate(parts: Sequence[Labelled]) -> Labelled:
    """All strips in one set."""
    return Labelled(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Labelled.__dataclass_fields__)
    )


def empty() -> Labelled:
    """No strips."""
    signal = np.empty((0, 8, MODEL_SAMPLES), np.float16)
    return Labelled(signal, np.empty((0, len(FINDINGS)), np.int8), np.empty(0, "<U5"), np.empty(0, "<U30"))


def virtual(n: int, seed: int, rare: float = 0.0) -> Labelled:
    """About ``n`` strips of virtual people: before, and hour by hour under treatments drawn from the menu.

    A share ``rare`` of them has a rhythm and a conduction drawn evenly from all there are.

    Of every eight people one is held out for calibration and one for the test, with all of their strips.
    """
    people = -(-n // STRIPS_EACH)
    sizes = [min(CHUNK, people - start) for start in range(0, people, CHUNK)]
    return concatenate([virtual_chunk(size, seed, i, rare) for i, size in enumerate(sizes)]) if sizes else empty()


def virtual_chunk(people: int, seed: int, index: int, rare: float = 0.0) -> Labelled:
    """The strips of ``people`` virtual people; the same for the same arguments."""
    from ecg_gym.pharmacology import FORMULARY
    from ecg_gym.virtual_patient import VirtualPatient
    from training.data.sources import rare_person

    world, menu, rng = VirtualPatient(), FORMULARY.menu(), np.random.default_rng([seed, index])
    unusual = int((rng.random(people) < rare).sum()) if rare else 0
    order = rng.permutation(people) if rare else np.arange(people)
    split = np.array([{6: "val", 7: "test"}.get(person % 8, "train") for person in order])
    groups = [world.initial(people - unusual, rng)] if people > unusual else []
    state, parts = core.concatenate([*groups, *(rare_person(world, rng) for _ in range(unusual))]), []
    for hour in range(STRIPS_EACH):
        if hour > 0:
            state = world.step(state, [menu[i] for i in rng.integers(len(menu), size=people)], rng)
        truth = np.array([t.findings for t in world.truth(state)], dtype=np.int8)
        parts.append(_labelled(state.ecg, truth, split, VIRTUAL).where(state.alive))
    return concatenate(parts)


def ptbxl(folder: Path) -> Labelled:
    """PTB-XL's 100 Hz records under ``folder`` with their statements; the two last folds are held out.

    Folds keep a patient's records together. A record that cannot be read or has no beats is left out.
    """
    rows = list(csv.DictReader((folder / "labels.csv").open(newline="")))
    last = sorted({int(row["strat_fold"]) for row in rows})[-2:]
    held_out = dict(zip(last, ("val", "test")))
    signals, labels, splits = [], [], []
    for row in rows:
        name = f"{int(row['ecg_id']):05d}_lr"
        path = folder / "records100" / f"{int(row['ecg_id']) // 1000 * 1000:05d}" / name
        if (signal := _on_grid(path)) is None:
            continue
        signals.append(signal)
        labels.append(findings_of(row["scp_codes"].split(";"), "scp"))
        splits.append(held_out.get(int(row["strat_fold"]), "train"))
    return _labelled(np.stack(signals), np.array(labels, np.int8), np.array(splits), PTBXL)


def ludb(folder: Path) -> Labelled:
    """LUDB's records under ``folder`` with the diagnoses of ``ludb.csv``, all of split ``site``."""
    with (folder / "ludb.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = {
        int(row["ID"]): [line.strip() for name in LUDB_COLUMNS for line in row[name].splitlines() if line.strip()]
        for row in rows
    }
    paths = {path: labels[int(path.stem)] for path in sorted(folder.rglob("*.hea")) if int(path.stem) in labels}
    return _of_site(LUDB, paths, "ludb")


def challenge(folder: Path) -> Labelled:
    """The Challenge's records under ``folder``, all of split ``site``, with the SNOMED CT codes of their headers.

    Those that repeat PTB-XL are left out.
    """
    sites: dict[str, dict[Path, list[str]]] = {}
    for path in sorted(folder.rglob("*.hea")):
        letters = path.stem.rstrip("0123456789")
        if letters not in CHALLENGE_SITES:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        codes = [line.split(":", 1)[1] for line in lines if line.lstrip("# ").lower().startswith("dx:")]
        sites.setdefault(CHALLENGE_SITES[letters], {})[path] = [c.strip() for line in codes for c in line.split(",")]
    return concatenate([empty(), *(_of_site(site, paths, "snomed") for site, paths in sites.items())])


def _of_site(site: str, statements: dict[Path, list[str]], table: str) -> Labelled:
    signals, labels = [], []
    for header, codes in statements.items():
        if (signal := _on_grid(header.with_suffix(""))) is not None:
            signals.append(signal)
            labels.append(findings_of(codes, table))
    if not signals:
        return empty()
    return _labelled(np.stack(signals), np.array(labels, np.int8), np.full(len(signals), "site"), site)


def _on_grid(path: Path) -> np.ndarray | None:
    """The record as ``(12, 1024)`` [mV] on the model grid; ``None`` where it cannot be read or has no beats."""
    from ecg_gym.datasets import read_record
    from ecg_gym.waveform import to_model_grid

    try:
        return to_model_grid(read_record(path).ecg).signal.reshape(12, MODEL_SAMPLES)
    except (ValueError, OSError):
        return None


def findings_of(statements: Sequence[str], table: str) -> list[int]:
    """What a set of statements says of each finding: 1, 0 or -1 for unknown, ``(17,)``.

    ``table`` is ``scp`` (SCP-ECG, PTB-XL), ``snomed`` (SNOMED CT, the Challenge) or ``ludb``.
    """
    codes, rules = set(statements), _table(table)
    return [_finding(codes, rules[name]) for name in FINDINGS]


def _finding(codes: set[str], rule: dict[str, Any]) -> int:
    if rule.get("never_stated"):
        return UNKNOWN
    here = bool(codes & set(rule["any"])) and (not rule.get("and_any") or bool(codes & set(rule["and_any"])))
    if "lacks_if" in rule:  # absent only where another statement excludes it
        excluded = bool(codes & set(rule["lacks_if"]))
        return UNKNOWN if here == excluded else int(here)
    return 1 if here else UNKNOWN if codes & set(rule.get("unclear", ())) else 0


@cache
def _table(name: str) -> dict[str, dict[str, Any]]:
    path = Path(__file__).with_name(f"{name}_findings.yaml")
    return read_yaml(path)


def _labelled(ecg: np.ndarray, findings: np.ndarray, split: np.ndarray, site: str) -> Labelled:
    return Labelled(independent_from_leads(ecg).astype(np.float16), findings, split, np.full(len(ecg), site))


def save(strips: Labelled, path: Path) -> None:
    """Write an npz aside and rename it."""
    write_npz(path, {name: getattr(strips, name) for name in Labelled.__dataclass_fields__}, compressed=True)


def load(path: Path) -> Labelled:
    """The strips of a file written by ``save``."""
    with np.load(path, allow_pickle=False) as file:
        return Labelled(*(file[name] for name in Labelled.__dataclass_fields__))
