"""Train the world model on virtual trials: the prognosis by maximum likelihood, the denoiser by Algorithm 1 of ECG-WM.

The codec is frozen and every strip is encoded once. The denoiser is told the intervals of the strip that it shall
draw, as a delineator finds them after the codec, and the EPK of this patient at these intervals; a batch hides the
anchor, the covariates and some leads now and then, so that the model can do without them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.core import INDEPENDENT_LEADS, Patient
from ecg_gym.datasets import splits
from ecg_gym.datasets.splits import shard_name
from ecg_gym.datasets.transitions import (
    Start,
    TrialDesign,
    Trials,
    concatenate,
    is_held_out,
    make_shards,
    read_shard,
    shard_paths,
    split_of,
)
from ecg_gym.envs.scenarios import load_scenarios
from ecg_gym.executor import Executor, completed
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.anchor import ProjectionConfig, alignment_loss
from ecg_gym.world_model.codecs import Codec, load_codec
from ecg_gym.world_model.conditioning import PEOPLE, FeatureScale, Look, render_features, render_names, unread
from ecg_gym.world_model.denoiser import DenoiserConfig
from ecg_gym.world_model.diffusion import add_noise, prior_weight, world_model_loss
from ecg_gym.world_model.forecaster import DenoiserInputs, Forecaster
from ecg_gym.world_model.interval_model import IntervalModel
from ecg_gym.world_model.model import WEIGHTS, WorldModel, save
from training import loop, run_record, train_interval_model
from training.data.pairs import Drawings, drawings_of, prepare_shard, with_real
from training.data.real_pairs import real_drawings
from training.data.strips import load_strips
from training.loop import Batch, Logs, LoopConfig
from training.revision import git_revision
from training.train_interval_model import IntervalModelPreset

LICENCE = "made by this package (Apache-2.0)"
STARTS_PER_SCENARIO = 8  # how many of its patients each scenario lends to the trials
EPK = "epk"  # folder beside the shards: the physiological prior of their pairs
SITUATIONS = "situations"  # folder beside the shards: trials of people in the scenarios only
READINGS = "readings"  # another: trials of anybody without their strips, for the interval model
STARTS_PER_SITUATION = 64
LIMITS = (
    "Learned from virtual drug trials only; no real post-dose ECG was ever shown to it.",
    "Research only: nothing it draws may guide the care of a person.",
)


@dataclass(frozen=True)
class Objective:
    """Eq. 30 and who listens to it."""

    c: float = 0.25  # weight of the physiological prior (the paper's lambda_EPK)
    weighting: str = "early"  # omega over tau; "paper" is Eq. 28 and collapses the samples
    joint_projection: bool = False  # True lets the diffusion loss train the projection too, as in the paper


@dataclass(frozen=True)
class Hiding:
    """How often something known is hidden from a row of a batch."""

    anchor: float = 0.1  # the anchor is off
    weak_anchor: float = 0.1  # the anchor has a strength between 0 and 1
    person: float = 0.15  # all covariates at once
    leads: float = 0.1  # the reference lacks some leads
    latent_noise: float = 0.05  # largest standard deviation of noise on the reference's latent


@dataclass(frozen=True)
class WorldModelPreset:
    """One way of training the world model."""

    width: int = 192
    blocks: int = 8
    prognosis: IntervalModelPreset | None = field(default_factory=IntervalModelPreset)
    projection: ProjectionConfig | None = None  # the paper's way from a trace of lead II to an anchor
    reference: str = (
        "first"  # strip to redraw: "first" (and another one of the person), or "last", the one right before
    )
    prediction: str = "v"  # of the layers inside; the denoiser returns z0hat
    objective: Objective = field(default_factory=Objective)
    hiding: Hiding = field(default_factory=Hiding)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 64
    shards: int = 260  # of virtual trials; the denoiser learns from the first `denoiser_shards` of them
    denoiser_shards: int = 160
    situations: int = 0  # shards more, of people in the scenarios only: for the prognosis, which else meets few of them
    readings: int = 0  # shards more, of anybody, without strips: for the prognosis
    draws: bool = True  # False keeps the denoiser of --start as it is, and learns a new prognosis only
    foretells: bool = True  # False keeps the prognosis of --start as it is, and learns to draw only
    real: float = 0.15  # share of a batch that is real strips redrawn as they are, where there are any (--data)
    design: TrialDesign = field(default_factory=TrialDesign)


PRESETS = {
    "tiny": WorldModelPreset(  # two minutes, most of it for the patients: proves that everything runs, learns little
        width=32,
        blocks=2,
        prognosis=IntervalModelPreset(
            width=32,
            blocks=1,
            components=2,
            batch=32,
            loop=LoopConfig(steps=30, warmup=5, ema_decay=0.9, save_every=15),
        ),
        loop=LoopConfig(steps=30, warmup=5, ema_decay=0.9, save_every=15),
        batch=16,
        shards=10,
        denoiser_shards=10,
        design=TrialDesign(patients=4, steps=(2,)),
    ),
    "default": WorldModelPreset(  # about an hour on two quiet cores with bf16, patients included
        loop=LoopConfig(steps=12_000, warmup=200, learning_rate=1e-3, ema_decay=0.999, bf16=True, save_every=200),
    ),
    "paper": WorldModelPreset(  # its optimiser, epochs and weighting; its backbone and sizes are not published
        prognosis=None,
        projection=ProjectionConfig(kernel=1, blocks=0),
        reference="last",
        prediction="sample",
        objective=Objective(weighting="paper", joint_projection=True),
        hiding=Hiding(0, 0, 0, 0, 0),
        loop=LoopConfig(steps=80_000, learning_rate=5e-4, warmup=0, final_fraction=0.0, device="cuda"),
    ),
}
_BRIEF = LoopConfig(steps=2500, warmup=200, learning_rate=1e-3, ema_decay=0.999, bf16=True, save_every=200)
PRESETS["continued"] = replace(  # from other weights (--start), with real strips among the virtual ones (--strips)
    PRESETS["default"], foretells=False,
    loop=LoopConfig(steps=3000, warmup=100, learning_rate=5e-4, ema_decay=0.999, bf16=True, save_every=200),
)  # fmt: skip
PRESETS["foretold"] = replace(  # for old weights (--start): their prognosis goes on, with what it was not told before
    PRESETS["default"], shards=160, situations=80, readings=240, draws=False,
    prognosis=IntervalModelPreset(
        loop=LoopConfig(steps=3000, warmup=50, learning_rate=5e-4, ema_decay=0.998, weight_decay=0.1, save_every=100)
    ),
)  # fmt: skip
PRESETS |= {  # for the ablation: the same patients, the same six minutes on one core, one thing changed at a time
    "brief": replace(PRESETS["default"], loop=_BRIEF, denoiser_shards=60),
    "brief-no-epk": replace(
        PRESETS["default"],
        loop=_BRIEF,
        denoiser_shards=60,
        objective=Objective(weighting="none"),
        hiding=Hiding(anchor=1.0),
    ),
    "brief-paper": replace(PRESETS["paper"], loop=replace(_BRIEF, learning_rate=5e-4, warmup=0), denoiser_shards=60),
}


class WorldModelTrainer(nn.Module):
    """The forecaster with its objective: what ``training.loop`` trains."""

    def __init__(self, forecaster: Forecaster, objective: Objective) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.objective = objective

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 30 at a random ``tau`` per row, plus the projection's own loss if there is one; and their parts."""
        inputs, z0 = batch_inputs(batch), batch["after"]
        schedule, row = self.forecaster.schedule, self.objective
        tau = torch.randint(1, schedule.n + 1, (len(z0),), generator=rng, device=z0.device)
        noise = torch.randn(z0.shape, generator=rng, device=z0.device)
        has_prior = batch["has_prior"]
        anchor = self._anchor(inputs.prior, has_prior)
        hidden = anchor if row.joint_projection else anchor.detach()
        active = inputs.strength > 0
        z0hat = self.forecaster.estimator(inputs, hidden * active[:, None, None])(
            add_noise(z0, noise, tau, schedule), tau
        )
        weight = prior_weight(tau, schedule, row.weighting).to(z0.device) * active
        diffusion, parts = world_model_loss(z0, z0hat, hidden, weight, row.c)
        alignment = alignment_loss(anchor, z0, has_prior)
        loss = diffusion if self.forecaster.projection is None else diffusion + alignment
        return loss, {**parts, "diffusion": diffusion, "alignment": alignment}

    def _anchor(self, prior: Tensor, has_prior: Tensor) -> Tensor:
        return prior if self.forecaster.projection is None else self.forecaster.projection(prior, has_prior)


