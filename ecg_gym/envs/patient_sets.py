"""Whom agents are tested, tuned and trained on: frozen sets of patients, and streams of seeds that never meet.

    load_patients("test-v1").seeds("svt")        # 100 seeds of the scenario's env; nobody tunes on them
    stream("validation", 0, 50)                  # seeds to tune on; "train" to learn on: as many as are wanted
    private_twin(b"a secret").save(path)         # the same design, other patients, for whoever knows the secret

A patient of a set is a seed of the virtual patient's env (``ECGInterventionOracle-v0`` with the scenario), the kind of
person that it brings, and a hash of the first strip, which tells whether the virtual patient is still the one that the
set was frozen with. Kinds have quotas in proportion to their shares and are spread evenly, so that the first patients
of a set are a smaller set of the same design.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from ecg_gym.envs.scenarios import Scenario, load_scenarios, scenario_named
from ecg_gym.io import write_text
from ecg_gym.philox import fill_uniform
from ecg_gym.streams import SCENARIO, Streams

STREAM = 1_000_000_000  # seeds of a stream: [1, 2) x STREAM test, [2, 3) validation, [3, 4) train; none is in two
TEST, VALIDATION, TRAIN = 1, 2, 3
STREAMS = {"validation": VALIDATION, "train": TRAIN}
PRIVATE = 2**40  # seeds of private sets begin here, beyond all streams
USUAL = "usual"  # the kind of whoever is of no special one
PATIENTS = 100  # per scenario of a frozen set


@dataclass(frozen=True)
class SetPatient:
    """One patient of a set."""

    seed: int
    kind: str  # name of the scenario's kind, or "usual"
    strip: str  # hash of the first strip


@dataclass(frozen=True)
class PatientSet:
    """Patients by scenario."""

    name: str
    patients: Mapping[str, tuple[SetPatient, ...]]

    def seeds(self, scenario: str, n: int | None = None) -> tuple[int, ...]:
        """The seeds of the first ``n`` patients of a scenario, by default of all; ``ValueError`` if there are fewer."""
        rows = self.patients.get(scenario, ())
        if not rows or (n or 0) > len(rows):
            raise ValueError(
                f"{self.name} has {len(rows)} patients of {scenario!r} and {n or 'some'} were to be played; expected "
                f"one of {', '.join(self.patients)} and at most so many; lower --episodes"
            )
        return tuple(one.seed for one in rows[:n])

    @property
    def sha256(self) -> str:
        """Of the set's JSON without spaces."""
        return hashlib.sha256(json.dumps(self.to_json_dict(), separators=(",", ":")).encode()).hexdigest()

    def to_json_dict(self) -> dict[str, Any]:
        """Name, and per scenario a row ``[seed, kind, strip]`` for each patient."""
        rows = {scenario: [[p.seed, p.kind, p.strip] for p in part] for scenario, part in self.patients.items()}
        return {"name": self.name, "scenarios": rows}

    def save(self, path: Path) -> None:
        """Writes the set as JSON, a line per patient."""
        parts = [
            f'  "{scenario}": [\n' + ",\n".join(f"   {json.dumps(row)}" for row in rows) + "\n  ]"
            for scenario, rows in self.to_json_dict()["scenarios"].items()
        ]
        write_text(path, f'{{"name": {json.dumps(self.name)}, "scenarios": {{\n' + ",\n".join(parts) + "\n}}\n")


