"""``ecg-gym train``: every learned thing, one command each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from training.cli.options import ASSETS, Device, Run, Together, Training, Workers, spread
from training.console import SAY as _SAY
from training.console import counting, entrance, refuse, writable

app = typer.Typer(
    help="Train one learned thing; stop it any time, the same command goes on.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
SHIPPED = "shipped"  # as --start: the package's weights
FEW_SHARDS = 4  # so many are made before other processes would have started

Preset = Annotated[str, typer.Option(help="tiny (a minute), default (shipped; two cores), paper (a GPU's work).")]
Start = Annotated[
    Path | None,
    typer.Option(
        help="Weights to begin with, or `shipped` (--preset continued, or wide: 32 channels); default random."
    ),
]
TrialFolder = Annotated[
    Path | None,
    typer.Option(
        "--trials", help="Folder of shards: virtual ones are made if missing (default OUT/trials), real ones tune."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of WFDB records (its folders ptbxl_100hz, ludb ... if there); else virtual ones only."),
]


@app.command("vae")
@spread
def train_vae(
    *,
    preset: Preset = "default",
    data: Data = None,
    start: Start = None,
    training: Together,
) -> None:
    """The codec between strips and latents."""
    from training import train_codec as vae

    start = _shipped(start, vae.PACKAGED)

    def work(config: Any, folder: Path) -> Path:
        return vae.run(config, data, folder, start=start)

    _train("vae", vae, preset, training, "strips*.npz", {"start": start}, work)


def _shipped(start: Path | None, name: str = "") -> Path | None:
    """Where training begins: the package's own weights (the file ``name`` of them, if one is said) for "shipped"."""
    return ASSETS / name if start is not None and str(start) == SHIPPED else start


@app.command("world-model")
@spread
def train_world_model(
    *,
    preset: Preset = "default",
    trials: TrialFolder = None,
    codec: Annotated[Path | None, typer.Option(help="Weights of the codec; default the package's.")] = None,
    start: Start = None,
    strips: Annotated[
        Path | None, typer.Option(help="Real strips as `train vae --data` keeps them (strips_real.npz), to redraw.")
    ] = None,
    training: Together,
) -> None:
    """The world model on virtual trials, or tuned on real ones (`data shards`); the codec stays as it is."""
    from ecg_gym.real_trials.manifest import is_real

    start = _shipped(start)
    if trials is not None and is_real(trials):
        return _train_on_real(preset, trials, codec, start, training)
    from training import train_denoiser

    def work(config: Any, folder: Path) -> Path:
        shards = _trials(config, trials or folder / "trials")
        return train_denoiser.run(config, shards, folder, vae=codec, start=start, strips=strips)

    inputs = {"codec": codec or ASSETS / "vae.safetensors", "start": start, "strips": strips}
    _train("world-model", train_denoiser, preset, training, _shards(trials), inputs, work)


@app.command("policy")
def train_policy(
    algorithm: Annotated[str, typer.Argument(help="ppo, maskable-ppo, recurrent-ppo, dqn or qrdqn.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the policies; default runs/policy-ALGORITHM-WORLD.")
    ] = None,
    world: Annotated[str, typer.Option(help="truth (the virtual patient) or model (the learned world).")] = "truth",
    steps: Annotated[int, typer.Option(min=1, help="Steps of training per seed.")] = 500_000,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.")] = 5,
    envs: Annotated[int, typer.Option(min=1, help="Patients at once.")] = 64,
) -> None:
    """A learner on every scenario at once; stop it any time, the same command goes on."""
    from training.evaluation.benchmark import policy_training

    folder = out or Path("runs") / f"policy-{algorithm}-{world}"
    with entrance(), counting(f"steps of {seeds} trainings", steps * seeds) as advance:
        for path in policy_training.train_policy(
            algorithm, writable(folder), steps, seeds, world, envs, progress=advance
        ):
            _SAY.print(f"policy   {path}")


@app.command("offline")
def train_offline(
    algorithm: Annotated[str, typer.Argument(help="cql (conservative Q-learning) or bc (behaviour cloning).")],
    data: Annotated[Path, typer.Option(help="The .npz of recorded steps (`ecg-gym data offline`).")],
    out: Annotated[Path | None, typer.Option(help="Folder of the policies; default runs/offline-ALGORITHM.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimiser per seed.")] = 50_000,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.")] = 5,
) -> None:
    """A learner from recorded steps alone, by d3rlpy; stop it any time, the same command goes on."""
    from training.evaluation.benchmark import offline_learning

    folder = out or Path("runs") / f"offline-{algorithm}"
    with entrance(), counting(f"steps of {seeds} trainings", steps * seeds) as advance:
        for path in offline_learning.train_offline(algorithm, data, writable(folder), steps, seeds, progress=advance):
            _SAY.print(f"policy   {path}")


