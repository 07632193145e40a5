"""Train the findings network: draw strips, learn with unknown labels left out, calibrate, and say how good it is.

    run(PRESETS["default"], data, folder)                         # everything, or step by step:
    for step, logs in train(preset, strips, folder): ...          # at the end writes risk.safetensors

Losses are plain cross-entropies without class weights, so that logits stay close to probabilities; what is left over is
taken out by calibration on people of the ``val`` split; every figure reported is of people in ``test``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import ecg_gym
from ecg_gym.core import MODEL_RATE_HZ, MODEL_SAMPLES
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.risk.classifier import BATCH, KIND, PACKAGED, FindingsConfig, FindingsNet
from ecg_gym.world_model import checkpoint
from training import loop, platt, run_record
from training.console import results
from training.data import findings as findings_data
from training.data.findings import Labelled
from training.loop import Batch, Logs, LoopConfig
from training.revision import git_revision


@dataclass(frozen=True)
class RiskPreset:
    """One way of training the findings network."""

    model: FindingsConfig = field(default_factory=FindingsConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: int = 32  # strips
    real_fraction: float = 0.4  # of a batch, where there are real strips; the rest is virtual
    virtual_strips: int = 4800  # how many are synthesised


PRESETS = {
    "tiny": RiskPreset(  # seconds: proves that everything runs, learns little
        model=FindingsConfig(width=8, blocks=1),
        loop=LoopConfig(steps=40, warmup=5, learning_rate=5e-3, ema_decay=0.9, save_every=20),
        batch=16,
        virtual_strips=64,
    ),
    "default": RiskPreset(  # about five minutes on one quiet core with bf16, after six of synthesis
        loop=LoopConfig(steps=2000, warmup=100, learning_rate=2e-3, ema_decay=0.997, weight_decay=0.03, bf16=True),
    ),
    "paper": RiskPreset(  # the paper's is a frozen transformer of 90 M weights; this one is a GPU's evening
        model=FindingsConfig(width=64, blocks=4),
        loop=LoopConfig(steps=40_000, warmup=500, learning_rate=1e-3, ema_decay=0.999, bf16=True, device="cuda"),
        batch=128,
        virtual_strips=100_000,
    ),
}


class FindingsTrainer(nn.Module):
    """The network with its objective: what ``training.loop`` trains."""

    def __init__(self, network: FindingsNet) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy averaged over the labels that are known; ``findings (B, 17)`` holds 1, 0 or -1 for unknown."""
        logits = self.network(batch["input"]).float()
        known = (batch["findings"] >= 0).float()
        each = functional.binary_cross_entropy_with_logits(logits, batch["findings"].clamp(min=0), reduction="none")
        return (each * known).sum() / known.sum().clamp(min=1), {}


def draw_batch(rng: np.random.Generator, real: Labelled, virtual: Labelled, preset: RiskPreset) -> Batch:
    """Augmented strips ``input (B, 8, 1024)`` [mV] with ``findings (B, 17)``."""
    fraction = preset.real_fraction if len(real) and len(virtual) else float(len(real) > 0)
    inputs, labels = [], []
    for is_real in rng.random(preset.batch) < fraction:
        strips = real if is_real else virtual
        row = int(rng.integers(len(strips)))
        inputs.append(augment(strips.signal[row].astype(np.float32), rng))
        labels.append(strips.findings[row])
    return {
        "input": torch.from_numpy(np.stack(inputs)),
        "findings": torch.from_numpy(np.stack(labels).astype(np.float32)),
    }


