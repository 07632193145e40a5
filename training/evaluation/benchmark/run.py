"""``run(protocol, agents, folder)`` plays every episode that has no row yet, in parallel, and yields as rows come in.

The driver alone reads and writes files; workers get and give plain values, so they may sit on other machines. Whatever
was done is kept: the same command goes on after any interruption, and a longer one adds to it.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecg_gym.executor import Executor
from ecg_gym.io import write_bytes
from training.evaluation.benchmark.agents import contestants
from training.evaluation.benchmark.base import Contestant, Setting
from training.evaluation.benchmark.episodes import made, play
from training.evaluation.benchmark.protocol import MODEL, TRUTH, Protocol, canonical
from training.evaluation.benchmark.storage import Cell, Key, Row
from training.revision import git_revision

Stored = dict[tuple[str, str], dict[Key, Row]]  # (scenario, agent) -> its rows
BLOCK = 4  # episodes of everybody before anybody's next: a run that is stopped early is still a comparison


@dataclass(frozen=True)
class Job:
    """One thing to do in a worker: an episode, or (``world`` empty) the preparation of an agent."""

    protocol: Protocol
    scenario: str
    agent: str
    seed: int
    world: str = ""
    episode: int = 0
    artefact: bytes = b""
    scratch: str = ""

    @property
    def preparation(self) -> tuple[str, str, int]:
        """What an episode must wait for, if the agent has to learn something first."""
        return self.scenario, self.agent, self.seed


def do(job: Job) -> Any:
    """The row of an episode, or what a preparation brought: ``(bytes, dict)``."""
    (who,) = contestants([job.agent])
    setting = Setting(job.protocol, job.scenario, job.seed, job.artefact)
    if not job.world:
        assert who.prepare is not None
        return who.prepare(setting, who.settings, Path(job.scratch))
    env = made(job.world, canonical(job.protocol.arguments(job.scenario, job.world)))
    agent = who.make(env, setting, who.settings)
    row = {"scenario": job.scenario, "agent": job.agent, "world": job.world, "seed": job.seed, "episode": job.episode}
    return {**row, **play(env, agent, job.protocol.seed(job.seed, job.episode))}


def expected_rows(protocol: Protocol, who: Contestant) -> Iterator[Key]:
    """The rows of an agent in one scenario: world, seed, episode."""
    episodes, inside = (math.ceil(who.share * n) for n in (protocol.episodes, protocol.inside if who.inside else 0))
    for seed in range(protocol.seeds):
        yield from ((TRUTH, seed, episode) for episode in range(episodes))
        yield from ((MODEL, seed, episode) for episode in range(inside))


def cells(protocol: Protocol, agents: Sequence[Contestant], folder: Path) -> dict[tuple[str, str, bool], Cell]:
    """The cells of every (scenario, agent): of rows that depend on the learned model, and of those that do not."""
    return {
        (scenario, who.name, learned): Cell.of(folder, protocol, scenario, who.name, who.settings, learned)
        for scenario in protocol.scenarios
        for who in agents
        for learned in (False, True)
        if learned or not who.learned
    }


def stored(protocol: Protocol, agents: Sequence[Contestant], folder: Path) -> Stored:
    """The rows there are of those that are wanted, by (scenario, agent)."""
    result: Stored = {(scenario, who.name): {} for scenario in protocol.scenarios for who in agents}
    for (scenario, name, learned), cell in cells(protocol, agents, folder).items():
        (who,) = contestants([name])
        rows = cell.rows()
        mine = [key for key in expected_rows(protocol, who) if depends(who, key[0]) == learned and key in rows]
        result[scenario, name] |= {key: rows[key] for key in mine}
    return result


def depends(who: Contestant, world: str) -> bool:
    """Whether rows of an agent in a world (empty: what it learns) depend on the learned model."""
    return who.learned or world == MODEL


def lessons(protocol: Protocol, agents: Sequence[Contestant], folder: Path) -> dict[str, dict[str, list[Any]]]:
    """What is known of everything that was learned: ``[scenario][agent]``, one entry per seed."""
    result: dict[str, dict[str, list[Any]]] = {}
    for (scenario, name, _), cell in cells(protocol, agents, folder).items():
        row = [cell.artefact(seed).with_suffix(".json") for seed in range(protocol.seeds)]
        if known := [json.loads(path.read_text()) for path in row if path.is_file()]:
            result.setdefault(scenario, {})[name] = known
    return result


def missing(protocol: Protocol, agents: Sequence[Contestant], folder: Path) -> list[Job]:
    """The episodes that have no row yet: a few of everybody at a time, cheap agents first, those on a share last."""
    there = stored(protocol, agents, folder)
    jobs = [
        (who.share < 1, episode // BLOCK, who.effort, place, seed, episode,
         Job(protocol, scenario, who.name, seed, world, episode))
        for place, scenario in enumerate(protocol.scenarios)
        for who in agents
        for world, seed, episode in expected_rows(protocol, who)
        if (world, seed, episode) not in there[scenario, who.name]
    ]  # fmt: skip
    return [job for *_, job in sorted(jobs, key=lambda entry: entry[:-1])]


def run(
    protocol: Protocol,
    agents: Sequence[Contestant],
    folder: Path,
    executor: Executor,
    go_on: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[int, int, Row]]:
    """Yields ``(done, total, row)`` after every episode, the row already on the disk; begins none once not ``go_on()``.

    An agent that has to learn does so when its first episode comes up; what it learned is kept beside its rows.
    """
    places = cells(protocol, agents, folder)
    for cell in places.values():
        cell.mend()
    waiting = deque(missing(protocol, agents, folder))
    done, total = 0, len(waiting)
    learned: dict[tuple[str, str, int], bytes] = {}
    learning: set[tuple[str, str, int]] = set()
    held: list[Job] = []  # episodes whose agent is still learning
    revision = git_revision()
    while waiting or held or executor.busy:
        if not go_on():
            waiting.clear()
            held.clear()
        while waiting and executor.free:
            job = waiting.popleft()
            (who,) = contestants([job.agent])
            cell = places[job.scenario, job.agent, who.learned]
            if who.prepare is None:
                executor.submit(do, job)
                continue
            need = job.preparation
            if need not in learned and cell.artefact(job.seed).is_file():
                learned[need] = cell.artefact(job.seed).read_bytes()
            if need in learned:
                executor.submit(do, replace(job, artefact=learned[need]))
                continue
            held.append(job)
            if need not in learning:
                learning.add(need)
                executor.submit(
                    do, Job(protocol, job.scenario, job.agent, job.seed, scratch=str(cell.scratch(job.seed)))
                )
        if not executor.busy:
            break
        job, result = executor.next()
        (who,) = contestants([job.agent])
        cell = places[job.scenario, job.agent, depends(who, job.world)]
        if not job.world:
            content, record = result
            described = {"agent": job.agent, "scenario": job.scenario, "seed": job.seed, "revision": revision, **record}
            write_bytes(cell.artefact(job.seed).with_suffix(".json"), (json.dumps(described) + "\n").encode())
            write_bytes(cell.artefact(job.seed), content)
            waiting.extendleft(reversed([one for one in held if one.preparation == job.preparation]))
            held = [one for one in held if one.preparation != job.preparation]
            continue
        row = {**result, "revision": revision}
        cell.append(row)
        done += 1
        yield done, total, row


def replay(protocol: Protocol, agents: Sequence[Contestant], folder: Path, n: int) -> int:
    """Plays the first ``n`` stored episodes of every cell again and counts them: rows of older code must still be true.

    Raises ``ValueError`` for the first whose treatments or rewards are not those of the row. Agents that imagine in a
    network repeat exactly only on the same kind of processor.
    """
    played = 0
    for (scenario, name), rows in stored(protocol, agents, folder).items():
        (who,) = contestants([name])
        for (world, seed, episode), row in list(rows.items())[:n]:
            cell = cells(protocol, [who], folder)[scenario, name, who.learned]
            artefact = cell.artefact(seed).read_bytes() if who.prepare is not None else b""
            again = do(Job(protocol, scenario, name, seed, world, episode, artefact))
            if (again["treatments"], again["rewards"]) != (row["treatments"], row["rewards"]):
                raise ValueError(
                    f"{cell.path} says {row['return']:.6f} for episode {episode} ({world}, by {row['revision']}), "
                    f"played again it is {again['return']:.6f}; expected the same; the code has changed what happens: "
                    "begin anew with another --out"
                )
            played += 1
    return played
