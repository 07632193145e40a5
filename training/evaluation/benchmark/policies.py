"""Who is evaluated: a policy by its words, whatever it is, as something that decides for a batch of patients.

guideline, search:budget=200      a planner of the table, with settings of its own
model-search:prior=runs/ppo/0.zip a search that goes by a trained policy: PUCT with its probabilities and its values
runs/ppo/{seed}.zip               a policy of Stable-Baselines3, one file per training seed
runs/cql/{seed}.d3                a policy of d3rlpy, learned from recorded steps
package.module:name               a Planner, something with SB3's ``predict``, or a function of the observation
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from ecg_gym.envs.loading import attribute_named, load_world
from planners import (
    BeamPlanner,
    CEMPlanner,
    ConstantSearchPlanner,
    ExhaustivePlanner,
    GuidelinePlanner,
    KitchenSink,
    Planner,
    RandomPlanner,
    RecedingHorizonPlanner,
    TreeSearchPlanner,
    WatchAndWait,
)
from planners.sb3 import prior_and_value
from training.evaluation.benchmark.hashes import canonical, digest

TRUTH, MODEL = "truth", "model"  # where a planner imagines
SEQUENCE = {"horizon": 2, "k": 3, "budget": 100, "risk_aversion": 0.0}


class Actor(Protocol):
    """A policy at work on the rows of one vector env."""

    def actions(self, rows: Sequence[int], observations: Any) -> tuple[list[Any], list[int]]:
        """The actions for some rows of ``observations (B, ...)``, and the steps of a world asked for each."""
        ...


@dataclass(frozen=True)
class Policy:
    """Something that can be evaluated."""

    name: str  # as it is called in results
    sha256: str  # of the weights or of the settings
    make: Callable[[Any, Sequence[str], int], Actor]  # vector env, kinds of its patients, seed
    model_sha256: str = ""  # of the learned world that it plans in
    share: float = 1.0  # of the patients that it plays by default; less for what takes long


@dataclass(frozen=True)
class PolicyRow:
    """A row of the table."""

    says: str
    kind: type[Planner]
    settings: Mapping[str, Any] = field(default_factory=dict)
    imagines: str = ""  # TRUTH or MODEL
    share: float = 1.0


HISTORY = {"belief": "history"}
KIND_CONSTANT = "kind-constant"  # told the kind; the rows of the table are planners
TRUTH_SEARCH = "truth-search"  # all patients of a block at once
TABLE: dict[str, PolicyRow] = {
    "random": PolicyRow("any allowed treatment", RandomPlanner),
    "watch": PolicyRow("watch and wait, always", WatchAndWait),
    "guideline": PolicyRow("what guidelines give first, by rules on what is seen", GuidelinePlanner),
    "kitchen-sink": PolicyRow("always another allowed drug", KitchenSink),
    "constant-search": PolicyRow("the best constant of each patient, chosen in the truth", ConstantSearchPlanner,
                             {"k": 4}, TRUTH),
    "search": PolicyRow("closed-loop tree search in the truth", TreeSearchPlanner, {"budget": 400}, TRUTH, 0.2),
    "paper": PolicyRow("the paper's ranking in the learned world: mean-variance, three futures, one step",
                   ExhaustivePlanner, {"k": 3, "risk_aversion": 0.6, "horizon": 1, **HISTORY}, MODEL, 0.5),
    "model-search": PolicyRow("closed-loop tree search in the learned world", TreeSearchPlanner,
                          {"budget": 400, **HISTORY}, MODEL, 0.5),
    "model-constant": PolicyRow("the best constant of each patient, chosen in the learned world", ConstantSearchPlanner,
                            {"k": 4, **HISTORY}, MODEL, 0.5),
    "model-cem": PolicyRow("cross-entropy search over sequences in the learned world", CEMPlanner,
                       {**SEQUENCE, **HISTORY}, MODEL, 0.5),
    "model-beam": PolicyRow("beam search over sequences in the learned world", BeamPlanner,
                        {**SEQUENCE, **HISTORY}, MODEL, 0.5),
    "model-receding": PolicyRow("cross-entropy search that goes on from the plan before, in the learned world",
                            RecedingHorizonPlanner, {**SEQUENCE, **HISTORY}, MODEL, 0.5),
}  # fmt: skip


def load_policy(policy: Any, seed: int = 0, model: str = "model") -> Policy:
    """The policy of these words, or of an object; ``{seed}`` in words is the training seed, ``model`` a learned world.

    Raises ``ValueError`` for words that name nothing.
    """
    if not isinstance(policy, str):
        return Policy(type(policy).__name__, _source_hash(policy), lambda envs, kinds, s: acting(policy, envs, s))
    words = policy.replace("{seed}", str(seed))
    name, _, changes = words.partition(":")
    if words.endswith(".zip") and name not in TABLE:
        return _zipped(policy, Path(words))
    if words.endswith(".d3") and name not in TABLE:
        return _learned_offline(policy, Path(words))
    if words == KIND_CONSTANT:
        from training.evaluation.benchmark.kind_constant import KindConstant

        return Policy(words, digest(words), lambda envs, kinds, s: KindConstant.of(envs, kinds))
    if words == TRUTH_SEARCH:
        from training.evaluation.benchmark.truth_search import Search, TruthSearch

        settings = digest([words, vars(Search())])
        return Policy(words, settings, lambda envs, kinds, s: TruthSearch.of(envs, s))
    if name in TABLE:
        return _planner(words, TABLE[name], changes, model)
    if ":" in words:
        factory = attribute_named(words)
        return Policy(policy, _source_hash(factory), lambda envs, kinds, s: acting(factory, envs, s))
    raise ValueError(
        f"policy is {policy!r}; expected one of {', '.join((*TABLE, KIND_CONSTANT, TRUTH_SEARCH))}, the path of a .zip "
        "of Stable-Baselines3 or a .d3 of d3rlpy, or 'package.module:name'; check the spelling"
    )


def acting(policy: Any, envs: Any, seed: int) -> Actor:
    """Anything that decides, at work: a Planner or its class, something with ``predict``, a function."""
    if isinstance(policy, type):
        policy = policy(envs) if issubclass(policy, Planner) else policy()
    if isinstance(policy, Planner):
        policy.reset(seed)
        return PlannerActor(policy)
    if hasattr(policy, "predict"):
        return PredictActor(policy, envs)
    if callable(policy):
        return FunctionActor(policy)
    raise ValueError(
        f"the policy is a {type(policy).__name__}; expected a Planner, an object with predict(observation, ...), or a "
        "function of the observation; wrap it in one"
    )


@dataclass
class PlannerActor:
    """A planner made for the vector env."""

    planner: Planner

    def actions(self, rows: Sequence[int], observations: Any) -> tuple[list[Any], list[int]]:
        """What it chooses for these rows."""
        decision = self.planner.choose_rows(rows)
        seat = self.planner.envs[0]
        return [seat.action(one.treatment) for one in decision], [int(one.model_calls) for one in decision]


class PredictActor:
    """Anything with SB3's ``predict``; masks reach those that take them, and memory is kept."""

    def __init__(self, policy: Any, envs: Any) -> None:
        self.policy, self.envs, self.memory, self.began = policy, envs.unwrapped, None, False
        self.masked = "action_masks" in inspect.signature(policy.predict).parameters

    def actions(self, rows: Sequence[int], observations: Any) -> tuple[list[Any], list[int]]:
        """What it predicts; every row is asked, so that the memory of recurrent policies stays in place."""
        masks = {"action_masks": self.envs.action_masks()} if self.masked else {}
        start = np.full(self.envs.num_envs, not self.began)
        actions, self.memory = self.policy.predict(
            observations, state=self.memory, episode_start=start, deterministic=True, **masks
        )
        self.began = True
        return [actions[row] for row in rows], [0] * len(rows)