def draw_batch(rng: np.random.Generator, data: Drawings, features: FeatureScale, preset: WorldModelPreset) -> Batch:
    """A batch of pairs with something hidden here and there."""
    rows = rng.integers(len(data) - data.real, size=preset.batch)
    if data.real and preset.real:
        real = rng.random(preset.batch) < preset.real
        rows[real] = rng.integers(len(data) - data.real, len(data), size=int(real.sum()))
    hiding = preset.hiding
    has_prior = data.place[rows] >= 0
    strength = np.where(rng.random(len(rows)) < hiding.weak_anchor, rng.random(len(rows)), 1.0)
    strength = np.where(rng.random(len(rows)) < hiding.anchor, 0.0, strength) * has_prior
    lacks = rng.random(len(rows)) < hiding.leads
    reference = data.before[rows]
    missing = data.missing[reference] & lacks[:, None]
    raw = features_of(data, rows, missing, strength, preset.prognosis is not None)
    names = render_names(preset.prognosis is not None)
    nobody = rng.random(len(rows)) < hiding.person
    first = names.index(PEOPLE[0])
    raw[nobody, first : first + len(PEOPLE)] = np.nan
    before = np.where(lacks[:, None, None], data.masked[reference], data.latent[reference]).astype(np.float32)
    amount = rng.uniform(0, hiding.latent_noise, size=(len(rows), 1, 1))
    columns = {
        "before": before + amount * rng.standard_normal(before.shape, dtype=np.float32),
        "after": data.latent[data.after[rows]],
        "condition": features(raw, names),
        "prior": data.prior_of(rows),
        "strength": strength,
    }
    batch = {name: torch.from_numpy(np.asarray(column, dtype=np.float32)) for name, column in columns.items()}
    return batch | {"has_prior": torch.from_numpy(has_prior)}


