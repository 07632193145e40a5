"""Train the codec: the objective, the augmentation, the presets, and the run that writes ``vae.safetensors``.

The objective looks at what a cardiologist measures. Plain errors would be spent on the QRS complex and on noise, so
small waves weigh more, slopes count on their own, and the error *averaged over the beats of a strip* counts again,
as it is, against the wave it sits on, and by its slope: that part is systematic, and it is what moves an interval
measured on the median beat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.world_model.vae import KIND, VAE, VAEConfig
from training import loop, run_record
from training.data.sources import strips_for
from training.data.strips import Strips, augment
from training.loop import Batch, Logs, LoopConfig
from training.revision import git_revision

PACKAGED = "vae.safetensors"
BEAT_SAMPLES = (-36, 62)  # around each R peak: 0.35 s before to 0.61 s after, P onset to T end at most rates


@dataclass(frozen=True)
class Objective:
    """Weights of the loss; every error is in mV, so the terms compare."""

    small_wave: float = 0.2  # [mV] extra weight 0.2 / (0.1 + local amplitude): 2 on a flat line, 0.2 on a QRS
    square: float = 4.0  # [1/mV] keeps large errors rare
    slope: float = 1.5  # error of the sample-to-sample difference
    beat: float = 3.0  # error averaged over the beats of the strip
    beat_wave: float = 0.0  # [mV] the same on shown leads over (0.03 + local amplitude of the average beat)
    beat_slope: float = 0.0  # [mV] its slope over (0.01 + local slope of the average beat): where waves begin and end
    kl: float = 5e-4  # per latent number; small: the latent should be smooth, not normal


@dataclass(frozen=True)
class VAEPreset:
    """One way of training the codec."""

    model: VAEConfig = field(default_factory=VAEConfig)
    objective: Objective = field(default_factory=Objective)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 32  # strips
    real_fraction: float = 0.6  # of a batch; the rest is virtual
    virtual_strips: int = 8000  # how many are synthesised
    rare: float = 0.4  # share of virtual people with an evenly drawn rhythm and conduction


# Weighs flat lines and the edges of waves ten times more; random weights would only learn to be flat from it.
FINE = Objective(square=6.0, beat_wave=0.3, beat_slope=0.4)

PRESETS = {
    "tiny": VAEPreset(  # seconds: proves that everything runs, learns little
        model=VAEConfig(width=16, fine_width=8, dilations=(1, 4)),
        loop=LoopConfig(steps=40, warmup=5, learning_rate=3e-3, ema_decay=0.9, save_every=20),
        batch=8,
        virtual_strips=32,
        rare=0.0,
    ),
    "default": VAEPreset(  # about 35 minutes on one core with bf16
        loop=LoopConfig(steps=6500, warmup=100, learning_rate=1.5e-3, ema_decay=0.998, bf16=True),
    ),
    "continued": VAEPreset(  # from the weights of default (--start): intervals; about 25 minutes
        objective=FINE,
        loop=LoopConfig(steps=4500, warmup=100, learning_rate=1e-3, ema_decay=0.998, seed=11, bf16=True),
        real_fraction=0.5,
        virtual_strips=6000,
    ),
    "wide": VAEPreset(  # 32 channels, from a narrower codec (--start); half an hour of one core
        model=VAEConfig(latent_channels=32),
        objective=FINE,
        loop=LoopConfig(
            steps=18_000, warmup=100, learning_rate=8e-4, ema_decay=0.998, seed=12, bf16=True, save_every=500
        ),
        batch=12,
        real_fraction=0.7,
        virtual_strips=6000,
    ),
    "paper": VAEPreset(  # the published codec has three U-Net levels of 128 to 512 channels: a GPU's work
        model=VAEConfig(width=384, fine_width=128, dilations=(1, 2, 4, 8, 16, 1, 2, 4)),
        objective=Objective(small_wave=0.0, slope=0.0, beat=0.0, kl=1e-4),
        loop=LoopConfig(steps=100_000, warmup=1000, learning_rate=5e-4, ema_decay=0.9995, bf16=True, device="cuda"),
        batch=128,
        virtual_strips=50_000,
    ),
}


class VAETrainer(nn.Module):
    """The codec with its objective: what ``training.loop`` trains."""

    def __init__(self, vae: VAE, objective: Objective) -> None:
        super().__init__()
        self.vae = vae
        self.objective = objective

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its parts for ``input`` and ``target (B, 8, 1024)`` [mV], ``mask (B, 8)`` and ``peaks (B, P)``.

        Leads that the mask hides are asked for all the same: that is how the codec learns to fill them in.
        """
        mean, log_variance = self.vae.posterior(batch["input"], batch["mask"])
        noise = torch.randn(mean.shape, generator=rng, device=mean.device)
        decoded = self.vae.reconstruct(mean + (log_variance / 2).exp() * noise)
        error = decoded - batch["target"]
        weight = self.objective
        rest = batch["target"].median(dim=-1, keepdim=True).values
        rows = batch["mask"][:, :, None]
        beat_error = beat_average(error, batch["peaks"])
        beat = beat_average(batch["target"] - rest, batch["peaks"])
        steepness = local_amplitude(beat.diff(dim=-1), 5)
        parts = {
            "mae_mv": error.abs().mean(),
            "small_wave": (error.abs() / (0.1 + local_amplitude(batch["target"] - rest))).mean(),
            "square": error.square().mean(),
            "slope": error.diff(dim=-1).abs().mean(),
            "beat": beat_error.abs().mean(),
            "beat_wave": (rows * beat_error.abs() / (0.03 + local_amplitude(beat, 11))).mean(),
            "beat_slope": (rows * beat_error.diff(dim=-1).abs() / (0.01 + steepness)).mean(),
            "kl": (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2,
        }
        loss = parts["mae_mv"] + sum(getattr(weight, name) * parts[name] for name in asdict(weight))
        return loss, parts


def local_amplitude(deflection: Tensor, window: int = 21) -> Tensor:
    """The largest deflection from zero within ``window`` samples (odd) around each sample; shape as given."""
    return functional.max_pool1d(deflection.abs(), window, stride=1, padding=window // 2)


def beat_average(signal: Tensor, peaks: Tensor) -> Tensor:
    """The mean over beats ``(B, 8, W)`` of windows around R peaks ``(B, P)``, -1 where there is none.

    Peaks without a whole window are left out; a strip without any other (asystole, fibrillation) gives zeros.
    """
    b, c, t = signal.shape
    first, last = BEAT_SAMPLES
    whole = (peaks + first >= 0) & (peaks + last <= t)
    index = (peaks.clamp(-first, t - last)[:, :, None] + torch.arange(first, last, device=peaks.device)).flatten(1)
    windows = signal.gather(2, index[:, None, :].expand(b, c, -1)).unflatten(2, (peaks.shape[1], last - first))
    weight = whole.to(signal.dtype)[:, None, :, None]
    return (windows * weight).sum(2) / weight.sum(2).clamp(min=1)


def draw_batch(rng: np.random.Generator, real: Strips, virtual: Strips, preset: VAEPreset) -> Batch:
    """A batch of augmented strips; each row is real with probability ``real_fraction`` (if there are both kinds)."""
    fraction = preset.real_fraction if len(real) and len(virtual) else float(len(real) > 0)
    rows = []
    for is_real in rng.random(preset.batch) < fraction:
        strips = real if is_real else virtual
        rows.append(augment(strips, int(rng.integers(len(strips))), rng))
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def train(
    preset: VAEPreset, real: Strips, virtual: Strips, folder: Path, show: bool = True, start: Path | None = None
) -> Iterator[tuple[int, Logs]]:
    """Yields ``(step, logs)``; resumes from ``folder`` if a run of this preset was stopped there.

    ``start`` is a file of weights to begin with instead of random ones; the network's size is then theirs, but for the
    latent channels, of which a preset may have more. At the end
    the averaged weights stand in ``folder/vae.safetensors``, latent scale measured and stored.
    """
    torch.manual_seed(preset.loop.seed)  # only for the first weights; all later randomness is per step
    vae = (
        VAE(preset.model) if start is None else widened(VAE.load(start), preset.model.latent_channels, preset.loop.seed)
    )
    trainer = VAETrainer(vae.requires_grad_(True).train(), preset.objective)
    state = run_record.resume(trainer, preset.loop, folder)
    steps = loop.train(state, lambda rng: draw_batch(rng, real, virtual, preset), folder)
    yield from loop.report(steps, preset.loop, "vae", folder) if show else steps
    averaged: VAE = state.ema.vae.cpu()  # type: ignore[assignment]
    measure_latent_scale(averaged, real, virtual)
    save(averaged, folder / PACKAGED, preset, [real, virtual], {}, **origin(start))


def run(preset: VAEPreset, data: Path | None, folder: Path, show: bool = True, start: Path | None = None) -> Path:
    """Make or find the strips, train, study what the codec keeps, and return the path of the weights in ``folder``.

    ``data`` holds folders of real records (see ``strip_sources.SOURCES``); without it only virtual strips are used.
    ``start``: see ``train``.
    """
    from training.evaluation.world_model import codec

    real, virtual = strips_for(preset.virtual_strips, preset.loop.seed, data, folder, preset.rare)
    learned = [real.of("train"), virtual.of("train")]
    for _ in train(preset, learned[0], learned[1], folder, show, start):
        pass
    path = folder / PACKAGED
    vae, metrics = VAE.load(path), {}
    for name, strips, rows in (("real", real, learned[0]), ("virtual", virtual, learned[1])):
        held_out = strips.where(strips.split != "train")
        if len(held_out) and len(rows):
            metrics[f"held_out_{name}"] = codec.judge(vae, rows, held_out, preset.loop.seed)
            codec.figure(vae, {name: (rows, held_out)}, seed=preset.loop.seed).savefig(folder / f"codec_{name}.png")
    save(vae, path, preset, learned, metrics, **origin(start))
    return path


def widened(vae: VAE, channels: int, seed: int = 0) -> VAE:
    """The codec with so many latent channels: the old ones as they were, the new ones small and at first unheard.

    Raises ValueError for fewer channels than it has.
    """
    old = vae.config.latent_channels
    if channels < old:
        raise ValueError(
            f"the preset has {channels} latent channels, the weights {old}; expected at least as many; start without "
            "--start, or choose a preset with more"
        )
    if channels == old:
        return vae
    result = VAE(replace(vae.config, latent_channels=channels))
    new, old_state, rng = result.state_dict(), vae.state_dict(), torch.Generator().manual_seed(seed)
    for name, value in old_state.items():
        if new[name].shape == value.shape:
            new[name] = value.clone()
    for name in ("encoder.head.weight", "encoder.head.bias"):  # the means first, then the log-variances
        head, row = torch.zeros_like(new[name]), old_state[name]
        head[:old], head[channels : channels + old] = row[:old], row[old:]
        if name.endswith("weight"):
            head[old:channels] = 0.05 * torch.randn(head[old:channels].shape, generator=rng)
        else:
            head[channels + old :] = -4.0
        new[name] = head
    stem = 0.02 * torch.randn(new["decoder.stem.weight"].shape, generator=rng)
    stem[:, :old] = old_state["decoder.stem.weight"]
    new["decoder.stem.weight"] = stem
    for name in ("latent_mean", "latent_std"):
        new[name][:old] = old_state[name]
    result.load_state_dict(new)
    return result.eval()


def origin(start: Path | None) -> dict[str, str]:
    """For the checkpoint: the hash of the weights that training began with, if it did not begin at random."""
    return {} if start is None else {"started_from": checkpoint.sha256(start)}


@torch.no_grad()
def measure_latent_scale(vae: VAE, *sets: Strips) -> None:
    """Store each latent channel's mean and standard deviation over (at most 1000 strips each of) the training sets."""
    means = []
    for strips in sets:
        for rows in np.array_split(np.arange(len(strips))[:: max(1, len(strips) // 1000)], 32):
            if len(rows):
                means.append(vae.posterior(torch.from_numpy(strips.signal[rows].astype(np.float32)))[0])
    latents = torch.cat(means)
    vae.set_latent_scale(latents.mean(dim=(0, 2)), latents.std(dim=(0, 2)))


def save(
    vae: VAE, path: Path, preset: VAEPreset, sets: list[Strips], metrics: Mapping[str, object], **more: Any
) -> str:
    """Write the codec with everything needed to know where it came from; returns the SHA-256."""
    return checkpoint.save(
        path,
        KIND,
        vae.state_dict(),
        vae.config,
        data={"sources": [source for strips in sets for source in strips.provenance()]},
        metrics=metrics,
        training=asdict(preset),
        latent_mean=vae.latent_mean.flatten().tolist(),
        latent_std=vae.latent_std.flatten().tolist(),
        revision=git_revision(),
        version=ecg_gym.__version__,
        **more,
    )


def preset_named(name: str, device: str | None = None) -> VAEPreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'tiny' finishes in seconds")
    preset = PRESETS[name]
    return preset if device is None else replace(preset, loop=replace(preset.loop, device=device))
