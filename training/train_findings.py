"""Train the findings network: draw strips, learn with unknown labels left out, calibrate, and say how good it is.

    run(PRESETS["default"], data, folder)                         # everything, or step by step:
    for step, logs in train(preset, strips, folder): ...          # at the end writes risk.safetensors

Losses are plain cross-entropies without class weights, so that logits stay close to probabilities; what is left over is
taken out by calibration on people of the ``val`` split and of sites that training never met. Figures are of people in
``test``; those of another site are of a calibration that did not see that site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

import ecg_gym
from ecg_gym import checkpoint
from ecg_gym.core import ECG, MODEL_RATE_HZ, MODEL_SAMPLES, limb_from_independent
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.risk.classifier import BATCH, KIND, PACKAGED, FindingsConfig, FindingsNet
from ecg_gym.risk.margins import DEFINED, STEEPNESS, margins
from ecg_gym.waveform import measure
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
    virtual_strips: int = 9600  # how many are synthesised
    rare: float = 0.4  # share of virtual people with an evenly drawn rhythm and conduction


PRESETS = {
    "tiny": RiskPreset(  # seconds: proves that everything runs, learns little
        model=FindingsConfig(width=8, blocks=1),
        loop=LoopConfig(steps=40, warmup=5, learning_rate=5e-3, ema_decay=0.9, save_every=20),
        batch=16,
        virtual_strips=64,
    ),
    "default": RiskPreset(  # about eight minutes on one quiet core with bf16, after two of synthesis
        loop=LoopConfig(steps=3000, warmup=100, learning_rate=2e-3, ema_decay=0.997, weight_decay=0.03, bf16=True),
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
        is_labelled = (batch["findings"] >= 0).float()
        each = functional.binary_cross_entropy_with_logits(logits, batch["findings"].clamp(min=0), reduction="none")
        return (each * is_labelled).sum() / is_labelled.sum().clamp(min=1), {}


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
    scored = Scored.of(network, strips)
    for buffer, values in zip((network.slope, network.margin_weight, network.intercept), calibration(scored)):
        buffer.copy_(torch.from_numpy(values))
    save(network, folder / PACKAGED, preset, strips, report(scored, strips))


@torch.no_grad()
def logits_of(network: FindingsNet, strips: Labelled) -> np.ndarray:
    """Uncalibrated logits ``(N, 17)``."""
    rows = (torch.from_numpy(strips.signal[i : i + BATCH].astype(np.float32)) for i in range(0, len(strips), BATCH))
    parts = [network(part).numpy() for part in rows]
    return np.concatenate(parts) if parts else np.empty((0, len(FINDINGS)))


@dataclass(frozen=True)
class Scored:
    """What the network and the delineator say of strips, and what is known of them."""

    logits: np.ndarray  # (N, 17), uncalibrated
    margins: np.ndarray  # (N, 17)
    findings: np.ndarray  # (N, 17): 1, 0 or -1 for unknown
    split: np.ndarray  # (N,)
    site: np.ndarray  # (N,)

    @classmethod
    def of(cls, network: FindingsNet, strips: Labelled) -> Scored:
        """All strips that were not learned from."""
        held_out = strips.where(strips.split != "train")
        leads = limb_from_independent(held_out.signal.astype(np.float32))
        beyond = margins(measure(ECG(leads, MODEL_RATE_HZ))) if len(leads) else np.empty((0, len(FINDINGS)))
        return cls(logits_of(network, held_out), beyond, held_out.findings, held_out.split, held_out.site)

    def where(self, rows: np.ndarray) -> Scored:
        """The chosen rows."""
        return Scored(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def probabilities(self, parameters: np.ndarray) -> np.ndarray:
        """``(N, 17)`` under the calibration ``parameters (3, 17)``."""
        slope, weight, intercept = parameters
        weighed = slope * self.logits + weight * np.nan_to_num(self.margins) + intercept
        return expit(np.where(DEFINED & np.isfinite(self.margins), STEEPNESS * self.margins, weighed))


def calibration(scored: Scored, without: str | None = None) -> np.ndarray:
    """Slope, margin weight and intercept of each finding ``(3, 17)``, from ``val`` and the sites, less one if asked.

    Real strips together weigh as much as virtual ones. A finding seen too rarely keeps its own logit.
    """
    usable = scored.where(np.isin(scored.split, ("val", "site")) & (scored.site != (without or "")))
    real = usable.site != findings_data.VIRTUAL
    weights = np.ones(len(real))
    if 0 < real.sum() < len(real):
        weights = np.where(real, len(real) / (2 * real.sum()), len(real) / (2 * (~real).sum()))
    parameters = np.empty((3, len(FINDINGS)))
    for i in range(len(FINDINGS)):
        rows = usable.findings[:, i] >= 0
        margin = None if DEFINED[i] else usable.margins[rows, i]
        parameters[:, i] = platt.platt(usable.logits[rows, i], usable.findings[rows, i], margin, weights[rows])
    return parameters


def report(scored: Scored, strips: Labelled) -> dict[str, dict[str, dict[str, float]]]:
    """Per site and finding: AUROC, sensitivity and specificity at 0.5, ECE, and Brier beside that of the prevalence.

    Of people in ``test``; of another site, all its people, under a calibration that did not see it.
    """
    result: dict[str, dict[str, dict[str, float]]] = {}
    for site in sorted(set(scored.site)):
        other = site not in (findings_data.VIRTUAL, findings_data.PTBXL)
        test = scored.where((scored.site == site) & (scored.split == ("site" if other else "test")))
        if not len(test.site):
            continue
        probabilities = test.probabilities(calibration(scored, without=site if other else None))
        train_set = strips.of("train", real=site != findings_data.VIRTUAL)
        result[site] = {}
        for i, name in enumerate(FINDINGS):
            is_labelled, labels = test.findings[:, i] >= 0, train_set.findings[:, i]
            prevalence = float((labels == 1).sum() / max(1, (labels >= 0).sum()))
            result[site][name] = platt.scores(probabilities[is_labelled, i], test.findings[is_labelled, i], prevalence)
    return result


def report_table(document: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """The report for a terminal, a row per finding and origin; a dash where the test holds no case or nothing but."""
    table = Table(title="Findings on people held out", show_lines=False)
    for column in (
        "finding",
        "site",
        "n",
        "cases",
        "AUROC",
        "sensitivity",
        "specificity",
        "Brier",
        "of prevalence",
        "ECE",
    ):
        table.add_column(column, justify="left" if column in ("finding", "site") else "right")
    for origin, rows in document.items():
        for name, score in sorted(rows.items(), key=lambda item: FINDINGS.index(item[0])):
            figures = (
                score.get(key) for key in ("auroc", "sensitivity", "specificity", "brier", "brier_of_prevalence", "ece")
            )
            visible = ["-" if x is None else f"{x:.3f}" for x in figures]
            table.add_row(name, origin, f"{score['n']:.0f}", f"{score['cases']:.0f}", *visible)
    return table


def save(network: FindingsNet, path: Path, preset: RiskPreset, strips: Labelled, document: Mapping[str, Any]) -> str:
    """Write the network with everything needed to know where it came from; returns the SHA-256."""
    sites = sorted(set(strips.site))
    splits = {site: strips.where(strips.site == site).split for site in sites}
    sources = [
        {
            "source": findings_data.SOURCES.get(site, f"{site}: {findings_data.CHALLENGE_SOURCE}"),
            "strips": {split: int((splits[site] == split).sum()) for split in np.unique(splits[site])},
        }
        for site in sites
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
    """The preset's virtual strips and the known folders under ``data`` that are there; kept in ``folder`` once made."""
    path = folder / "strips.npz"
    if not path.is_file():
        parts = [findings_data.virtual(preset.virtual_strips, preset.loop.seed, preset.rare)]
        if data is not None:
            readers = {
                "ptbxl_100hz/labels.csv": findings_data.ptbxl,
                "ludb/ludb.csv": findings_data.ludb,
                "challenge_2020_2021/records": findings_data.challenge,
            }
            parts += [read(data / Path(name).parts[0]) for name, read in readers.items() if (data / name).exists()]
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