def features_of(
    data: Drawings, rows: np.ndarray, missing: np.ndarray, strength: np.ndarray, has_targets: bool
) -> np.ndarray:
    """The denoiser's raw features ``(N, F)`` of these pairs."""
    i, j = data.before[rows], data.after[rows]
    reference = Look(data.observed[i], data.exposure[i], data.hours[i], unread(len(i)))
    targets = data.decoded_intervals[j] if has_targets else None
    return render_features(data.person[j], reference, data.exposure[j], data.hours[j], missing, strength, targets)


def new_forecaster(
    preset: WorldModelPreset, data: Drawings, foretold: tuple[IntervalModel, FeatureScale] | None
) -> Forecaster:
    """A forecaster whose denoiser is untrained, its features scaled to the training data; the prognosis is as given."""
    some = np.random.default_rng(0).permutation(len(data))[:20_000]
    names = render_names(preset.prognosis is not None)
    missing = data.missing[data.before[some]] & (some % 10 == 0)[:, None]
    strength = (data.place[some] >= 0).astype(float)
    features = FeatureScale.fit(names, features_of(data, some, missing, strength, preset.prognosis is not None))
    channels = data.latent.shape[1]
    denoiser = DenoiserConfig(
        len(names), preset.width, preset.blocks, prediction=preset.prediction, latent_channels=channels
    )
    projection = None if preset.projection is None else replace(preset.projection, latent_channels=channels)
    torch.manual_seed(preset.loop.seed)  # only for the first weights; all later randomness is per step
    if foretold is None:
        return Forecaster(denoiser, features, projection=projection)
    forecaster = Forecaster(denoiser, features, foretold[0].config, foretold[1], projection)
    assert forecaster.prognosis is not None
    forecaster.prognosis.load_state_dict(foretold[0].state_dict())
    forecaster.prognosis.requires_grad_(False)
    return forecaster


