"""Train everything that is learned, one stage after another, within so many minutes: `ecg-gym train all`.

    findings    the network that reads findings off strips: everything that follows is read by it
    trials      virtual trials on every core, the first with their strips, the others with what is read off them
    codec       between strips and latents
    intervals   what the next look says
    drawing     the denoiser, which draws a strip that shows it
    student     the sampler of few steps
    calibration bands that cover what they promise, on people that trained nothing
    evaluation  one study on test patients, and a card for each file of weights

Each stage has a share of the time; what one leaves over the next ones have. A stage that falls behind skips steps of
its schedule (``loop.LoopConfig.seconds``) instead of running late. A run that was killed goes on where it stood: the
time of a folder is counted over all its sessions (``time.json``).

With ``start`` every network goes on from weights that are there, at half the learning rate, and the classifier of the
findings stays as it is: it is the judge, and what two world models are worth is comparable only before the same judge.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecg_gym import checkpoint
from ecg_gym.datasets.transitions import make_shards
from ecg_gym.executor import executor
from ecg_gym.io import write_json, write_text
from ecg_gym.risk.classifier import PACKAGED as RISK
from ecg_gym.risk.model import RiskModel
from ecg_gym.world_model.conformal import beside
from ecg_gym.world_model.model import CODEC, WEIGHTS, WorldModel
from ecg_gym.world_model.student import WEIGHTS as STUDENT
from ecg_gym.world_model.vae import VAE
from training import train_codec, train_denoiser, train_findings, train_student
from training.console import SAY
from training.data.sources import REAL_STRIPS
from training.loop import LoopConfig
from training.train_denoiser import READINGS, WorldModelPreset
from training.train_findings import RiskPreset
from training.train_interval_model import IntervalModelPreset
from training.train_student import StudentPreset

CLOCK = "time.json"
STARTED_FROM = "start.json"  # the weights that a folder's training began with
GENTLER = 0.5  # of the learning rate of random weights, for weights that have learned
DRAWN = "drawn"  # in `shards.json`: how many the denoiser learns from
TOGETHER = 20  # shards: each split has some
FEWEST_SHARDS = 20
LARGEST_MIB, LARGEST_MB = 14.0, 20.0  # of one file of weights [MiB]; of all together [MB]
STAGES = ("findings", "trials", "codec", "intervals", "drawing", "student", "calibration", "evaluation")

Clock = Callable[[], float]


@dataclass(frozen=True)
class AllPreset:
    """One way of training everything."""

    minutes: float
    shares: Mapping[str, float]  # of the time, by stage; they are scaled to sum to 1
    findings: RiskPreset
    codec: train_codec.VAEPreset
    world: WorldModelPreset  # its shards have strips
    student: StudentPreset
    readings: int  # shards more, without strips: for the interval model
    calibrated_on: int  # validation patients
    judged_on: int  # test patients
    samples: int = 19


_SHARES = {"findings": 8, "trials": 22, "codec": 18, "intervals": 12, "drawing": 22, "student": 10, "calibration": 4,
           "evaluation": 4}  # fmt: skip


def _presets() -> dict[str, AllPreset]:
    world, codec = train_denoiser.PRESETS, train_codec.PRESETS
    student, findings = train_student.PRESETS, train_findings.PRESETS
    prognosis = IntervalModelPreset()
    prognosis = replace(prognosis, loop=replace(prognosis.loop, steps=8000))
    large = replace(prognosis, width=512, blocks=4, batch=4096, loop=replace(prognosis.loop, steps=20_000, bf16=True))
    wide = codec["wide"]
    usual = AllPreset(
        120, _SHARES, findings["default"], wide, replace(world["default"], prognosis=prognosis, shards=160,
        denoiser_shards=120, situations=60), student["default"], 300, 600, 240,
    )  # fmt: skip
    brief = replace(
        usual, minutes=10,
        findings=replace(findings["default"], virtual_strips=1200),
        codec=replace(wide, model=replace(wide.model, latent_channels=16), virtual_strips=1200),
        world=replace(usual.world, shards=20, denoiser_shards=20, situations=10,
                      prognosis=replace(prognosis, loop=replace(prognosis.loop, steps=1600))),
        student=replace(student["default"], paths=512, per_file=128, shards=20),
        readings=60, calibrated_on=120, judged_on=60,
    )  # fmt: skip
    gpu = replace(
        usual, minutes=12,
        codec=replace(wide, model=replace(wide.model, width=256), batch=256,
                      loop=replace(wide.loop, steps=30_000)),
        world=replace(usual.world, prognosis=large, batch=512, shards=400, denoiser_shards=200, situations=200,
                      loop=replace(usual.world.loop, steps=30_000)),
        student=replace(student["default"], paths=16_384, batch=256, loop=replace(student["default"].loop, steps=4000)),
        readings=4000,
    )  # fmt: skip
    tiny = AllPreset(
        4, _SHARES, findings["tiny"], codec["tiny"], replace(world["tiny"], shards=FEWEST_SHARDS),
        replace(student["tiny"], shards=10), 0, 24, 12, samples=19,
    )  # fmt: skip
    return {"tiny": tiny, "brief": brief, "default": usual, "gpu": gpu}


PRESETS = _presets()


def preset_named(name: str, device: str | None = None) -> AllPreset:
    """The preset of that name, every network of it on ``device`` if one is given; ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'brief' takes ten minutes")
    config = PRESETS[name]
    device = device or ("cuda" if name == "gpu" else None)
    return config if device is None else _each_loop(config, lambda loop: replace(loop, device=device))


