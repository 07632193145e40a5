"""Virtual trials as arrays: who took what, and the strip of every hour; made once, kept in shards.

A shard is made from its number alone, so a folder of shards can be stopped and resumed, and two machines make the same
one. Shards are disjoint in patients, and the split goes by shard: every tenth is for testing, every other tenth for
validation. Training never sees the held-out dose level or the held-out pairs of drugs; only test shards hold them, and
say so.

    make_shards(Path("data/trials"), range(40))
    trials = read_trials(Path("data/trials"), split="train")
    before, after = trials.pairs()          # rows: every earlier and later strip of one person
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import WATCH, Dose, Patient, State, Treatment, World, independent_from_leads
from ecg_gym.core import concatenate as concatenate_states
from ecg_gym.executor import Executor, completed, executor
from ecg_gym.io import write_npz
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.powers import measured_pressure

SPLITS = ("train", "validation", "test")
TRUTHS = ("hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtcf_ms", "jtpeak_ms", "tpeak_tend_ms")  # names of Intervals


@dataclass(frozen=True)
class TrialDesign:
    """What is tried on whom. Everything a shard holds follows from this and its number."""

    patients: int = 64  # per shard
    steps: tuple[int, ...] = (2, 4, 8)  # transitions per patient; one is drawn per shard
    dt_hours: tuple[float, ...] = (
        1 / 12,
        1 / 6,
        0.25,
        1.0,
        1.0,
        1.0,
        2.0,
        4.0,
        12.0,
        24.0,
    )  # one is drawn per shard [h]
    scenarios: float = 0.3  # share of patients who start in one of the `starts`; the rest are anybody
    watch: tuple[float, ...] = (0.2, 0.5, 0.8, 1.0)  # probability of giving nothing; one is drawn per patient
    pair: float = 0.2  # probability of two drugs together
    procedures: float = 0.08  # probability that what is done to somebody is a procedure (a shock, pacing, dialysis)
    own_drugs: float = 0.5  # how often a scenario's patient gets one of its drugs instead of any
    levels: tuple[float, ...] = (0.5, 1.0, 1.0, 1.5, 2.0)  # factors on the menu's doses
    held_out_level: float = 0.75  # only in test shards
    held_out_pairs: int = 6  # one pair of drugs in this many is only in test shards
    held_out_share: float = 0.25  # of a test shard's doses and pairs
    strips: bool = True  # whether the strips are kept, not only what is read off them
    classifier: str = ""  # file of weights that read the findings; "" is the package's
    seed: int = 2027


@dataclass(frozen=True)
class Start:
    """A situation that patients may start in."""

    who: Mapping[str, Any] = field(default_factory=dict)  # words for ``World.initial``
    drugs: tuple[str, ...] = ()  # on offer there


@dataclass(frozen=True)
class Trials:
    """S strips, those of one person in a row and in time. Strips are on the model grid, independent leads only."""

    strips: np.ndarray  # (S, 8, 1024) float16 [mV]; zero for a person who died in the step before. Or (S, 0): not kept
    observed: np.ndarray  # (S, O) float32, measured on the strip, columns conditioning.OBSERVED
    exposure: np.ndarray  # (S, D) float32, what an average person has on board, columns conditioning.EXPOSURE
    ended: np.ndarray  # (S, 4) float32, integrated hazards of endings since the first strip, columns ENDINGS
    person: np.ndarray  # (S, P) float32, columns conditioning.PEOPLE; NaN is unknown
    truth: np.ndarray  # (S, 7) float32, columns TRUTHS, by the virtual patient; NaN where there is none
    hazard: np.ndarray  # (S, 3) float32 [1/h], columns virtual_patient.truth.HAZARDS
    alive: np.ndarray  # (S,) bool
    findings: np.ndarray  # (S, 17) float32, probabilities that the packaged classifier reads off the strip
    pressure: np.ndarray  # (S,) float32 [mmHg], mean arterial pressure by a cuff; NaN is unknown
    treatment: np.ndarray  # (S,) str, what was given at the strip before; "" at the first
    held_out: np.ndarray  # (S,) bool: a dose level or a pair of drugs that training does not meet was given by then
    rhythm: np.ndarray  # (S,) str
    patient: np.ndarray  # (S,) int64, different in every shard
    hours: np.ndarray  # (S,) float64 [h]
    columns: tuple[str, ...]  # of observed, exposure, ended and person, in this order

    def __len__(self) -> int:
        return len(self.patient)

    def __getitem__(self, rows: np.ndarray) -> Trials:
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "columns"}
        return Trials(**arrays, columns=self.columns)

    def first(self) -> np.ndarray:
        """The row ``(S,)`` of each strip's own person's first strip."""
        starts = np.flatnonzero(np.r_[True, self.patient[1:] != self.patient[:-1]])
        return np.repeat(starts, np.diff(np.r_[starts, len(self)]))

    def pairs(self, farthest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``(N,)`` of an earlier strip and of a later one of the same person, at most ``farthest`` steps apart.

        The later one may be of somebody who has died by then (``alive`` says so); nobody is followed any further.
        """
        place = np.arange(len(self)) - self.first()
        longest = int(place.max(initial=0))
        gaps = range(1, min(farthest or longest, longest) + 1)
        later = [np.flatnonzero(place >= gap) for gap in gaps]
        after = np.concatenate([*later, np.empty(0, int)])
        before = np.concatenate([*[rows - gap for rows, gap in zip(later, gaps)], np.empty(0, int)])
        order = np.lexsort((after, before))
        return before[order], after[order]


