"""What a planning query costs, with everything in it, beside the naive way; and what fewer sampling steps cost in CRPS.

A query is 50 candidates x 16 futures of one patient, one step ahead: conditioning, sampler, decoding, measurement, risk
and ranking, by ``planners.plan``. The naive peers draw the same 800 futures candidate by candidate and sample by sample
(batch 1), in all 1,000 ancestral steps: one with our own denoiser, one with a U-Net of the size that is usual in the
literature (``peer.py``, random weights). Nobody waits for them: a measured step and a measured rest are scaled up to
1,000 steps and 800 futures, which is exact for a loop that does nothing else.

All times are processor seconds of one thread in one run of this process, so that neighbours on the machine count less;
``query_wall_seconds`` is by the clock. "CRPS lost" is against DDIM in 50 steps from the same noise, mean over
intervals of the relative change, on held-out virtual patients. "Condition error" is the mean distance between the
interval a future was asked to have and the one measured from its strip, where the world says what it asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from ecg_gym.core import WATCH, State, Treatment, World
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model import WorldModel
from ecg_gym.world_model.denoiser import Denoiser
from ecg_gym.world_model.packed_linear import Dense
from planners import plan
from training.evaluation import questions, result
from training.evaluation.questions import INTERVALS, SHORT
from training.evaluation.result import Size, estimate, metric
from training.evaluation.speed.naive_unet import PeerUNet, peer_inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=96, samples=8), Size(patients=6, samples=3)
CANDIDATES, FUTURES, NAIVE_STEPS = 50, 16, 1000
REFERENCE = ("ddim", 50)
SOLVERS = (
    REFERENCE, ("ddim", 20), ("ddim", 10), ("dpm++", 10), ("dpm++", 6), ("dpm++", 4), ("heun", 6), ("heun", 4),
    ("student", 4), ("student", 2),
)  # fmt: skip
CALLS = {"heun": lambda steps: 2 * steps - 1}  # network calls of a walk; elsewhere one a step
ROWS = 64  # at once, when the denoiser is timed alone
GEMM = 1024  # side of the square matrices whose product is the machine's ceiling

StepInputs = Callable[[int], None]
Clock = Callable[[], float]


@dataclass
class ProcessorTime:
    """Processor seconds by part, inside :func:`watching`."""

    parts: dict[str, float] = field(default_factory=dict)

    def add(self, part: str, seconds: float) -> None:
        """``seconds`` more of that part."""
        self.parts[part] = self.parts.get(part, 0.0) + seconds


def rows_of(size: Size) -> int:
    """How many questions the study asks, for the progress bar; a world without a student is asked a few less."""
    return len(SOLVERS) * size.patients * len(size.seeds)


def study(
    world: WorldModel, size: Size = USUAL, truth: World | None = None, progress: StepInputs = lambda n: None
) -> dict[str, Any]:
    """The study's document: the query beside its peers, the denoiser beside a GEMM, and every solver's price.

    ``truth`` is where the patients live, by default the virtual patient.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _study(world, truth or VirtualPatient(dt_hours=world.dt_hours), size, progress)
    finally:
        torch.set_num_threads(threads)


