"""One loop for everything that is trained: a generator that hands over after each step, and can be killed.

    state = start(component, config)             # or resume(component, config, folder)
    for step, logs in train(state, draw):        # the caller's `for` does logging, plots, stopping
        ...
    state.ema                                    # the averaged weights, the ones to ship

A component is a module with ``loss(batch, rng) -> (loss, logs)``. ``draw(rng) -> batch`` makes one batch. All
randomness of step n comes from ``(seed, n)`` alone, so a run killed at any moment repeats the same losses from its
last saved state, and no generator needs saving. (A module draws from the ``rng`` it is given; the global generator,
which dropout asks, is seeded for each step too.) With ``workers`` batches are drawn ahead in other processes, and stay
the same. With ``devices`` each process draws its own.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ecg_gym.io import atomic_write, write_text
from training import distributed
from training.console import SAY, note

LOSSES = "losses.jsonl"
STATE = "state.safetensors"
EVERY_S = 60.0  # between lines where there is no terminal
FREE = (
    "device",
    "save_every",
    "workers",
    "seconds",
)  # fields that may change when a run goes on: the losses do not depend on them

Batch = dict[str, Tensor]
Logs = dict[str, float]
Draw = Callable[[np.random.Generator], Batch]


class AnotherRun(ValueError):
    """The folder holds a run that is not the one asked for."""


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
    bf16: bool = False  # autocast where it is fast (`precision`): 1.5 times on one core with avx512_bf16 (the codec)
    save_every: int = 250  # steps between saved states
    workers: int | None = None
    """Processes that draw batches ahead; None is up to 8 beside a GPU and 0 beside a CPU. A ``draw`` that looks at what
    is being trained needs 0."""
    devices: int = 1  # processes that train together through Lightning Fabric, each with a batch of its own
    seconds: float | None = None
    """Of wall clock for the whole run: where it is behind, its schedule skips steps, and so it ends in time."""

    def __post_init__(self) -> None:
        whole = {"steps": 0, "warmup": 0, "seed": 0, "save_every": 1, "devices": 1}  # name -> least
        for name, least in whole.items():
            if not isinstance(value := getattr(self, name), int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; expected a whole number from {least}; mend the preset")
        for name in ("learning_rate", "final_fraction", "weight_decay", "clip", "ema_decay"):
            if not isinstance(value := getattr(self, name), int | float) or isinstance(value, bool) or not value >= 0:
                raise ValueError(f"{name} is {value!r}; expected a number from 0; mend the preset")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds!r}; expected a positive number, or None; mend the preset")
        pair = isinstance(self.betas, tuple | list) and len(self.betas) == 2
        if not pair or not all(isinstance(beta, float) and 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas!r}; expected two numbers from 0 and below 1; mend the preset")
        try:
            torch.device(self.device if isinstance(self.device, str) else "")
        except RuntimeError:
            raise ValueError(
                f"device is {str(self.device)[:40]!r}; expected cpu, cuda, cuda:1 or mps; mend the preset or --device"
            ) from None


@dataclass
class TrainState:
    """Everything that changes while training: weights, their average, AdamW's moments, and the step reached."""

    component: nn.Module
    ema: nn.Module
    optimizer: torch.optim.AdamW
    config: LoopConfig
    step: int = 0
    elapsed: float = 0.0  # [s] of training in the sessions before
    clock: Callable[[], float] = time.monotonic
    fabric: Any = None  # of several processes
    wrapped: Any = None  # the component behind Fabric

    @property
    def device(self) -> torch.device:
        """Where the weights of this process are."""
        return torch.device(self.config.device) if self.fabric is None else self.fabric.device

    @property
    def rank(self) -> int:
        """The number of this process, 0 for the first or only one."""
        return 0 if self.fabric is None else self.fabric.global_rank