def split_of(shard: int) -> str:
    """The split a shard belongs to, by its number alone."""
    return {8: "validation", 9: "test"}.get(shard % 10, "train")


def make_shards(
    folder: Path,
    shards: Iterable[int],
    design: TrialDesign | None = None,
    starts: Sequence[Start] = (),
    workers: Executor | None = None,
) -> Iterator[Path]:
    """Yields the path of each shard as it is there; those that exist are not made again.

    ``starts`` are situations that a share of the patients start in, such as the scenarios of the environment;
    ``workers`` make several at once (default: this process), and the numbers do not depend on them.
    """
    make = partial(_make_file, folder, design or TrialDesign(), tuple(starts))
    for _, path in completed(workers or executor(0), make, shards):
        yield path


def _make_file(folder: Path, design: TrialDesign, starts: Sequence[Start], shard: int) -> Path:
    path = folder / f"trials_{shard:05d}.npz"
    if not path.exists():
        _write(path, make_shard(shard, design, starts))
    return path


def make_shard(shard: int, design: TrialDesign, starts: Sequence[Start] = ()) -> Trials:
    """The strips of one shard's patients; the last of somebody who dies is blank, and says so."""
    from ecg_gym.virtual_patient import VirtualPatient
    from ecg_gym.world_model.conditioning import endings

    rng = np.random.default_rng([design.seed, shard])
    world = VirtualPatient(dt_hours=float(rng.choice(design.dt_hours)))
    steps, split = int(rng.choice(design.steps)), split_of(shard)
    state, drugs = _begin(world, design, starts, rng)
    watch = rng.choice(design.watch, size=len(state))
    ids = shard * design.patients + np.arange(len(state))
    held_out = np.zeros(len(state), bool)
    ended = np.zeros((len(state), 4))
    looks = [_look(world, state, ids, np.full(len(state), ""), held_out, ended, design)]
    for _ in range(steps):
        there = np.flatnonzero(state.alive)
        state, ids, held_out, watch, ended = state[there], ids[there], held_out[there], watch[there], ended[there]
        drugs = [drugs[i] for i in there]
        treatments, unusual = zip(
            *[
                draw_treatment(p, rng, replace(design, watch=(w,)), split, own)
                for p, w, own in zip(state.patients, watch, drugs)
            ]
        )
        was, state = state.hours, world.step(state, treatments, rng)
        held_out = held_out | np.array(unusual)
        ended = ended + endings(state.doses, state.patients, was, state.hours)
        looks.append(_look(world, state, ids, np.array([str(g) for g in treatments]), held_out, ended, design))
    trials = concatenate(looks)
    return trials[np.lexsort((trials.hours, trials.patient))]


def draw_treatment(
    patient: Patient, rng: np.random.Generator, design: TrialDesign, split: str, own: Sequence[str] = ()
) -> tuple[Treatment, bool]:
    """A treatment that the formulary allows this patient to be given, and whether it is held out from training.

    Contraindications do not matter here: a model that shall warn of a drug must have seen what it does. ``own`` are the
    drugs of the patient's scenario.
    """
    if rng.random() < rng.choice(design.watch):
        return WATCH, False
    unusual = split == "test" and rng.random() < design.held_out_share
    names = tuple(own) if own and rng.random() < design.own_drugs else FORMULARY.medicines
    if rng.random() < design.procedures:
        return Treatment((_draw_dose(str(rng.choice(FORMULARY.procedures)), patient, rng, (1.0,)),)), False
    drugs: Sequence[str] = (str(rng.choice(names)),)
    if rng.random() < design.pair:
        pairs = [p for p in combinations(FORMULARY.medicines, 2) if is_held_out(p, design) == unusual]
        drugs = pairs[int(rng.integers(len(pairs)))]
    levels = (design.held_out_level,) if unusual and len(drugs) == 1 else design.levels
    return Treatment(tuple(_draw_dose(drug, patient, rng, levels) for drug in drugs)), unusual


def is_held_out(pair: Sequence[str], design: TrialDesign) -> bool:
    """Whether two drugs are given together in test shards only; by their names, so that a new drug changes no other."""
    return sum("+".join(sorted(pair)).encode()) % design.held_out_pairs == 0


