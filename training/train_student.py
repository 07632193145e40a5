"""Distil the world model's sampler: a student that takes in 2 or 4 strides what the teacher walks in many steps.

The teacher's deterministic sampler (DPM-Solver++(2M)) turns noise into a latent along a path. Paths are stored once,
each with what was known about its patient. An order-1 step from level tau to tau' goes
``x' = decay x + (1 - decay) target``; the student learns the one target that takes it from where it stands to where
the teacher's path stands at tau' (regression on x = z / sqrt(alpha_bar), as in progressive distillation, Salimans 2022,
arXiv 2202.00512, but in one go and for fixed levels). In a share of the rows it stands where its own earlier strides
have led it, so that it learns to come back to the path. It starts with the teacher's weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.io import write_npz
from ecg_gym.world_model.diffusion import Schedule, denoise, sample, time_grid
from ecg_gym.world_model.forecaster import DenoiserInputs, Forecaster
from ecg_gym.world_model.model import CODEC, WorldModel
from ecg_gym.world_model.student import WEIGHTS, checked_taus, digest, save_student
from training import loop, run_record
from training.loop import Batch, Logs, LoopConfig
from training.revision import git_revision

Source = Callable[[np.random.Generator, int], DenoiserInputs]  # what is known about n patients, drawn at random
LICENCE = "made by this package (Apache-2.0)"


@dataclass(frozen=True)
class StudentPreset:
    """One way of distilling."""

    paths: int = 6400  # of the teacher, stored; the first file is for testing
    per_file: int = 256  # paths in a file
    shards: int = 40  # of virtual trials, whose patients they are about
    teacher_steps: int = 16  # network calls of a path
    strides: dict[int, tuple[int, ...]] = field(default_factory=lambda: {4: (0, 5, 8, 11), 2: (0, 9)})
    """Number of strides -> the points of the teacher's path where they begin."""
    share: dict[int, float] = field(default_factory=lambda: {4: 0.7, 2: 0.3})  # of the batches
    own: float = 0.5  # share of the rows that stand where the student's own strides have led
    batch: int = 64
    loop: LoopConfig = field(default_factory=LoopConfig)


PRESETS = {
    "tiny": StudentPreset(
        paths=64, per_file=32, shards=10, batch=16, loop=LoopConfig(steps=20, warmup=2, ema_decay=0.9, save_every=10)
    ),
    "default": StudentPreset(
        loop=LoopConfig(steps=1200, warmup=100, learning_rate=3e-4, ema_decay=0.995, bf16=True, save_every=200),
    ),
    "paper": StudentPreset(  # the paper has no student; this is the default with a GPU's patience
        paths=65_536,
        teacher_steps=32,
        strides={4: (0, 10, 16, 22), 2: (0, 18)},
        batch=256,
        loop=LoopConfig(steps=20_000, warmup=500, learning_rate=3e-4, device="cuda", bf16=True),
    ),
}


def path_levels(schedule: Schedule, preset: StudentPreset) -> list[int]:
    """The noise levels of the teacher's path, from N down to 0."""
    return time_grid(schedule, preset.teacher_steps)


def stride_levels(schedule: Schedule, preset: StudentPreset) -> dict[int, tuple[int, ...]]:
    """The noise levels of each of the student's walks.

    All walks begin in the same noise. As a level must tell the stride, the second walk calls it N - 1, and so on.
    """
    levels = path_levels(schedule, preset)
    walks = {
        steps: (levels[0] - walk, *[levels[i] for i in begins[1:]], 0)
        for walk, (steps, begins) in enumerate(preset.strides.items())
    }
    return checked_taus(walks, schedule.n)