def train(
    preset: WorldModelPreset,
    data: Drawings,
    folder: Path,
    show: bool = True,
    start: Path | None = None,
    foretold: tuple[IntervalModel, FeatureScale] | None = None,
) -> Iterator[tuple[int, Logs, Forecaster]]:
    """Yields ``(step, logs, averaged forecaster)``; resumes from ``folder`` if a run of this preset stopped there.

    ``start`` is a folder or file of weights to begin with instead of random ones; sizes and features are then theirs,
    and so is the prognosis unless one is given.
    """
    if start is None:
        forecaster = new_forecaster(preset, data, foretold)
    else:
        forecaster = WorldModel.load(start).forecaster
        forecaster = forecaster if foretold is None else with_prognosis(forecaster, *foretold)
    yield from train_from(forecaster, preset, data, folder, show)


def train_from(
    forecaster: Forecaster, preset: WorldModelPreset, data: Drawings, folder: Path, show: bool = True
) -> Iterator[tuple[int, Logs, Forecaster]]:
    """As :func:`train`, from a forecaster in memory: its denoiser learns, its interval model stays."""
    forecaster.requires_grad_(True)
    if forecaster.prognosis is not None:
        forecaster.prognosis.requires_grad_(False)  # it has learned by now, by a loss of its own
    trainer = WorldModelTrainer(forecaster.train(), preset.objective)
    features = trainer.forecaster.features
    state = run_record.resume(trainer, preset.loop, folder)
    steps = loop.train(state, lambda rng: draw_batch(rng, data, features, preset), folder)
    averaged: Forecaster = state.ema.forecaster  # type: ignore[assignment]
    for step, logs in loop.report(steps, preset.loop, "world-model", folder) if show else steps:
        yield step, logs, averaged


@torch.inference_mode()
def validate(forecaster: Forecaster, data: Drawings, rows: int = 512, seed: int = 0) -> dict[str, float]:
    """Mean squared latent errors on held-out patients: of the estimate at random noise, and of what it must beat.

    ``copy`` repeats the reference's latent, ``zero`` is the mean latent, ``anchor`` the EPK alone where it exists,
    ``copy_where_prior`` the copy there. The intervals are the true ones, as in training: this judges the drawing only
    (``ecg-gym study`` judges the forecast).
    """
    take = np.linspace(0, len(data) - 1, min(rows, len(data))).astype(int)
    forecaster = copy.deepcopy(forecaster).cpu()
    inputs = inputs_of(forecaster, data, take)
    before, z0 = inputs.before, torch.from_numpy(data.latent[data.after[take]].astype(np.float32))
    rng = torch.Generator().manual_seed(seed)
    schedule = forecaster.schedule
    tau = torch.randint(1, schedule.n + 1, (len(take),), generator=rng)
    noise = torch.randn(z0.shape, generator=rng)
    z0hat = forecaster.estimator(inputs)(add_noise(z0, noise, tau, schedule), tau)
    mean = forecaster.estimator(inputs)(noise, torch.full_like(tau, schedule.n))
    has_prior = inputs.strength > 0
    errors = {
        "estimate": z0hat - z0,
        "conditional_mean": mean - z0,
        "copy": before - z0,
        "zero": z0,
        "conditional_mean_where_prior": (mean - z0)[has_prior],
        "anchor": (forecaster.anchor(inputs) - z0)[has_prior],
        "copy_where_prior": (before - z0)[has_prior],
    }
    return {name: float(error.square().mean()) for name, error in errors.items() if error.numel()}