def _train_on_real(preset: str, trials: Path, codec: Path | None, start: Path | None, training: Training) -> None:
    """Fine-tune the package's weights, or those of ``start``, on shards of real ECGs."""
    from training import train_real_trials

    def work(config: Any, folder: Path) -> Path:
        return train_real_trials.run(config, trials, folder, start=start, vae=codec)

    inputs = {"codec": codec or ASSETS / "vae.safetensors", "start": start or ASSETS}
    training = replace(training, out=training.out or Path("runs") / f"real-trials-{preset}")
    _train("world-model", train_real_trials, preset, training, trials.absolute() / "trials_*.npz", inputs, work)


@app.command("risk")
@spread
def train_risk(
    *,
    preset: Preset = "default",
    data: Data = None,
    training: Together,
) -> None:
    """The classifier of the 17 findings, calibrated on people it never saw."""
    from training import train_findings

    def work(config: Any, folder: Path) -> Path:
        return train_findings.run(config, data, folder)

    _train("risk", train_findings, preset, training, "strips.npz", {}, work)


@app.command("student")
@spread
def train_student(
    *,
    preset: Preset = "default",
    teacher: Annotated[
        Path | None, typer.Option(help="World model to distil, a file or folder; default the package's.")
    ] = None,
    trials: TrialFolder = None,
    training: Together,
) -> None:
    """The few-step sampler: what the world model draws in many steps, learned for 2 and 4."""
    from training import train_denoiser
    from training import train_student as student

    def work(config: Any, folder: Path) -> Path:
        described = replace(train_denoiser.preset_named(preset), shards=config.shards)
        shards = _trials(described, trials or folder / "trials")
        return student.run(config, teacher, shards, folder)

    inputs = {"teacher": teacher or ASSETS / "world_model.safetensors"}
    _train("student", student, preset, training, _shards(trials), inputs, work)


@app.command("inverse")
@spread
def train_inverse(
    *,
    preset: Annotated[str, typer.Option(help="tiny (seconds) or default (half an hour on two cores).")] = "default",
    trials: Annotated[Path | None, typer.Option(help="Folder of shards, made if missing; default OUT/trials.")] = None,
    codec: Annotated[Path | None, typer.Option(help="Weights of the codec; default the package's.")] = None,
    workers: Workers = 0,
    training: Training,
) -> None:
    """Inverse dynamics on virtual trials: which drug was given between two strips; a proposer."""
    from ecg_gym.executor import executor
    from training import train_inverse as inverse

    def work(config: Any, folder: Path) -> Path:
        return inverse.run(config, trials or folder / "trials", folder, codec, executor(workers))

    inputs = {"codec": codec or ASSETS / "vae.safetensors"}
    _train("inverse", inverse, preset, training, _shards(trials), inputs, work)


@app.command("proposer")
@spread
def train_proposer(
    *,
    preset: Annotated[
        str, typer.Option(help="tiny (a minute) or default (five CPU hours, mostly ranking).")
    ] = "default",
    codec: Annotated[Path | None, typer.Option(help="Weights of the codec; default the package's.")] = None,
    workers: Workers = 0,
    training: Training,
) -> None:
    """The proposer that looks at latents and the patient's card, on the oracle's rankings in the virtual patient."""
    from ecg_gym.executor import executor
    from training import train_proposer as proposer

    def work(config: Any, folder: Path) -> Path:
        return proposer.run(config, folder, codec, executor(workers))

    inputs = {"codec": codec or ASSETS / "vae.safetensors"}
    _train("proposer", proposer, preset, training, "rankings/rankings_*.npz", inputs, work)


