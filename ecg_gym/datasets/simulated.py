"""Virtual ECGs by the hundred thousand, each with its truth: people, drugs on board, strips, in resumable shards.

    for done in simulate(Path("data/virtual"), n=100_000, workers=2): ...
    ecgs = read_simulated(Path("data/virtual"), shards=[0])

ECG number i depends on the seed and on i alone, so the workers' number, a stop or a resume change nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import INDEPENDENT_LEADS, Administration, independent_from_leads, limb_from_independent
from ecg_gym.datasets.transitions import TrialDesign, draw_treatment
from ecg_gym.executor import Executor, completed, executor
from ecg_gym.io import atomic_write, write_json, write_npz
from ecg_gym.pharmacology import FORMULARY, exposure, modulate
from ecg_gym.virtual_patient import FINDINGS, Truth, draw_heart, synthesise
from ecg_gym.virtual_patient.strip import INTERVALS
from ecg_gym.virtual_patient.truth import HAZARDS

PER_SHARD = 500
UV_PER_COUNT = 2.0  # signals are kept as int16 [counts]
FIDUCIALS = ("p_onset", "p_peak", "p_end", "qrs_onset", "r_peak", "qrs_end", "t_peak", "t_end")
SETTINGS, LABELS = "simulation.json", "labels.csv"
_PEOPLE = ("age_years", "sex", "weight_kg", "height_cm", "potassium", "magnesium", "calcium", "creatinine_clearance")


@dataclass(frozen=True)
class Simulation:
    """What is simulated; every ECG follows from this and its number."""

    seed: int = 0
    rate_hz: float = 500.0
    seconds: float = 10.0
    healthy: bool = False  # trial volunteers only
    rhythm: str | None = None  # a row of rhythms.yaml; None draws from all
    treated: float = 0.5  # share of people with one or two drugs on board
    longest_hours: float = 24.0  # since the first dose

    def __post_init__(self) -> None:
        if not 0 <= self.treated <= 1:
            raise ValueError(f"treated is {self.treated}; expected a share from 0 to 1; pass treated=0.5")
        if not (50 <= self.rate_hz <= 4000 and 1 <= self.seconds <= 600):
            raise ValueError(
                f"rate_hz is {self.rate_hz} and seconds {self.seconds}; expected 50 to 4000 Hz and 1 to 600 s; "
                "choose values in these ranges"
            )


@dataclass(frozen=True)
class Simulated:
    """N virtual ECGs and their truth."""

    signal: np.ndarray  # (N, 8, T) int16, UV_PER_COUNT microvolts each, leads INDEPENDENT_LEADS
    rate_hz: float
    intervals: np.ndarray  # (N, 10) float32 [ms, 1/min], columns INTERVALS; NaN where absent
    findings: np.ndarray  # (N, 17) bool, columns FINDINGS
    hazard_per_hour: np.ndarray  # (N, 3) float32 [1/h], columns HAZARDS
    concentration: np.ndarray  # (N, n_drugs) float32 plasma [ng/mL], columns FORMULARY.names
    rhythm: np.ndarray  # (N,) str
    conduction: np.ndarray  # (N,) str
    doses: np.ndarray  # (N,) str, what was given and when [h before the strip]
    beats: np.ndarray  # (sum of M,) kinds of all beats, strip after strip
    n_beats: np.ndarray  # (N,) M
    n_p: np.ndarray  # (N,) P waves
    marks: Mapping[str, np.ndarray]  # FIDUCIALS [s], strip after strip: (sum of M,), and (sum of P,) for those of P

    def __len__(self) -> int:
        return len(self.rhythm)

    def leads_mv(self) -> np.ndarray:
        """All twelve leads, ``(N, 12, T)`` float32 [mV]."""
        return limb_from_independent(self.signal.astype(np.float32) * (UV_PER_COUNT / 1000))


def simulate(
    folder: Path, n: int, settings: Simulation | None = None, workers: int | Executor = 1
) -> Iterator[tuple[int, int]]:
    """Writes ``n`` ECGs to ``folder`` in shards, and yields (ECGs that are there, n) as they come.

    Shards that exist are kept. At the end ``labels.csv`` holds one row of labels an ECG. Raises ValueError if the
    folder was made with other settings, or if ``n`` or ``workers`` (a number of processes, or an Executor such as a Ray
    cluster) is below one. Ctrl-C ends the workers at once; what they had begun is begun again later.
    """
    settings = settings or Simulation()
    if n < 1 or (isinstance(workers, int) and workers < 1):
        raise ValueError(f"n is {n} and workers {workers}; expected both at least 1; ask for more")
    _claim(folder, settings)
    shards = {first // PER_SHARD: min(PER_SHARD, n - first) for first in range(0, n, PER_SHARD)}
    done = {shard: size for shard, size in shards.items() if _complete(shard_path(folder, shard), size)}
    yield sum(done.values()), n
    todo = [shard for shard in shards if shard not in done]
    make = partial(_make, folder, settings)
    hands = workers if not isinstance(workers, int) else executor(workers if workers > 1 and len(todo) > 1 else 0)
    for (shard, size), _ in completed(hands, make, [(shard, shards[shard]) for shard in todo]):
        done[shard] = size
        yield sum(done.values()), n
    _write_labels(folder, shards)


def read_simulated(folder: Path, shards: Sequence[int] | None = None) -> Simulated:
    """The ECGs of the given shards (default all) of a folder. ValueError if there are none."""
    paths = sorted(folder.glob("ecgs_*.npz")) if shards is None else [shard_path(folder, s) for s in shards]
    if not paths or not all(path.is_file() for path in paths):
        raise ValueError(f"{folder} lacks the shards asked for; expected ecgs_00000.npz ...; run ecg-gym simulate")
    parts = [_read(path) for path in paths]
    columns: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name not in ("rate_hz", "person")
    }
    marks = {name: columns.pop(f"mark.{name}") for name in FIDUCIALS}
    return Simulated(doses=columns.pop("given"), **columns, marks=marks, rate_hz=float(parts[0]["rate_hz"]))


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard lies."""
    return folder / f"ecgs_{shard:05d}.npz"


