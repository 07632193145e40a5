"""``Protocol``: what every agent is asked, as one JSON object with a hash. Two runs compare only if their hashes agree.

What a single episode depends on (the *rules* of its scenario) is hashed apart and names the folder of its rows, so that
rows of different rules never mix, while more episodes, more agents or another bootstrap reuse the rows there are. What
happens in the virtual patient to an agent that never met the learned model does not depend on that model: such rows
outlive its weights.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import ecg_gym
from ecg_gym.envs.loading import load_risk, load_world
from ecg_gym.envs.observability import tier_named
from ecg_gym.envs.scenarios import scenario_named
from planners.plan import jsonable

TRUTH, MODEL = "truth", "model"  # where an episode happens
IDS = {TRUTH: "ECGInterventionOracle-v0", MODEL: "ECGIntervention-v0"}
STREAM = 1_000_000_000  # seeds of the env: [1, 2) x STREAM judge, [2, 3) x tune, [3, 4) x train; none is in two
JUDGED, TUNED, TRAINED = 1, 2, 3
PATIENTS_PER_SEED = 100_000  # most episodes of one evaluation seed
TABLES = ("pharmacology", "risk", "virtual_patient")  # packages whose YAML and JSON tables judge and are the truth
FAST = {"sampler": "student", "steps": 2}  # of the learned model: within 3 % of its best CRPS, three times as fast


@dataclass(frozen=True)
class Protocol:
    """Who is treated, for how long, judged by what; and how the answers are summed up."""

    scenarios: tuple[str, ...]
    episodes: int = 20  # per scenario and seed, in the virtual patient
    seeds: int = 1  # repetitions: each has patients of its own, and learners are trained anew for it
    inside: int = 5  # episodes per scenario and seed that are played inside the learned model as well
    tier: str = "variation"  # what is seen of the patient; see the env's card
    risk: str = "adverse"  # judges in both worlds
    horizon: int | None = None  # [steps] of an episode; None is the scenario's own
    model: str = "model"  # the learned model to plan and to train in: the packaged one, or a path to weights
    purpose: int = JUDGED  # or TUNED: other patients, to choose the settings of agents on
    knobs: Mapping[str, Any] = field(default_factory=lambda: dict(FAST))  # of the learned model
    bootstrap_seed: int = 0
    resamples: int = 2000

    def __post_init__(self) -> None:
        for name in self.scenarios:
            scenario_named(name)  # raises with the names there are
        if not self.scenarios or len(set(self.scenarios)) < len(self.scenarios):
            raise ValueError(f"scenarios are {self.scenarios}; expected some, each once; leave out what is double")
        if not 1 <= self.episodes <= PATIENTS_PER_SEED or not 1 <= self.seeds <= STREAM // PATIENTS_PER_SEED:
            raise ValueError(
                f"episodes is {self.episodes} and seeds {self.seeds}; expected 1 to {PATIENTS_PER_SEED} and 1 to "
                f"{STREAM // PATIENTS_PER_SEED}; pass --episodes 20 --seeds 1"
            )
        if not 0 <= self.inside <= self.episodes:
            raise ValueError(f"inside is {self.inside}; expected 0 to {self.episodes} (episodes); leave it out")

    def arguments(self, scenario: str, world: str) -> dict[str, Any]:
        """What ``gym.make`` is told beside the id: JSON. Where what is seen is spoilt, true rewards come at the end."""
        row: dict[str, Any] = {"scenario": scenario, "menu": "scenario", "risk": self.risk, "tier": self.tier}
        row |= {} if self.horizon is None else {"horizon": self.horizon}
        row |= {} if tier_named(self.tier).clear else {"reward_timing": "end"}
        return row | ({"world": self.model, "knobs": dict(self.knobs)} if world == MODEL else {})

    def steps(self, scenario: str) -> int:
        """Of an episode of the scenario."""
        return scenario_named(scenario).clock.steps if self.horizon is None else self.horizon

    def seed(self, repetition: int, episode: int, purpose: int | None = None) -> int:
        """The env's seed of one episode; the same for every agent and scenario."""
        return (purpose or self.purpose) * STREAM + repetition * PATIENTS_PER_SEED + episode

    def rules(self, scenario: str, learned: bool = True) -> dict[str, Any]:
        """All that one row of the scenario depends on, besides the agent; without ``learned`` not on the model."""
        row = scenario_named(scenario)
        worlds = (TRUTH, MODEL) if learned else (TRUTH,)
        return {
            "package": {"ecg-gym": importlib.metadata.version("ecg-gym")},
            "scenario": scenario,
            "people_sha256": digest(jsonable([asdict(row.people), [[k.share, asdict(k.people)] for k in row.kinds]])),
            "menu": [str(treatment) for treatment in row.menu],
            "envs": {world: {"id": IDS[world], "kwargs": self.arguments(scenario, world)} for world in worlds},
            "steps": self.steps(scenario),
            **({"model_sha256": model_sha256(self.model)} if learned else {}),
            "risk_sha256": risk_sha256(self.risk),
            "tables_sha256": tables_sha256(),
            "seeds": {"stream": STREAM, "patients_per_seed": PATIENTS_PER_SEED, "purpose": self.purpose},
        }

    def to_json_dict(self) -> dict[str, Any]:
        """The whole protocol; its canonical JSON is what is hashed."""
        return {
            "rules": {scenario: self.rules(scenario) for scenario in self.scenarios},
            "episodes": self.episodes,
            "episodes_inside_the_model": self.inside,
            "seeds": self.seeds,
            "eval_seeds": [[self.seed(repetition, 0), self.episodes] for repetition in range(self.seeds)],
            "bootstrap": {"seed": self.bootstrap_seed, "resamples": self.resamples},
        }

    @property
    def sha256(self) -> str:
        """Of the canonical JSON."""
        return digest(self.to_json_dict())


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@lru_cache(maxsize=4)
def model_sha256(model: str) -> str:
    """Of the weights that are planned and trained in."""
    return str(getattr(load_world(model), "sha256", ""))


@lru_cache(maxsize=4)
def risk_sha256(risk: str) -> str:
    """Of what judges; interval limits alone have no weights, and are named instead."""
    return str(getattr(load_risk(risk), "sha256", "") or risk)


@lru_cache(maxsize=1)
def tables_sha256() -> str:
    """Of the tables of drugs, clinical rules, limits, hearts and rhythms, names and contents."""
    home = Path(ecg_gym.__file__).parent
    files = sorted(p for name in TABLES for p in (home / name).iterdir() if p.suffix in (".yaml", ".json"))
    return digest([[p.relative_to(home).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()] for p in files])
