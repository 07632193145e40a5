"""The heavy part of ``ecg-gym study leads``: candidates fitted to synthetic hearts, one JSON file per heart.

For every heart all candidate reactions get the short stages of a fit, then the ``SURVIVORS`` with least training error
get the full recording, and then the next ones, and then all again and anew, until the noise is reached on what is
fitted and nearly on what chooses. Candidates that come near the best one go on once more. What is chosen is the
candidate with the least validation error. Hearts that are on disk are not computed again, so a study can be stopped and
goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.executor import Executor, completed
from ecg_gym.io import atomic_write
from ecg_gym.tissue import REACTIONS, SPARSE_KINDS, DataSet, Spec, biventricular, sheet
from ecg_gym.tissue.fitting import Fit, FitOptions, fit, flushed_denormals, model_of, protocol_stimuli
from ecg_gym.tissue.intervals import Z90, estimate
from ecg_gym.tissue.judging import held_out_errors
from ecg_gym.tissue.objective import TIME_UNIT_MS, Target
from ecg_gym.tissue.synthetic import VENTRICLES, Protocol, hearts

TRUTHS = ("ap", "ms", "fhn")  # of the headline; our choice
OUTSIDE = "bocf"  # a truth that is taken out of the catalogue
MECHANISTIC = tuple(name for name in REACTIONS if name != "neural")  # the candidates; a network is a baseline
SURVIVORS = 2
LOOKS = 4  # candidates that get the full recording while nothing explains a heart
EXPLAINED = 1.15  # times the variance of the noise: a search goes on while no candidate's training error is below
STEP_ERROR = 1e-4  # mean square of u that steps of 0.5 ms leave where the truth has 0.1: small noise hides behind it
EXPLAINED_TIMES = 1.3  # the same for times, whose errors also hold a soft term
VALID = 10.0  # times the variance of the noise: a candidate with more on the validation pacing explains nothing
RIVALS = 2.5  # times the least training error: candidates below go on once more
TURNS = 4  # more rounds for hearts that no candidate explains; half as many on graphs of MANY_NODES
MANY_NODES = 500
SHORT = FitOptions(newton_stages=((0.22, 2), (0.55, 2)))
PATIENT = FitOptions(newton_stages=((0.12, 4), (0.25, 4), (0.55, 4)))  # for sparse observation, where SHORT is stuck
FIRST_LOOK = FitOptions(newton_stages=((0.22, 2),))  # for LARGE reactions, whose Jacobian costs five times the others'
LARGE = ("bocf",)
DENSE, HYBRIDS_TOO, SPARSE, BEYOND, BOTH_VENTRICLES = 20_000, 21_000, 22_000, 23_000, 24_000
# first seeds of the hearts that are judged; the search's rules were chosen on seeds below 10,000
LONG = FitOptions(newton_stages=((1.0, 6),))
ANEW = FitOptions(restarts=4, newton_stages=((0.22, 3), (0.55, 3), (1.0, 6)))
PLAIN = FitOptions(effort=0.5)  # of the purely neural reaction
HYBRID = FitOptions(stages=((1.0, 26, 0.03),))  # as many steps as the last stage of a fit usually has
HYBRIDS = {  # fixed hand-made structures, by what they resemble; the reaction they start from is fitted first
    "ap + spline + residual": Spec("ap", "spline", "uv"),
    "ms + edge-mlp + residual": Spec("ms", "edge_mlp", "uv"),
}
NEURAL = Spec("neural", "spline")
NETWORK_EVERY = 3  # hearts with hybrids per heart with the purely neural model, which takes longer than all else
BASELINES = (*HYBRIDS, "neural")  # fitted to some hearts, never named


@dataclass(frozen=True)
class Case:
    """One heart of a study: what one file holds."""

    truth: str
    kind: str  # of observation
    graph: str  # "sheet" or "biventricular"
    seed: int
    baselines: bool = False  # whether the hand-made hybrids and the network are fitted to it as well

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"{self.graph}-{self.kind}-{self.truth}-{self.seed}"


def protocol_of(case: Case) -> Protocol:
    """Wide draws for the headline truths; 8 % for ``bocf``, most of whose wide draws do not conduct."""
    if case.graph == "biventricular":
        return VENTRICLES
    return Protocol(parameter_sd=0.08) if case.truth == OUTSIDE else Protocol()


def run_case(case: Case) -> dict[str, Any]:
    """The row of a heart: noise, errors of candidates and baselines, scores of the true reaction's intervals."""
    graph = sheet() if case.graph == "sheet" else biventricular()
    heart = hearts(case.truth, [case.seed], case.kind, graph, protocol_of(case))[0]
    fits = candidates(heart, [Spec(r) for r in MECHANISTIC if r != OUTSIDE or case.truth != OUTSIDE])
    every = fits | (baselines(heart, fits, case.seed % NETWORK_EVERY == 0) if case.baselines else {})
    row: dict[str, Any] = asdict(case) | {"heart": f"{case.truth}-{case.seed}", "noise": heart.noise}
    row["couplings_ms"] = [p.onset_ms[1] for p in heart.pacing]
    row["candidates"] = {name: _errors(f) | held_out_errors([f], [heart])[0] for name, f in every.items()}
    dense = case.kind == "voltage" and case.graph == "sheet"
    return row | (scores(fits[case.truth], heart) if dense and case.truth in fits else {})


