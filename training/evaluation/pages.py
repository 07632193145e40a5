"""The pages of the studies: five rows of a document beside their baselines, for weights that ship and for no others.

    python -m training.evaluation.pages FOLDER      # takes FOLDER/**/<study>.json (and .png) into docs/studies/results

A document of other weights is refused when it is taken; one that no longer fits is not shown when the site is built.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ecg_gym.io import write_text
from training.console import SAY, entrance
from training.evaluation.result import cell

RESULTS = Path("docs/studies/results")
ASSETS = Path(__file__).resolve().parents[2] / "ecg_gym" / "assets"
PAPER_TABLES = Path(__file__).with_name("paper_tables.yaml")
FIRST = 5  # rows of a summary, where the page names none
NONE_YET = """!!! warning "Not measured with the weights that ship"
    {why} Run `ecg-gym study {name}` for figures, `python -m training.evaluation.pages FOLDER` to take them."""

Document = Mapping[str, Any]


def manifest() -> Mapping[str, str]:
    """SHA-256 of each file of weights in the package, by file name."""
    return json.loads((ASSETS / "manifest.json").read_text())


def shipped(document: Document) -> bool:
    """Whether a document was measured on weights that ship, or on none at all (the virtual patient)."""
    return document["model_sha256"] in ("", *manifest().values())


def checked(document: Document) -> Document:
    """The document itself; ValueError when its weights do not ship."""
    if not shipped(document):
        names = ", ".join(f"{name} {sha256[:12]}..." for name, sha256 in manifest().items())
        raise ValueError(
            f"the document of {document['study']} was measured on weights {document['model_sha256'][:12]}...; expected "
            f"one of {names}; run the study again with the weights in the package"
        )
    return document


def documents(folder: Path) -> dict[str, Document]:
    """The documents of a folder and those below it, by study."""
    read = (json.loads(path.read_text()) for path in sorted(folder.rglob("*.json")))
    return {str(one["study"]): one for one in read if isinstance(one, dict) and "metrics" in one}


def section(
    name: str,
    document: Document | None,
    rows: Mapping[str, str] | None = None,
    beside: Mapping[str, str] | None = None,
    picture: str | None = None,
) -> str:
    """Markdown of a study: how it was run, a short table, links to everything else, the picture.

    ``rows`` are the metrics to show with their words, ``beside`` the baselines with theirs; without a document of
    weights that ship a sentence that says so.
    """
    if document is None:
        return NONE_YET.format(name=name, why="No document of this study is stored.")
    if not shipped(document):
        sha256 = document["model_sha256"][:12]
        return NONE_YET.format(name=name, why=f"The stored document is of other weights (`{sha256}...`).")
    settings, seeds = document.get("settings", {}), ", ".join(map(str, document["seeds"]))
    samples = f", {settings['samples']} samples each" if "samples" in settings else ""
    weights = f"weights `{document['model_sha256'][:12]}...`" if document["model_sha256"] else "no weights"
    parts = [
        f"`ecg-gym study {name}`: {document['n_patients']} patients{samples}, seeds {seeds}, {weights}. Brackets are "
        "95 % bootstrap intervals over patients; the other columns are baselines, scored in the same way.",
        summary(document, rows, beside),
        f"All {len(document['metrics'])} metrics with every baseline: [CSV](results/{name}.metrics.csv).",
    ]
    return "\n\n".join([*parts, *([f"![{name}]({picture})"] if picture else []), *remarks(document)])


def summary(document: Document, rows: Mapping[str, str] | None = None, beside: Mapping[str, str] | None = None) -> str:
    """The chosen metrics with the chosen baselines as a Markdown table; KeyError for a metric that is not there."""
    metrics = document["metrics"]
    titles = dict(rows) if rows else {name: f"`{name}`" for name in list(metrics)[:FIRST]}
    heads = {raw: words for raw, words in (beside or {}).items() if any(raw in metrics[m]["baselines"] for m in titles)}
    lines = [
        {"metric": words, "value": _interval(metrics[name])}
        | {head: metrics[name]["baselines"].get(raw) for raw, head in heads.items()}
        for name, words in titles.items()
    ]
    return table(lines)


def remarks(document: Document) -> list[str]:
    """What is said of where the document comes from."""
    origin = document.get("settings", {}).get("origin")
    return [f"*{origin}*"] if origin else []


def metrics_csv(document: Document) -> str:
    """Every metric in the long form ``metric,of,value,low,high``; ``of`` is the study's own value or a baseline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("metric", "of", "value", "low", "high"))
    for name, one in document["metrics"].items():
        writer.writerow((name, "value", one["value"], *(one["ci95"] or ("", ""))))
        intervals = one.get("baselines_ci95", {})
        for other, value in one["baselines"].items():
            writer.writerow((name, other, value, *intervals.get(other, ("", ""))))
    return text.getvalue()


