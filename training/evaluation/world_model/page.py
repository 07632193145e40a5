"""Fill the page of the world model from the documents of the studies.

``python -m training.evaluation.world_model.page FOLDER``

``FOLDER`` holds ``<study>.json`` (and ``.png``), anywhere below it, as ``ecg-gym study NAME --out FOLDER/NAME`` writes
them. Between ``<!-- table: NAME -->`` and ``<!-- end -->`` the page gets the study's metrics beside their baselines,
the rows that answer a table of the paper, and the figure. Studies without a document keep what the page says now.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_gym.io import write_text
from training.console import SAY, entrance
from training.evaluation.result import cell
from training.evaluation.world_model import missing_leads, rollout
from training.evaluation.world_model.rollout_arms import JUDGED

PAGE = Path("docs/world_model.md")
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
ROLLED = (1, 2, 4, 8)  # steps shown of rollouts

Rows = Sequence[Mapping[str, Any]]


def _steps(document: Mapping[str, Any]) -> Rows:
    """Treated and untreated, at a few steps."""
    return [r for r in rollout.summary(document) if r["step"] in ROLLED and r["arm"] in JUDGED]


def _columns(*names: str) -> Callable[[Mapping[str, Any]], Rows]:
    """Some columns of the study's own rows."""
    return lambda result: [{name: row.get(name) for name in names} for row in result["rows"]]


TABLES: dict[str, Callable[[Mapping[str, Any]], Rows]] = {
    "rollout": _steps,
    "missing-leads": missing_leads.summary,
    "ablate-lambda": _columns(
        "lambda", "regret", "regret_ci95", "true_tail", "moved", "same_choice", "same_order",
        "pearson_mean", "pearson_S",
    ),
    "ablate-k": _columns(
        "k", "regret", "regret_ci95", "delta_risk_mae", "same_choice", "sd_relative_error",
        "latent_mse", "latent_mse_of_mean", "signal_mse", "signal_mse_of_mean", "signal_mae_of_mean",
    ),
    "prior-mismatch": _columns(
        "what", "factor", "interval", "effect_mae", "prior_mae", "no_effect_mae", "slope", "spread", "trust"
    ),
}  # fmt: skip


def fill(page: str, documents: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, str] | None = None) -> str:
    """The page with every block filled whose study is among ``documents``; ``pictures`` are links by study."""
    samples = pictures or {}

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name == "weights" and documents:
            return f"{match[1]}{weights(documents.values())}\n{match[3]}"
        if name not in documents:
            return match[0]
        return f"{match[1]}{section(documents[name], samples.get(name))}\n{match[3]}"

    return BLOCK.sub(block, page)


def section(document: Mapping[str, Any], picture: str | None = None) -> str:
    """What a study found: how it was run, its metrics beside their baselines, its rows, its picture."""
    settings = document.get("settings", {})
    row = [f"{document['n_patients']} patients", f"seeds {', '.join(map(str, document['seeds']))}"]
    row += [f"{settings['samples']} samples"] if "samples" in settings else []
    parts = [f"`ecg-gym study {document['study']}`: {', '.join(row)}; brackets are 95 % intervals over patients."]
    parts.append(table(_metric_rows(document["metrics"])))
    if document["study"] in TABLES:
        parts.append(table(TABLES[document["study"]](document)))
    if picture:
        parts.append(f"![{document['study']}]({picture})")
    return "\n\n".join(parts)


def weights(documents: Iterable[Mapping[str, Any]]) -> str:
    """Which weights the page is about; several are named by study, because then its tables cannot be compared."""
    studies: dict[str, list[str]] = {}
    for result in documents:
        studies.setdefault(str(result["model_sha256"])[:12] or "no weights", []).append(str(result["study"]))
    if len(studies) == 1:
        (sha,) = studies
        return f"Weights: SHA-256 `{sha}...`."
    said = "; ".join(f"`{sha}...`: {', '.join(sorted(names))}" for sha, names in studies.items())
    return f"**Not all studies were run on the same weights**: {said}."


def table(rows: Rows) -> str:
    """Rows as Markdown; numbers with three digits, what is not known as a dash."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(_word(row.get(name)) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> Rows:
    return [
        {
            "metric": f"`{name}`",
            "value": f"{cell(one['value'])} {_word(one['ci95']) if one['ci95'] else ''}".strip(),
            "beside it": ", ".join(f"{other} {cell(value)}" for other, value in one["baselines"].items()) or None,
        }
        for name, one in metrics.items()
    ]


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(cell(item) for item in value)}]"
    return cell(value).replace("|", "/")


def main(
    folder: Annotated[Path, typer.Argument(help="Where the studies' JSON documents lie.")],
    page: Annotated[Path, typer.Option(help="The page to fill.")] = PAGE,
    figures: Annotated[Path | None, typer.Option(help="Folder beside the page for the pictures; default none.")] = None,
) -> None:
    """Fill the page's tables from the documents of the studies."""
    with entrance():
        result = {path: json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}
        documents = {str(d["study"]): (path, d) for path, d in result.items() if isinstance(d, dict) and "metrics" in d}
        if not documents:
            raise ValueError(
                f"{folder} holds no document of a study; expected *.json; run ecg-gym study NAME --out FOLDER"
            )
        pictures = {}
        for name, (path, _) in documents.items():
            if figures is not None and path.with_suffix(".png").is_file():
                figures.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path.with_suffix(".png"), figures / f"{name}.png")
                pictures[name] = os.path.relpath(figures / f"{name}.png", page.parent)
        text = fill(page.read_text(), {name: d for name, (_, d) in documents.items()}, pictures)
        write_text(page, text)
    left = [m["name"] for m in BLOCK.finditer(text) if m["name"] not in documents and m["name"] != "weights"]
    SAY.print(f"{page}: {', '.join(documents)}" + (f"; no document of {', '.join(left)}" if left else ""))


if __name__ == "__main__":
    typer.run(main)
