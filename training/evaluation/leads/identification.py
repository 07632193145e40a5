"""The heavy part of ``ecg-gym study leads``: candidates fitted to blocks of synthetic hearts, one JSON file per block.

For every heart all candidate reactions get the short stages of a fit, then the ``SURVIVORS`` with least training error
get the full recording, and then the next ones, until the noise is reached. What is chosen is the candidate with the
least validation error. Blocks that are on disk are not computed again, so a study can be stopped and resumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import atomic_write
from ecg_gym.tissue import REACTIONS, SPARSE_KINDS, DataSet, Spec, biventricular, sheet
from ecg_gym.tissue.fitting import Fit, FitOptions, fit
from ecg_gym.tissue.intervals import factors
from ecg_gym.tissue.judging import held_out_errors
from ecg_gym.tissue.synthetic import Protocol, hearts

TRUTHS = ("ap", "ms", "fhn")  # of the headline; our choice
OUTSIDE = "bocf"  # a truth that is taken out of the catalogue
SURVIVORS = 2
EXPLAINED = 1.5  # times the variance of the noise: a search goes on while no candidate's training error is below
UNPOLISHED = ("neural",)
SHORT = FitOptions(newton_stages=((0.22, 2), (0.55, 2)), stages=((0.22, 6, 0.08), (0.55, 4, 0.07)))
FIRST_LOOK = FitOptions(newton_stages=((0.22, 2),))  # for LARGE reactions, whose Jacobian costs five times the others'
LARGE = ("bocf",)
FIRST_SEED = 100  # of the dense hearts; the rules of the search were chosen on seeds 0 to 9
LONG = FitOptions(newton_stages=((1.0, 4),), intervals=True)
HYBRID = FitOptions(stages=((1.0, 12, 0.03),))
HYBRIDS = {  # fixed hand-made structures, by what they resemble; the reaction they start from is fitted first
    "ap + spline + residual": Spec("ap", "spline", "uv"),
    "ms + edge-mlp + residual": Spec("ms", "edge_mlp", "uv"),
}
NEURAL = Spec("neural", "flux_mlp")  # pure neural


@dataclass(frozen=True)
class Block:
    """Hearts of one truth, one kind of observation, one graph: what one file holds."""

    truth: str  # one reaction, or several joined by "+": the seeds are then drawn for each
    kind: str
    graph: str  # "sheet" or "biventricular"
    seeds: tuple[int, ...]
    baselines: int = 0  # how many of the hearts the hand-made hybrids are fitted to as well

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"{self.graph}-{self.kind}-{self.truth}-{self.seeds[0]}-{self.seeds[-1]}"


def protocol_of(block: Block) -> Protocol:
    """Wide draws for the headline truths; 8 % for ``bocf``, most of whose wide draws do not conduct."""
    return Protocol(parameter_sd=0.08) if block.truth == OUTSIDE else Protocol()


def run_block(block: Block) -> dict[str, Any]:
    """One row per heart: truth, noise, every candidate's errors, the hybrids' errors and the intervals of the truth."""
    graph = sheet() if block.graph == "sheet" else biventricular()
    names = block.truth.split("+")
    data = [heart for name in names for heart in hearts(name, block.seeds, block.kind, graph, protocol_of(block))]
    reactions = [r for r in REACTIONS if r != OUTSIDE or block.truth != OUTSIDE]
    fits = candidates(data, [Spec(r) for r in reactions])
    if block.baselines:
        fits |= hybrids(data[: block.baselines], fits)
    judged = {name: held_out_errors(some, data[: len(some)]) for name, some in fits.items()}
    rows = []
    for k, heart in enumerate(data):
        errors = {name: _row(fits[name][k]) | judged[name][k] for name in fits if k < len(fits[name])}
        assert heart.truth is not None  # synthetic hearts have one
        name = heart.truth.reaction
        row: dict[str, Any] = {"heart": heart.name, "truth": name, "kind": block.kind, "noise": heart.noise}
        row |= {"couplings_ms": [p.onset_ms[1] for p in heart.pacing], "candidates": errors}
        if name in fits:
            row["scores"] = scores(fits[name][k], heart.truth.values)
        rows.append(row)
    return {"block": asdict(block), "rows": rows}


def candidates(data: Sequence[DataSet], specs: Sequence[Spec]) -> dict[str, list[Fit]]:
    """Fits of every spec to every heart, by reaction.

    After the short stages the ``SURVIVORS`` with the least training error are polished, and then the next ones as long
    as no candidate explains the heart's recordings up to ``EXPLAINED`` times their own noise.
    """
    short = [fit([spec], data, FIRST_LOOK if spec.reaction in LARGE else SHORT)[0] for spec in specs]
    order = np.argsort([[f.train_error for f in row] for row in short], axis=0)
    out = [list(row) for row in short]
    open_hearts = list(range(len(data)))
    for first in range(0, len(specs), SURVIVORS):
        for i, spec in enumerate(specs):
            chosen = [
                j for j in open_hearts if i in order[first : first + SURVIVORS, j] and spec.reaction not in UNPOLISHED
            ]
            if chosen:
                begin = {(spec, data[j].key): short[i][j] for j in chosen}
                for j, better in zip(chosen, fit([spec], [data[j] for j in chosen], LONG, begin)[0]):
                    if better.train_error < short[i][j].train_error:
                        out[i][j] = _together(better, short[i][j])
        open_hearts = [j for j in open_hearts if not _explained(data[j], [row[j] for row in out])]
    return {spec.reaction: out[i] for i, spec in enumerate(specs)}


def _together(better: Fit, before: Fit) -> Fit:
    return replace(better, iterations=better.iterations + before.iterations, cpu_s=better.cpu_s + before.cpu_s)


def _explained(data: DataSet, fits: Sequence[Fit]) -> bool:
    """Whether the best training error is near the noise that the recordings themselves show; times show none."""
    return data.kind == "times" or min(f.train_error for f in fits) < EXPLAINED * noise_of(data)


def noise_of(data: DataSet) -> float:
    """Variance of the noise, in the units of a fit's errors, from second differences in time of the train protocols."""
    values = data.values[list(data.train)]
    second = np.diff(values, n=2, axis=1)
    deviation = 1.4826 * float(np.median(np.abs(second - np.median(second)))) / np.sqrt(6)
    return deviation**2 / (float(values.var()) if data.kind == "electrodes" else 1.0)