def index(folder: Path) -> str:
    """One row per page of ``folder`` that names a study: its title, its first metric, and whether its weights ship."""
    results = documents(folder / "results")
    rows = []
    for path in sorted(folder.glob("*.md")):
        head, title = front_matter(path)
        if "study" not in head:
            continue
        document = results.get(head["study"])
        if document is None or not shipped(document):
            rows.append({"study": f"[{title}]({path.name})", "first metric": "not measured with these weights"})
            continue
        name, words = next(iter(head["rows"].items()))
        values = f"{words}: {_interval(document['metrics'][name])}"
        rows.append({"study": f"[{title}]({path.name})", "first metric": values})
    return table(rows)


def paper_table(folder: Path, rows: Path = PAPER_TABLES) -> str:
    """The paper's tables and figures one by one: its number, ours of weights that ship, whether they compare."""
    stored = {name: one for name, one in documents(folder / "results").items() if shipped(one)}
    lines = []
    for row in yaml.safe_load(rows.read_text(encoding="utf-8")):
        name = row.get("study")
        command = f"`ecg-gym study {name}`" if name else "-"
        page = f"[{command}](studies/{name}.md)" if name and (folder / f"{name}.md").is_file() else command
        lines.append(
            {"in the paper": f"{row['item']}: {row['about']}", "its number": row["paper"],
             "ours": _beside(stored.get(name), row), "comparable": row["comparable"], "command": page}
        )  # fmt: skip
    return table(lines)


def _beside(document: Document | None, row: Mapping[str, Any]) -> str:
    """Our figures for a row of the paper, each with its interval and its trivial baselines."""
    if "metrics" not in row:
        return "see the study" if row.get("study") else "-"
    if document is None:
        return "not measured with the weights that ship"
    parts = []
    for name, words in row["metrics"].items():
        one = document["metrics"][name]
        others = [f"{o} {cell(one['baselines'][o])}" for o in row.get("baselines", ()) if o in one["baselines"]]
        parts.append(f"{words} {_interval(one)}" + (f" ({', '.join(others)})" if others else ""))
    return "; ".join(parts)


def front_matter(path: Path) -> tuple[dict[str, Any], str]:
    """The settings between the first two ``---`` of a page, and its title."""
    text = path.read_text(encoding="utf-8")
    head, body = text.split("---\n", 2)[1:] if text.startswith("---\n") else ("", text)
    title = next(line for line in body.splitlines() if line.startswith("# "))
    return yaml.safe_load(head) or {}, title.removeprefix("# ")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as Markdown; numbers with three digits, what is not known as a dash."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(_word(row.get(name)) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _interval(metric: Mapping[str, Any]) -> str:
    return f"{cell(metric['value'])} {_word(metric['ci95']) if metric['ci95'] else ''}".strip()


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(cell(item) for item in value)}]"
    return cell(value).replace("|", "/")


def main(
    folder: Annotated[Path, typer.Argument(help="Where the studies' JSON documents lie.")],
    results: Annotated[Path, typer.Option(help="Where the pages read them.")] = RESULTS,
) -> None:
    """Take documents of studies, and their figures, into the pages; those of weights that do not ship are refused."""
    with entrance():
        paths = {str(one["study"]): path for path in sorted(folder.rglob("*.json")) for one in [_document(path)] if one}
        if not paths:
            raise ValueError(
                f"{folder} holds no document of a study; expected *.json; run ecg-gym study NAME --out FOLDER"
            )
        read = {name: checked(_document(path) or {}) for name, path in paths.items()}
        results.mkdir(parents=True, exist_ok=True)
        for name, document in read.items():
            without_rows = {key: value for key, value in document.items() if key != "rows"} | {"rows": []}
            write_text(results / f"{name}.json", json.dumps(without_rows, indent=1, allow_nan=False) + "\n")
            for suffix in (".png", ".csv"):
                if paths[name].with_suffix(suffix).is_file():
                    shutil.copyfile(paths[name].with_suffix(suffix), results / f"{name}{suffix}")
    SAY.print(f"{results}: {', '.join(read)}")


def _document(path: Path) -> Document | None:
    one = json.loads(path.read_text(encoding="utf-8"))
    return one if isinstance(one, dict) and "metrics" in one and "study" in one else None


if __name__ == "__main__":
    typer.run(main)