def inputs_of(forecaster: Forecaster, data: Drawings, rows: np.ndarray) -> DenoiserInputs:
    """What the denoiser would be told of these pairs, nothing hidden, the true intervals asked for."""
    strength = (data.place[rows] >= 0).astype(np.float32)
    missing = np.zeros((len(rows), len(INDEPENDENT_LEADS)), bool)
    request = forecaster.prognosis is not None
    raw = features_of(data, rows, missing, strength, request)
    condition = forecaster.features(raw, render_names(request))
    columns = (data.latent[data.before[rows]], condition, data.prior_of(rows), strength)
    return DenoiserInputs(*(torch.from_numpy(np.asarray(c, dtype=np.float32)) for c in columns))


def make_trials(preset: WorldModelPreset, folder: Path) -> None:
    """Make the preset's shards of virtual trials that are not in ``folder`` yet (about 20 ms a strip), and say who is
    in which split."""
    _make(folder, range(preset.shards), preset.design, scenario_starts())
    if preset.situations:
        people = scenario_starts(STARTS_PER_SITUATION)
        _make(folder / SITUATIONS, range(preset.situations), in_situations(preset.design), people)
    if preset.readings:
        _make(folder / READINGS, range(preset.readings), of_readings(preset.design), scenario_starts())


def in_situations(design: TrialDesign) -> TrialDesign:
    """The same trials on people of the scenarios only, at their pace, mostly with what is on offer there."""
    return replace(
        design, scenarios=1.0, own_drugs=0.85, watch=(0.2, 0.5, 0.8), pair=0.1,
        dt_hours=tuple(scenario.clock.dt_hours for scenario in load_scenarios().values()),
        strips=False, seed=design.seed + 2,
    )  # fmt: skip


def of_readings(design: TrialDesign) -> TrialDesign:
    """The same trials on other people, without their strips."""
    return replace(design, strips=False, seed=design.seed + 4)


def _make(folder: Path, shards: range, design: TrialDesign, starts: Sequence[Start]) -> None:
    for _ in make_shards(folder, shards, design, starts):
        pass
    write_splits(folder, shards, design)


def write_splits(folder: Path, shards: Sequence[int], design: TrialDesign) -> None:
    """Say beside the shards who is in which split, and what only the test split holds."""
    pairs = [pair for pair in combinations(FORMULARY.medicines, 2) if is_held_out(pair, design)]
    sides = {shard: split_of(shard) for shard in shards}
    splits.write_trials(folder, sides, design.patients, levels=(design.held_out_level,), pairs=pairs)


def scenario_starts(draws: int = STARTS_PER_SCENARIO) -> list[Start]:
    """The scenarios of the environment as situations that trial patients may start in, so many draws of each."""
    starts = []
    for row in load_scenarios().values():
        for draw in range(draws):
            one = row.draw(np.random.default_rng(draw))
            who = dict(one.population) | ({"doses": one.doses} if one.doses else {})
            if one.conditions:
                who["patient"] = Patient(conditions=one.conditions)
            starts.append(Start(who, one.drugs))
    return starts