def _study(world: WorldModel, truth: World, size: Size, progress: StepInputs) -> dict[str, Any]:
    risk, world = RiskModel.load(), replace(world, fidelity="strip", draws="diffusion")  # every future is sampled
    patient = questions.seen_by(world, questions.held_out_patients(truth, 1, size.seeds[0]))
    worlds = {solver: other for solver in SOLVERS if (other := walking(world, *solver, patient)) is not None}
    table = prices(worlds, truth, size, progress)
    best = ("student", 4) if ("student", 4) in worlds else ("dpm++", 10)
    brief = size.patients <= SMALL.patients  # two queries of 50 x 16 take the better part of a minute
    solvers = (best, ("student", 2)) if brief else (best, ("student", 2), ("dpm++", 10))
    solvers_there = dict.fromkeys(solver for solver in solvers if solver in worlds)
    queries = {_word(solver): query(worlds[solver], patient, risk) for solver in solvers_there}
    if not brief:
        queries[f"{_word(best)}_bf16"] = query(replace(worlds[best], backend="bf16"), patient, risk)
    naive = naive_seconds(world, patient, risk)
    ceiling = gemm_flops()
    batches = {rows: denoiser_flops(world, patient, rows) for rows in (1, 32, ROWS)}

    def beside(values: Mapping[str, float]) -> dict[str, float]:
        return {name: value for name, value in values.items() if name != _word(best)}

    def ratios(peer: str) -> dict[str, Any]:
        over = {name: naive[peer] / results["cpu_seconds"] for name, results in queries.items()}
        return metric(over[_word(best)], baselines={**beside(over), "naive": 1.0}, peer_seconds=naive[peer])

    def seconds(clock: str) -> dict[str, Any]:
        times = {name: results[clock] for name, results in queries.items()}
        return metric(times[_word(best)], baselines=beside(times))

    metrics = {
        "ratio_vs_naive": ratios("unet"),
        "ratio_vs_own_network": ratios("own"),
        "fraction_of_gemm_ceiling": metric(
            batches[ROWS] / ceiling,
            baselines={f"batch {rows}": flops / ceiling for rows, flops in batches.items() if rows != ROWS},
            gemm_gflops=ceiling / 1e9,
        ),
        "query_cpu_seconds": seconds("cpu_seconds"),
        "query_wall_seconds": seconds("wall_seconds"),
        **{f"crps_lost_{_word(solver)}": lost for solver, lost in table["lost"].items() if solver != REFERENCE},
    }
    return result.document(
        "sampler-speed",
        world,
        size.patients,
        size.seeds,
        metrics,
        table["rows"],
        samples=size.samples,
        candidates=CANDIDATES,
        futures=FUTURES,
        query_of=_word(best),
        query_parts={name: results["parts"] for name, results in queries.items()},
        naive=naive,
        backend=world.backend,
        threads=1,
        scaled=f"naive seconds = {CANDIDATES * FUTURES} x (rest + {NAIVE_STEPS} x step), rest and step measured",
    )


def walking(world: WorldModel, sampler: str, steps: int, patient: State) -> WorldModel | None:
    """The same world with another sampler; ``None`` where it has no student, or one that has not learnt this walk."""
    try:
        other = replace(world, sampler=sampler, steps=steps)
        other.step(patient, [WATCH], np.random.default_rng(0))
    except ValueError:
        if sampler != "student":
            raise
        return None
    return other