@dataclass
class FunctionActor:
    """A function of one observation."""

    function: Callable[[Any], Any]

    def actions(self, rows: Sequence[int], observations: Any) -> tuple[list[Any], list[int]]:
        """What it says to each observation."""
        each = [{k: v[row] for k, v in observations.items()} if isinstance(observations, Mapping) else observations[row]
                for row in rows]  # fmt: skip
        return [self.function(one) for one in each], [0] * len(rows)


def _planner(words: str, row: PolicyRow, changes: str, model: str) -> Policy:
    settings = dict(row.settings)
    for change in filter(None, changes.split(";")):
        key, _, value = change.partition("=")
        names = {*settings, *inspect.signature(row.kind.__init__).parameters} - {"self", "env"}
        if key not in names:
            raise ValueError(
                f"{words} has no setting {key!r}; expected one of {', '.join(sorted(names)) or 'none'}; write for "
                "example search:budget=200"
            )
        settings[key] = yaml.safe_load(value)
    weights = str(getattr(load_world(model), "sha256", "")) if row.imagines == MODEL else ""
    taught = _file_of(words, Path(settings["prior"])) if settings.get("prior") else b""

    def make(envs: Any, kinds: Sequence[str], seed: int) -> Actor:
        world = {"world": load_world(model)} if row.imagines == MODEL else {}
        return acting(row.kind(envs, **world, **{**settings, **_guides(taught, settings.get("prior"))}), envs, seed)

    known_by = [words, canonical(settings), weights, *([hashlib.sha256(taught).hexdigest()] if taught else [])]
    return Policy(words, digest(known_by), make, weights, row.share)