def run(
    preset: WorldModelPreset, trials: Path, folder: Path, *,
    vae: Path | None = None, publish_every_s: float = 300.0, show: bool = True, start: Path | None = None,
    strips: Path | None = None,
) -> Path:  # fmt: skip
    """Train (or go on training) in ``folder`` and write ``world_model.safetensors``; returns its path.

    ``trials`` is a folder of shards; those of the preset that are missing are made first. The averaged weights so far
    are written every few minutes, so that the best so far can be used. ``start``: see ``train``. ``strips`` is a file
    of real strips as `ecg-gym train vae --data` keeps it: some of a batch are then redrawn as they are.
    """
    codec = vae or checkpoint.ASSETS / "vae.safetensors"
    make_trials(preset, trials)
    if not preset.draws:
        return _foretold_anew(preset, trials, folder, codec, start, show)
    foretold = None
    first: dict[str, Any] = {}
    old = prognosis_of(start)
    if preset.prognosis is not None and (start is None or (preset.foretells and old is not None)):
        foretold, first = foretell(preset, trials, folder / "prognosis", show, old)
    network = load_codec(codec)
    data = {split: drawings(preset, network, codec, trials, split, folder) for split in ("train", "validation")}
    sources = []
    if strips is not None:
        real = load_strips(strips)
        sources = [{"source": source, "strips": int((real.split == "train").sum())} for source in real.sources]
        name = f"real_{checkpoint.sha256(codec)[:12]}_{checkpoint.sha256(strips)[:12]}.npz"
        data["train"] = with_real(data["train"], real_drawings(real, network, folder / name))
    last, path = time.monotonic(), folder / WEIGHTS
    origin = {} if start is None else {"started_from": checkpoint.sha256(start / WEIGHTS if start.is_dir() else start)}
    for step, logs, averaged in train(preset, data["train"], folder, show, start, foretold):
        finished = step == preset.loop.steps
        if finished or time.monotonic() - last > publish_every_s:
            last = time.monotonic()
            metrics = {"step": step, "train": logs, "validation": validate(averaged, data["validation"]), **first}
            _write(path, averaged, codec, preset, data, metrics, origin, sources)
            print(f"step {step}: {metrics['validation']}", flush=True)
    return path


def prepare(
    preset: WorldModelPreset, trials: Path, folder: Path, codec: Path, shards: Iterable[int], workers: Executor
) -> Iterator[Path]:
    """Encodes the strips of these shards, which :func:`run` then finds in ``folder``; yields each shard's file."""
    work = partial(prepare_shard, codec, drawings_folder(folder, codec), trials / EPK, preset.projection is not None)
    for path, _ in completed(workers, work, (trials / shard_name(shard) for shard in shards)):
        yield path


def drawings_folder(folder: Path, codec: Path) -> Path:
    """Where what this codec made of the strips is kept."""
    return folder / f"drawings_{checkpoint.sha256(codec)[:12]}"


def _foretold_anew(
    preset: WorldModelPreset, trials: Path, folder: Path, codec: Path, start: Path | None, show: bool
) -> Path:
    """The weights of ``start`` with a prognosis that has gone on learning, and the denoiser as it was."""
    if start is None or preset.prognosis is None:
        raise ValueError(
            "this preset learns a prognosis for weights that are there, and start is None; expected a folder or file "
            "of weights; pass --start ecg_gym/assets, or train everything with --preset default"
        )
    learned, first = foretell(preset, trials, folder / "prognosis", show, prognosis_of(start))
    forecaster = with_prognosis(WorldModel.load(start).forecaster, *learned)
    origin = {"started_from": checkpoint.sha256(start / WEIGHTS if start.is_dir() else start)}
    _write(folder / WEIGHTS, forecaster, codec, preset, {}, first, origin)
    return folder / WEIGHTS


def prognosis_of(start: Path | None) -> tuple[IntervalModel, FeatureScale] | None:
    """The prognosis in a folder or file of weights, with its features; None where there is none."""
    old = None if start is None else WorldModel.load(start).forecaster
    if old is None or old.prognosis is None:
        return None
    assert old.outlook is not None
    return old.prognosis, old.outlook


def with_prognosis(old: Forecaster, prognosis: IntervalModel, features: FeatureScale) -> Forecaster:
    """The same denoiser with another prognosis."""
    forecaster = Forecaster(old.denoiser.config, old.features, prognosis.config, features)
    forecaster.denoiser.load_state_dict(old.denoiser.state_dict())
    assert forecaster.prognosis is not None
    forecaster.prognosis.load_state_dict(prognosis.state_dict())
    return forecaster


