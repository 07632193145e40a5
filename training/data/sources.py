"""Where strips come from: folders of real records, and virtual patients before and after a treatment."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, MODEL_SAMPLES, independent_from_leads
from ecg_gym.datasets import splits
from training.data.strips import MAX_PEAKS, Strips, concatenate, load_strips, save_strips

if TYPE_CHECKING:
    from ecg_gym.core import State
    from ecg_gym.virtual_patient import VirtualPatient

SOURCES = {  # folder under the data directory: what to say about it
    "ptbxl_100hz": "PTB-XL 1.0.3, CC BY 4.0, Wagner 2020 doi:10.1038/s41597-020-0495-6",
    "ludb": "LUDB 1.0.1, ODC-By 1.0, Kalyakulina 2020 doi:10.1109/ACCESS.2020.3029211",
    "challenge_2020_2021": "Challenge 2020-2021, CC BY 4.0, Perez Alday 2020 doi:10.1088/1361-6579/abc960",
}
REAL_SPLIT = Path(splits.__file__).with_name("split_real.json")  # what the shipped codec was trained and tested on
VIRTUAL_SOURCE = "virtual patients of this package, Apache-2.0"
REAL_STRIPS = "strips_real.npz"  # beside a run: the real strips as they were read
_CHUNK = 64  # virtual patients made together


def real_strips(data: Path, most_train: int | None = None) -> Strips:
    """Every usable record of the known folders under ``data``, or of ``data`` itself, one strip each, split by patient.

    ``most_train`` limits how many records of the training side each folder gives, evenly chosen. Left out: records
    without 12 finite leads, without beats, or shorter than a strip needs. Records of an unknown folder are split by
    their names, so one record per patient is assumed there. Raises ValueError when ``data`` holds no usable record.
    """
    parts = []
    for folder in [data / name for name in SOURCES if (data / name).is_dir()] or [data]:
        signals, records, sides = [], [], []
        for name, split, header in _limited(list(_records(folder)), most_train):
            if (signal := _on_grid(header)) is not None:
                signals.append(signal)
                records.append(f"{folder.name}/{name}")
                sides.append(split)
        if signals:
            source = SOURCES.get(folder.name, f"records of the user's own folder {folder.name}")
            parts.append(strips_of(np.stack(signals), np.array(records), np.array(sides), source))
    if not parts:
        raise ValueError(
            f"{data} holds no usable WFDB record; expected 12-lead records of 8 s or more, or folders out of "
            f"{list(SOURCES)}; pass the folder that holds them with --data"
        )
    return concatenate(parts)


def virtual_strips(n: int, seed: int, rare: float = 0.4) -> Strips:
    """About ``n`` strips of virtual patients: each one before, and after a treatment drawn from the menu.

    A share ``rare`` of the people has a rhythm drawn evenly from all but asystole, and a conduction drawn evenly from
    all there are, whatever the population's shares; the others are the population's. Both strips of a patient fall on
    the same side of the split.
    """
    from ecg_gym.pharmacology import FORMULARY
    from ecg_gym.virtual_patient import VirtualPatient

    world, menu, parts = VirtualPatient(), FORMULARY.menu(), []
    for start in range(0, (n + 1) // 2, _CHUNK):
        rng = np.random.default_rng([seed, start])
        size = min(_CHUNK, (n + 1) // 2 - start)
        usual = int((rng.random(size) >= rare).sum())
        states = [world.initial(usual, rng)] if usual else []
        states += [rare_person(world, rng) for _ in range(size - usual)]
        names = np.array([f"virtual/{seed}-{start + i}" for i in range(size)])
        sides = np.array([splits.by_hash(name) for name in names])
        places = np.split(np.arange(size), np.cumsum([len(state) for state in states])[:-1])
        for before, place in zip(states, places):
            after = world.step(before, [menu[i] for i in rng.integers(len(menu), size=len(before))], rng)
            for state in (before, after):
                people = place[state.alive]
                parts.append(strips_of(state.ecg[state.alive], names[people], sides[people], VIRTUAL_SOURCE))
    return concatenate(parts)


def rare_person(world: VirtualPatient, rng: np.random.Generator) -> State:
    """One person whose rhythm and conduction are drawn evenly from what the virtual patient knows."""
    from ecg_gym.virtual_patient.population import kinds, population
    from ecg_gym.virtual_patient.rhythm_table import rhythms

    rhythm = str(rng.choice(sorted(set(rhythms()) - {"asystole"})))
    conduction = str(rng.choice(sorted(kinds(population()["disease"]["conduction"]))))
    return world.initial(1, rng, rhythm=rhythm, conduction=conduction)


def strips_of(leads: np.ndarray, records: np.ndarray, sides: np.ndarray, source: str) -> Strips:
    """Strips from 12 leads ``(N, 12, 1024)`` [mV] on the model grid, with their R peaks."""
    from ecg_gym.waveform import find_r_peaks

    peaks = np.full((len(leads), MAX_PEAKS), -1, np.int16)
    if len(leads):
        for row, places in enumerate(find_r_peaks(ECG(leads, MODEL_RATE_HZ))):
            fitting = np.asarray(places)[:MAX_PEAKS]
            peaks[row, : len(fitting)] = fitting
    signal = independent_from_leads(leads).astype(np.float16)
    return Strips(signal, peaks, records, sides, (source,))


def _records(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Name, split and path (without suffix) of each record of a folder."""
    stored = splits.read(REAL_SPLIT)
    folds = {}
    if (folder / "labels.csv").is_file():
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if {"ecg_id", "strat_fold"} <= set(row)]
        folds = {int(row["ecg_id"]): int(row["strat_fold"]) for row in rows}
    for header in sorted(folder.rglob("*.hea")):
        name = header.stem
        if name.startswith("HR") and name[2:].isdigit() and int(name[2:]) < 2000:
            continue  # the Challenge's copies of PTB-XL records: they would cross the split
        record = f"{folder.name}/{name}"
        by_rule = splits.by_fold(folds[int(name.split("_")[0])]) if folds else splits.by_hash(record)
        yield name, stored.get(record, by_rule), header.with_suffix("")