def hybrids(data: Sequence[DataSet], fits: dict[str, list[Fit]]) -> dict[str, list[Fit]]:
    """The fixed structures, each started from the fit of its bare reaction, and the purely neural one."""
    out: dict[str, list[Fit]] = {}
    for name, spec in HYBRIDS.items():
        begin = {(spec, d.key): fits[spec.reaction][j] for j, d in enumerate(data)}
        out[name] = fit([spec], data, HYBRID, begin)[0]
    return out


def _row(f: Fit) -> dict[str, Any]:
    return {
        "train": f.train_error, "validation": f.validation_error, "cpu_s": f.cpu_s, "stable": f.stable,
        "iterations": f.iterations, "n_parameters": f.n_parameters, "residual_share": f.residual_share,
    }  # fmt: skip


def scores(f: Fit, truth: dict[str, float]) -> dict[str, float]:
    """|log error| of every reaction parameter over the half width of its uncorrected 90 % interval: 1 is its end."""
    out, factor = {}, factors().get(f.spec.reaction, 1.0)
    for name, (low, high) in f.intervals.items():
        half = np.log(high / low) / 2 / factor
        out[name] = float(abs(np.log(f.values[name] / truth[name])) / max(half, 1e-9))
    return out


def blocks(
    hearts_each: int, sparse_each: int, outside: int, ventricles: int, baseline_each: int = 0, size: int = 30
) -> list[Block]:
    """The blocks of a study, the headline first; every block holds all three truths and can stand alone."""
    each, together = size // len(TRUTHS), "+".join(TRUTHS)
    out = [Block(together, "voltage", "sheet", part) for part in _parts(FIRST_SEED, hearts_each, each)]
    out += [
        Block(together, kind, "sheet", part)
        for part in _parts(1000, sparse_each, each) for kind in SPARSE_KINDS
    ]  # fmt: skip
    if baseline_each:  # hybrids cost more than all candidates together
        out.insert(1, Block(together, "voltage", "sheet", tuple(range(4000, 4000 + baseline_each)), 3 * baseline_each))
    out += [Block(OUTSIDE, "voltage", "sheet", part) for part in _parts(2000, outside, size)]
    for part in _parts(3000, ventricles, each):
        out.append(Block(together, "voltage", "biventricular", part))
    return out


def _parts(first: int, count: int, size: int) -> Iterator[tuple[int, ...]]:
    for k in range(0, count, size):
        yield tuple(range(first + k, first + min(k + size, count)))


def run(folder: Path, chosen: Iterable[Block]) -> Iterator[dict[str, Any]]:
    """Every block's result, from its file in ``folder`` where that is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    for block in chosen:
        path = folder / f"{block.name}.json"
        if not path.exists():
            with atomic_write(path) as aside:
                aside.write_text(json.dumps(run_block(block)), encoding="utf-8")
        yield json.loads(path.read_text(encoding="utf-8"))