def read_trials(folder: Path, split: str | None = None) -> Trials:
    """All strips of a split (or of all three) that are in the folder."""
    return concatenate([read_shard(path) for path in shard_paths(folder, split)])


def shard_paths(folder: Path, split: str | None = None) -> list[Path]:
    """The files of a split (or of all three); ValueError when there are none."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {SPLITS}; check the spelling")
    paths = sorted(folder.glob("trials_*.npz"))
    some = [path for path in paths if split in (None, split_of(int(path.stem.split("_")[1])))]
    if not some:
        raise ValueError(
            f"{folder} holds no {split or 'trial'} shards; expected files trials_00000.npz and so on; "
            "make them with `ecg-gym train world-model`, or make_shards(folder, range(100))"
        )
    return some


def read_shard(path: Path) -> Trials:
    """One file of :func:`make_shards`; ValueError when it is of another version."""
    with np.load(path, allow_pickle=False) as file:
        if missing := [f.name for f in fields(Trials) if f.name not in file]:
            raise ValueError(
                f"{path} lacks {missing}; expected a shard of this version; remove the folder and make it again"
            )
        stored = {f.name: file[f.name] for f in fields(Trials)}
    return Trials(**{**stored, "columns": tuple(stored["columns"].tolist())})


def concatenate(parts: Sequence[Trials]) -> Trials:
    """Several sets of strips in one, all with the same columns."""
    if len({part.columns for part in parts}) != 1:
        raise ValueError(
            "shards disagree about their columns; expected shards made with one formulary; remove the older ones"
        )
    names = [f.name for f in fields(Trials) if f.name != "columns"]
    return Trials(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}, columns=parts[0].columns
    )


def _begin(
    world: Any, design: TrialDesign, starts: Sequence[Start], rng: np.random.Generator
) -> tuple[State, list[tuple[str, ...]]]:
    """Everybody's first hour, and the drugs on offer to those who start in a situation."""
    situated = (rng.random(design.patients) < design.scenarios) & (len(starts) > 0)
    which = np.where(situated, rng.integers(max(len(starts), 1), size=design.patients), -1)
    parts: list[State] = []
    drugs: list[tuple[str, ...]] = []
    for index in np.unique(which):
        n = int((which == index).sum())
        start = Start() if index < 0 else starts[index]
        parts.append(world.initial(n, rng, **start.who))
        drugs += [start.drugs] * n
    return concatenate_states(parts), drugs


def _draw_dose(drug: str, patient: Patient, rng: np.random.Generator, levels: Sequence[float]) -> Dose:
    """A usual dose times a level, or the usual dose itself where that would be above the maximum."""
    usual = FORMULARY.usual_doses(drug)
    dose = usual[int(rng.integers(len(usual)))]
    try:
        return FORMULARY.check(replace(dose, amount=dose.amount * float(rng.choice(levels))), patient)
    except ValueError:
        return dose


def _look(
    world: World, state: State, ids: np.ndarray, treatment: np.ndarray, held_out: np.ndarray, ended: np.ndarray,
    design: TrialDesign,
) -> Trials:  # fmt: skip
    from ecg_gym.risk.classifier import reader
    from ecg_gym.virtual_patient.truth import HAZARDS
    from ecg_gym.world_model.conditioning import ENDINGS, EXPOSURE, OBSERVED, PEOPLE, exposures, observe_strips, people

    truths = world.truth(state)  # type: ignore[attr-defined]
    there = state.alive[:, None]
    intervals = np.array([[truth.intervals[name] for name in TRUTHS] for truth in truths], dtype=np.float32)
    return Trials(
        strips=(independent_from_leads(state.ecg) * there[..., None]).astype(np.float16)
        if design.strips
        else np.zeros((len(state), 0), np.float16),
        findings=np.where(there, reader(design.classifier).probabilities(state.ecg), np.nan).astype(np.float32),
        observed=np.where(there, observe_strips(state.ecg), np.nan).astype(np.float32),
        exposure=exposures(state.doses, state.patients, state.hours).astype(np.float32),
        ended=ended.astype(np.float32),
        person=people(state.patients).astype(np.float32),
        truth=np.where(there, intervals, np.nan).astype(np.float32),
        hazard=np.array([[t.hazard_per_hour[name] for name in HAZARDS] for t in truths], dtype=np.float32),
        pressure=np.where(state.alive, measured_pressure(world, state), np.nan).astype(np.float32),
        alive=state.alive.copy(),
        treatment=treatment,
        held_out=held_out.copy(),
        rhythm=np.array([str(truth.rhythm) for truth in truths]),
        patient=ids.astype(np.int64),
        hours=state.hours.astype(float),
        columns=(*OBSERVED, *EXPOSURE, *ENDINGS, *PEOPLE),
    )


def _write(path: Path, trials: Trials) -> None:
    write_npz(path, {f.name: np.asarray(getattr(trials, f.name)) for f in fields(Trials)})