def _limited(records: list[tuple[str, str, Path]], most_train: int | None) -> list[tuple[str, str, Path]]:
    """All held-out records, and at most so many of the others, evenly chosen."""
    learned = [i for i, (_, split, _) in enumerate(records) if split == "train"]
    if most_train is None or len(learned) <= most_train:
        return records
    sample = {learned[i] for i in np.linspace(0, len(learned) - 1, most_train).astype(int)}
    return [record for i, record in enumerate(records) if record[1] != "train" or i in sample]


def _on_grid(path: Path) -> np.ndarray | None:
    """The record on the model grid, ``(12, 1024)`` [mV], or None if it cannot be used."""
    from ecg_gym.datasets import read_record
    from ecg_gym.waveform import to_model_grid

    try:
        signal = to_model_grid(read_record(path).ecg).signal.reshape(12, MODEL_SAMPLES)
    except (ValueError, OSError):
        return None
    return signal if np.isfinite(signal).all() and signal.std(axis=1).min() > 1e-3 else None


def strips_for(n_virtual: int, seed: int, data: Path | None, folder: Path, rare: float = 0.4) -> tuple[Strips, Strips]:
    """Real strips (none without ``data``) and virtual ones, kept in ``folder`` once made."""
    real_path, virtual_path = folder / REAL_STRIPS, folder / f"strips_virtual_{n_virtual}_{seed}.npz"
    if not virtual_path.is_file():
        save_strips(virtual_strips(n_virtual, seed, rare), virtual_path)
    virtual = load_strips(virtual_path)
    if data is None:
        return virtual.where(np.arange(0)), virtual
    if not real_path.is_file():
        save_strips(real_strips(data), real_path)
    return load_strips(real_path), virtual