@dataclass
class Budget:
    """The time of a folder, over all sessions; ``clock`` counts seconds."""

    folder: Path
    minutes: float
    shares: Mapping[str, float]
    clock: Clock = time.monotonic
    usage: dict[str, float] = field(default_factory=dict)  # [s] by stage, of this and earlier sessions

    def __post_init__(self) -> None:
        path = self.folder / CLOCK
        if path.is_file():
            self.usage = json.loads(path.read_text(encoding="utf-8"))

    def of(self, stage: str) -> float:
        """Seconds that a stage may take in all: its share of what the stages before it have left."""
        at = STAGES.index(stage)
        before = sum(self.usage.get(name, 0.0) for name in STAGES[:at])
        return max(1.0, (60 * self.minutes - before) * self.shares[stage] / sum(self.shares[s] for s in STAGES[at:]))

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[], float]]:
        """Counts the time of a stage; what it yields says how much is left of its share [s], and keeps count."""
        earlier, began, whole = self.usage.get(name, 0.0), self.clock(), self.of(name)

        def left() -> float:
            self.usage[name] = earlier + self.clock() - began
            write_json(self.folder / CLOCK, self.usage)
            return max(0.0, whole - self.usage[name])

        try:
            yield left
        finally:
            left()


def run(
    preset: AllPreset, folder: Path, minutes: float | None = None, *, data: Path | None = None,
    workers: int | None = None, start: Path | None = None, clock: Clock = time.monotonic, show: bool = True,
) -> dict[str, Path]:  # fmt: skip
    """Everything (or what is left of it) into ``folder``: the files of weights by name; ValueError if one is too large.

    ``data`` is a folder of real records, for the networks that see strips. ``workers`` are processes that make trials.
    ``start`` is a folder with the four files of weights to go on from; ValueError where it lacks one, or where
    ``folder`` holds a run that began with others.
    """
    begin(folder, start)
    preset = preset if start is None else continued(preset, start)
    budget = Budget(folder, minutes or preset.minutes, preset.shares, clock)
    weights = {name: folder / name for name in (RISK, CODEC, WEIGHTS, STUDENT)}
    trials = folder / "trials"
    work: dict[str, Callable[[Callable[[], float]], None]] = {
        "findings": lambda left: _findings(preset, folder, data, start, left(), show),
        "trials": lambda left: _trials(preset, folder, left, workers),
        "codec": lambda left: _codec(preset, folder, data, start, left(), show),
        "intervals": lambda left: _intervals(preset, folder, trials, start, left(), show),
        "drawing": lambda left: _drawing(preset, folder, trials, start, left, workers, show),
        "student": lambda left: _student(preset, folder, trials, left(), show),
        "calibration": lambda left: _calibration(preset, folder),
        "evaluation": lambda left: _evaluation(preset, folder),
    }
    for stage in STAGES:
        mark = folder / f"{stage}.done"
        if mark.is_file():
            continue
        with budget.stage(stage) as left:
            work[stage](left)
        write_text(mark, f"{budget.usage[stage]:.0f} s\n")
        SAY.print(f"{stage}: {budget.usage[stage]:.0f} s, {sum(budget.usage.values()) / 60:.1f} min so far")
    check_sizes(list(weights.values()))
    return weights


