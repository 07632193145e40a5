"""What a study hands over: one JSON document, its rows as CSV, a figure, and a table for people.

    {study, preset, model_sha256, n_patients, seeds, settings,
     metrics: {name: {value, ci95, baselines: {name: value}}}, rows: [{...}]}

Intervals are 95 % bootstrap intervals that draw patients, not rows: the futures of one heart are no independent facts.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from ecg_gym.io import write_bytes
from ecg_gym.powers import weights_hash
from training.console import SAY, results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 1000  # of the bootstrap
WIDTH = 160  # of the tables


@dataclass(frozen=True)
class Size:
    """How much a study draws."""

    patients: int
    samples: int
    seeds: tuple[int, ...] = (0,)


def size_of(
    usual: Size, small: Size, quick: bool, patients: int | None, samples: int | None, seeds: int | None = None
) -> Size:
    """The usual size, or with ``--quick`` the small one, and what the user asked for in particular."""
    base = small if quick else usual
    sample = base.seeds if seeds is None else tuple(range(seeds))
    return Size(patients or base.patients, samples or base.samples, sample)


def estimate(statistic: Callable[[np.ndarray], float], patients: np.ndarray, draws: int = DRAWS) -> dict[str, Any]:
    """``{value, ci95}`` of ``statistic(rows)``, where ``rows`` are indices into the study's table.

    ``patients (N,)`` names the heart each row belongs to; the interval draws hearts with all their rows, the same ones
    in every call. Fewer than two hearts, or a statistic that is not finite, have no interval: ``None``.
    """
    return estimates(lambda rows: [statistic(rows)], patients, draws)[0]


def estimates(
    statistics: Callable[[np.ndarray], Sequence[float]], patients: np.ndarray, draws: int = DRAWS
) -> list[dict[str, Any]]:
    """As :func:`estimate`, for several numbers that are worked out together."""
    values = np.asarray(statistics(np.arange(len(patients))), dtype=float)
    who, belongs = np.unique(patients, return_inverse=True)
    samples = np.full((draws, len(values)), np.nan)
    if len(who) > 1:
        order = np.argsort(belongs, kind="stable")
        rows_of = np.split(order, np.cumsum(np.bincount(belongs))[:-1])
        alike = np.stack(rows_of) if len({len(rows) for rows in rows_of}) == 1 else None  # chosen at once: much faster
        rng = np.random.default_rng(0)
        with np.errstate(all="ignore"):
            for draw in samples:
                picks = rng.integers(len(who), size=len(who))
                some = np.concatenate([rows_of[i] for i in picks]) if alike is None else alike[picks].ravel()
                draw[:] = statistics(some)
    result = []
    for value, column in zip(values, samples.T):
        finite = column[np.isfinite(column)]
        sure = np.isfinite(value) and len(finite) > draws / 2
        interval = [float(x) for x in np.quantile(finite, [0.025, 0.975])] if sure else None
        result.append({"value": _finite(value), "ci95": interval})
    return result


def estimate_mean(values: np.ndarray, patients: np.ndarray, draws: int = DRAWS) -> dict[str, Any]:
    """``{value, ci95}`` of the mean of the finite ``values (N,)``: :func:`estimate` of :func:`mean_of`, much faster."""
    finite = np.isfinite(values)
    return estimate_ratio(np.where(finite, values, np.nan), finite.astype(float), patients, draws)


def estimate_ratio(
    above: np.ndarray, below: np.ndarray, patients: np.ndarray, draws: int = DRAWS, root: bool = False
) -> dict[str, Any]:
    """``{value, ci95}`` of sum(above)/sum(below) over the rows where both are finite, or of its square root."""
    ok = np.isfinite(above) & np.isfinite(below)
    who, belongs = np.unique(patients, return_inverse=True)
    sums = [np.bincount(belongs, np.where(ok, part, 0.0), len(who)) for part in (above, below)]
    rng = np.random.default_rng(0)
    often = rng.multinomial(len(who), np.full(len(who), 1 / max(1, len(who))), size=draws) if len(who) > 1 else None
    with np.errstate(all="ignore"):
        value = sums[0].sum() / sums[1].sum()
        samples = np.array([]) if often is None else (often @ sums[0]) / (often @ sums[1])
        value, samples = (np.sqrt(value), np.sqrt(samples)) if root else (value, samples)
    samples = samples[np.isfinite(samples)]
    sure = np.isfinite(value) and len(samples) > draws / 2
    return {"value": _finite(value), "ci95": [float(x) for x in np.quantile(samples, [0.025, 0.975])] if sure else None}


def mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    """The mean of the chosen rows' finite values, as a statistic for :func:`estimate`."""

    def statistic(rows: np.ndarray) -> float:
        sample = values[rows]
        sample = sample[np.isfinite(sample)]
        return float(sample.mean()) if len(sample) else np.nan

    return statistic