@lru_cache(maxsize=8)
def load_patients(name: str) -> PatientSet:
    """The packaged set of that name, or the one at a path; ``ValueError`` where there is none."""
    packaged = Path(__file__).parent / f"{name}.json"
    path = packaged if packaged.is_file() else Path(name)
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in Path(__file__).parent.glob("test-*.json"))) or "none yet"
        raise ValueError(
            f"split is {name!r}; expected a packaged set ({there}), {' or '.join(STREAMS)}, or the path of a set that "
            "`ecg-gym data patients` wrote; check the spelling"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        rows = {s: tuple(SetPatient(*row) for row in part) for s, part in value["scenarios"].items()}
        return PatientSet(str(value["name"]), rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is no set of patients ({type(error).__name__}: {error}); expected the JSON that `ecg-gym data "
            "patients` writes; make it again"
        ) from error


def stream(split: str, start: int, n: int) -> tuple[int, ...]:
    """``n`` seeds of a stream from its ``start``-th on, whatever kinds they bring; ``ValueError`` for another split."""
    if split not in STREAMS or start < 0 or n < 0 or start + n > STREAM:
        raise ValueError(
            f"split, start, n are {split!r}, {start}, {n}; expected one of {', '.join(STREAMS)} and seeds within "
            f"{STREAM:,}; use load_patients for a test set"
        )
    return tuple(STREAMS[split] * STREAM + start + i for i in range(n))


def make_patients(
    name: str,
    scenarios: Sequence[str] | None = None,
    n: int = PATIENTS,
    candidates: Callable[[str], Iterator[int]] | None = None,
    progress: Callable[[str], None] = lambda scenario: None,
) -> PatientSet:
    """A set of ``n`` patients per scenario, the first of the ``candidates`` (default: the test stream) in quota."""
    patients = {}
    for scenario in scenarios or load_scenarios():
        row = scenario_named(scenario)
        seeds = _in_quota(row, n, candidates(scenario) if candidates else count(TEST * STREAM))
        strips = first_strips(scenario, [seed for seed, _ in seeds])
        patients[scenario] = tuple(SetPatient(seed, kind, strip) for (seed, kind), strip in zip(seeds, strips))
        progress(scenario)
    return PatientSet(name, patients)


def private_twin(secret: bytes, of: str = "test-v1", n: int | None = None) -> PatientSet:
    """A set of the same scenarios, sizes and quotas as ``of`` with other patients, which follow from the ``secret``.

    The seeds are HMAC-SHA256 (RFC 2104) of scenario and number under the secret; the name tells a hash of them.
    """
    model = load_patients(of)

    def candidates(scenario: str) -> Iterator[int]:
        for i in count():
            digest = hmac.new(secret, f"{of}/{scenario}/{i}".encode(), hashlib.sha256).digest()
            yield PRIVATE + int.from_bytes(digest[:5], "big")

    size = n or len(next(iter(model.patients.values())))
    twin = make_patients(of, tuple(model.patients), size, candidates)
    return PatientSet(f"private-{twin.sha256[:12]}", twin.patients)


def kinds(scenario: Scenario, seeds: Sequence[int]) -> list[str]:
    """The kind of person that each seed of the scenario's env brings."""
    keys = [seeding.np_random(seed)[0].integers(0, 2**64, 2, dtype=np.uint64) for seed in seeds]
    here = Streams.start(np.array(keys, np.uint64).reshape(-1, 2)).at(SCENARIO)
    u = np.empty((len(seeds), 1))
    fill_uniform(here.key, here.counter, u)
    names = [*(kind.name for kind in scenario.kinds), USUAL]
    upto = np.append(np.cumsum([kind.share for kind in scenario.kinds]), 1.0)
    return [names[min(place, len(names) - 1)] for place in np.searchsorted(upto, u[:, 0], side="right")]


def first_strips(scenario: str, seeds: Sequence[int]) -> list[str]:
    """A hash of the first strip of each seed, rounded to 1 uV."""
    import gymnasium as gym

    envs = gym.make_vec(
        "ecg_gym:ECGInterventionOracle-v0", num_envs=len(seeds), scenario=scenario, risk="limits", fidelity="vitals"
    )
    each: Any = list(seeds)  # a list is what Gymnasium takes and does not type
    envs.reset(seed=each)
    strips = envs.unwrapped.episode.state.ecg  # type: ignore[attr-defined]
    envs.close()
    return [strip_hash(strip) for strip in strips]


def strip_hash(strip: np.ndarray) -> str:
    """Sixteen digits of the SHA-256 of a strip ``(12, 1024)`` [mV] in whole uV."""
    return hashlib.sha256(np.rint(1000 * strip).astype("<i2").tobytes()).hexdigest()[:16]


def quotas(scenario: Scenario, n: int) -> dict[str, int]:
    """How many of ``n`` patients are of each kind, by their shares (largest remainders)."""
    shares = {kind.name: kind.share for kind in scenario.kinds}
    shares[USUAL] = max(0.0, 1 - sum(shares.values()))
    result = {name: int(n * share + 1e-9) for name, share in shares.items()}
    rest = sorted(shares, key=lambda name: result[name] - n * shares[name])
    for name in rest[: n - sum(result.values())]:
        result[name] += 1
    return result


def _in_quota(scenario: Scenario, n: int, candidates: Iterator[int]) -> list[tuple[int, str]]:
    """The first candidates of each kind, as many as its quota, kinds spread evenly."""
    quota = quotas(scenario, n)
    counts = dict.fromkeys(quota, 0)
    picks: list[tuple[float, str, int]] = []  # place within the kind, kind, seed
    while len(picks) < n:
        block = [next(candidates) for _ in range(n)]
        for seed, kind in zip(block, kinds(scenario, block)):
            if counts[kind] < quota[kind]:
                counts[kind] += 1
                picks.append(((counts[kind] - 0.5) / quota[kind], kind, seed))
    return [(seed, kind) for _, kind, seed in sorted(picks)]
