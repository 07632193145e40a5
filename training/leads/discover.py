"""Discover the tissue model of one patient: an agent, a budget of fits, a folder that remembers every fit.

Killed at any time, the same command goes on: fits are read from ``OUT/fits``, exchanges with a chat model from
``OUT/transcript.jsonl``, and the agent, which draws from a seed, takes the same way again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import atomic_write
from ecg_gym.llm import ChatClient
from ecg_gym.tissue import DataSet, Fit, FitOptions, Spec
from training.leads import searches
from training.leads.agents import greedy_agent, random_agent, run_agent
from training.leads.env import DiscoveryEnv
from training.leads.outcome import LiveEvaluator, Outcome
from training.leads.searches import MakeSearch, Run
from training.leads.structure import FULL, Candidate, Space

SEARCHES: Mapping[str, MakeSearch] = {
    "beam": searches.beam,
    "evolution": searches.evolution,
    "bandit": searches.factor_bandit,
    "exhaustive": searches.exhaustive,
}
AGENTS = ("greedy", "random", *SEARCHES, "llm")
HYBRID = Spec("ap", "spline", "uv")  # hand-made: mechanistic reaction, smooth diffusion, residual network
NEURAL = Spec("neural", "flux_mlp")  # no physics but conservation
UNKNOWN_FIBRES = ("aniso",)  # diffusions that need them


@dataclass(frozen=True, eq=False)
class Discovery:
    """What was tried and what was found."""

    agent: str
    data: DataSet
    run: Run
    best: Fit | None
    null_error: float  # validation error of a tissue that stays at rest
    slips: Mapping[str, int]  # of a chat model

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values: the best structure with its parameters, the way to it, and the trivial baseline."""
        best = self.best
        return {
            "agent": self.agent,
            "data_key": self.data.key,
            "kind": self.data.kind,
            "nodes": len(self.data.graph),
            "null_validation_error": self.null_error,
            "best": None if best is None else {
                "spec": asdict(best.spec),
                "values": {name: float(value) for name, value in best.values.items()},
                "train_error": best.train_error,
                "validation_error": best.validation_error,
                "parameters": best.n_parameters,
                "residual_share": best.residual_share,
            },
            "history": [_row(candidate, outcome) for candidate, outcome in self.run.history],
            "slips": dict(self.slips),
        }  # fmt: skip


def discover(
    data: DataSet,
    out: Path,
    agent: str = "greedy",
    budget: int = 12,
    seed: int = 0,
    space: Space | None = None,
    options: FitOptions | None = None,
    client: ChatClient | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Discovery:
    """Let the agent work within ``budget`` fits and write ``OUT/discovery.json`` and ``OUT/best.safetensors``.

    ``progress(fits, budget, candidate)`` is called after every fit. ``ValueError`` for an agent that is not known, for
    ``llm`` without a client, and for a folder that holds another patient's discovery.
    """
    if agent not in AGENTS:
        raise ValueError(f"agent is {agent!r}; expected one of {AGENTS}; check the spelling")
    if agent == "llm" and client is None:
        raise ValueError("agent is 'llm' and there is no client; expected a ChatClient; pass --endpoint")
    _claim(out, data)
    space = space or recorded_space()
    evaluator = LiveEvaluator(data, out / "fits", options)
    watched = _Watched(evaluator, budget, progress)
    rng = np.random.default_rng(seed)
    slips: Mapping[str, int] = {}
    if agent in ("greedy", "random", "llm"):
        env = DiscoveryEnv(data=data, budget=budget, space=space)
        env.evaluators = [watched]
        choose: Any = {"greedy": greedy_agent, "random": random_agent}.get(agent)
        if client is not None and choose is None:
            from training.leads.llm_agent import LLMAgent

            choose = LLMAgent(client)
        done = run_agent(env, choose, rng)
        slips = dict(getattr(choose, "slips", {}))
    else:
        done = searches.run(SEARCHES[agent](space, rng), watched, budget)
    best = None if done.best is None else evaluator.fit(done.best[0])
    result = Discovery(agent, data, done, best, evaluator.null_error, slips)
    _save(result, out)
    return result


def recorded_space() -> Space:
    """The catalogue for recordings, in which the direction of the fibres is not known; no operator that may diverge."""
    diffusions = tuple(name for name in FULL.diffusions if name not in (*UNKNOWN_FIBRES, "free"))
    return replace(FULL, diffusions=diffusions)


def activation_maps(data: DataSet, fits: Mapping[str, Fit], protocol: int) -> dict[str, np.ndarray]:
    """``(N,)`` [ms] of the first beat of a protocol: as recorded and of each fit, from its first stimulus."""
    from ecg_gym.tissue.diagnostics import observed_times
    from ecg_gym.tissue.fitting import model_of, run_protocols
    from ecg_gym.tissue.timing import crossings

    out: dict[str, np.ndarray] = {}
    recorded = observed_times(data, [protocol])
    if recorded is not None:
        out["recorded"] = recorded[0, 0, :, 0].numpy()
    for title, fit in fits.items():
        u = run_protocols(model_of([fit], [data]), [data], [protocol])
        out[title] = crossings(u[..., 0].nan_to_num(0.0), data.sample_ms, 2)[0, 0, :, 0].numpy()
    return out


class _Watched:
    """An evaluator that tells how far it is."""

    def __init__(self, inner: LiveEvaluator, budget: int, progress: Callable[[int, int, str], None] | None) -> None:
        self.inner, self.budget, self.progress = inner, budget, progress
        self.null_error, self.count = inner.null_error, 0

    def available(self, candidate: Candidate) -> bool:
        return self.inner.available(candidate)

    def evaluate(self, candidate: Candidate) -> Outcome:
        outcome = self.inner.evaluate(candidate)
        self.count += 1
        if self.progress:
            self.progress(self.count, self.budget, str(candidate))
        return outcome


def _claim(out: Path, data: DataSet) -> None:
    """Note whose folder it is; ``ValueError`` if it is another's."""
    path = out / "data.json"
    if path.is_file() and (other := json.loads(path.read_text())["data_key"]) != data.key:
        raise ValueError(f"{out} holds the discovery of data {other}; expected {data.key}; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps({"data_key": data.key}))


def _save(result: Discovery, out: Path) -> None:
    from training.leads.fit_files import write_fit

    if result.best is not None:
        write_fit(result.best, out / "best.safetensors")
    _write(out / "discovery.json", json.dumps(result.to_json_dict(), indent=2) + "\n")


def _row(candidate: Candidate, outcome: Outcome) -> dict[str, Any]:
    row = {
        "candidate": str(candidate),
        "train_error": outcome.train_error,
        "validation_error": outcome.validation_error,
    }
    return {**row, "stable": outcome.stable, "parameters": outcome.n_parameters}


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")
