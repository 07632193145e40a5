"""``evaluate``: a policy treats the patients of a split, some at a time, in parallel; every patient is a row on disk.

Patients are played in blocks of fixed size, so that a block that is played again, here or elsewhere, is the same to the
last bit on the same kind of processor. The driver alone reads and writes files.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.envs.patient_sets import STREAMS, PatientSet, load_patients, stream, strip_hash
from ecg_gym.envs.scenarios import load_scenarios, scenario_named
from ecg_gym.executor import Executor
from ecg_gym.registration import SCENARIOS
from training.evaluation.benchmark.hashes import canonical, digest, risk_sha256, tables_sha256
from training.evaluation.benchmark.policies import Policy, load_policy

BLOCK = 10  # patients that are played as one batch
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Who is treated, how it is judged, and by how many training seeds: what two results must share to be compared."""

    split: str = "test-v1"
    scenarios: tuple[str, ...] = field(default_factory=lambda: tuple(load_scenarios()))
    episodes: int = 100  # patients per scenario
    start: int = 0  # of a stream: its first seed
    tier: str = "variation"
    risk: str = "adverse"
    fidelity: str = "strip"  # what is judged: "strip", or "vitals" for a quick look

    def __post_init__(self) -> None:
        for name in self.scenarios:
            scenario_named(name)  # raises with the names there are
        if not self.scenarios or len(set(self.scenarios)) < len(self.scenarios) or self.episodes < 2:
            raise ValueError(
                f"scenarios are {self.scenarios} and episodes {self.episodes}; expected some scenarios, each once, and "
                "at least two patients; pass --episodes 100"
            )
        self.seeds(self.scenarios[0])

    @cached_property
    def patients(self) -> PatientSet | None:
        """The frozen set; None for a stream."""
        return None if self.split in STREAMS else load_patients(self.split)

    def seeds(self, scenario: str) -> tuple[int, ...]:
        """The seeds of the scenario's env, one per patient."""
        if self.patients is None:
            return stream(self.split, self.start, self.episodes)
        return self.patients.seeds(scenario, self.episodes)

    def kinds(self, scenario: str) -> tuple[str, ...]:
        """The kind of each patient."""
        if self.patients is None:
            from ecg_gym.envs.patient_sets import kinds

            return tuple(kinds(scenario_named(scenario), self.seeds(scenario)))
        return tuple(one.kind for one in self.patients.patients[scenario][: self.episodes])

    def to_json_dict(self) -> dict[str, Any]:
        """Everything that a row depends on besides the policy."""
        return {
            "split": self.split if self.patients is None else self.patients.name,
            "split_sha256": "" if self.patients is None else self.patients.sha256,
            "scenarios": list(self.scenarios),
            "episodes": self.episodes,
            "start": self.start,
            "tier": self.tier,
            "fidelity": self.fidelity,
            "risk_sha256": risk_sha256(self.risk),
            "tables_sha256": tables_sha256(),
            "package": importlib.metadata.version("ecg-gym"),
        }

    @property
    def sha256(self) -> str:
        """Of the canonical JSON."""
        return digest(self.to_json_dict())

    @property
    def rules_sha256(self) -> str:
        """The same but for how many patients of which scenarios: rows of one such hash go together."""
        sizes = ("scenarios", "episodes")
        return digest({key: value for key, value in self.to_json_dict().items() if key not in sizes})


@dataclass(frozen=True)
class Job:
    """One block of patients."""

    evaluation: Evaluation
    policy: Any  # words, or in this process an object
    model: str
    scenario: str
    training_seed: int
    first: int  # place of its first patient in the split


def play(job: Job) -> list[dict[str, Any]]:
    """The rows of a block: everything that happened to each patient, in plain JSON.

    ``risk_hours`` is minus the reward of each step times its hours, summed, so that a death counts with what it costs;
    ``harm`` is the sum of ``info["cost"]`` times hours.
    """
    evaluation, scenario = job.evaluation, job.scenario
    places = range(job.first, min(job.first + BLOCK, evaluation.episodes))
    seeds = [evaluation.seeds(scenario)[i] for i in places]
    kinds = [evaluation.kinds(scenario)[i] for i in places]
    policy = load_policy(job.policy, job.training_seed, job.model)
    envs = gym.make_vec(
        f"ECGOracle/{SCENARIOS[scenario]}-v0", num_envs=len(seeds), risk=evaluation.risk, tier=evaluation.tier,
        fidelity=evaluation.fidelity, autoreset_mode="SameStep",
    )  # fmt: skip
    each: Any = seeds  # a list is what Gymnasium takes and does not type
    observations, _ = envs.reset(seed=each)
    inner: Any = envs.unwrapped
    strips = [strip_hash(strip) for strip in inner.episode.state.ecg]
    actor = policy.make(envs, kinds, int(np.random.SeedSequence([job.training_seed, seeds[0]]).generate_state(1)[0]))
    rows: list[dict[str, Any]] = [
        {"scenario": scenario, "training_seed": job.training_seed, "patient": place, "seed": seed, "kind": kind,
         "strip": strip, "risk_hours": 0.0, "harm": 0.0, "died": False, "model_calls": 0, "refused": 0,
         "rewards": [], "treatments": []}
        for place, seed, kind, strip in zip(places, seeds, kinds, strips)
    ]  # fmt: skip
    going = np.ones(len(seeds), bool)
    while going.any():
        living = np.flatnonzero(going)
        choices, calls = actor.actions(living.tolist(), observations)
        actions = np.array([np.zeros_like(choices[0])] * len(seeds))
        actions[living] = choices
        hours = np.full(len(seeds), float(inner.world.dt_hours))
        if inner.episode.state.dt_hours is not None:
            hours = np.asarray(inner.episode.state.dt_hours, float).copy()
        observations, rewards, terminated, truncated, info = envs.step(actions)
        over = terminated | truncated
        for i, row in enumerate(living):
            last = info["final_info"] if over[row] else info
            one = rows[row]
            one["rewards"].append(round(float(rewards[row]), 6))
            one["treatments"].append(str(last["treatment"][row]))
            one["risk_hours"] -= float(rewards[row]) * hours[row]
            one["harm"] += float(last["cost"][row]) * hours[row]
            one["refused"] += int(last["invalid_action"][row])
            one["model_calls"] += calls[i]
            one["died"] = not bool(last["alive"][row])
        going &= ~over
    envs.close()
    return rows