def begin(folder: Path, start: Path | None) -> None:
    """Keeps in ``folder`` which weights its training began with.

    ValueError where ``start`` lacks a file of weights, or where the folder's training began with others.
    """
    hashes = None
    if start is not None:
        files = [start / name for name in (RISK, CODEC, WEIGHTS, STUDENT)]
        if missing := [path.name for path in files if not path.is_file()]:
            raise ValueError(
                f"{start} has no {', '.join(missing)}; expected a folder with all four files of weights; pass "
                "`shipped` for the package's, or the folder of a finished `train all`"
            )
        hashes = {path.name: checkpoint.sha256(path) for path in files}
    path = folder / STARTED_FROM
    if path.is_file() or (folder / CLOCK).is_file():  # runs of earlier versions kept no start: they had none
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if before != hashes:
            raise ValueError(
                f"{folder} holds a training from {'random' if before is None else 'other'} weights; expected the same "
                "--start as before; give it, or another --out"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, hashes)


def check_sizes(files: list[Path]) -> None:
    """ValueError where a file of weights, or all together, are larger than a package may carry."""
    sizes = {path.name: path.stat().st_size for path in files}
    large = [name for name, size in sizes.items() if size > LARGEST_MIB * 2**20]
    total = sum(sizes.values()) / 1e6
    if large or total > LARGEST_MB:
        listing = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
        raise ValueError(
            f"weights are {listing}, {total:.1f} MB in all; expected at most {LARGEST_MIB:g} MiB each and "
            f"{LARGEST_MB:g} MB together; choose smaller networks"
        )


def continued(preset: AllPreset, start: Path) -> AllPreset:
    """The preset for going on from the weights in ``start``: their sizes, and every learning rate halved."""
    gentle = _each_loop(preset, lambda loop: replace(loop, learning_rate=GENTLER * loop.learning_rate))
    return replace(gentle, codec=replace(gentle.codec, model=VAE.load(start / CODEC).config))


def _each_loop(value: Any, change: Callable[[LoopConfig], LoopConfig]) -> Any:
    """A preset whose own loop and those of its stages are changed."""
    changes = {}
    for name, part in vars(value).items():
        if isinstance(part, LoopConfig):
            changes[name] = change(part)
        elif hasattr(part, "loop"):
            changes[name] = _each_loop(part, change)
    return replace(value, **changes)


def _seconds(preset: Any, seconds: float) -> Any:
    """A preset whose own loop ends in time."""
    return replace(preset, loop=replace(preset.loop, seconds=max(seconds, 1.0)))


def _findings(
    preset: AllPreset, folder: Path, data: Path | None, start: Path | None, seconds: float, show: bool
) -> None:
    if start is not None:
        shutil.copyfile(start / RISK, folder / RISK)
        return
    place = folder / "findings"
    began = time.monotonic()
    train_findings.strips_for(preset.findings, data, place)
    rest = seconds - (time.monotonic() - began)
    shutil.copyfile(train_findings.run(_seconds(preset.findings, 0.9 * rest), data, place, show), folder / RISK)


def _trials(preset: AllPreset, folder: Path, left: Callable[[], float], workers: int | None) -> None:
    """As many shards as there is time for, those with strips first; how many is kept in ``shards.json``."""
    world, whole = preset.world, left()
    design = replace(world.design, classifier=str((folder / RISK).resolve()))
    people = train_denoiser.scenario_starts(train_denoiser.STARTS_PER_SITUATION)
    parts = [
        ("trials", world.shards, design, train_denoiser.scenario_starts(), 0.55 * whole),
        (f"trials/{train_denoiser.SITUATIONS}", world.situations, train_denoiser.in_situations(design),
         people, 0.3 * whole),
        (f"trials/{READINGS}", preset.readings, train_denoiser.of_readings(design),
         train_denoiser.scenario_starts(), 0.0),
    ]  # fmt: skip
    counts = {}
    for name, most, how, starts, until in parts:
        numbers: list[int] = []
        hands = executor((os.cpu_count() or 1) if workers is None else workers)  # which ends with the part
        for _ in make_shards(folder / name, _due(most, until, left, numbers), how, starts, workers=hands):
            left()
        counts[name.rpartition("/")[2]] = len(numbers)
        train_denoiser.write_splits(folder / name, numbers, how)
    write_json(folder / "shards.json", counts)


def _due(most: int, until: float, left: Callable[[], float], numbers: list[int]) -> Iterator[int]:
    """The numbers of the shards to make, each also into ``numbers``: as many, `TOGETHER` by `TOGETHER`, as time allows.

    No more are begun once only ``until`` seconds are left, but for the first `FEWEST_SHARDS`.
    """
    for shard in range(most):
        if shard >= FEWEST_SHARDS and shard % TOGETHER == 0 and left() <= until:
            return
        numbers.append(shard)
        yield shard


