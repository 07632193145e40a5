"""Virtual trials as arrays: who took what, the strip before and the strip after; made once, kept in shards.

A shard is made from its number alone, so a folder of shards can be stopped and resumed, and two machines make the same
one. Shards are disjoint in patients, and the split goes by shard: every tenth is for testing, every other tenth for
validation. Training never sees the held-out dose level or the held-out pairs of drugs; only test shards hold them, and
say so.

    make_shards(Path("data/trials"), range(40))
    trials = read_trials(Path("data/trials"), split="train")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import (
    WATCH,
    Dose,
    Patient,
    State,
    Treatment,
    World,
    independent_from_leads,
    limb_from_independent,
)
from ecg_gym.pharmacology import FORMULARY, Modulation

SPLITS = ("train", "validation", "test")
_CLOCK = ("clock.elapsed_hours", "clock.sine", "clock.cosine")
TRUTHS = ("hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtcf_ms", "jtpeak_ms", "tpeak_tend_ms")  # names of Intervals


@dataclass(frozen=True)
class TrialDesign:
    """What is tried on whom. Everything a shard holds follows from this and its number."""

    patients: int = 64  # per shard
    steps: int = 3  # transitions per patient
    dt_hours: tuple[float, ...] = (1.0, 1.0, 1.0, 2.0, 4.0)  # one is drawn per shard [h]
    watch: float = 0.2  # probability of giving nothing
    pair: float = 0.2  # probability of two drugs together
    levels: tuple[float, ...] = (0.5, 1.0, 1.0, 1.5, 2.0)  # factors on the menu's doses
    held_out_level: float = 0.75  # only in test shards
    held_out_pairs: int = 6  # one pair of drugs in this many is only in test shards
    held_out_share: float = 0.25  # of a test shard's doses and pairs
    seed: int = 2026


@dataclass(frozen=True)
class Trials:
    """N transitions. Strips are on the model grid, independent leads only."""

    before: np.ndarray  # (N, 8, 1024) float16 [mV]
    after: np.ndarray  # (N, 8, 1024) float16 [mV]
    features: np.ndarray  # (N, F) float32, raw, columns `feature_names`; epk.strength is 1 or 0
    trace: np.ndarray  # (N, 1024) float16 [mV] EPK; 0 where it abstains
    truth_before: np.ndarray  # (N, 7) float32, columns TRUTHS, by the virtual patient; NaN where there is none
    truth_after: np.ndarray  # (N, 7) float32
    treatment: np.ndarray  # (N,) str, what was given at the start of this step
    rhythm: np.ndarray  # (N,) str, of the strip before
    patient: np.ndarray  # (N,) int64, different in every shard
    hours: np.ndarray  # (N, 2) float64 [h] before and after
    held_out: np.ndarray  # (N,) bool: a dose level or a pair of drugs that training does not meet
    feature_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.patient)

    def __getitem__(self, rows: np.ndarray) -> Trials:
        chosen = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "feature_names"}
        return Trials(**chosen, feature_names=self.feature_names)


def split_of(shard: int) -> str:
    """The split a shard belongs to, by its number alone."""
    return {8: "validation", 9: "test"}.get(shard % 10, "train")


def make_shards(folder: Path, shards: Iterable[int], design: TrialDesign | None = None) -> Iterator[Path]:
    """Yields the path of each shard as it is there; those that exist are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        path = folder / f"trials_{shard:05d}.npz"
        if not path.exists():
            _write(path, make_shard(shard, design or TrialDesign()))
        yield path


def make_shard(shard: int, design: TrialDesign) -> Trials:
    """The transitions of one shard's patients; rows that end in death are left out."""
    from ecg_gym.virtual_patient import VirtualPatient

    rng = np.random.default_rng([design.seed, shard])
    world = VirtualPatient(dt_hours=float(rng.choice(design.dt_hours)))
    state = world.initial(design.patients, rng)
    parts = []
    for _ in range(design.steps):
        given, held_out = zip(*[draw_treatment(p, rng, design, split_of(shard)) for p in state.patients])
        later = world.step(state, given, rng)
        parts.append(_transitions(world, state, later, given, np.array(held_out), shard * design.patients))
        state = later
    return concatenate([part for part in parts if len(part)])