def foretell(
    whole: WorldModelPreset, trials: Path, folder: Path, show: bool = True,
    start: tuple[IntervalModel, FeatureScale] | None = None,
) -> tuple[tuple[IntervalModel, FeatureScale], dict[str, Any]]:  # fmt: skip
    """The first stage: a trained prognosis with its features, and what it reached on held-out patients."""
    preset = whole.prognosis
    assert preset is not None
    more = {SITUATIONS: whole.situations, READINGS: whole.readings}
    folders = [trials, *(trials / name for name, shards in more.items() if shards)]
    people = {split: without_strips(folders, split) for split in ("train", "validation")}
    logs: Logs = {}
    for _, logs, learned, features in train_interval_model.train(preset, people["train"], folder, show, start):  # noqa: B007
        pass
    learned, features = train_interval_model.finished(preset, people["train"], folder, start)
    logs = logs or (loop.losses(folder) or [{}])[-1]  # of a run that had ended before
    learned.requires_grad_(False)
    train_interval_model.widen(learned, features, people["validation"])
    reached = train_interval_model.validate(learned, features, people["validation"])
    pairs = {split: len(train_interval_model.pairs_of(part)) for split, part in people.items()}
    return (learned, features), {"prognosis": {"train": logs, "validation": reached, "pairs": pairs}}


def without_strips(folders: Sequence[Path], split: str) -> Trials:
    """The trials of a split without their waveforms: what the prognosis learns from. No person is in two folders."""
    parts: list[Trials] = []
    for folder in folders:
        beyond = 1 + max((int(part.patient.max()) for part in parts), default=-1)
        parts += [replace(part, patient=part.patient + beyond) for part in _shards_without_strips(folder, split)]
    return concatenate(parts)


def _shards_without_strips(trials: Path, split: str) -> list[Trials]:
    stored, parts = splits.read_trials(trials), []
    for path in shard_paths(trials, split):
        part = read_shard(path)
        stored.check(
            int(path.stem.split("_")[1]), split,
            patient=part.patient, treatment=part.treatment, held_out=part.held_out,
        )  # fmt: skip
        parts.append(replace(part, strips=np.zeros((len(part), 0), np.float16)))
    return parts


def drawings(preset: WorldModelPreset, vae: Codec, codec: Path, trials: Path, split: str, folder: Path) -> Drawings:
    """The encoded pairs of a split, prepared shard by shard and kept under ``folder``."""
    paths = [path for path in shard_paths(trials, split) if int(path.stem.split("_")[1]) < preset.denoiser_shards]
    cache = drawings_folder(folder, codec)
    return drawings_of(paths, vae, cache, trials / EPK, preset.reference, preset.projection is not None)


def _write(
    path: Path, forecaster: Forecaster, codec: Path, preset: WorldModelPreset, data: Mapping[str, Drawings],
    metrics: dict[str, Any], origin: dict[str, str], real: Sequence[Mapping[str, Any]] = (),
) -> None:  # fmt: skip
    source = {
        "source": "virtual trials (ecg_gym.datasets.transitions)",
        "licence": LICENCE,
        "pairs_drawn": {split: len(samples) for split, samples in data.items()},
        "shards": {split: sum(split_of(s) == split for s in range(preset.shards)) for split in data},
    }
    save(
        path,
        forecaster,
        checkpoint.sha256(codec),
        data={"sources": [source, *real]},
        metrics=metrics,
        training=asdict(preset),
        limits=list(LIMITS),
        revision=git_revision(),
        version=ecg_gym.__version__,
        **origin,
    )


def batch_inputs(batch: Batch) -> DenoiserInputs:
    """What the denoiser is told of a batch of pairs, out of its tensors by name."""
    return DenoiserInputs(batch["before"], batch["condition"], batch["prior"], batch["strength"])


def preset_named(name: str, device: str | None = None) -> WorldModelPreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'tiny' takes a minute")
    preset = PRESETS[name]
    if device is None:
        return preset
    first = preset.prognosis
    return replace(
        preset,
        loop=replace(preset.loop, device=device),
        prognosis=None if first is None else replace(first, loop=replace(first.loop, device=device)),
    )
