"""``ecg-gym train offline``: a policy from recorded steps alone, by d3rlpy, without a step of any env.

FOLDER/<seed>.d3            the policy of a training seed, for ``ecg-gym evaluate 'FOLDER/{seed}.d3' --seeds 5``
FOLDER/<seed>.json          settings, hash of the steps, losses and CPU time
FOLDER/<seed>.part.d3       where a training that has not ended stands

``cql`` is conservative Q-learning (Kumar 2020, arXiv 2006.04779), ``bc`` behaviour cloning: the least that a learner
from these steps must beat. Both learn from every behaviour in the file alike.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import atomic_write, write_text

UNITS = [128, 128]  # of the network, as the learners' in an env
SETTINGS: dict[str, Mapping[str, Any]] = {
    "cql": {"learning_rate": 3e-4, "batch_size": 256, "gamma": 0.97, "alpha": 1.0, "target_update_interval": 1000},
    "bc": {"learning_rate": 3e-4, "batch_size": 256, "beta": 0.0},
}
EVERY = 5_000  # steps between saved states
COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations")


class OfflinePolicy:
    """A policy that d3rlpy saved, with SB3's ``predict``: the best of what is allowed where it has values of actions.

    One without values says its action; the env does nothing instead where that is not allowed.
    """

    def __init__(self, path: str | Path) -> None:
        self.learner = _d3rlpy().load_learnable(str(path), device="cpu:0")
        self.n_actions = self.learner.action_size
        self.has_values = hasattr(self.learner.config, "n_critics")

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, None]:  # fmt: skip
        """Actions ``(B,)`` for observations ``(B, F)``, and no memory."""
        rows = np.asarray(observation, np.float32)
        if not self.has_values:
            return self.learner.predict(rows), None
        every = np.tile(np.arange(self.n_actions), len(rows))
        values = self.learner.predict_value(np.repeat(rows, self.n_actions, axis=0), every).reshape(len(rows), -1)
        allowed = np.ones_like(values, bool) if action_masks is None else np.asarray(action_masks, bool)
        return np.where(allowed, values, -np.inf).argmax(axis=1), None


def train_offline(
    algorithm: str, data: Path, folder: Path, steps: int = 50_000, seeds: int = 5,
    progress: Callable[[int], None] = lambda steps: None,
) -> Iterator[Path]:  # fmt: skip
    """Trains one policy per training seed on the steps in ``data`` (of ``ecg-gym data offline``); yields each file.

    What was trained before is not trained again, and what was killed goes on. Raises ``ValueError`` for an algorithm
    that there is not, for a file without such steps, and where d3rlpy is not installed.
    """
    if algorithm not in SETTINGS:
        raise ValueError(f"algorithm is {algorithm!r}; expected one of {', '.join(SETTINGS)}; check the spelling")
    table, sha256 = _steps_of(data)
    d3rlpy = _d3rlpy()
    folder.mkdir(parents=True, exist_ok=True)
    recorded = d3rlpy.dataset.MDPDataset(
        observations=table["observations"].astype(np.float32), actions=table["actions"][:, None],
        rewards=table["rewards"].astype(np.float32)[:, None], terminals=table["terminations"],
        timeouts=table["truncations"] & ~table["terminations"], action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=int(table["masks"].shape[1]),
    )  # fmt: skip
    for seed in range(seeds):
        path = folder / f"{seed}.d3"
        if path.is_file():
            progress(steps)
        else:
            about = _train(d3rlpy, algorithm, recorded, folder / f"{seed}.part", steps, seed, progress)
            about |= {"algorithm": algorithm, "steps": steps, "settings": dict(SETTINGS[algorithm]), "units": UNITS,
                      "data_sha256": sha256, "recorded": len(table["actions"])}  # fmt: skip
            write_text(folder / f"{seed}.json", json.dumps(about, indent=1) + "\n")
            os.replace(folder / f"{seed}.part.d3", path)
            (folder / f"{seed}.part.json").unlink()
        yield path


def _train(
    d3rlpy: Any, algorithm: str, recorded: Any, part: Path, steps: int, seed: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Trains to ``steps`` from where ``part`` stands: losses by step and the CPU time."""
    diary_path, weights = part.with_suffix(".part.json"), part.with_suffix(".part.d3")
    diary: dict[str, Any] = {"done": 0, "losses": [], "cpu_seconds": 0.0}
    if diary_path.is_file():
        diary = json.loads(diary_path.read_text(encoding="utf-8"))
        learner = d3rlpy.load_learnable(str(weights), device="cpu:0")
    else:
        kind = {"cql": d3rlpy.algos.DiscreteCQLConfig, "bc": d3rlpy.algos.DiscreteBCConfig}[algorithm]
        encoder = d3rlpy.models.VectorEncoderFactory(UNITS)
        d3rlpy.seed(seed)
        learner = kind(encoder_factory=encoder, **SETTINGS[algorithm]).create(device="cpu:0")
    progress(diary["done"])
    while diary["done"] < steps:
        n, began = min(EVERY, steps - diary["done"]), time.process_time()
        np.random.seed((1000 * seed + diary["done"] // EVERY) % 2**32)  # noqa: NPY002 - d3rlpy draws its batches there
        quiet = d3rlpy.logging.NoopAdapterFactory()
        [(_, losses)] = learner.fit(recorded, n_steps=n, n_steps_per_epoch=n, logger_adapter=quiet, show_progress=False)
        diary["done"] += n
        diary["losses"].append([diary["done"], round(float(losses["loss"]), 5)])
        diary["cpu_seconds"] = round(diary["cpu_seconds"] + time.process_time() - began, 1)
        with atomic_write(weights) as aside:
            learner.save(str(aside))
        write_text(diary_path, json.dumps(diary) + "\n")
        progress(n)
    return {"losses": diary["losses"], "cpu_seconds": diary["cpu_seconds"]}


def _steps_of(data: Path) -> tuple[dict[str, np.ndarray], str]:
    """The columns of a file of recorded steps, and its hash."""
    try:
        content = data.read_bytes()
        with np.load(data, allow_pickle=False) as file:
            table = {name: file[name] for name in (*COLUMNS, "masks")}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{data} holds no recorded steps ({error}); expected the .npz of `ecg-gym data offline`; make it, or mend "
            "the path"
        ) from error
    return table, hashlib.sha256(content).hexdigest()


def _d3rlpy() -> Any:
    """The library, quiet; ``ValueError`` where it is not installed."""
    try:
        import d3rlpy
        import structlog
    except ImportError as error:
        raise ValueError(
            "d3rlpy is not installed, which learns from recorded steps; expected the extra; run "
            "pip install 'ecg-gym[offline]'"
        ) from error
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return d3rlpy
