"""``ecg-gym study leads``: is the true reaction named, how well is the next pacing foretold, and how sure?

Synthetic hearts only: three truths drawn wide, a slow patch, S1-S2 pacing, noise 0.02 to 0.10, the seven mechanistic
reactions of the catalogue as candidates. Every heart is a file in the study's folder; a study that is stopped goes on
there.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.executor import Executor, executor
from ecg_gym.tissue import SPARSE_KINDS
from training.evaluation import result
from training.evaluation.leads.identification import BASELINES, HYBRIDS, OUTSIDE, TRUTHS, cases, explained_error, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL = {"hearts_each": 60, "sparse_each": 20, "outside": 20, "ventricles_each": 4, "baseline_each": 10}
SMALL = {"hearts_each": 1, "sparse_each": 1, "outside": 0, "ventricles_each": 0, "baseline_each": 1}
FREE_SCALE = {"ap": {"tu", "k", "e0"}, "fhn": {"c2", "b", "d"}}  # each set shares the scale of the hidden variable,
# which no recording of u settles: those numbers keep the prior's width
Row = dict[str, Any]


def size_of(quick: bool, hearts: int | None) -> dict[str, int]:
    """How many hearts: the usual study, the quick one, or ``hearts`` of each truth with the rest in proportion."""
    size = dict(SMALL if quick else USUAL)
    if hearts is not None:
        share = {"sparse_each": 3, "outside": 3, "ventricles_each": 15, "baseline_each": 6}
        size |= {"hearts_each": hearts} | {part: -(-hearts // parts) for part, parts in share.items()}
    return size


def study(
    folder: Path,
    size: Mapping[str, int],
    workers: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """The document of a study; hearts that are done lie in ``folder``, none is begun once ``go_on()`` is false.

    Ctrl-C ends the study: what is done until then is judged.
    """
    selection = cases(**size)
    rows: list[Row] = []
    with suppress(KeyboardInterrupt):
        for row in run(folder, selection, workers or executor(0), go_on):
            rows.append(row)
            if progress:
                progress(len(rows), len(selection))
    return document(sorted(rows, key=lambda r: (r["graph"], r["kind"], r["truth"], r["seed"])), size)


@contextmanager
def term_as_interrupt() -> Iterator[None]:
    """Inside, the signal that ends a process (SIGTERM, as ``timeout`` sends it) acts as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def document(rows: Sequence[Row], size: Mapping[str, int]) -> dict[str, Any]:
    """The document of hearts' rows: metrics with intervals that draw hearts, one flat row per heart."""
    dense = [r for r in rows if r["kind"] == "voltage" and r["truth"] in TRUTHS and r["graph"] == "sheet"]
    if not dense:
        raise ValueError("no heart of dense voltage is done; expected some; go on with the same --out, or longer")
    metrics: dict[str, Any] = {"identified_fraction": identified(dense)}
    metrics |= {
        f"identified_fraction_{truth}": identified(some)
        for truth in TRUTHS
        if (some := [r for r in dense if r["truth"] == truth])
    }
    sparse = [r for r in rows if r["kind"] in SPARSE_KINDS]
    if sparse:
        metrics["identified_fraction_sparse"] = identified(sparse)
        for kind in SPARSE_KINDS:
            if some := [r for r in sparse if r["kind"] == kind]:
                metrics[f"identified_fraction_{kind}"] = identified(some)
    if ventricles := [r for r in rows if r["graph"] == "biventricular"]:
        metrics["identified_fraction_biventricular"] = identified(ventricles)
        metrics["held_out_mae_biventricular"] = held_out(ventricles)["held_out_mae"]
    metrics |= held_out(dense) | coverage(dense)
    if outside := [r for r in rows if r["truth"] == OUTSIDE]:
        metrics |= beyond(outside, dense)
    return result.document("leads", None, len(rows), [0], metrics, [flat(r) for r in rows], **size)


def choice(row: Row, by: str = "validation") -> str:
    """The reaction a search names: the candidate with the least error on the validation protocol."""
    candidates = [name for name in row["candidates"] if name not in BASELINES]
    return min(candidates, key=lambda name: row["candidates"][name][by])


