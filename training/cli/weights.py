"""``ecg-gym weights``: what ships, or a file of your own, as a table, a card or JSON; and import of foreign ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from training.console import entrance, note, results, say, writable

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

Json = Annotated[bool, typer.Option("--json", help="Everything that the files say of themselves, as one document.")]
Card = Annotated[bool, typer.Option("--card", help="The model card, Markdown on stdout.")]
LICENCES = ("Apache-2.0", "CC BY 4.0", "ODC-By 1.0", "MIT")
STRIPS = 32  # virtual ones, that measure the latents of an imported codec


@app.callback()
def weights(context: typer.Context, card: Card = False, as_json: Json = False) -> None:
    """What weights ship: kind, size, hash, and under which licences the data came that they learned from."""
    if context.invoked_subcommand is None:
        _show(None, card, as_json)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="Weights of your own.")], card: Card = False, as_json: Json = False
) -> None:
    """The same of a file of your own."""
    _show(file, card, as_json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Checkpoint of another group, as torch.save wrote it.")],
    name: Annotated[str, typer.Option("--as", help="ecgfounder, ecg-fm or diffusets-vae.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File that is written; default NAME.safetensors in $ECG_GYM_WEIGHTS or out/weights."),
    ] = None,
) -> None:
    """Read a foreign checkpoint without executing its pickle, check every name and shape, write safetensors."""
    from ecg_gym.foreign.importing import foreign_named, import_weights
    from ecg_gym.foreign.judges import path_of

    with entrance():
        foreign = foreign_named(name)
        target = writable(out or path_of(name), folder=False)
        strips = _virtual_strips(STRIPS) if name == "diffusets-vae" else None
        sha256 = import_weights(file, name, target, strips=strips)
    note(f"{foreign.row['title']}; licence {foreign.row['licence']}; {foreign.row['source']}")
    say(f"weights  {target}\nSHA-256  {sha256}")


def _virtual_strips(n: int) -> Any:
    import numpy as np

    from ecg_gym.virtual_patient import VirtualPatient

    return VirtualPatient().initial(n, np.random.default_rng(0)).ecg


def _show(file: Path | None, card: bool, as_json: bool) -> None:
    """Table, card or JSON of one file, or of those in the package."""
    from training import model_card

    if card:
        with entrance():
            text = "\n".join(model_card.card(path) for path in ([file] if file else model_card.shipped()))
        sys.stdout.write(text)
        return
    with entrance():
        rows = described(file)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2, sort_keys=True) + "\n")
        return
    results(100).print(table(rows))
    say("training data, settings and figures: ecg-gym weights --card, or --json")


def described(file: Path | None = None) -> list[dict[str, Any]]:
    """One row per file: name, SHA-256, size [MB] and everything in its metadata; ValueError where the hash is wrong."""
    from ecg_gym import checkpoint
    from training import model_card

    packaged = {checkpoint.ASSETS / name: sha256 for name, sha256 in checkpoint.manifest().items()}
    rows = []
    for path, sha256 in ({file: None} if file else packaged).items():
        stored = checkpoint.load(path, model_card.kind_of(path), sha256)
        megabytes = round(path.stat().st_size / 1e6, 2)
        rows.append({"file": path.name, "sha256": stored.sha256, "megabytes": megabytes, **stored.metadata})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for a terminal, a line per file."""
    from training.model_card import kinds

    titles = {name: words["title"] for name, words in kinds().items()}
    result = Table(title="weights")
    for heading in ("file", "what", "MB", "SHA-256", "licences of the data"):
        result.add_column(heading, justify="right" if heading == "MB" else "left", overflow="fold")
    for row in rows:
        what = titles.get(row.get("kind", ""), str(row.get("kind", "")))
        result.add_row(row["file"], what, f"{row['megabytes']:.2f}", row["sha256"][:12], licences(row))
    return result


def licences(row: Mapping[str, Any]) -> str:
    """The licences that the sources of a file's training data name, each once; a dash where none is stored."""
    sources = json.dumps(row.get("data", {}))
    return ", ".join(licence for licence in LICENCES if licence in sources) or "-"