def _guides(content: bytes, path: Any) -> dict[str, Any]:
    """The prior and the value of a search out of a trained policy; nothing where there is none."""
    if not content:
        return {}
    prior, value = prior_and_value(_algorithm(content, Path(path)).load(io.BytesIO(content), device="cpu"))
    return {"prior": prior, "value": value}


def _file_of(words: str, path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(
            f"policy is {words!r} and {path} is not there; expected a {path.suffix} of a trained policy; train it"
        )
    return path.read_bytes()


def _zipped(words: str, path: Path) -> Policy:
    content = _file_of(words, path)
    sha256 = hashlib.sha256(content).hexdigest()

    def make(envs: Any, kinds: Sequence[str], seed: int) -> Actor:
        return PredictActor(_algorithm(content, path).load(io.BytesIO(content), device="cpu"), envs)

    return Policy(words, sha256, make)


def _learned_offline(words: str, path: Path) -> Policy:
    from training.evaluation.benchmark.offline_learning import OfflinePolicy

    sha256 = hashlib.sha256(_file_of(words, path)).hexdigest()
    return Policy(words, sha256, lambda envs, kinds, seed: PredictActor(OfflinePolicy(path), envs))


def _algorithm(content: bytes, path: Path) -> Any:
    """The class that saved a zip, told by the module of its policy and what it keeps."""
    import sb3_contrib
    import stable_baselines3

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            data = json.loads(archive.read("data"))
        module = data["policy_class"]["__module__"]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no policy of Stable-Baselines3 ({type(error).__name__}: {error}); expected what model.save() "
            "wrote; save it again"
        ) from error
    by_module = {
        "maskable": sb3_contrib.MaskablePPO, "recurrent": sb3_contrib.RecurrentPPO, "qrdqn": sb3_contrib.QRDQN,
        ".dqn": stable_baselines3.DQN,
    }  # fmt: skip
    for part, kind in by_module.items():
        if part in module:
            return kind
    return stable_baselines3.PPO if "clip_range" in data else stable_baselines3.A2C


def _source_hash(policy: Any) -> str:
    """Of the text of a policy's class or function; of its name where there is none."""
    try:
        text = inspect.getsource(policy if inspect.isroutine(policy) or isinstance(policy, type) else type(policy))
    except (OSError, TypeError):
        text = repr(type(policy))
    return hashlib.sha256(text.encode()).hexdigest()