class StudentTrainer(nn.Module):
    """The student with its objective: what ``training.loop`` trains. Only its denoiser learns."""

    def __init__(self, teacher: Forecaster, preset: StudentPreset) -> None:
        super().__init__()
        self.forecaster = copy.deepcopy(teacher).requires_grad_(False)
        self.forecaster.denoiser.requires_grad_(True)
        self.preset = preset
        self.taus = stride_levels(teacher.schedule, preset)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared distance of the student's targets to those that lead onto the teacher's path, mean over elements."""
        preset, schedule = self.preset, self.forecaster.schedule
        inputs, path = path_inputs(batch), batch["path"].float()  # (B, points, C, 128)
        walks = list(preset.strides)
        chances = torch.tensor([preset.share[steps] for steps in walks], device=path.device)
        steps = walks[int(torch.multinomial(chances, 1, generator=rng))]
        taus, begins = self.taus[steps], preset.strides[steps]
        estimate = self.forecaster.estimator(inputs)

        rows = torch.arange(len(path), device=path.device)
        stride = torch.randint(steps, (len(path),), generator=rng, device=path.device)
        points = torch.tensor([*begins, path.shape[1] - 1], device=path.device)
        here, there = path[rows, points[stride]], path[rows, points[stride + 1]]
        n_own = round(preset.own * len(path))
        if n_own and steps > 1:
            reached = self._reached(inputs[slice(0, n_own)], path[:n_own, 0], taus)
            here = torch.cat([reached[rows[:n_own], stride[:n_own]], here[n_own:]])

        level = torch.tensor(taus, device=path.device)
        target = heading(here, there, level[stride], level[stride + 1], schedule)
        error = (estimate(here, level[stride]) - target).square().flatten(1).mean(1)
        parts = {f"stride_{steps}_{i}": error[stride == i].mean() for i in range(steps) if (stride == i).any()}
        return error.mean(), parts

    @torch.no_grad()
    def _reached(self, inputs: DenoiserInputs, noise: Tensor, taus: tuple[int, ...]) -> Tensor:
        """Where the student's own strides begin, ``(B, steps, C, 128)``."""
        estimate = self.forecaster.estimator(inputs)
        walk = list(denoise(estimate, noise, self.forecaster.schedule, list(taus[:-1])))
        return torch.stack([noise, *walk], dim=1)


def heading(here: Tensor, there: Tensor, tau: Tensor, tau_next: Tensor, schedule: Schedule) -> Tensor:
    """The target that takes an order-1 step from latents ``here`` at ``tau`` to ``there`` at ``tau_next``.

    Solves ``x' = decay x + (1 - decay) target`` of :func:`ecg_gym.world_model.diffusion.denoise`; levels are ``(B,)``.
    """
    now, then = schedule.at(tau, here), schedule.at(tau_next, here)
    decay = ((1 - then) / then).sqrt() / ((1 - now) / now).sqrt()
    return (there / then.sqrt() - decay * here / now.sqrt()) / (1 - decay)