class Rows:
    """The rows of one policy under one evaluation on disk: one JSON object per line, on disk as its block ends."""

    def __init__(self, folder: Path, evaluation: Evaluation, policy: Policy) -> None:
        name = "".join(c if c.isalnum() else "-" for c in policy.name)[:40]
        self.path = folder / evaluation.rules_sha256[:12] / f"{name}-{policy.sha256[:12]}.jsonl"

    def read(self) -> dict[tuple[str, int, int], Row]:
        """The rows there are by scenario, training seed and patient; a last line without an end is not one."""
        if not self.path.is_file():
            return {}
        rows = [json.loads(line) for line in whole_lines(self.path.read_bytes())]
        return {(row["scenario"], row["training_seed"], row["patient"]): row for row in rows}

    def append(self, rows: Sequence[Row]) -> None:
        """More rows; a last line that was cut before is dropped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = b"".join(line + b"\n" for line in whole_lines(self.path.read_bytes())) if self.path.is_file() else b""
        if self.path.is_file() and len(text) < self.path.stat().st_size:
            self.path.write_bytes(text)
        with self.path.open("ab") as file:
            file.write("".join(canonical(row) + "\n" for row in rows).encode())


def whole_lines(text: bytes) -> list[bytes]:
    """The lines that were written to their end, without it."""
    return text.split(b"\n")[:-1]


@dataclass(frozen=True)
class Entry:
    """A policy that is to be evaluated, by so many training seeds."""

    policy: Any
    seeds: int = 1
    model: str = "model"
    episodes: int | None = None  # patients per scenario; default all of the evaluation

    def loaded(self, training_seed: int = 0) -> Policy:
        """The policy of a training seed."""
        return load_policy(self.policy, training_seed, self.model)


def jobs(evaluation: Evaluation, entry: Entry, folder: Path) -> list[Job]:
    """The blocks of which a row is missing, the first patients of every scenario first."""
    n = min(entry.episodes or evaluation.episodes, evaluation.episodes)
    result = []
    for seed in range(entry.seeds):
        there = Rows(folder, evaluation, entry.loaded(seed)).read()
        for first in range(0, n, BLOCK):
            for scenario in evaluation.scenarios:
                places = range(first, min(first + BLOCK, n))
                if any((scenario, seed, place) not in there for place in places):
                    result.append(Job(evaluation, entry.policy, entry.model, scenario, seed, first))
    return sorted(result, key=lambda job: job.first)


def evaluate(
    evaluation: Evaluation,
    entries: Sequence[Entry],
    folder: Path,
    staff: Executor,
    go_on: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[int, int]]:
    """Plays what is missing; yields ``(patients done, patients in all)`` after every block, its rows on the disk.

    No block begins once not ``go_on()``; the same call goes on later.
    """
    waiting = [(job, entry) for entry in entries for job in jobs(evaluation, entry, folder)]
    waiting.sort(key=lambda pair: pair[0].first)
    stores = {
        (id(entry), seed): Rows(folder, evaluation, entry.loaded(seed))
        for entry in entries
        for seed in range(entry.seeds)
    }
    owner = {id(job): stores[id(entry), job.training_seed] for job, entry in waiting}
    done, total = 0, sum(min(BLOCK, evaluation.episodes - job.first) for job, _ in waiting)
    queue = [job for job, _ in waiting]
    while queue or staff.busy:
        if not go_on():
            queue.clear()
        while queue and staff.free:
            staff.submit(play, queue.pop(0))
        if not staff.busy:
            break
        job, rows = staff.next()
        present = owner[id(job)].read()
        owner[id(job)].append(
            [row for row in rows if (row["scenario"], row["training_seed"], row["patient"]) not in present]
        )
        done += len(rows)
        yield done, total


def table(evaluation: Evaluation, entry: Entry, folder: Path) -> dict[str, list[list[Row]]]:
    """Per scenario the rows ``[training seed][patient]`` of the patients that every training seed has played."""
    rows: dict[tuple[str, int, int], Row] = {}
    for seed in range(entry.seeds):
        rows |= Rows(folder, evaluation, entry.loaded(seed)).read()
    result = {}
    for scenario in evaluation.scenarios:
        there = [
            place
            for place in range(evaluation.episodes)
            if all((scenario, seed, place) in rows for seed in range(entry.seeds))
        ]
        result[scenario] = [[rows[scenario, seed, place] for place in there] for seed in range(entry.seeds)]
    return result