def one(number: int, settings: Simulation) -> tuple[np.ndarray, Truth, dict[str, Any]]:
    """ECG ``number``: leads ``(12, T)`` float32 [mV], its truth, and who it is of."""
    rng = np.random.default_rng([settings.seed, number])
    heart = draw_heart(rng, rhythm=settings.rhythm, healthy=settings.healthy)
    hours = 0.0
    doses: tuple[Administration, ...] = ()
    if rng.random() < settings.treated:
        treatment, _ = draw_treatment(heart.patient, rng, TrialDesign(watch=(0.0,)), "train")
        hours = float(rng.uniform(0, settings.longest_hours))
        doses = tuple(Administration(0.0, dose) for dose in treatment.doses)
    now = exposure(doses, heart.patient, hours, heart.sensitivity)
    change = modulate(now, heart.patient, heart.sensitivity, clock_hours=hours)
    signal, truth = synthesise(heart, change, rng, settings.rate_hz, settings.seconds, float(now.potassium))
    on_board = {FORMULARY.names[i]: float(now.plasma[i]) for i in np.flatnonzero(now.plasma > 0)}
    person = {name: getattr(heart.patient, name) for name in _PEOPLE} | {
        "conduction": heart.conduction, "scar": heart.scar, "injury": heart.injury, "noise": heart.noise,
        "given": "; ".join(f"{a.dose} {hours:.2f} h before" for a in doses),
    }  # fmt: skip
    return signal, replace(truth, concentrations=on_board), person