def _world(preset: AllPreset, folder: Path) -> WorldModelPreset:
    """The world model's preset with the shards that there was time for."""
    counts = json.loads((folder / "shards.json").read_text(encoding="utf-8"))
    return replace(
        preset.world, shards=counts["trials"], situations=counts[train_denoiser.SITUATIONS],
        readings=counts[READINGS],
        denoiser_shards=min(preset.world.denoiser_shards, counts["trials"], counts.get(DRAWN, counts["trials"])),
    )  # fmt: skip


def _codec(preset: AllPreset, folder: Path, data: Path | None, start: Path | None, seconds: float, show: bool) -> None:
    place, old = folder / "codec", None if start is None else start / CODEC
    path = train_codec.run(_seconds(preset.codec, 0.7 * seconds), data, place, show=show, start=old)
    shutil.copyfile(path, folder / CODEC)


def _intervals(preset: AllPreset, folder: Path, trials: Path, start: Path | None, seconds: float, show: bool) -> None:
    world = _world(preset, folder)
    assert world.prognosis is not None
    world = replace(world, prognosis=_seconds(world.prognosis, 0.8 * seconds))
    old = train_denoiser.prognosis_of(start)
    train_denoiser.foretell(world, trials, folder / "world_model" / "prognosis", show, old)


def _drawing(
    preset: AllPreset, folder: Path, trials: Path, start: Path | None, left: Callable[[], float],
    workers: int | None, show: bool,
) -> None:  # fmt: skip
    _prepare(preset, folder, trials, left, workers)
    world = _seconds(_world(preset, folder), 0.9 * left())
    real = folder / "codec" / REAL_STRIPS
    strips = real if real.is_file() else None
    path = train_denoiser.run(
        world, trials, folder / "world_model", vae=folder / CODEC, show=show, start=start, strips=strips
    )
    shutil.copyfile(path, folder / WEIGHTS)


def _prepare(
    preset: AllPreset, folder: Path, trials: Path, left: Callable[[], float], workers: int | None
) -> None:  # fmt: skip
    """Encodes the shards that the denoiser learns from, for half of its time at most; how many, in ``shards.json``."""
    world, numbers, half = _world(preset, folder), list[int](), 0.5 * left()
    hands = executor((os.cpu_count() or 1) if workers is None else workers)
    due = _due(world.denoiser_shards, half, left, numbers)
    for _ in train_denoiser.prepare(world, trials, folder / "world_model", folder / CODEC, due, hands):
        left()
    counts = json.loads((folder / "shards.json").read_text(encoding="utf-8"))
    write_json(folder / "shards.json", counts | {DRAWN: len(numbers)})


def _student(preset: AllPreset, folder: Path, trials: Path, seconds: float, show: bool) -> None:
    config = replace(preset.student, shards=min(preset.student.shards, _world(preset, folder).denoiser_shards))
    path = train_student.run(
        _seconds(config, 0.6 * seconds), folder, trials, folder / "student", prepared=folder / "world_model", show=show
    )
    shutil.copyfile(path, folder / STUDENT)


def _calibration(preset: AllPreset, folder: Path) -> None:
    from ecg_gym.virtual_patient import VirtualPatient
    from training.evaluation.world_model import calibration

    world, risk = WorldModel.load(folder), RiskModel.load(folder / RISK)
    calibrator = calibration.fit(world, VirtualPatient(), preset.calibrated_on, preset.samples, risk=risk)
    calibrator.save(beside(folder / WEIGHTS))


def _evaluation(preset: AllPreset, folder: Path) -> None:
    from ecg_gym.virtual_patient import VirtualPatient
    from training import model_card
    from training.evaluation.result import Size
    from training.evaluation.world_model import calibration

    world, risk = WorldModel.load(folder), RiskModel.load(folder / RISK)
    size = Size(patients=preset.judged_on, samples=preset.samples)
    bands = calibration.stored(folder / WEIGHTS, world.sha256)
    document = calibration.study(world, VirtualPatient(), size, True, calibration=bands, risk=risk)
    write_json(folder / "calibration.study.json", document)
    for name in (RISK, CODEC, WEIGHTS, STUDENT):
        write_text((folder / name).with_suffix(".md"), model_card.card(folder / name))