def identified(rows: Sequence[Row]) -> dict[str, Any]:
    """The share of hearts whose true reaction is named, beside choosing by training error and by chance."""
    names = np.array([r["heart"] + r["kind"] for r in rows])
    right = np.array([float(choice(r) == r["truth"]) for r in rows])
    by_training = np.array([float(choice(r, "train") == r["truth"]) for r in rows])
    chance = (
        float(np.mean([1 / len([c for c in r["candidates"] if c not in BASELINES]) for r in rows])) if rows else 0.0
    )
    value = result.estimate_mean(right, names)
    value["ci95"] = wilson(right)  # a bootstrap of all successes has no width
    baselines = {"by training error": float(by_training.mean()) if len(rows) else 0.0, "random pick": chance}
    return result.metric(value, baselines=baselines, n=len(rows))


def wilson(right: np.ndarray) -> list[float]:
    """The 95 % score interval of a proportion (Wilson 1927, J Am Stat Assoc 22:209)."""
    n, z = max(len(right), 1), 1.96
    p = float(right.mean()) if len(right) else 0.0
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [float((middle - half) / (1 + z * z / n)), float((middle + half) / (1 + z * z / n))]


def held_out(rows: Sequence[Row]) -> dict[str, Any]:
    """Errors on the held-out pacing: of what the search chose, and of every fixed choice."""
    out: dict[str, Any] = {}
    if not rows:
        return out
    names = np.array([r["heart"] for r in rows])
    fixed = [name for name in rows[0]["candidates"] if name not in BASELINES]
    for key in ("mae", "activation_ms", "apd_ms", "smoothness_ms"):
        answers = np.array([r["candidates"][choice(r)][key] for r in rows], float)
        always = {f"always {name}": np.array([r["candidates"][name][key] for r in rows], float) for name in fixed}
        always["random pick"] = np.nanmean(np.stack(list(always.values())), axis=0)
        baselines = {name: result.estimate_mean(values, names) for name, values in always.items()}
        out[f"held_out_{key}"] = result.metric(result.estimate_mean(answers, names), baselines=baselines, n=len(rows))
    beside = [r for r in rows if all(name in r["candidates"] for name in HYBRIDS)]
    if beside:
        out["mae_reduction_vs_hybrid"] = _reduction(beside)
    return out


def _reduction(rows: Sequence[Row]) -> dict[str, Any]:
    """1 - the search's mean error over that of the better hybrid; baselines are the hybrids' and neural errors."""
    names = np.array([r["heart"] for r in rows])
    own = np.array([r["candidates"][choice(r)]["mae"] for r in rows])
    errors = {name: np.array([r["candidates"][name]["mae"] for r in rows]) for name in HYBRIDS}
    value = result.estimate(
        lambda k: 1 - float(own[k].mean()) / min(float(errors[name][k].mean()) for name in HYBRIDS), names
    )
    baselines = {f"{name} (error)": result.estimate_mean(values, names) for name, values in errors.items()}
    if some := [r for r in rows if "neural" in r["candidates"]]:
        neural = np.array([r["candidates"]["neural"]["mae"] for r in some])
        baselines["neural (error)"] = result.estimate_mean(neural, np.array([r["heart"] for r in some]))
    baselines["search (error)"] = result.estimate_mean(own, names)
    return result.metric(value, baselines=baselines, n=len(rows))


def coverage(rows: Sequence[Row]) -> dict[str, Any]:
    """How often the 90 % interval of a reaction parameter holds the truth, beside that for independent residuals.

    Nothing is tuned: the intervals are those of ``ecg_gym.tissue.intervals`` as they come.
    """
    mine = [r for r in rows if r.get("scores")]
    if not mine:
        return {}
    names = np.array([r["heart"] for r in mine])
    values, white = (np.array([_covered(r[key]) for r in mine]) for key in ("scores", "white"))
    baselines = {"as if residuals were independent": result.estimate_mean(white, names)}
    settled = [{k: v for k, v in r["scores"].items() if k not in FREE_SCALE.get(r["truth"], ())} for r in mine]
    if all(settled):
        baselines["settled by recordings"] = result.estimate_mean(np.array([_covered(one) for one in settled]), names)
    for truth in sorted({r["truth"] for r in mine}):
        rows_of_truth = np.array([r["truth"] == truth for r in mine])
        baselines[f"truth {truth}"] = result.estimate_mean(values[rows_of_truth], names[rows_of_truth])
    value = result.estimate_mean(values, names)
    return {"coverage90_parameters": result.metric(value, baselines=baselines, n=len(mine))}