def start(component: nn.Module, config: LoopConfig, fabric: Any = None) -> TrainState:
    """A fresh state around ``component`` (moved to the device), its EMA and AdamW.

    With ``config.devices`` above one the other processes are started here; ``fabric`` is one launched before.
    """
    if fabric is None and config.devices > 1:
        fabric = distributed.launch(config.device, config.devices)
    component = component.to(config.device if fabric is None else fabric.device).train()
    ema = copy.deepcopy(component).eval().requires_grad_(False)
    trainable = [p for p in component.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
    wrapped = None if fabric is None else distributed.wrap(fabric, component)
    return TrainState(component, ema, optimizer, config, fabric=fabric, wrapped=wrapped)


def precision(config: LoopConfig) -> tuple[bool, str]:
    """Whether the loss is computed under bf16 autocast, and why not where it was asked for (else an empty string).

    It helps on GPUs that multiply bf16 and on CPUs with avx512_bf16 or AMX; elsewhere it is emulated, and slower.
    """
    if not config.bf16:
        return False, ""
    kind = torch.device(config.device).type
    if kind == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        fast = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return fast, "" if fast else f"this {kind} does not multiply bf16 quickly: training in float32"


def uniform_rows(tensors: Mapping[str, Tensor], batch: int) -> Draw:
    """What draws ``batch`` rows at random, with replacement, out of tensors ``(N, ...)`` of equal length."""
    n = min(len(tensor) for tensor in tensors.values())

    def draw(rng: np.random.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(n, size=batch))
        return {name: tensor[rows] for name, tensor in tensors.items()}

    return draw


def train(state: TrainState, draw: Draw, folder: str | Path | None = None) -> Iterator[tuple[int, Logs]]:
    """Yields ``(step, logs)`` after each optimiser step, from ``state.step`` to ``config.steps``.

    With a ``folder``, the state is saved there (aside, then renamed) every ``save_every`` steps, and at the end after
    the caller has dealt with the last step; the logs of every step stand in ``losses.jsonl``. Raises FloatingPointError
    when a loss or a gradient is not finite: the state on disk is then the last good one. Of several processes only the
    first yields and writes; in the others WorkerDone is raised when the last step is done, so that what follows is
    the first one's work alone.
    """
    if state.rank > 0:
        for _ in _steps(state, draw):
            pass
        distributed.part(state.fabric)
        raise distributed.WorkerDone
    config, rows, before = state.config, [], state.step
    folder = folder if distributed.is_first() else None  # a stage that every process repeats alone is written by one
    if folder is not None:
        _forget_after(state.step, Path(folder) / LOSSES)
    for step, logs in _steps(state, draw):
        rows.append({"step": step, **logs})
        due, last = step // config.save_every > before // config.save_every, step == config.steps
        before = step
        if due and not last:
            _keep(state, rows, folder)
        yield step, logs
        if last:  # after the caller has dealt with it: killed on writing the weights, it comes back to that
            _keep(state, rows, folder)
    distributed.part(state.fabric)


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine from the peak down to ``final_fraction`` of it."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    low = config.final_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def save_state(state: TrainState, folder: str | Path) -> Path:
    """Write the state as one safetensors file (tensors, and JSON for the rest), aside and renamed; returns its path."""
    path = Path(folder) / STATE
    tensors = {f"component.{name}": value for name, value in state.component.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in state.ema.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    document = {"step": state.step, "seconds": state.elapsed, "config": asdict(state.config)}
    with atomic_write(path) as aside:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, aside, _entry(document))
    return path


def resume(component: nn.Module, config: LoopConfig, folder: str | Path) -> TrainState:
    """The state saved in ``folder``, or a fresh one if there is none; ValueError when it was another run's."""
    path = Path(folder) / STATE
    if path.is_file():
        with _readable(path):
            stored = dict(_document(path)["config"])
        _check_same_run(stored, config, path)
    state = start(component, config)
    if not path.is_file():
        return state
    with _readable(path):
        with safe_open(path, framework="pt", device=str(state.device)) as file:
            document = json.loads((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        state.component.load_state_dict(_under("component.", tensors))
        state.ema.load_state_dict(_under("ema.", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("adam.", tensors).items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        settings = {"state": moments, "param_groups": state.optimizer.state_dict()["param_groups"]}
        state.optimizer.load_state_dict(settings)
        state.step, state.elapsed = int(document["step"]), float(document.get("seconds", 0.0))
    return state


def report(
    steps: Iterable[tuple[int, Logs]], config: LoopConfig, title: str, folder: str | Path | None = None
) -> Iterator[tuple[int, Logs]]:
    """The same steps, shown on the way: a progress bar with the time that remains, and TensorBoard if installed.

    Where there is no terminal for a bar (a log file), a line a minute says the same.
    """
    if not distributed.is_first():
        yield from steps
        return
    if remark := precision(config)[1]:
        note(remark)
    writer, last = None, time.monotonic()
    with _progress() as progress:
        task = progress.add_task(title, total=config.steps)
        for step, logs in steps:
            progress.update(task, completed=step, description=f"{title}  loss {logs['loss']:.4f}")
            if not SAY.is_terminal and time.monotonic() - last > EVERY_S:
                last = time.monotonic()
                SAY.print(_line(title, step, logs["loss"], progress.tasks[0]))
            writer = writer or _tensorboard(folder, step)
            if writer is not None and step % 10 == 0:
                for name, value in logs.items():
                    writer.add_scalar(name, value, step)
            yield step, logs
        progress.update(task, completed=config.steps)
    if writer is not None:
        writer.close()


def losses(folder: str | Path) -> list[dict[str, float]]:
    """The logs of every step of a run so far, in order, each with its ``step``; empty before the first saved state."""
    path = Path(folder) / LOSSES
    try:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(
            f"{path} cannot be read ({error}); expected one JSON object a line; the file was changed or cut off: go on "
            "with the run, which drops a line that was cut, or take another folder"
        ) from error


def _steps(state: TrainState, draw: Draw) -> Iterator[tuple[int, Logs]]:
    """Every step that remains, on this process; all processes together when there are several."""
    config, earlier, began = state.config, state.elapsed, state.clock()
    for batch in _batches(state, draw):
        if state.step >= config.steps:
            return
        logs = _update(state, batch)
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(logs[name]):
                raise FloatingPointError(
                    f"the {name.replace('_', ' ')} of step {state.step} is {logs[name]}; expected a finite number; "
                    f"lower learning_rate (now {config.learning_rate:g}) or look at the batch, then resume from the "
                    "last saved state"
                )
        state.elapsed = earlier + state.clock() - began
        due = 0 if config.seconds is None else int(config.steps * state.elapsed / config.seconds)
        state.step = min(max(state.step + 1, due), config.steps)
        yield state.step, logs


def _update(state: TrainState, batch: Batch) -> Logs:
    """One optimiser step and one step of the average; left out when the loss or the gradient is not finite."""
    config, step, device = state.config, state.step, state.device
    batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    seed = int(_random(config.seed, step, state.rank, 1).integers(2**62))
    rng = torch.Generator(device).manual_seed(seed)
    component: Any = state.component if state.wrapped is None else state.wrapped
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    with _seeded(seed, device), torch.autocast(device.type, torch.bfloat16, enabled=precision(config)[0]):
        loss, parts = component.loss(batch, rng)
    state.optimizer.zero_grad(set_to_none=True)
    mean_loss = loss.detach()
    if state.fabric is None:
        loss.backward()
    else:
        mean_loss = distributed.mean(state.fabric, mean_loss)
        state.fabric.backward(loss)
    norm = nn.utils.clip_grad_norm_(state.component.parameters(), config.clip)
    values = [mean_loss, *(value.detach() for value in parts.values()), norm]  # the parts are those of this process
    total, *scalars, norm_found = torch.stack([value.double().mean().to(device) for value in values]).tolist()
    if math.isfinite(total) and math.isfinite(norm_found):
        state.optimizer.step()
        _average(state)
    logs = dict(zip(parts, scalars))
    return {"loss": total, **logs, "gradient_norm": norm_found, "learning_rate": learning_rate(config, step)}


def _random(seed: int, step: int, rank: int, what: int) -> np.random.Generator:
    """The randomness of a step on one process: ``what`` is 0 for the batch, 1 for the seed of the noise."""
    return np.random.default_rng([seed, step, 2 * rank + what])


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators begin at ``seed`` inside (dropout asks no other) and are as they were outside."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class _Draws(Dataset):
    """Batches by the number of their step."""

    def __init__(self, draw: Draw, seed: int, rank: int) -> None:
        self.draw, self.seed, self.rank = draw, seed, rank

    def __getitem__(self, step: int) -> Batch:
        return self.draw(_random(self.seed, step, self.rank, 0))


def _batches(state: TrainState, draw: Draw) -> Iterator[Batch]:
    """The batches of the steps that remain, drawn ahead by ``config.workers`` processes."""
    config, on_gpu = state.config, state.device.type == "cuda"
    draws, remaining = _Draws(draw, config.seed, state.rank), range(state.step, config.steps)
    ready = min(8, (os.cpu_count() or 1) // config.devices - 1) if on_gpu else 0
    workers = max(0, ready if config.workers is None else config.workers)
    if workers == 0 or not remaining:
        yield from map(draws.__getitem__, remaining)
        return
    yield from DataLoader(draws, batch_size=None, sampler=remaining, num_workers=workers, pin_memory=on_gpu)


@torch.no_grad()
def _average(state: TrainState) -> None:
    decay = min(state.config.ema_decay, (1 + state.step) / (10 + state.step))
    for mean, value in zip(state.ema.parameters(), state.component.parameters()):
        mean.lerp_(value, 1 - decay)
    for average, buffer in zip(state.ema.buffers(), state.component.buffers()):
        average.copy_(buffer)


def _check_same_run(stored: dict[str, Any], config: LoopConfig, path: Path) -> None:
    """Refuse to continue under settings that would change the losses; a field of a later version has its default."""
    now, usual = (json.loads(json.dumps(asdict(c))) for c in (config, LoopConfig()))
    stored = {**usual, **stored}
    differing = [key for key in now if key not in FREE and now[key] != stored[key]]
    if differing:
        raise AnotherRun(
            f"{path} was trained with {[(key, stored.get(key)) for key in differing]}; expected "
            f"{[(key, now[key]) for key in differing]}; use the same preset and seed, or another output folder"
        )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _entry(document: dict[str, Any]) -> dict[str, str]:
    return {"training": json.dumps(document)}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Inside, whatever a damaged state raises becomes a sentence."""
    try:
        yield
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{path} cannot be resumed ({type(error).__name__}: {str(error)[:200]}); expected the state of this "
            "run; the file was changed or copied in part: take an earlier copy, or begin anew with --no-resume"
        ) from error


def _document(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {})["training"])


def _keep(state: TrainState, rows: list[dict[str, Any]], folder: str | Path | None) -> None:
    """Save the state and the logs since the last time."""
    if folder is not None:
        _append(rows, Path(folder) / LOSSES)
        save_state(state, folder)
    rows.clear()


def _append(rows: list[dict[str, Any]], path: Path) -> None:
    """Before the state is saved, so that a kill in between leaves too many rows, never too few."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({key: value if math.isfinite(value) else None for key, value in row.items()}) for row in rows]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))


def _forget_after(step: int, path: Path) -> None:
    """Drop the rows of steps that died with their process, and a last line that was cut."""
    if not path.is_file():
        return
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
    write_text(path, "".join(line for line in whole if json.loads(line)["step"] <= step))


def _progress(clock: Callable[[], float] | None = None) -> Progress:
    """A bar whose remaining time counts the last minute only: a start-up or a busy neighbour passes."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=SAY, speed_estimate_period=60, get_time=clock)


def _line(title: str, step: int, loss: float, task: Task) -> str:
    left = "unknown" if task.time_remaining is None else f"{task.time_remaining / 60:.0f} min"
    return f"{title}  step {step} of {task.total:.0f}  loss {loss:.4f}  remaining {left}"


def _tensorboard(folder: str | Path | None, first_step: int) -> Any:
    """A writer that begins at ``first_step``: curves of steps that died with their process are hidden."""
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step)
