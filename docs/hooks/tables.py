"""Tables of the pages, made from the code at build time so that they cannot become stale."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
from reference import api_pages

import ecg_gym
from ecg_gym.envs import ECGInterventionEnv, load_scenarios, load_tiers
from ecg_gym.envs.config import EnvConfig
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.registration import IDS, NAMESPACES, TIERS
from ecg_gym.risk import LIMITS, PRESSURE
from training.evaluation import pages

DEFAULT = "healthy_volunteer"
FIELD = re.compile(r"^ {4}(?P<name>\w+): .+  # (?P<words>.*)$")


def table(name: str) -> str:
    """The generated table called ``name``; KeyError for one that nobody makes."""
    return TABLES[name]()


def markdown(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as a Markdown table."""
    cells = [[_cell(str(cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(heads), ["---"] * len(heads), *cells])


def _cell(text: str) -> str:
    """The text with its bars escaped, unless it is code, where they stand for themselves."""
    return text if text.startswith("`") and text.endswith("`") else text.replace("|", "\\|")


@cache
def default_env() -> ECGInterventionEnv:
    """The env whose tables are shown: no weights are loaded."""
    env = gym.make("ECGInterventionOracle-v0", risk="limits", scenario=DEFAULT).unwrapped
    assert isinstance(env, ECGInterventionEnv)
    return env


def observation_table() -> str:
    """Every number of the feature vector: index, name, unit, range that becomes [-1, 1], index of its known flag."""
    layout = default_env().layout
    place = {name: i for i, name in enumerate(layout.names)}
    parts = [f"`Box(-1, 1, ({len(layout.names)},), float32)` in the scenario `{DEFAULT}`."]
    for title, features in layout.groups.items():
        rows = [
            (
                place[f.name], f"`{f.name}`", f.unit, f"{f.low:g} to {f.high:g}",
                place[f"{f.name}_known"] if f.optional else "always known",
            )
            for f in features
        ]  # fmt: skip
        parts += [
            f"**{title[0].upper()}{title[1:]}**",
            markdown(("index", "name", "unit", "range", "known flag"), rows),
        ]
    return "\n\n".join(parts)


def action_table() -> str:
    """What each action gives, for the menu of every scenario."""
    parts = []
    for name, scenario in load_scenarios().items():
        rows = [(i, treatment) for i, treatment in enumerate(scenario.menu)]
        inner = markdown(("action", "treatment"), rows).replace("\n", "\n    ")
        opened = "???+" if name == DEFAULT else "???"
        parts.append(f'{opened} note "{name}: `Discrete({len(rows)})`"\n\n    {inner}')
    return "\n\n".join(parts)


def argument_table() -> str:
    """The arguments of the env with types, defaults and meaning: the fields of ``EnvConfig`` and their comments."""
    lines = inspect.getsource(EnvConfig).splitlines()
    words = {match["name"]: match["words"] for line in lines if (match := FIELD.match(line))}
    rows = [(f"`{f.name}`", f"`{f.type}`", f"`{f.default!r}`", words[f.name]) for f in fields(EnvConfig)]
    rows.append(("`render_mode`", "`str | None`", "`None`", "`rgb_array` or `ansi`"))
    return markdown(("argument", "type", "default", "meaning"), rows)


def info_table() -> str:
    """The keys of ``info`` at reset and at every step, with their types."""
    _, info = default_env().reset(seed=0)

    def rows(row: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
        for key, value in row.items():
            if isinstance(value, dict):
                yield from rows(value, f"{path}{key}.")
            else:
                yield f"`{path}{key}`", f"`{type(value).__name__}`"

    return markdown(("key", "type"), list(rows(info)))


def id_table() -> str:
    """The ids of ``gymnasium.make``."""
    rows = [(f"`{name}`", f"`{world}`", f"`{DEFAULT}`", "variation") for name, world in IDS.items()]
    suffixes = ", ".join(f"`{suffix}`" for suffix in TIERS.values() if suffix)
    rows += [
        (f"`{space}/<Scenario>[<Tier>]-v0`", f"`{world}`", f"one of {len(load_scenarios())}", f"none, or {suffixes}")
        for space, world in NAMESPACES.items()
    ]
    return markdown(("id", "world", "scenario", "tier"), rows)


def scenario_table() -> str:
    """Who comes in each scenario, and what a good choice achieves."""
    rows = [(f"`{s.name}`", f"`{s.id}`", s.description, s.goal) for s in load_scenarios().values()]
    return markdown(("scenario", "in ids", "starting state", "a good choice"), rows)


def tier_table() -> str:
    """What each tier adds."""
    return markdown(("tier", "in ids", "what it adds"), [
        (f"`{name}`", f"`{TIERS[name]}`" if TIERS[name] else "", tier.description)
        for name, tier in load_tiers().items()
    ])  # fmt: skip


def limit_table() -> str:
    """The interval limits of the risk."""
    rows = [
        (
            f"`{limit.name}`", f"`{limit.quantity}`, {'change' if limit.of == 'change' else 'value'}, {limit.side}",
            " / ".join(dict.fromkeys(f"{x:g}" for x in limit.none.values())), f"{limit.half:g}", limit.unit,
            f"{limit.severity:g}", "yes" if limit.cost else "no", limit.source,
        )
        for limit in (*LIMITS, PRESSURE)
    ]  # fmt: skip
    heads = ("limit", "quantity", "0 up to (F / M / unknown)", "one half at", "unit", "severity", "in cost", "source")
    return markdown(heads, rows)


def drug_table() -> str:
    """The drugs of the formulary and their doses on the menu."""
    rows = [(name, "; ".join(str(t) for t in FORMULARY.menu([name])[1:])) for name in FORMULARY.names]
    return markdown(("drug", "doses on the menu"), rows)


def study_table() -> str:
    """Every study with a page: whether its figures are of the weights that ship."""
    return pages.index(Path(__file__).resolve().parents[1] / "studies")


def paper_table() -> str:
    """The paper's tables and figures beside ours."""
    return pages.paper_table(Path(__file__).resolve().parents[1] / "studies")


def version() -> str:
    """The version of the package."""
    return f"Version {ecg_gym.__version__}."


def api_index(root: Path) -> str:
    """The list of API pages."""
    lines = ["# API reference", "", "Made from the docstrings. Begin with `ecg_gym.core`.", ""]
    return "\n".join([*lines, *(f"- [`{name}`]({name}.md)" for name in api_pages(root)), ""])


def weights(root: Path) -> str:
    """The model cards of the weights that ship, one below the other."""
    cards = [path.read_text(encoding="utf-8") for path in sorted((root / "ecg_gym" / "assets").glob("*.md"))]
    inner = "\n\n".join(re.sub(r"^#", "##", card, flags=re.MULTILINE) for card in cards)
    return f"# Weights\n\nWhat ships, what it learned from, and what was measured when it was made.\n\n{inner}"


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        observation_table, action_table, argument_table, info_table, id_table, scenario_table, tier_table, limit_table,
        drug_table, study_table, paper_table, version,
    )
}  # fmt: skip