def query(world: WorldModel, patient: State, risk: RiskModel) -> dict[str, Any]:
    """Processor and clock seconds of one plan, and the processor seconds of its parts."""
    candidates = candidates_for(CANDIDATES)
    plan(world, patient, candidates[:3], risk, k=2, rules=no_rules)  # what is only slow the first time
    with watching(world, risk) as watch:
        wall, cpu = time.perf_counter(), time.process_time()
        results = plan(
            _Timed(world, watch), patient, candidates, partial(_timed, watch, risk), k=FUTURES, rules=no_rules
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert len(results.candidates) == CANDIDATES
    inside = watch.parts
    step, judging = inside.pop("step"), inside.pop("risk")
    parts = {
        "denoiser": inside.get("denoiser", 0.0),
        "codec": inside.get("codec", 0.0),
        "conditioning": step - inside.get("denoiser", 0.0) - inside.get("codec", 0.0),
        "findings": inside.get("findings", 0.0),
        "measurement": judging - inside.get("findings", 0.0),
        "ranking": cpu - step - judging,
    }
    return {"cpu_seconds": cpu, "wall_seconds": wall, "parts": parts}


def candidates_for(n: int) -> list[Treatment]:
    """Watching and ``n - 1`` of the formulary's menu."""
    menu = [treatment for treatment in FORMULARY.menu() if treatment != WATCH]
    if len(menu) < n - 1:
        raise ValueError(f"the menu holds {len(menu)} treatments; expected {n - 1} at least; ask for fewer candidates")
    return [WATCH, *menu[: n - 1]]


def no_rules(*_: Any, **__: Any) -> tuple[Any, ...]:
    """Lets every candidate in: the query has 50, whatever the patient's contraindications."""
    return ()


def naive_seconds(world: WorldModel, patient: State, risk: RiskModel) -> dict[str, float]:
    """Processor seconds of the naive queries ``own`` and ``unet``, and the step and the rest they are scaled from."""
    few, many = 4, 44

    def step(steps: int) -> float:
        stepped = replace(world, sampler="ddpm", steps=steps)
        treatment = candidates_for(2)[1]
        return least(lambda: stepped.step(patient, [treatment], np.random.default_rng(0)), 5)

    short, long = step(few), step(many)
    own_step = (long - short) / (many - few)
    judging = least(lambda: risk(patient.ecg, patient.ecg, patient.patients, patient.alive), 5)
    rest = short - few * own_step + judging
    network = PeerUNet().eval()
    row = peer_inputs()
    with torch.inference_mode():
        unet_step = least(lambda: network(*row), 20)
    samples = CANDIDATES * FUTURES
    return {
        "own": samples * (rest + NAIVE_STEPS * own_step),
        "unet": samples * (rest + NAIVE_STEPS * unet_step),
        "own_step": own_step,
        "unet_step": unet_step,
        "rest": rest,
        "unet_parameters": float(sum(p.numel() for p in network.parameters())),
    }


def denoiser_flops(world: WorldModel, patient: State, rows: int) -> float:
    """Floating-point operations a second of one denoiser call on ``rows`` rows, as the world asks it."""
    calls: list[tuple[Tensor, ...]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, Denoiser) and not calls:
            calls.append(inputs)

    crowd = patient.repeat(rows)
    hook = register_module_forward_pre_hook(look)
    try:
        _ = replace(world, sampler="ddim", steps=1).step(crowd, [WATCH] * rows, np.random.default_rng(0)).ecg
    finally:
        hook.remove()
    inputs, denoiser = calls[0], world.forecaster.denoiser
    with torch.inference_mode():
        packed = {torch.ops.mkldnn._linear_pointwise: _packed_linear_flops}
        with FlopCounterMode(display=False, custom_mapping=packed) as counter:
            denoiser(*inputs)
        return counter.get_total_flops() / least(lambda: denoiser(*inputs), 7)


def gemm_flops() -> float:
    """Floating-point operations a second of a product of float32 matrices: what this thread could do at most."""
    a, b = torch.randn(GEMM, GEMM), torch.randn(GEMM, GEMM)
    packed = Dense(GEMM, GEMM, bias=False)
    with torch.no_grad():
        return 2 * GEMM**3 / min(least(lambda: a @ b, 15), least(lambda: packed(a), 15))


def _packed_linear_flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """What the counter does not know of ``Dense``: ``(..., in)`` times ``(out, in)``."""
    return 2 * math.prod(x) * weight[0]


def least(call: Callable[[], Any], times: int) -> float:
    """The least of so many processor times [s] of ``call``, after one that does not count."""
    call()
    results = []
    for _ in range(times):
        start = time.process_time()
        call()
        results.append(time.process_time() - start)
    return min(results)


def prices(
    worlds: Mapping[tuple[str, int], WorldModel], truth: World, size: Size, progress: StepInputs
) -> dict[str, Any]:
    """Per solver: CRPS of each interval, CRPS lost against the reference, condition error and seconds per future."""
    queries = questions.joined([questions.transitions(truth, size.patients, seed) for seed in size.seeds])
    first = next(iter(worlds.values()))
    start = questions.seen_by(first, queries.start)
    true = questions.futures(truth, queries.start, queries, 1, questions.measure_step)["intervals"][0]  # (N, 6)
    samples: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    seconds = {}
    asks = getattr(first.forecaster, "prognosis", None) is not None
    measure = questions.both(look, look_at_asked) if asks else look
    for solver, world in worlds.items():
        with watching(world) as watch:
            samples[solver] = questions.futures(world, start, queries, size.samples, measure, progress=progress)
        seconds[solver] = watch.parts.get("denoiser", np.nan) / (len(queries) * size.samples)
    crps = {solver: _crps(results["intervals"], true) for solver, results in samples.items()}
    base = crps[REFERENCE]
    rows, lost = [], {}
    for solver, results in samples.items():
        each: dict[str, Any] = {
            SHORT[name]: _loss_of(crps[solver][:, [i]], base[:, [i]])(slice(None)) for i, name in enumerate(INTERVALS)
        }
        lost[solver] = metric(estimate(_loss_of(crps[solver], base), queries.patient), **each)
        rows.append(
            {
                "sampler": solver[0],
                "steps": solver[1],
                "network_calls": CALLS.get(solver[0], int)(solver[1]),
                "sampler_cpu_ms": 1000 * seconds[solver],
                "crps_lost": lost[solver]["value"],
                "crps_lost_ci95": lost[solver]["ci95"],
                **{f"crps_{SHORT[name]}": _mean(crps[solver][:, i]) for i, name in enumerate(INTERVALS)},
                "unmeasured_qtcf": questions.unmeasured(
                    results["intervals"][:, :, INTERVALS.index("qtcf_ms")], true[:, INTERVALS.index("qtcf_ms")]
                ),
                **_condition_errors(results),
            }
        )
    return {"rows": rows, "lost": lost}


def look(before: State, after: State) -> dict[str, np.ndarray]:
    """The measured intervals ``(B, 6)``."""
    return {"intervals": questions.intervals_of(after.ecg)}


def look_at_asked(before: State, after: State) -> dict[str, np.ndarray]:
    """The intervals ``(B, 6)`` that each strip was asked to have, of a world that draws them first."""
    from ecg_gym.world_model.conditioning import OBSERVED

    observed = after.inner["observed"]
    return {"asked": np.stack([observed[:, OBSERVED.index(name)] for name in INTERVALS], axis=1)}


def _condition_errors(landmarks: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean absolute distance of measured to asked intervals; nothing where the world does not say what it asked."""
    if "asked" not in landmarks:
        return {}
    error = np.abs(landmarks["intervals"] - landmarks["asked"])
    finite = np.isfinite(error)
    return {
        f"condition_{SHORT[name]}": float(error[:, :, i][finite[:, :, i]].mean())
        for i, name in enumerate(INTERVALS)
        if finite[:, :, i].any()
    }


def _crps(samples: np.ndarray, true: np.ndarray) -> np.ndarray:
    """CRPS ``(N, 6)`` of samples ``(K, N, 6)``."""
    return np.stack([questions.fair_crps(samples[:, :, i], true[:, i]) for i in range(true.shape[1])], axis=1)


def _loss_of(crps: np.ndarray, base: np.ndarray) -> Callable[[Any], float]:
    """Relative growth of the mean CRPS ``(N, V)`` over the reference's, mean over intervals, as a statistic of rows."""
    both = np.isfinite(crps) & np.isfinite(base)

    def statistic(rows: Any) -> float:
        mask = both[rows]
        sums = [np.where(mask, values[rows], 0).sum(axis=0) for values in (crps, base)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.nanmean(sums[0] / sums[1] - 1)) if mask.any() else np.nan

    return statistic


@contextmanager
def watching(world: WorldModel, risk: RiskModel | None = None) -> Iterator[ProcessorTime]:
    """Processor seconds of every call of a denoiser, of the codec and of the findings' classifier, by part."""
    parts, began = ProcessorTime(), {}
    codec = {id(getattr(world.vae, name, None)) for name in ("encoder", "decoder")}
    findings = (
        id(getattr(risk.classifier, "network", None)) if risk is not None and risk.classifier is not None else None
    )

    def part(module: nn.Module) -> str | None:
        if isinstance(module, Denoiser):
            return "denoiser"
        if id(module) in codec:
            return "codec"
        return "findings" if id(module) == findings else None

    def before(module: nn.Module, row: Any) -> None:
        if part(module):
            began[id(module)] = time.process_time()

    def after(module: nn.Module, row: Any, answer: Any) -> None:
        if name := part(module):
            parts.add(name, time.process_time() - began[id(module)])

    hooks = [register_module_forward_pre_hook(before), register_module_forward_hook(after)]
    try:
        yield parts
    finally:
        for hook in hooks:
            hook.remove()


class _Timed:
    """A world whose steps are timed."""

    def __init__(self, world: WorldModel, parts: ProcessorTime) -> None:
        self.world, self.parts = world, parts
        self.dt_hours, self.sha256 = world.dt_hours, world.sha256

    def initial(self, n: int, rng: Any, **who: Any) -> State:
        return self.world.initial(n, rng, **who)

    def observe(self, *arguments: Any) -> State:
        return self.world.observe(*arguments)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Any) -> State:
        start = time.process_time()
        later = self.world.step(state, treatments, rng)
        self.parts.add("step", time.process_time() - start)
        return later


def _timed(parts: ProcessorTime, risk: RiskModel, *arguments: Any) -> Any:
    start = time.process_time()
    judgement = risk(*arguments)
    parts.add("risk", time.process_time() - start)
    return judgement


def _word(solver: tuple[str, int]) -> str:
    return f"{solver[0].replace('++', '')}_{solver[1]}"


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The solvers for people, the reference first."""
    names = ("sampler", "steps", "network_calls", "sampler_cpu_ms", "crps_lost", "crps_lost_ci95", "crps_hr",
             "crps_qtcf", "unmeasured_qtcf", "condition_hr", "condition_qtcf")  # fmt: skip
    return [{name: row[name] for name in names if name in row} for row in document["rows"]]


def figure(document: Mapping[str, Any]) -> Figure:
    """Time against CRPS lost, a point per solver; and where the seconds of the query go."""
    import matplotlib.pyplot as plt

    samples, (curve, parts) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(3, 2))
    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in document["rows"]:
        if row["crps_lost"] is not None:
            families.setdefault(row["sampler"], []).append(row)
    for name, rows in families.items():
        at = [row["sampler_cpu_ms"] for row in rows]
        lost = [100 * row["crps_lost"] for row in rows]
        bands = [row["crps_lost_ci95"] or [row["crps_lost"]] * 2 for row in rows]
        errors = np.abs([[y - 100 * low, 100 * high - y] for y, (low, high) in zip(lost, bands)]).T
        curve.errorbar(at, lost, yerr=errors, fmt="o-", capsize=2, label=name)
        for x, y, row in zip(at, lost, rows):
            curve.annotate(str(row["steps"]), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
    curve.axhline(0, color="black", lw=0.6)
    curve.axhline(10, color="black", lw=0.6, ls=":")
    curve.set(
        xscale="log", xlabel="denoiser, CPU ms per future (log)", ylabel="CRPS lost against DDIM 50 [%]",
        title="steps x solver; dotted: 10 % lost",
    )  # fmt: skip
    curve.legend(frameon=False, fontsize=8)
    queries = document["settings"]["query_parts"]
    left = np.zeros(len(queries))
    for part in next(iter(queries.values())):
        seconds = np.array([costs[part] for costs in queries.values()])
        parts.barh(list(queries), seconds, 0.5, left=left, label=part)
        left += seconds
    ratio = document["metrics"]["ratio_vs_naive"]
    parts.set(
        xlabel="CPU seconds, one thread",
        ylim=(-0.6, len(queries) + 0.4),
        title=f"{CANDIDATES} x {FUTURES} futures: {ratio['value']:,.0f} x the naive U-Net",
    )
    parts.legend(frameon=False, fontsize=7, ncols=3, loc="upper right", columnspacing=1.0)
    samples.tight_layout()
    return samples