def candidates(heart: DataSet, specs: Sequence[Spec]) -> dict[str, Fit]:
    """The best fit of every spec to one heart, by reaction.

    After the short stages the ``SURVIVORS`` with the least training error get the full recording, then the next ones.
    While none explains the recordings, all but the ``LARGE`` go on and begin anew from other parameters, in turn: the
    true reaction is often far behind after a short look. ``RIVALS`` of the best go on once more at the end; times say
    little of a voltage and fits to them stop in many places, so there rivals begin anew as well.
    """
    usual = PATIENT if heart.kind in SPARSE_KINDS else SHORT
    fits = {s: fit([s], [heart], FIRST_LOOK if s.reaction in LARGE else usual)[0][0] for s in specs}
    order = sorted(specs, key=lambda s: fits[s].train_error)
    for k in range(0, LOOKS, SURVIVORS):
        _improve(fits, heart, order[k : k + SURVIVORS], LONG)
        if _explained(heart, fits.values()):
            break
    small = [s for s in specs if s.reaction not in LARGE]
    for turn in range(TURNS if len(heart.graph) < MANY_NODES else TURNS // 2):
        for spec in sorted(small, key=lambda s: fits[s].train_error):
            if _explained(heart, fits.values()):
                break
            _improve(fits, heart, [spec], replace(ANEW, seed=turn) if turn % 2 else LONG)
    limit = RIVALS * min(f.train_error for f in fits.values())
    rivals = [s for s in small if fits[s].train_error < limit]
    for options in (LONG, replace(ANEW, seed=TURNS), LONG) if heart.kind == "times" and len(rivals) > 1 else (LONG,):
        _improve(fits, heart, rivals, options)
    return {spec.reaction: f for spec, f in fits.items()}


def _improve(fits: dict[Spec, Fit], heart: DataSet, specs: Sequence[Spec], options: FitOptions) -> None:
    """The chosen fits go on (or begin anew, with restarts); the better of before and after stays."""
    for spec in specs:
        before = fits[spec]
        start = {(spec, heart.key): before} if options.restarts == 1 else None
        after = fit([spec], [heart], options, start)[0][0]
        if after.train_error < before.train_error:
            iterations, cpu = after.iterations + before.iterations, after.cpu_s + before.cpu_s
            fits[spec] = replace(after, iterations=iterations, cpu_s=cpu)


def _explained(data: DataSet, fits: Iterable[Fit]) -> bool:
    """Whether a fit's training error is near the noise that the recordings themselves show, and it foretells too."""
    noise = noise_of(data)
    limit = explained_error(noise, data.kind)
    return any(f.train_error < limit and f.validation_error < VALID * noise for f in fits)


def explained_error(noise: float, kind: str) -> float:
    """The largest training error that noise of a variance explains, in the units of a fit's errors."""
    if kind == "times":
        return EXPLAINED_TIMES * noise
    return EXPLAINED * noise + (0.0 if kind == "electrodes" else STEP_ERROR)


def noise_of(data: DataSet) -> float:
    """Variance of the noise in the train protocols, in the units of a fit's errors.

    From second differences in time; for times from the roughest half of the graph's own patterns, of which a smooth map
    has little and noise as much as of the others.
    """
    values = data.values[list(data.train)]
    if data.kind == "times":
        maps = np.moveaxis(values, 1, 0).reshape(len(data.graph), -1)
        maps = maps[:, np.isfinite(maps).all(axis=0)]
        patterns = np.linalg.eigh(data.graph.laplacian(data.graph.weight).toarray())[1]  # the roughest first
        rough = patterns[:, : len(patterns) // 2].T @ maps
        return float(np.median(rough**2)) * 1.4826**2 / TIME_UNIT_MS**2 if rough.size else 0.0
    second = np.diff(values, n=2, axis=1)
    deviation = 1.4826 * float(np.median(np.abs(second - np.median(second)))) / np.sqrt(6)
    return deviation**2 / (float(values.var()) if data.kind == "electrodes" else 1.0)


def baselines(heart: DataSet, fits: dict[str, Fit], network: bool) -> dict[str, Fit]:
    """The fixed structures, each begun as its bare reaction after the full recording, and the ``network``."""
    out = {"neural": fit([NEURAL], [heart], PLAIN)[0][0]} if network else {}
    bare = {Spec(spec.reaction): fits[spec.reaction] for spec in HYBRIDS.values()}
    _improve(bare, heart, list(bare), LONG)
    for name, spec in HYBRIDS.items():
        out[name] = fit([spec], [heart], HYBRID, {(spec, heart.key): bare[Spec(spec.reaction)]})[0][0]
    return out


def _errors(f: Fit) -> dict[str, Any]:
    return {
        "train": f.train_error, "validation": f.validation_error, "cpu_s": f.cpu_s, "stable": f.stable,
        "iterations": f.iterations, "n_parameters": f.n_parameters, "residual_share": f.residual_share,
    }  # fmt: skip


@flushed_denormals()
def scores(f: Fit, heart: DataSet) -> dict[str, dict[str, float]]:
    """|log error| of every reaction parameter over the half width of its 90 % interval: 1 is the interval's end.

    ``scores`` of the intervals that a fit reports, ``white`` of those for independent residuals.
    """
    assert heart.truth is not None  # synthetic hearts have one
    pacing = protocol_stimuli([heart], heart.train)
    estimates = estimate(model_of([f], [heart]), pacing, Target.of([heart], heart.train), LONG.dt_ms)
    names = [name for name in f.values if name != "diffusion"]
    gap = np.abs(estimates.log_value[0] - np.log([heart.truth.values[name] for name in names])) / Z90
    both = {
        "scores": gap / np.maximum(estimates.deviation[0], 1e-9),
        "white": gap / np.maximum(estimates.white[0], 1e-9),
    }
    return {key: dict(zip(names, value.tolist())) for key, value in both.items()}


def cases(hearts_each: int, sparse_each: int, outside: int, ventricles_each: int, baseline_each: int) -> list[Case]:
    """The hearts of a study, for each truth or in all, in an order in which every part has its share at any time.

    The first hearts are one of every part, those with baselines first, so that all metrics exist early.
    """
    parts: list[list[Case]] = [
        [Case(t, "voltage", "sheet", HYBRIDS_TOO + k, True) for k in range(baseline_each) for t in TRUTHS]
    ]
    parts += [[Case(t, kind, "sheet", SPARSE + k) for k in range(sparse_each) for t in TRUTHS] for kind in SPARSE_KINDS]
    parts += [
        [Case(t, "voltage", "sheet", DENSE + k) for k in range(hearts_each) for t in TRUTHS],
        [Case(OUTSIDE, "voltage", "sheet", BEYOND + k) for k in range(outside)],
        [Case(t, "voltage", "biventricular", BOTH_VENTRICLES + k) for k in range(ventricles_each) for t in TRUTHS],
    ]
    ranked = [(k / len(part), number, case) for number, part in enumerate(parts) for k, case in enumerate(part)]
    return [case for _, _, case in sorted(ranked, key=lambda x: x[:2])]


def run(
    folder: Path, selection: Sequence[Case], workers: Executor, go_on: Callable[[], bool] = lambda: True
) -> Iterator[dict[str, Any]]:
    """The rows of hearts: first those whose files are in ``folder``, then the others as they are done.

    No further heart is begun once ``go_on()`` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = []
    for case in selection:
        path = folder / f"{case.name}.json"
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))
        else:
            waiting.append(case)
    open_cases = (case for case in waiting if go_on())
    for _, row in completed(workers, partial(_run_and_keep, folder), open_cases):
        yield row


def _run_and_keep(folder: Path, case: Case) -> dict[str, Any]:
    row = run_case(case)
    with atomic_write(folder / f"{case.name}.json") as aside:
        aside.write_text(json.dumps(row), encoding="utf-8")
    return row