def _covered(scores: Mapping[str, float]) -> float:
    return float(np.mean([score <= 1 for score in scores.values()]))


def beyond(outside: Sequence[Row], dense: Sequence[Row]) -> dict[str, Any]:
    """A truth that no candidate is: how often the misfit gives it away, and how well the nearest relative foretells.

    Suspect is a heart whose best training error is more than its noise explains (``explained_error``); the baseline is
    the share of hearts inside the catalogue of which the same is said.
    """
    names, inside = np.array([r["heart"] for r in outside]), np.array([r["heart"] for r in dense])
    doubt = result.estimate_mean(np.array([suspect(r) for r in outside]), names)
    errors = np.array([r["candidates"][choice(r)]["mae"] for r in outside])
    return {
        "outside_suspect_fraction": result.metric(
            doubt | {"ci95": wilson(np.array([suspect(r) for r in outside]))},
            baselines={"truths of the catalogue": result.estimate_mean(np.array([suspect(r) for r in dense]), inside)},
            n=len(outside),
        ),
        "outside_held_out_mae": result.metric(result.estimate_mean(errors, names), n=len(outside)),
    }


def suspect(row: Row) -> float:
    """1.0 where no candidate explains the recordings of voltage up to their noise, else 0.0."""
    errors = [one["train"] for name, one in row["candidates"].items() if name not in BASELINES]
    return float(min(errors) > explained_error(row["noise"] ** 2, row["kind"]))


def flat(row: Row) -> Row:
    """One heart as a line of a table: what was named, and the errors of what was named and of the truth."""
    answer = choice(row)
    best, truth = row["candidates"][answer], row["candidates"].get(row["truth"], {})
    out: Row = {name: row[name] for name in ("heart", "graph", "kind", "truth", "noise")}
    out |= {"named": answer, "mae": best["mae"], "activation_ms": best["activation_ms"], "apd_ms": best["apd_ms"]}
    out |= {"validation": best["validation"], "validation_of_truth": truth.get("validation")}
    order = sorted(c["validation"] for name, c in row["candidates"].items() if name not in BASELINES)
    out["runner_up_ratio"] = order[1] / order[0]
    return out | {name: row["candidates"][name]["mae"] for name in HYBRIDS if name in row["candidates"]}


def summary(document_: Mapping[str, Any]) -> list[Row]:
    """One line per metric, for a screen."""
    rows = []
    for name, metric in document_["metrics"].items():
        best = metric["baselines"]
        beside = "; ".join(f"{key} {value:.3g}" for key, value in best.items() if value is not None)
        rows.append(
            {"metric": name, "value": metric["value"], "ci95": metric["ci95"], "n": metric.get("n"), "beside": beside}
        )
    return rows


def figure(document_: Mapping[str, Any]) -> Figure:
    """What was named for which truth, on dense sheets, by sparse observation and on both ventricles."""
    from matplotlib.figure import Figure

    groups: dict[str, list[Row]] = {
        kind: [r for r in document_["rows"] if r["kind"] == kind and r["graph"] == "sheet"]
        for kind in ("voltage", *SPARSE_KINDS)
    }
    groups["voltage, both ventricles"] = [r for r in document_["rows"] if r["graph"] == "biventricular"]
    groups = {name: rows for name, rows in groups.items() if rows}
    drawing = Figure(figsize=(3.2 * len(groups), 3.2), layout="constrained")
    for number, (title, rows) in enumerate(groups.items()):
        axes = drawing.add_subplot(1, len(groups), number + 1)
        truths = [t for t in (*TRUTHS, OUTSIDE) if any(r["truth"] == t for r in rows)]
        labels = [t for t in truths if t != OUTSIDE]
        labels += sorted({r["named"] for r in rows} - set(labels))
        count: dict[tuple[str, str], int] = defaultdict(int)
        for row in rows:
            count[row["truth"], row["named"]] += 1
        table = np.array([[count[t, n] for n in labels] for t in truths], float)
        axes.imshow(table / np.maximum(table.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(table):
            axes.text(
                j, i, f"{value:.0f}", ha="center", va="center", color="white" if value > table[i].sum() / 2 else "0.3"
            )
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axes.set_yticks(range(len(truths)), truths)
        axes.set_title(title)
        axes.set_xlabel("named")
        if not number:
            axes.set_ylabel("truth")
    return drawing