def metric(
    value: float | Mapping[str, Any],
    ci95: Sequence[float] | None = None,
    baselines: Mapping[str, float | Mapping[str, Any] | None] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One metric of the document; ``value`` may be what :func:`estimate` returned, and so may each baseline."""
    at, interval = (value["value"], value["ci95"]) if isinstance(value, Mapping) else (value, ci95)
    beside = {name: _finite(b["value"] if isinstance(b, Mapping) else b) for name, b in (baselines or {}).items()}
    intervals = {
        name: [float(x) for x in b["ci95"]]
        for name, b in (baselines or {}).items()
        if isinstance(b, Mapping) and b.get("ci95")
    }
    row = {"baselines_ci95": intervals} if intervals else {}
    return {
        "value": _finite(at),
        "ci95": [float(x) for x in interval] if interval is not None else None,
        "baselines": beside,
        **row,
        **more,
    }


def document(
    study: str,
    world: Any,
    n_patients: int,
    seeds: Sequence[int],
    metrics: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]] = (),
    **settings: Any,
) -> dict[str, Any]:
    """The whole document; ``world`` says which weights it was (a world without any is named by its class)."""
    metadata = getattr(world, "metadata", {}) or {}
    return {
        "study": study,
        "preset": str(metadata.get("preset") or (metadata.get("training") or {}).get("preset") or type(world).__name__),
        "model_sha256": weights_hash(world),
        "n_patients": int(n_patients),
        "seeds": [int(seed) for seed in seeds],
        "settings": _plain(settings),
        "metrics": _plain(metrics),
        "rows": _plain(list(rows)),
    }


def finish(
    document: Mapping[str, Any],
    out: Path | None,
    as_json: bool,
    figure: Callable[[Mapping[str, Any]], Figure] | None,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write the document, its rows and its figure, then print it: a table, or with ``as_json`` the document.

    ``rows`` are those for people where the document's own are too many or too wide.
    """
    folder = out or Path("out") / f"study-{document['study']}"
    written = write(document, folder, figure)
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    show(document, document["rows"] if rows is None else rows)
    SAY.print("written: " + ", ".join(str(path) for path in written))


def write(
    document: Mapping[str, Any], folder: Path, figure: Callable[[Mapping[str, Any]], Figure] | None = None
) -> list[Path]:
    """``<study>.json``, ``<study>.csv`` and ``<study>.png`` in ``folder``, each aside and renamed; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    name = str(document["study"])
    contents: dict[Path, bytes] = {
        folder / f"{name}.json": (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()
    }
    if document["rows"]:
        contents[folder / f"{name}.csv"] = _csv(document["rows"]).encode()
    if figure is not None:
        samples = figure(document)
        picture = io.BytesIO()
        samples.savefig(picture, format="png", dpi=110, bbox_inches="tight")
        contents[folder / f"{name}.png"] = picture.getvalue()
    for path, content in contents.items():
        write_bytes(path, content)
    return list(contents)


def show(document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """The metrics with their baselines as a table on stdout, then ``rows``."""
    console = results(WIDTH, exact=True)
    seeds = ", ".join(map(str, document["seeds"]))
    title = f"study {document['study']}: {document['n_patients']} patients, seeds {seeds}, {document['preset']}"
    table = Table(title=title)
    for column in ("metric", "value", "95 % interval", "beside it"):
        table.add_column(column, justify="left" if column in ("metric", "beside it") else "right")
    for name, row in document["metrics"].items():
        beside = ", ".join(f"{other} {cell(value)}" for other, value in row["baselines"].items())
        table.add_row(name, cell(row["value"]), cell(row["ci95"]), beside)
    console.print(table)
    if rows:
        console.print(rows_table(rows))


def cell(value: Any, digits: int = 3) -> str:
    """A value as it stands in a table, a number with so many digits."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    if isinstance(value, list | tuple):
        return " .. ".join(cell(item, digits) for item in value)
    return str(value)


def rows_table(rows: Sequence[Mapping[str, Any]], title: str | None = None, digits: int = 3) -> Table:
    """Rows as a table whose columns are their keys; numbers stand to the right."""
    table = Table(title=title)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        table.add_column(name, justify="left" if isinstance(rows[0].get(name), str) else "right")
    for row in rows:
        table.add_row(*[cell(row.get(name), digits) for name in names])
    return table


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Only what JSON knows; what is not finite is ``None``."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer | int):
        return int(value)
    if isinstance(value, np.floating | float):
        return _finite(value)
    return value if value is None or isinstance(value, str) else str(value)
