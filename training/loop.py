"""One loop for everything that is trained: a generator that hands over after each step, and can be killed.

    state = start(component, config)             # or resume(component, config, folder)
    for step, logs in train(state, draw):        # the caller's `for` does logging, plots, stopping
        ...
    state.ema                                    # the averaged weights, the ones to ship

A component is a module with ``loss(batch, rng) -> (loss, logs)``. ``draw(rng) -> batch`` makes one batch. All
randomness of step n comes from ``(seed, n)`` alone, so a run killed at any moment repeats the same losses from its
last saved state, and no generator needs saving. (A module must therefore draw from the ``rng`` it is given.)
"""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Batch = dict[str, Tensor]
Logs = dict[str, float]
Draw = Callable[[np.random.Generator], Batch]


class Component(Protocol):
    """What the loop can train: an ``nn.Module`` that turns a batch and a generator into a loss and its parts."""

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and named scalars worth a look."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast. Every field is read by ``train``."""

    steps: int = 1000
    learning_rate: float = 1e-3  # peak of the cosine
    final_fraction: float = 0.02  # of the peak, at the last step
    warmup: int = 100  # steps of linear rise
    weight_decay: float = 0.01  # AdamW, on matrices only
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0  # largest gradient norm
    ema_decay: float = 0.999  # at the end; it rises from 0 so that early weights are forgotten
    seed: int = 0
    device: str = "cpu"  # or "cuda"
    bf16: bool = False  # autocast; on CPUs with avx512_bf16 or AMX about twice as fast
    save_every: int = 250  # steps between saved states


@dataclass
class TrainState:
    """Everything that changes while training: weights, their average, AdamW's moments, and the step reached."""

    component: nn.Module
    ema: nn.Module
    optimizer: torch.optim.AdamW
    config: LoopConfig
    step: int = 0


def start(component: nn.Module, config: LoopConfig) -> TrainState:
    """A fresh state around ``component`` (moved to the device), its EMA and AdamW."""
    component = component.to(config.device).train()
    ema = copy.deepcopy(component).eval().requires_grad_(False)
    trainable = [p for p in component.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
    return TrainState(component, ema, optimizer, config)


def train(state: TrainState, draw: Draw, folder: str | Path | None = None) -> Iterator[tuple[int, Logs]]:
    """Yields ``(step, logs)`` after each optimiser step, from ``state.step`` to ``config.steps``.

    With a ``folder``, the state is saved there (aside, then renamed) every ``save_every`` steps and at the end.
    Raises FloatingPointError when a loss is not finite: the state on disk is then the last good one.
    """
    config = state.config
    while state.step < config.steps:
        loss, logs = _update(state, draw)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of step {state.step} is {loss}; expected a finite number; lower learning_rate (now "
                f"{config.learning_rate:g}) or look at the batch, then resume from the last saved state"
            )
        state.step += 1
        if folder is not None and (state.step % config.save_every == 0 or state.step == config.steps):
            save_state(state, folder)
        yield state.step, {"loss": loss, **logs}


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine from the peak down to ``final_fraction`` of it."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    low = config.final_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def save_state(state: TrainState, folder: str | Path) -> Path:
    """Write the state as one safetensors file (tensors, and JSON for the rest), aside and renamed; returns its path."""
    path = Path(folder) / "state.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"component.{name}": value for name, value in state.component.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in state.ema.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    document = {"step": state.step, "config": asdict(state.config)}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, aside, _entry(document))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def resume(component: nn.Module, config: LoopConfig, folder: str | Path) -> TrainState:
    """The state saved in ``folder``, or a fresh one if there is none; ValueError when it was another run's."""
    path = Path(folder) / "state.safetensors"
    state = start(component, config)
    if not path.is_file():
        return state
    with safe_open(path, framework="pt", device=config.device) as file:
        document = json.loads((file.metadata() or {})["training"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    _check_same_run(document["config"], config, path)
    state.component.load_state_dict(_under("component.", tensors))
    state.ema.load_state_dict(_under("ema.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("adam.", tensors).items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    state.optimizer.load_state_dict({"state": moments, "param_groups": state.optimizer.state_dict()["param_groups"]})
    state.step = int(document["step"])
    return state


def report(
    steps: Iterable[tuple[int, Logs]], config: LoopConfig, title: str, folder: str | Path | None = None
) -> Iterator[tuple[int, Logs]]:
    """The same steps, shown on the way: a progress bar with the time that remains, and TensorBoard if installed."""
    writer = _tensorboard(folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Remaining time from the last minute only: a start-up or a busy neighbour should not be promised for ever.
    with Progress(*columns, TimeRemainingColumn(), speed_estimate_period=60) as progress:
        task = progress.add_task(title, total=config.steps)
        for step, logs in steps:
            progress.update(task, completed=step, description=f"{title}  loss {logs['loss']:.4f}")
            if writer is not None and step % 10 == 0:
                for name, value in logs.items():
                    writer.add_scalar(name, value, step)
            yield step, logs
    if writer is not None:
        writer.close()


def git_revision() -> str:
    """The commit the working tree stands on, with ``+`` if it has changes; ``unknown`` outside a repository."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def _update(state: TrainState, draw: Draw) -> tuple[float, Logs]:
    """One optimiser step and one step of the average; all randomness from (seed, step)."""
    config, step = state.config, state.step
    batch = draw(np.random.default_rng([config.seed, step]))
    batch = {name: value.to(config.device, non_blocking=True) for name, value in batch.items()}
    rng = torch.Generator(config.device).manual_seed(int(np.random.default_rng([config.seed, step, 1]).integers(2**62)))
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.bf16):
        loss, logs = state.component.loss(batch, rng)  # type: ignore[operator]
    state.optimizer.zero_grad(set_to_none=True)
    if not torch.isfinite(loss):
        return float(loss.detach()), {}
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.component.parameters(), config.clip)
    state.optimizer.step()
    _average(state)
    scalars = {name: float(value.detach()) for name, value in logs.items()}
    return float(loss.detach()), {**scalars, "gradient_norm": float(norm), "learning_rate": learning_rate(config, step)}


@torch.no_grad()
def _average(state: TrainState) -> None:
    decay = min(state.config.ema_decay, (1 + state.step) / (10 + state.step))
    for mean, value in zip(state.ema.parameters(), state.component.parameters()):
        mean.lerp_(value, 1 - decay)
    for kept, buffer in zip(state.ema.buffers(), state.component.buffers()):
        kept.copy_(buffer)


def _check_same_run(stored: dict[str, Any], config: LoopConfig, path: Path) -> None:
    """Refuse to continue under settings that would change the losses; the device and the saving rhythm may differ."""
    now = json.loads(json.dumps(asdict(config)))
    differing = [key for key in now if key not in ("device", "save_every") and now[key] != stored.get(key)]
    if differing:
        raise ValueError(
            f"{path} was trained with {[(key, stored.get(key)) for key in differing]}; expected "
            f"{[(key, now[key]) for key in differing]}; use the same preset and seed, or another output folder"
        )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _entry(document: dict[str, Any]) -> dict[str, str]:
    return {"training": json.dumps(document)}


def _tensorboard(folder: str | Path | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
