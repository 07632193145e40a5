"""The episode rule: an ECG before the first dose of a drug in an admission, and the first ECG in its window after.

    episodes, attrition = find_episodes(Hospital(Path("mimiciv/3.1"), Path("mimic-iv-ecg/1.0")), load_rule())
    write_episodes(episodes, rule, Path("episodes/pairs.csv"))

Every step of the rule is counted, so that a reader sees whom it loses. Episodes of heparin or saline are found by the
same rule and are negative controls. What comes out is a ``pairs.csv`` for the user's own machine.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_gym.core import Administration
from ecg_gym.io import write_text
from ecg_gym.real_trials.mimic_doses import HospitalDose, administrations
from ecg_gym.real_trials.mimic_people import facts_of
from ecg_gym.real_trials.mimic_tables import Hospital, Rule, hours_of, machine_intervals
from ecg_gym.real_trials.pairs_csv import write_pairs
from ecg_gym.real_trials.timed_doses import timed_dose


@dataclass(frozen=True)
class Recording:
    """One ECG of the hospital."""

    hours: float  # since 1970
    path: str  # below the folder of MIMIC-IV-ECG
    paced: bool
    measurable: bool  # the machine found a rhythm


@dataclass(frozen=True)
class Episode:
    """One pair of ECGs and what was given."""

    subject: str
    arm: str
    control: bool
    before: Recording
    after: Recording
    doses: tuple[HospitalDose, ...]  # with a dose, from the history to the ECG after
    patient: Mapping[str, Any]  # columns of pairs.csv
    clock_hours: float  # of the ECG before, after 8 o'clock


def find_episodes(hospital: Hospital, rule: Rule) -> tuple[list[Episode], dict[str, int]]:
    """All episodes and the attrition: what is left after each step, in order."""
    recordings = _recordings(hospital, rule)
    attrition = {"ECGs": sum(map(len, recordings.values())), "people with ECGs": len(recordings)}
    doses, losses = administrations(hospital, rule, set(recordings))
    attrition |= {f"doses lost: {reason}": number for reason, number in sorted(losses.items())}
    attrition["doses understood"] = len(doses)
    by_subject: dict[str, list[HospitalDose]] = defaultdict(list)
    for dose in doses:
        by_subject[dose.subject].append(dose)
    first = _first_doses(doses)
    attrition["first doses of a drug in an admission"] = len(first)
    steps: Counter[str] = Counter()
    ventilated = _ventilation(hospital, rule) if rule["windows"]["ventilation"] else {}
    candidates = []
    for index in first:
        pair = _pair(index, recordings[index.subject], rule, steps)
        if pair and _keeps(index, pair, by_subject[index.subject], ventilated, steps):
            candidates.append((index, pair))
    people = facts_of(hospital, rule, [index for index, _ in candidates])
    episodes = _joined([_episode(*row, by_subject[row[0].subject], people, rule) for row in candidates])
    for step in ("with an ECG before", "with an ECG after", "without pacing", "measurable", "with steady ventilation",
                 "controls without other drugs"):  # fmt: skip
        attrition[step] = steps[step]
    attrition["episodes"] = len(episodes)
    attrition["of them negative controls"] = sum(episode.control for episode in episodes)
    attrition["people with episodes"] = len({episode.subject for episode in episodes})
    return episodes, attrition


def write_episodes(episodes: Sequence[Episode], rule: Rule, ecg: Path, path: Path) -> None:
    """``pairs.csv`` and, beside it, the notices that go with everything made of it."""
    rows = []
    for episode in episodes:
        start = episode.before.hours
        doses = [timed_dose(Administration(round(g.hours - start, 4), g.dose)) for g in episode.doses if g.dose]
        rows.append({
            "record_before": ecg.absolute() / episode.before.path, "record_after": ecg.absolute() / episode.after.path,
            "hours_between": round(episode.after.hours - start, 4), "subject": f"mimic-{episode.subject}",
            "doses": "; ".join(doses), "arm": episode.arm, "control": "yes" if episode.control else "no",
            "clock_hours": round(episode.clock_hours, 4), **episode.patient,
        })  # fmt: skip
    write_pairs(path, rows)
    write_text(path.with_suffix(".notice.txt"), "\n".join(rule["notices"]) + "\n")


def _recordings(hospital: Hospital, rule: Rule) -> dict[str, list[Recording]]:
    """Every ECG by person, in time."""
    paced, unmeasurable = set(), set()
    for cells in hospital.rows("machine_measurements", required=False):
        lines = " | ".join(cells.get(f"report_{i}") or "" for i in range(18)).lower()
        if any(re.search(pattern, lines) for pattern in rule["paced"]):
            paced.add(cells["study_id"])
        if machine_intervals(cells, rule)["RR"] is None:
            unmeasurable.add(cells["study_id"])
    recordings: dict[str, list[Recording]] = defaultdict(list)
    for cells in hospital.rows("record_list"):
        hours, study = hours_of(cells["ecg_time"]), cells["study_id"]
        if hours is not None:
            recordings[cells["subject_id"]].append(
                Recording(hours, cells["path"], study in paced, study not in unmeasurable)
            )
    return {subject: sorted(own, key=lambda recording: recording.hours) for subject, own in recordings.items()}


def _first_doses(doses: Sequence[HospitalDose]) -> list[HospitalDose]:
    """The first dose of each drug in each admission."""
    first: dict[tuple[str, str, str], HospitalDose] = {}
    for dose in doses:
        first.setdefault((dose.subject, dose.admission, dose.drug), dose)
    return list(first.values())


def _pair(
    index: HospitalDose, recordings: Sequence[Recording], rule: Rule, steps: Counter[str]
) -> tuple[Recording, Recording] | None:
    """The last ECG before a dose and the first in its window after."""
    times = [recording.hours for recording in recordings]
    last = bisect_right(times, index.hours) - 1
    if last < 0 or times[last] < index.hours - rule["windows"]["before"]:
        return None
    steps["with an ECG before"] += 1
    opens, closes = rule["windows"]["after"].get(index.route, (0.0, -1.0))
    after = bisect_left(times, index.hours + opens)
    if after >= len(times) or times[after] > index.hours + closes:
        return None
    steps["with an ECG after"] += 1
    return recordings[last], recordings[after]


def _keeps(
    index: HospitalDose, pair: tuple[Recording, Recording], doses: Sequence[HospitalDose],
    ventilated: Mapping[str, Sequence[float]], steps: Counter[str],
) -> bool:  # fmt: skip
    """Whether an episode is not excluded; each step that it passes is counted."""
    before, after = pair
    if before.paced or after.paced:
        return False
    steps["without pacing"] += 1
    if not (before.measurable and after.measurable):
        return False
    steps["measurable"] += 1
    if any(before.hours < change < after.hours for change in ventilated.get(index.subject, ())):
        return False
    steps["with steady ventilation"] += 1
    if index.control and any(not g.control and before.hours - 1 < g.hours < after.hours for g in doses):
        return False
    steps["controls without other drugs"] += 1
    return True


def _ventilation(hospital: Hospital, rule: Rule) -> dict[str, list[float]]:
    """When ventilation began or ended, by person."""
    items = {str(item) for item in rule["ventilation_items"]}
    changes: dict[str, list[float]] = defaultdict(list)
    for cells in hospital.rows("icu/procedureevents", required=False):
        if cells["itemid"] in items:
            times = (hours_of(cells["starttime"]), hours_of(cells["endtime"]))
            changes[cells["subject_id"]] += [time for time in times if time is not None]
    return changes


def _episode(
    index: HospitalDose, pair: tuple[Recording, Recording], doses: Sequence[HospitalDose],
    people: Mapping[tuple[str, float], Mapping[str, Any]], rule: Rule,
) -> Episode:  # fmt: skip
    before, after = pair
    since = before.hours - rule["windows"]["history"]
    history = tuple(g for g in doses if g.dose is not None and since <= g.hours < after.hours)
    between = dict.fromkeys(g.drug for g in history if g.hours >= before.hours and not g.control)
    name = index.drug or "saline"
    arm = f"control: {name}" if index.control else " + ".join(between)
    arm += " (prescribed)" if index.source == "prescription" else ""
    clock = (before.hours % 24) - 8
    return Episode(index.subject, arm, index.control, before, after, history, people[index.subject, index.hours], clock)


def _joined(episodes: Sequence[Episode]) -> list[Episode]:
    """One episode for each pair of ECGs: drugs begun between the same two ECGs are one treatment."""
    by_pair: dict[tuple[str, str], Episode] = {}
    for episode in episodes:
        key = (episode.before.path, episode.after.path)
        if key not in by_pair or (by_pair[key].control and not episode.control):
            by_pair[key] = episode
    return list(by_pair.values())
