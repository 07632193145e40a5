"""``Trajectory``: the ECGs of one person in one period under one schedule of doses, in time; and the pairs among them.

Every source of real post-dose ECGs (a trial's table, a ``pairs.csv``) becomes trajectories, and trajectories become
shards. Pairs never leave a subject's period: (a) a baseline ECG with each later one of the same replicate number,
(b) an ECG with that of the next hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ecg_gym.core import Administration, Patient
from ecg_gym.real_trials.table import INTERVALS, TrialTable, patient_of

KINDS = ("baseline", "consecutive")


@dataclass(frozen=True)
class Strip:
    """One ECG of a trajectory."""

    record: Path  # without suffix
    hours: float  # [h] on the clock of the doses
    intervals: Mapping[str, float | None] = field(default_factory=dict)  # [ms] as published, by name of INTERVALS
    baseline: bool = False  # before the first dose
    weight: float = 1.0  # one over the replicates of its hour


@dataclass(frozen=True)
class Trajectory:
    """Strips of one person in time, and everything given to them."""

    source: str  # name of the trial or of the file
    subject: str  # whose strips stay on one side of a split, and together in a bootstrap
    arm: str  # as the protocol names it
    patient: Patient
    administrations: tuple[Administration, ...]  # on the clock of ``Strip.hours``
    strips: tuple[Strip, ...]  # in time
    period: int = 1
    replicate: int = 1
    control: bool = False  # placebo, or a drug that should do nothing
    side: str = ""  # "train", "validation" or "test" where the source says so

    @property
    def name(self) -> str:
        """Subject, period and replicate in one word."""
        return f"{self.subject}/{self.period}/{self.replicate}"


@dataclass(frozen=True)
class Pair:
    """An earlier and a later strip of one trajectory, by their place in it."""

    before: int
    after: int
    kind: str  # out of KINDS
    weight: float  # one over the replicates at the later hour


def trajectories_of(table: TrialTable) -> tuple[list[Trajectory], Counter[str]]:
    """The trajectories of a trial, and how many ECGs were left out by reason.

    One for each subject, period and replicate number. Arms whose doses are unknown are left out: a model cannot be
    conditioned on a name.
    """
    replicates = Counter((row["SUBJECT"], row["PERIOD"], row["TPT"]) for row in table.rows)
    groups: dict[tuple[str, int, int], list[int]] = {}
    left_out: Counter[str] = Counter()
    for place, row in enumerate(table.rows):
        if table.arm(row) is None:
            left_out[f"arm {row['EXTRT']}: the protocol holds no such arm, so its doses are unknown"] += 1
        else:
            groups.setdefault((row["SUBJECT"], row["PERIOD"], row["REPLICATE"]), []).append(place)
    trajectories = []
    for (subject, period, replicate), places in groups.items():
        rows = sorted((table.rows[place] for place in places), key=lambda row: float(row["TPT"]))
        arm = table.arm(rows[0])
        assert arm is not None
        strips = tuple(
            Strip(
                table.path(row),
                float(row["TPT"]),
                {name: row[name] for name in INTERVALS},
                row["BASELINE"] == "Y",
                1 / replicates[subject, period, row["TPT"]],
            )
            for row in rows
        )
        trajectories.append(
            Trajectory(
                table.name, subject, arm.name, patient_of(rows[0]), arm.administrations, strips, period, replicate,
                control=not arm.administrations,
            )
        )  # fmt: skip
    return trajectories, left_out


def pairs_of(trajectory: Trajectory) -> Iterator[Pair]:
    """The pairs of one trajectory, each once: baseline with every later strip, and each strip with the next."""
    strips = trajectory.strips
    first_dose = [place for place, strip in enumerate(strips) if not strip.baseline]
    pairs = set()
    for before, strip in enumerate(strips):
        for after in first_dose if strip.baseline else ():
            pairs.add((before, after))
            yield Pair(before, after, "baseline", strips[after].weight)
    for before, after in pairwise(range(len(strips))):
        if (before, after) not in pairs and strips[before].hours < strips[after].hours:
            yield Pair(before, after, "consecutive", strips[after].weight)


def count_pairs(trajectories: Iterable[Trajectory]) -> Counter[str]:
    """How many pairs there are of each kind."""
    return Counter(pair.kind for trajectory in trajectories for pair in pairs_of(trajectory))


def records_by_subject(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    """ECGs of every subject, in order of appearance."""
    counts: dict[str, int] = {}
    for trajectory in trajectories:
        counts[trajectory.subject] = counts.get(trajectory.subject, 0) + len(trajectory.strips)
    return counts