@app.command("baseline")
@spread
def train_baseline(
    *,
    name: Annotated[
        str, typer.Argument(help="wgan, stylegan, cecg-gan, tts-cgan, ode-gan, diffusets, diffusets-before or dadm.")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of shards of virtual trials (`ecg-gym train world-model` makes them).")
    ],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimiser; default 6000.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="CPU minutes; the schedule of the steps is shortened to them.")
    ] = None,
    training: Training,
) -> None:
    """A rival generator, on the pairs that our denoiser learns from; for `ecg-gym study baselines`."""
    from training import train_baseline as module
    from training.rivals.catalogue import preset_named

    def work(config: Any, folder: Path) -> Path:
        return module.run(config, data, folder)

    presets = SimpleNamespace(preset_named=partial(preset_named, steps=steps, minutes=minutes))
    _train("baseline", presets, name, training, data.absolute() / "trials_*.npz", {}, work)


@app.command("all")
def train_everything(
    preset: Annotated[str, typer.Option(help="brief (ten minutes), default (two hours on two cores), gpu, tiny.")] = (
        "default"
    ),
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Of wall clock; default the preset's.")] = None,
    device: Device = None,
    data: Data = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of weights to go on from, or `shipped`; their classifier stays. Default random."),
    ] = None,
    out: Run = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that make trials; default every core.")] = None,
) -> None:
    """Trials, codec, interval model, denoiser, student, findings; calibrated and judged, in time; it resumes."""
    from training import train_all
    from training.run_lock import locked

    with entrance():
        config = train_all.preset_named(preset, device)
        folder = writable(out or Path("runs") / f"all-{preset}")
        start = _shipped(start)
    with locked(folder):
        with entrance():
            train_all.begin(folder, start)
        paths = train_all.run(config, folder, minutes, data=data, workers=workers, start=start)
    _SAY.print("\n".join(f"weights  {path}" for path in paths.values()))


def _train(
    kind: str, module: Any, preset: str, training: Training, data: str | Path, inputs: Mapping[str, Path | None],
    work: Callable[[Any, Path], Path],
) -> None:  # fmt: skip
    """Every training command: the preset as the options change it, a folder, a record, the work, and where it lies.

    ``data`` is the pattern of what is learned from, in the folder unless absolute.
    """
    from training import distributed
    from training.loop import AnotherRun
    from training.run_lock import locked
    from training.run_record import record_run

    devices = training.devices if isinstance(training, Together) else 1
    with entrance():
        config = module.preset_named(preset, training.device)
        distributed.check(config.loop.device, devices)
        config = replace(config, loop=replace(config.loop, devices=devices))
        config = config if training.seed is None else _seeded(config, training.seed)
        folder = writable(training.out or Path("runs") / f"{kind}-{preset}")
        files = {name: _there(name, path) for name, path in inputs.items() if path is not None}
    only = locked(folder) if distributed.is_first() else nullcontext()
    try:
        with (
            only,
            record_run(folder, kind, preset, config, data=folder / data, inputs=files, resume=training.resume) as done,
        ):
            path = work(config, folder)
            done(path)
    except AnotherRun as error:
        refuse(error)
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) and "; expected" not in str(error):
            raise  # ours: it keeps its traceback
        refuse(error)
    except distributed.WorkerDone:
        return
    _SAY.print(f"weights  {path}\nrecord   {folder / 'run.json'}")


def _seeded(preset: Any, seed: int) -> Any:
    """The preset with this seed in its loop and in those of its earlier stages; data keep theirs."""
    stages = {f.name: getattr(preset, f.name) for f in fields(preset) if hasattr(getattr(preset, f.name), "loop")}
    seeded = {name: _seeded(stage, seed) for name, stage in stages.items()}
    return replace(preset, loop=replace(preset.loop, seed=seed), **seeded)


def _there(name: str, path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"--{name} is {path}; expected a file or folder of weights; mend the path")
    return path


def _shards(trials: Path | None) -> Path:
    """The pattern of the shards that a run records: those of ``trials``, or those in the folder of the run."""
    return (trials.absolute() if trials else Path("trials")) / "trials_*.npz"


def _trials(preset: Any, folder: Path) -> Path:
    """The folder, after making the preset's shards of virtual trials that are not in it yet, with a bar."""
    from ecg_gym.datasets.splits import shard_name
    from ecg_gym.datasets.transitions import make_shards
    from ecg_gym.executor import executor
    from training.train_denoiser import make_trials

    missing = [shard for shard in range(preset.shards) if not (folder / shard_name(shard)).is_file()]
    with counting("shards of virtual trials", len(missing)) as advance:
        hands = executor((os.cpu_count() or 1) if len(missing) > FEW_SHARDS else 0)
        for _ in make_shards(folder, missing, preset.design, workers=hands):
            advance()
    make_trials(preset, folder)  # nothing is left to make; says who is in which split
    return folder