def draw_treatment(
    patient: Patient, rng: np.random.Generator, design: TrialDesign, split: str
) -> tuple[Treatment, bool]:
    """A treatment that the formulary allows this patient to be given, and whether it is held out from training.

    Contraindications do not matter here: a model that shall warn of a drug must have seen what it does.
    """
    if rng.random() < design.watch:
        return WATCH, False
    unusual = split == "test" and rng.random() < design.held_out_share
    drugs: Sequence[str] = (str(rng.choice(FORMULARY.names)),)
    if rng.random() < design.pair:
        pairs = [p for p in combinations(FORMULARY.names, 2) if is_held_out(p, design) == unusual]
        drugs = pairs[int(rng.integers(len(pairs)))]
    levels = (design.held_out_level,) if unusual and len(drugs) == 1 else design.levels
    return Treatment(tuple(_draw_dose(drug, patient, rng, levels) for drug in drugs)), unusual


def is_held_out(pair: Sequence[str], design: TrialDesign) -> bool:
    """Whether two drugs are given together in test shards only; by their names, so that a new drug changes no other."""
    return sum("+".join(sorted(pair)).encode()) % design.held_out_pairs == 0


def read_trials(folder: Path, split: str | None = None) -> Trials:
    """All transitions of a split (or of all three) that are in the folder."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {SPLITS}; check the spelling")
    paths = sorted(folder.glob("trials_*.npz"))
    chosen = [path for path in paths if split in (None, split_of(int(path.stem.split("_")[1])))]
    if not chosen:
        raise ValueError(
            f"{folder} holds no {split or 'trial'} shards; expected files trials_00000.npz and so on; "
            "make them with `ecg-gym train world-model`, or make_shards(folder, range(100))"
        )
    return concatenate([_read(path) for path in chosen])


def concatenate(parts: Sequence[Trials]) -> Trials:
    """Several sets of transitions in one, all with the same feature names."""
    if len({part.feature_names for part in parts}) != 1:
        raise ValueError(
            "shards disagree about their feature names; expected shards made with one formulary; remove the older ones"
        )
    names = [f.name for f in fields(Trials) if f.name != "feature_names"]
    return Trials(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        feature_names=parts[0].feature_names,
    )


def chains(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """First and last row ``(M,)`` of every run of two or more consecutive steps of one patient."""
    begins = {(int(p), float(h)): row for row, (p, h) in enumerate(zip(trials.patient, trials.hours[:, 0]))}
    follows = [begins.get((int(p), float(h)), -1) for p, h in zip(trials.patient, trials.hours[:, 1])]
    first, last, reached = [], [], follows
    while any(row >= 0 for row in reached):
        found = [row for row, then in enumerate(reached) if then >= 0]
        first += found
        last += [reached[row] for row in found]
        reached = [follows[then] if then >= 0 else -1 for then in reached]
    return np.array(first, dtype=int), np.array(last, dtype=int)


def skipping(trials: Trials, first: np.ndarray, last: np.ndarray) -> Trials:
    """Steps told as one, from the strip before row ``first`` to the strip after row ``last``: twice the pairs for free.

    The condition speaks of what is on board before and after, so it does not matter that a dose came in between. The
    EPK trace is solved anew.
    """
    from ecg_gym.world_model.conditioning import EPK_STRENGTH

    start, end, names = trials[first], trials[last], trials.feature_names
    raw = start.features.copy()
    later = [i for i, name in enumerate(names) if name.startswith("after.") or name in _CLOCK]
    raw[:, later] = end.features[:, later]
    raw[:, names.index("clock.step_hours")] = end.hours[:, 1] - start.hours[:, 0]
    trace, known = _traces_again(start.before, raw, names)
    raw[:, names.index(EPK_STRENGTH)] = known
    return replace(
        start,
        after=end.after,
        features=raw,
        trace=trace,
        truth_after=end.truth_after,
        treatment=np.array([f"{a} then {b}" for a, b in zip(start.treatment, end.treatment)]),
        hours=np.stack([start.hours[:, 0], end.hours[:, 1]], axis=1),
        held_out=start.held_out | end.held_out,
    )


def _traces_again(before: np.ndarray, raw: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """EPK traces ``(M, 1024)`` and whether there is one, out of stored strips and features."""
    from ecg_gym.physiology import epk_traces

    column = dict(zip(names, raw.T))
    then, now = (
        [
            Modulation(**{f.name: float(column[f"{when}.modulation.{f.name}"][i]) for f in fields(Modulation)})
            for i in range(len(raw))
        ]
        for when in ("before", "after")
    )
    intervals = [
        {"rr_ms": 60000.0 / rate, "p_present": bool(p), "regular": bool(regular)}
        for rate, p, regular in zip(column["measured.hr_bpm"], column["sign.p_present"], column["sign.regular"])
    ]
    parts = [
        epk_traces(limb_from_independent(before[c].astype(np.float32)), intervals[c], then[c], now[c])
        for c in (slice(start, start + 256) for start in range(0, len(raw), 256))
    ]
    return (
        np.concatenate([part.trace_mv for part in parts]).astype(np.float16),
        ~np.concatenate([part.abstained for part in parts]),
    )


def _draw_dose(drug: str, patient: Patient, rng: np.random.Generator, levels: Sequence[float]) -> Dose:
    """A usual dose times a level, or the usual dose itself where that would be above the maximum."""
    usual = FORMULARY.usual_doses(drug)
    dose = usual[int(rng.integers(len(usual)))]
    try:
        return FORMULARY.check(replace(dose, amount=dose.amount * float(rng.choice(levels))), patient)
    except ValueError:
        return dose


def _transitions(
    world: World, before: State, after: State, given: Sequence[Treatment], held_out: np.ndarray, first_patient: int
) -> Trials:
    from ecg_gym.physiology import epk_traces
    from ecg_gym.world_model.conditioning import (
        Step,
        feature_names,
        measure_strips,
        population_modulations,
        raw_features,
    )

    rows = np.flatnonzero(before.alive & after.alive)
    past, future = before[rows], after[rows]
    step = Step(past.patients, past.taken, future.taken, past.hours, future.hours)
    intervals = measure_strips(past.ecg)
    epk = epk_traces(past.ecg, [intervals.row(i) for i in range(len(rows))], *population_modulations(step))
    return Trials(
        before=independent_from_leads(past.ecg).astype(np.float16),
        after=independent_from_leads(future.ecg).astype(np.float16),
        features=raw_features(step, intervals, epk_strength=~epk.abstained),
        trace=epk.trace_mv.astype(np.float16),
        truth_before=_truths(world, past),
        truth_after=_truths(world, future),
        treatment=np.array([str(given[int(i)]) for i in rows]),
        rhythm=np.array([str(truth.rhythm) for truth in world.truth(past)]),  # type: ignore[attr-defined]
        patient=first_patient + rows.astype(np.int64),
        hours=np.stack([past.hours, future.hours], axis=1),
        held_out=held_out[rows],
        feature_names=feature_names(),
    )


def _truths(world: Any, state: State) -> np.ndarray:
    """What the virtual patient knows of its own strips, ``(B, 7)``."""
    rows = [[truth.intervals[name] for name in TRUTHS] for truth in world.truth(state)]
    return np.array(rows, dtype=np.float32).reshape(len(state), len(TRUTHS))


def _write(path: Path, trials: Trials) -> None:
    aside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        columns: dict[str, Any] = {f.name: np.asarray(getattr(trials, f.name)) for f in fields(Trials)}
        np.savez(aside, **columns)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path) -> Trials:
    with np.load(path, allow_pickle=False) as file:
        stored = {f.name: file[f.name] for f in fields(Trials)}
    return Trials(**{**stored, "feature_names": tuple(stored["feature_names"].tolist())})
