"""Model cards, written from what the weights say of themselves, so that card and weights cannot disagree.

    python -m training.model_card            # writes a card beside each shipped file of weights
    ecg-gym weights --card              # shows them

Everything measured or counted comes from the file: its hash, its tensors, the JSON inside. Words that hold for any
weights of a kind, and words that hold for one file only (kept under its hash), stand in ``model_card.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ecg_gym import checkpoint
from ecg_gym.io import write_text
from ecg_gym.yaml_files import read_yaml

WORDS = Path(__file__).with_name("model_card.yaml")
LONG = 8  # entries; a list longer than this is not shown
FIRST = ("value", "ci95", "baselines")  # columns of figures that come first
_NOT_SETTINGS = (
    "format",
    "kind",
    "config",
    "leads",
    "rate_hz",
    "samples",
    "data",
    "metrics",
    "training",
    "stages",
    "run",
    checkpoint.CHECKSUM,
)


def card(weights: Path) -> str:
    """The card of a file of weights, Markdown; ValueError when its kind has no words in ``model_card.yaml``."""
    stored = checkpoint.load(weights, kind_of(weights))
    metadata, words = stored.metadata, _words()
    kind = words["kinds"].get(metadata["kind"])
    if kind is None:
        raise ValueError(
            f"{weights} is of kind {metadata['kind']!r}; expected one of {sorted(words['kinds'])}; add its words to "
            f"{WORDS.name}"
        )
    parameters = sum(tensor.numel() for tensor in stored.tensors.values())
    precision = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in stored.tensors.values()}))
    own = words["weights"].get(stored.sha256[:12], [])
    sections = {
        "": [
            kind["what"],
            f"{parameters:,} numbers ({precision}), {weights.stat().st_size / 1e6:.2f} MB. Research only.",
        ],
        "Use": _bullets(words["use"]),
        "Origin": _bullets(_origin(metadata, stored.sha256)),
        "Learned from": _bullets(map(_source, metadata["data"].get("sources", []))),
        "Training": _training(metadata),
        "Measured when it was made": [*_tables(metadata["metrics"])] or ["Nothing is stored in the file."],
        "Limits": _bullets([*kind["limits"], *metadata.get("limits", []), *own]),
    }
    lines = [f"# {kind['title']} (`{weights.name}`)", ""]
    for title, blocks in sections.items():
        lines += [*([f"## {title}", ""] if title else []), *(line for block in blocks for line in (block.rstrip(), ""))]
    return "\n".join(
        [*lines, "Written by `python -m training.model_card` from the file itself; do not edit by hand.", ""]
    )


def write(folder: Path = checkpoint.ASSETS) -> list[Path]:
    """A card beside each file of the folder's manifest, aside and renamed; returns their paths."""
    paths = []
    for weights in shipped(folder):
        path = weights.with_suffix(".md")
        write_text(path, card(weights))
        paths.append(path)
    return paths


def shipped(folder: Path = checkpoint.ASSETS) -> list[Path]:
    """The files of learned weights in a folder of assets, by name; a fitted tissue has no card."""
    names = checkpoint.manifest()
    return sorted(path for path in folder.glob("*.safetensors") if path.name in names or folder != checkpoint.ASSETS)


def kinds() -> Mapping[str, Mapping[str, Any]]:
    """What is said of any weights of a kind, by kind: ``title``, ``what``, ``limits``."""
    return _words()["kinds"]


def kind_of(weights: Path) -> str:
    """The kind a file of weights says it is."""
    return str(checkpoint.metadata(weights).get("kind"))


def _origin(metadata: Mapping[str, Any], sha256: str) -> Iterator[str]:
    yield f"SHA-256 `{sha256}`"
    run = metadata.get("run", {})
    for name in ("preset", "device", "data_sha256"):
        if name in run:
            yield f"{name}: {_plain(run[name])}"
    for name, value in metadata.items():
        if name not in (*_NOT_SETTINGS, "limits") and not isinstance(value, dict) and _short(value):
            yield f"{name}: {_plain(value)}"


def _source(source: Any) -> str:
    """A source of data in a line: what and under which licence first, then whatever was counted."""
    if not isinstance(source, dict):
        return str(source)
    names = source.get("sources") or [source.get("source", "unnamed")]
    licence = f" ({source['licence']})" if "licence" in source else ""
    rest = [f"{key}: {_plain(value)}" for key, value in source.items() if key not in ("sources", "source", "licence")]
    return "; ".join(map(str, names)) + licence + (" - " + "; ".join(rest) if rest else "")


def _training(metadata: Mapping[str, Any]) -> list[str]:
    blocks = []
    if stages := metadata.get("stages"):
        total = sum(int(stage.get("steps", 0)) for stage in stages)
        blocks += [
            f"{_plain(total)} steps in {len(stages)} stage{'s' if len(stages) > 1 else ''}:",
            _table(list(stages[0]), [list(s.values()) for s in stages]),
        ]
    settings = metadata.get("training") or {}
    if (how := settings.get("loop")) and not stages:
        planned, reached = how["steps"], metadata["metrics"].get("step", how["steps"])
        part = f"{_plain(reached)} of " if reached != planned else ""
        early = " Taken while the training went on: not finished." if reached < planned else ""
        blocks.append(f"{part}{_plain(planned)} steps on {how['device']}, seed {how['seed']}.{early}")
    return [*blocks, *_bullets(_settings(settings))] if settings else blocks or ["Nothing is stored in the file."]


def _settings(settings: Mapping[str, Any], path: str = "all") -> Iterator[str]:
    """A line for each part of a preset, those without a value left out."""
    row = [
        f"{key} {_plain(value)}" for key, value in settings.items() if value is not None and not isinstance(value, dict)
    ]
    if row:
        yield f"{path}: {', '.join(row)}"
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _settings(value, name if path == "all" else f"{path}.{name}")


def _tables(metrics: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every measured figure: a table for single ones, a table for rows of the same columns, and so on inside."""
    single = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    rows = {name: value for name, value in metrics.items() if isinstance(value, dict) and _is_row(value)}
    if single:
        yield f"**{path}**" if path else "**overall**"
        yield _table(["", "value"], [[name, value] for name, value in single.items()])
    shared = set.intersection(*(set(row) for row in rows.values())) if len(rows) > 1 else set()
    if shared:
        there = list(dict.fromkeys(key for row in rows.values() for key in row))
        columns = [key for key in FIRST if key in there] + [key for key in there if key not in FIRST]
        yield f"**{path}**" if path else "**overall**"
        yield _table(["", *columns], [[name, *(row.get(key) for key in columns)] for name, row in rows.items()])
    for name, value in metrics.items():
        if isinstance(value, dict) and not (shared and name in rows):
            yield from _tables(value, f"{path}: {name}" if path else name)


def _is_row(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is one measured thing: plain values, and at most its baselines below."""
    return all(key == "baselines" or not isinstance(part, dict) for key, part in value.items())


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    cells = [[_cell(column, value) for column, value in zip(columns, row)] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _bullets(lines: Any) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)]


def _cell(column: str, value: Any) -> str:
    return " to ".join(map(_plain, value)) if column == "ci95" and value else _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value)


def _short(value: Any) -> bool:
    return not isinstance(value, list) or (
        len(value) <= LONG and not any(isinstance(part, dict | list) for part in value)
    )


@cache
def _words() -> dict[str, Any]:
    return read_yaml(WORDS)


if __name__ == "__main__":
    for page in write():
        print(page)