def _make(folder: Path, settings: Simulation, job: tuple[int, int]) -> int:
    """Makes one shard, ``(number, size)``; written aside and renamed. Returns its number."""
    shard, size = job
    rows = [one(shard * PER_SHARD + i, settings) for i in range(size)]
    truths = [truth for _, truth, _ in rows]
    counts = 1000 / UV_PER_COUNT
    columns: dict[str, Any] = {
        "signal": np.stack([_counts(independent_from_leads(signal) * counts) for signal, _, _ in rows]),
        "rate_hz": np.array(settings.rate_hz),
        "intervals": np.array([[t.intervals[name] for name in INTERVALS] for t in truths], np.float32),
        "findings": np.stack([t.findings for t in truths]),
        "hazard_per_hour": np.array([[t.hazard_per_hour[name] for name in HAZARDS] for t in truths], np.float32),
        "concentration": np.array(
            [[t.concentrations.get(d, 0.0) for d in FORMULARY.names] for t in truths], np.float32
        ),
        "rhythm": np.array([t.rhythm for t in truths]),
        "conduction": np.array([person["conduction"] for _, _, person in rows]),
        "given": np.array([person["given"] for _, _, person in rows]),
        "beats": np.array([kind for t in truths for kind in t.kinds], dtype="U16"),
        "n_beats": np.array([len(t.qrs_s) for t in truths]),
        "n_p": np.array([len(t.p_s) for t in truths]),
        "person": np.array([json.dumps(person) for _, _, person in rows]),
    }
    for name in FIDUCIALS:
        columns[f"mark.{name}"] = np.concatenate([t.fiducials.get(name, np.empty(0)) for t in truths])
    write_npz(shard_path(folder, shard), columns)
    return shard


def _counts(values: np.ndarray) -> np.ndarray:
    reach = np.iinfo(np.int16)
    return np.clip(np.round(values), reach.min, reach.max).astype(np.int16)


def _claim(folder: Path, settings: Simulation) -> None:
    """Notes the settings in a new folder, and refuses one that was made with others."""
    path = folder / SETTINGS
    targets = {**asdict(settings), "per_shard": PER_SHARD, "uv_per_count": UV_PER_COUNT}
    targets["leads"] = list(INDEPENDENT_LEADS)
    if path.is_file():
        result = json.loads(path.read_text(encoding="utf-8"))
        if result != targets:
            differ = sorted(name for name in {*result, *targets} if result.get(name) != targets.get(name))
            raise ValueError(
                f"{folder} was made with other settings ({', '.join(differ)}); expected the same to resume; "
                "choose another folder, or the settings in its simulation.json"
            )
        return
    write_json(path, targets)


def _complete(path: Path, size: int) -> bool:
    """Whether a shard is there with as many ECGs as it should have."""
    if not path.is_file():
        return False
    with np.load(path, allow_pickle=False) as file:
        return len(file["n_beats"]) == size


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _write_labels(folder: Path, shards: Mapping[int, int]) -> None:
    """One row an ECG: who, what was given, the true intervals, findings and hazards."""
    names = ["number", "shard", "row", "rhythm", *_PEOPLE, "conduction", "scar", "injury", "noise", "given"]
    names += [*INTERVALS, *FINDINGS, *(f"{name}_per_hour" for name in HAZARDS)]
    with atomic_write(folder / LABELS) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for shard in sorted(shards):
            with np.load(shard_path(folder, shard), allow_pickle=False) as part:
                columns = {
                    name: part[name] for name in ("rhythm", "person", "intervals", "findings", "hazard_per_hour")
                }
            for row in range(shards[shard]):
                person = json.loads(str(columns["person"][row]))
                result = [f"{value:.4g}" if np.isfinite(value) else "" for value in columns["intervals"][row]]
                hazards = [f"{value:.3g}" for value in columns["hazard_per_hour"][row]]
                writer.writerow([
                    shard * PER_SHARD + row, shard, row, columns["rhythm"][row],
                    *(person[name] for name in names[4:17]),
                    *result, *columns["findings"][row].astype(int), *hazards,
                ])  # fmt: skip
