"""Fill the page of stability from documents of several worlds: ``python -m training.evaluation.stability.page FOLDER``.

``FOLDER/NAME/stability.json`` (and ``.png``) as ``ecg-gym study stability --world ... --out FOLDER/NAME`` writes them.
Between ``<!-- worlds -->`` and ``<!-- end -->`` the page gets one table, metrics by worlds, with how each was run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_gym.io import write_text
from training.console import SAY, entrance
from training.evaluation.pages import table
from training.evaluation.result import cell

PAGE = Path("docs/stability.md")
BLOCK = re.compile(r"(<!-- worlds -->\n).*?(<!-- end -->)", re.DOTALL)
BESIDE = ("copy", "virtual patient", "told every 1", "pharmacology", "plasma level", "perfect")
LEFT_OUT = re.compile(r"violation_(?!any|dead|qt_beyond_rr|einthoven|no_beats)|coverage_1_|spread_over_error_1_|_10uv_")

Document = Mapping[str, Any]


def worlds(documents: Mapping[str, Document], pictures: Mapping[str, str]) -> str:
    """Metrics by worlds as Markdown: value and interval of each, and what stands beside the first one."""
    row = [f"- **{name}** {_run(one)}" for name, one in documents.items()]
    samples = [f"![{name}]({path})" for name, path in pictures.items()]
    return "\n\n".join(["\n".join(row), table(_rows(documents)), *samples])


def _run(one: Document) -> str:
    """How a world was asked."""
    how, weights = one["settings"], f", SHA-256 `{one['model_sha256'][:12]}...`" if one["model_sha256"] else ""
    return (
        f"(`{how['world_name']}`{weights}): {one['n_patients']} patients, {how['samples']} samples, seeds "
        f"{', '.join(map(str, one['seeds']))}, {how['steps']} steps of {how['dt_hours']:g} h; {how['refused']} first "
        f"strips refused, {how['dead_rows']} rows of the dead looked at"
    )


def _rows(documents: Mapping[str, Document]) -> Sequence[Mapping[str, Any]]:
    first = next(iter(documents.values()))
    rows = []
    for name, metric in first["metrics"].items():
        if LEFT_OUT.search(name):
            continue
        row: dict[str, Any] = {"metric": f"`{name}`"}
        for world, one in documents.items():
            row[world] = _value(one["metrics"].get(name))
        for baseline in BESIDE:
            row[baseline] = metric["baselines"].get(baseline)
        rows.append(row)
    return rows


def _value(metric: Mapping[str, Any] | None) -> str | None:
    if metric is None or metric["value"] is None:
        return None
    ends = metric["ci95"]
    return cell(metric["value"]) + (f" [{', '.join(map(cell, ends))}]" if ends else "")


def main(
    folder: Annotated[Path, typer.Argument(help="Where the documents lie, one folder per world.")],
    page: Annotated[Path, typer.Option(help="The page to fill.")] = PAGE,
) -> None:
    """Fill the page's table from the documents of the worlds, and copy their pictures beside it."""
    with entrance():
        result = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/stability.json"))}
        if not result:
            raise ValueError(f"{folder} holds no document; expected NAME/stability.json; run ecg-gym study stability")
        pictures = {}
        figures = page.with_suffix("")
        for name in result:
            if (samples := folder / name / "stability.png").is_file():
                figures.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(samples, figures / f"{name}.png")
                pictures[name] = os.path.relpath(figures / f"{name}.png", page.parent)
        text = BLOCK.sub(lambda m: f"{m[1]}{worlds(result, pictures)}\n{m[2]}", page.read_text(encoding="utf-8"))
        write_text(page, text)
    SAY.print(f"{page}: {', '.join(result)}")


if __name__ == "__main__":
    typer.run(main)