@torch.inference_mode()
def make_paths(
    teacher: Forecaster, source: Source, folder: Path, preset: StudentPreset, device: str = "cpu"
) -> Iterator[Path]:
    """Yields each file of the teacher's paths as it is there; those that exist are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    levels = path_levels(teacher.schedule, preset)
    for number in range(-(-preset.paths // preset.per_file)):
        path = folder / f"paths_{number:05d}.npz"
        if not path.exists():
            rng = np.random.default_rng([preset.loop.seed, number])
            inputs = source(rng, preset.per_file)
            noise = torch.from_numpy(rng.standard_normal((len(inputs), *inputs.latent_shape), dtype=np.float32))
            _write(path, inputs, walk(teacher.to(device), inputs, noise, levels, preset.loop.bf16, device))
        yield path


@torch.inference_mode()
def walk(
    teacher: Forecaster, inputs: DenoiserInputs, noise: Tensor, levels: list[int], bf16: bool, device: str = "cpu",
    chunk: int = 64,
) -> np.ndarray:  # fmt: skip
    """The teacher's paths ``(B, len(levels), C, 128)`` float16 from ``noise`` to a sample, by DPM-Solver++(2M)."""
    parts = []
    for start in range(0, len(noise), chunk):
        rows = slice(start, start + chunk)
        row = path_inputs({f"known.{name}": value.to(device) for name, value in tensors_of(inputs[rows]).items()})
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            begin = noise[rows].to(device)
            points = [begin, *denoise(teacher.estimator(row), begin, teacher.schedule, levels, order="2m")]
        parts.append(torch.stack([p.float() for p in points], dim=1).half().cpu().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class Paths:
    """Stored paths of the teacher."""

    inputs: dict[str, np.ndarray]
    path: np.ndarray  # (N, points, C, 128) float16

    def __len__(self) -> int:
        return len(self.path)

    def draw(self, rng: np.random.Generator, n: int) -> Batch:
        """``n`` random paths as a batch for the loop."""
        rows = rng.integers(len(self), size=n)
        columns = {**{f"known.{name}": column for name, column in self.inputs.items()}, "path": self.path}
        return {name: torch.from_numpy(column[rows]) for name, column in columns.items()}


def read_paths(files: list[Path]) -> Paths:
    """The paths of several files, in their order."""
    parts = []
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            parts.append({name: file[name] for name in file.files})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    inputs = {name.removeprefix("known."): column for name, column in joined.items() if name != "path"}
    return Paths(inputs, joined["path"])


def train(
    teacher: Forecaster, paths: Paths, preset: StudentPreset, folder: Path, show: bool = True
) -> tuple[StudentTrainer, Logs]:
    """The averaged student and the last step's logs; resumes from ``folder`` if a run of this preset stopped there."""
    state = run_record.resume(StudentTrainer(teacher, preset).train(), preset.loop, folder)
    steps = loop.train(state, lambda rng: paths.draw(rng, preset.batch), folder)
    logs: Logs = {}
    for step, logs in loop.report(steps, preset.loop, "student", folder) if show else steps:
        if step % preset.loop.save_every == 0:
            print(f"step {step}: loss {logs['loss']:.4f}", flush=True)
    return state.ema, logs  # type: ignore[return-value]


@torch.inference_mode()
def endpoint_error(student: Forecaster, taus: Mapping[int, Sequence[int]], teacher: Forecaster, paths: Paths) -> Logs:
    """Mean squared latent distance to the teacher's sample out of the same noise, by strides.

    ``teacher_<steps>`` is the teacher's own sampler with as many network calls, which the student must beat.
    """
    rows = torch.from_numpy(paths.path[:, [0, -1]]).float()
    inputs = path_inputs({f"known.{name}": torch.from_numpy(column) for name, column in paths.inputs.items()})
    noise, end, schedule = rows[:, 0], rows[:, 1], teacher.schedule
    errors: Logs = {}
    for steps, levels in taus.items():
        samples = {
            "student": sample(student.estimator(inputs), noise, schedule, "student", taus=list(levels)),
            "teacher": sample(teacher.estimator(inputs), noise, schedule, "dpm++", steps),
        }
        errors |= {f"{who}_{steps}": float((latent - end).square().mean()) for who, latent in samples.items()}
    return errors


def run(
    preset: StudentPreset, teacher: Path | None, trials: Path, folder: Path, *, prepared: Path | None = None,
    publish: Path | None = None, show: bool = True,
) -> Path:  # fmt: skip
    """Distil (or go on distilling) in ``folder`` and write ``student.safetensors``; returns its path.

    ``teacher`` is a file or folder of weights (None: the package's), ``trials`` the folder of virtual trials whose
    patients are met, ``prepared`` the folder where a training of the world model has kept their encoded strips (None:
    the teacher's own folder if it has any, else ``folder``). With ``publish`` the finished student is also written
    there, and into the manifest if that is the package's assets.
    """
    world, codec = WorldModel.load(teacher), _codec_of(teacher)
    forecaster = world.forecaster
    place = folder / f"paths_{digest(forecaster.denoiser)[:12]}"
    result = list(_make(world, preset, codec, trials, prepared or _prepared(teacher, codec, folder), place, show))
    held_out, rest = read_paths(result[:1]), read_paths(result[1:])
    averaged, logs = train(forecaster, rest, preset, folder, show)
    errors = endpoint_error(averaged.forecaster, averaged.taus, forecaster, held_out)
    metrics = {"train": logs, "endpoint_mse": errors}
    print(f"squared distance to the teacher's samples: {errors}", flush=True)
    origin = {"source": "virtual trials (ecg_gym.datasets.transitions), paths of the teacher", "licence": LICENCE}
    for path in filter(None, (folder / WEIGHTS, publish)):
        save_student(
            path,
            averaged.forecaster.denoiser,
            averaged.taus,
            forecaster,
            world.sha256,
            data={"sources": [{**origin, "paths": len(rest)}]},
            metrics=metrics,
            training=asdict(preset),
            revision=git_revision(),
            version=ecg_gym.__version__,
        )
    if publish is not None and publish.parent.samefile(checkpoint.ASSETS):
        checkpoint.add_to_manifest(publish)
    return folder / WEIGHTS


def conditions(world: WorldModel, preset: StudentPreset, codec: Path, trials: Path, folder: Path) -> Source:
    """What the denoiser was told in its training, facts hidden now and then included.

    Strips that the teacher's own training has prepared in ``folder`` are used; the others are prepared there.
    """
    from training import train_denoiser

    forecaster = world.forecaster
    row = train_denoiser.PRESETS["default" if forecaster.prognosis is not None else "paper"]
    trained = dict(world.metadata.get("training", {}))
    row = replace(
        row,
        denoiser_shards=preset.shards,
        reference=str(trained.get("reference", row.reference)),
        projection=None if forecaster.projection is None else forecaster.projection.config,
    )
    data = train_denoiser.drawings(row, world.vae, codec, trials, "train", folder)

    def draw(rng: np.random.Generator, n: int) -> DenoiserInputs:
        return train_denoiser.batch_inputs(
            train_denoiser.draw_batch(rng, data, forecaster.features, replace(row, batch=n))
        )

    return draw


def path_inputs(batch: Batch) -> DenoiserInputs:
    """What is known, out of a batch's ``known.*`` columns."""
    return DenoiserInputs(
        **{name.removeprefix("known."): value for name, value in batch.items() if name.startswith("known.")}
    )


def tensors_of(inputs: DenoiserInputs) -> dict[str, Tensor]:
    """The columns of what is known, by name; those that are absent are left out."""
    columns = {f.name: getattr(inputs, f.name) for f in fields(inputs)}
    return {name: value for name, value in columns.items() if isinstance(value, Tensor)}


def preset_named(name: str, device: str | None = None) -> StudentPreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'tiny' takes a minute")
    preset = PRESETS[name]
    return preset if device is None else replace(preset, loop=replace(preset.loop, device=device))


def _make(
    world: WorldModel, preset: StudentPreset, codec: Path, trials: Path, prepared: Path, place: Path, show: bool
) -> Iterator[Path]:
    """The files of the teacher's paths; those there are need no trials."""
    targets = -(-preset.paths // preset.per_file)
    there = [place / f"paths_{number:05d}.npz" for number in range(targets)]
    if all(path.is_file() for path in there):
        yield from there
        return
    source = conditions(world, preset, codec, trials, prepared)
    for number, path in enumerate(make_paths(world.forecaster, source, place, preset, preset.loop.device)):
        if show and number % 8 == 7:
            print(f"teacher's paths: {(number + 1) * preset.per_file} of {preset.paths}", flush=True)
        yield path


def _prepared(teacher: Path | None, codec: Path, folder: Path) -> Path:
    """Where the encoded strips are kept: beside the teacher if it was trained there."""
    if teacher is None:
        return folder
    beside = teacher if teacher.is_dir() else teacher.parent
    return beside if (beside / f"drawings_{checkpoint.sha256(codec)[:12]}").is_dir() else folder


def _codec_of(teacher: Path | None) -> Path:
    """The codec that belongs to these weights: the one beside them, or the package's."""
    packaged = checkpoint.ASSETS / CODEC
    if teacher is None:
        return packaged
    beside = (teacher if teacher.is_dir() else teacher.parent) / CODEC
    return beside if beside.is_file() else packaged


def _write(path: Path, inputs: DenoiserInputs, points: np.ndarray) -> None:
    columns = {f"known.{name}": value.numpy() for name, value in tensors_of(inputs).items()}
    write_npz(path, {"path": points, **columns})