def augment(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A strip ``(8, 1024)`` [mV] as another recording of the same findings might be. The rate stays: it is a finding.

    The start shifts (the two ends meet at a seam), gain and leads vary, the baseline wanders, a lead may be lost, and
    detail above a random 20 to 50 Hz may be gone, as it is in strips that a codec has decoded.
    """
    leads = len(signal)
    signal = np.roll(signal, int(rng.integers(MODEL_SAMPLES)), axis=1)
    mixing = np.eye(leads) + rng.normal(0, 0.04, (leads, leads))
    signal = np.exp(rng.normal(0, 0.2)) * (mixing @ signal)
    if rng.random() < 0.3:
        phase = 2 * np.pi * (rng.uniform(0.05, 0.4) * np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ + rng.random((leads, 1)))
        signal = signal + rng.uniform(0, 0.15, (leads, 1)) * np.sin(phase)
    if rng.random() < 0.3:
        signal = signal + rng.uniform(0, 0.03) * rng.standard_normal(signal.shape)
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(signal, axis=1)
        hz = np.fft.rfftfreq(MODEL_SAMPLES, 1 / MODEL_RATE_HZ)
        signal = np.fft.irfft(spectrum / (1 + (hz / rng.uniform(20, 50)) ** 8), MODEL_SAMPLES, axis=1)
    if rng.random() < 0.15:
        signal[rng.integers(leads)] = 0
    return signal.astype(np.float32)


def train(preset: RiskPreset, strips: Labelled, folder: Path, show: bool = True) -> Iterator[tuple[int, Logs]]:
    """Yields ``(step, logs)``; resumes from ``folder`` if a run of this preset was stopped there.

    At the end ``folder/risk.safetensors`` holds the averaged weights, calibrated on ``val``, with a report on ``test``.
    """
    torch.manual_seed(preset.loop.seed)  # only for the first weights; all later randomness is per step
    real, virtual = strips.of("train", real=True), strips.of("train", real=False)
    state = run_record.resume(FindingsTrainer(FindingsNet(preset.model)), preset.loop, folder)
    steps = loop.train(state, lambda rng: draw_batch(rng, real, virtual, preset), folder)
    yield from loop.report(steps, preset.loop, "risk", folder) if show else steps
    network: FindingsNet = state.ema.network.cpu().eval()  # type: ignore[assignment,union-attr]
    calibrate(network, strips.of("val"))
    save(network, folder / PACKAGED, preset, strips, report(network, strips))


@torch.no_grad()
def logits_of(network: FindingsNet, strips: Labelled) -> np.ndarray:
    """Uncalibrated logits ``(N, 17)``."""
    rows = (torch.from_numpy(strips.signal[i : i + BATCH].astype(np.float32)) for i in range(0, len(strips), BATCH))
    parts = [network(part).numpy() for part in rows]
    return np.concatenate(parts) if parts else np.empty((0, len(FINDINGS)))


def calibrate(network: FindingsNet, held_out: Labelled) -> None:
    """Fits slope and intercept of each finding in place; a finding seen too rarely keeps its own logit."""
    logits = logits_of(network, held_out)
    for i in range(len(FINDINGS)):
        known = held_out.findings[:, i] >= 0
        slope, intercept = platt.platt(logits[known, i], held_out.findings[known, i])
        network.slope[i], network.intercept[i] = slope, intercept


def report(network: FindingsNet, strips: Labelled) -> dict[str, dict[str, dict[str, float]]]:
    """Per origin and finding, on the test split: AUROC, ECE, and Brier beside that of the bare prevalence."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for origin, real in (("virtual", False), ("real", True)):
        test, train_set = strips.of("test", real=real), strips.of("train", real=real)
        if not len(test):
            continue
        logits = torch.from_numpy(logits_of(network, test)).float()
        probabilities = network.probabilities(logits).double().numpy()
        result[origin] = {}
        for i, name in enumerate(FINDINGS):
            known, seen = test.findings[:, i] >= 0, train_set.findings[:, i]
            prevalence = float((seen == 1).sum() / max(1, (seen >= 0).sum()))
            result[origin][name] = platt.scores(probabilities[known, i], test.findings[known, i], prevalence)
    return result


def report_table(document: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """The report for a terminal, a row per finding and origin; a dash where the test holds no case or nothing but."""
    table = Table(title="Findings on people held out", show_lines=False)
    for column in ("finding", "strips of", "n", "cases", "AUROC", "Brier", "Brier of prevalence", "ECE"):
        table.add_column(column, justify="left" if column in ("finding", "strips of") else "right")
    for origin, rows in document.items():
        for name, score in sorted(rows.items(), key=lambda item: FINDINGS.index(item[0])):
            figures = (score.get(key) for key in ("auroc", "brier", "brier_of_prevalence", "ece"))
            visible = ["-" if x is None else f"{x:.3f}" for x in figures]
            table.add_row(name, origin, f"{score['n']:.0f}", f"{score['cases']:.0f}", *visible)
    return table


def save(network: FindingsNet, path: Path, preset: RiskPreset, strips: Labelled, document: Mapping[str, Any]) -> str:
    """Write the network with everything needed to know where it came from; returns the SHA-256."""
    sources = [
        {"source": source, "strips": {split: len(strips.of(split, real=real)) for split in ("train", "val", "test")}}
        for source, real in ((findings_data.VIRTUAL_SOURCE, False), (findings_data.PTBXL_SOURCE, True))
    ]
    return checkpoint.save(
        path,
        KIND,
        network.state_dict(),
        network.config,
        data={"sources": sources},
        metrics=document,
        training=asdict(preset),
        revision=git_revision(),
        version=ecg_gym.__version__,
    )


def strips_for(preset: RiskPreset, data: Path | None, folder: Path) -> Labelled:
    """The preset's virtual strips and those of ``data/ptbxl_100hz`` if there; kept in ``folder`` once made."""
    path = folder / "strips.npz"
    if not path.is_file():
        parts = [findings_data.virtual(preset.virtual_strips, preset.loop.seed)]
        if data is not None and (data / "ptbxl_100hz" / "labels.csv").is_file():
            parts.append(findings_data.ptbxl(data / "ptbxl_100hz"))
        findings_data.save(findings_data.concatenate(parts), path)
    return findings_data.load(path)


def run(preset: RiskPreset, data: Path | None, folder: Path, show: bool = True) -> Path:
    """Make or find the strips, train, print the report, and return the path of the weights in ``folder``."""
    for _ in train(preset, strips_for(preset, data, folder), folder, show):
        pass
    path = folder / PACKAGED
    if show:
        results(130, exact=True).print(report_table(checkpoint.load(path, KIND).metadata["metrics"]))
    return path


def preset_named(name: str, device: str | None = None) -> RiskPreset:
    """The preset of that name, on ``device`` if one is given; ValueError for an unknown name."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset is {name!r}; expected one of {list(PRESETS)}; 'tiny' finishes in seconds")
    preset = PRESETS[name]
    return preset if device is None else replace(preset, loop=replace(preset.loop, device=device))
