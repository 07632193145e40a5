"""A benchmark result as one HTML page: who stands where, with intervals, in every scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from planners.report.html.markup import Markup, Piece, join, page, tag
from planners.report.html.sections import header, provenance, section
from planners.report.table import number

COLUMNS = (  # key of the result, heading, form
    ("cost_rate", "cost rate", ".3f"),
    ("cvar10", "worst decile", ".3f"),
    ("p_beats_heuristic", "P(beats heuristic)", ".2f"),
    ("model_calls", "model calls a decision", ".0f"),
    ("exploitation_gap", "exploitation gap", ".3f"),
)
UNSOUND = "Oracle and random cannot be told apart here, so a score between them means nothing; left out of the mean."
PIXELS, EDGE = 260.0, 6.0  # width of the axis of a row, and the air on its sides


def is_result(document: Any) -> bool:
    """Whether a JSON document looks like what `ecg-gym benchmark --json` writes."""
    return isinstance(document, Mapping) and {"scenarios", "mean", "protocol_sha256"} <= set(document)


def benchmark_page(document: Mapping[str, Any], name: str) -> str:
    """The document as a page; ``ValueError`` for one with a broken part."""
    try:
        scenarios = {str(s): _played(part["agents"]) for s, part in document["scenarios"].items()}
        unsound = set(document.get("not_well_defined") or ())
        parts = [_table("mean", "Mean over scenarios", _played(document["mean"]))]
        parts += [
            _table(s, s.replace("_", " "), rows, UNSOUND if s in unsound else "") for s, rows in scenarios.items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{name} is a benchmark result with a broken part ({type(error).__name__}: {error}); expected it as "
            "`ecg-gym benchmark --json` writes it; run the benchmark again"
        ) from error
    links = [("mean", "Mean"), *((s, s.replace("_", " ")) for s in scenarios), ("repeat", "To repeat this")]
    facts = {"result": name} | {
        key: str(document[key]) for key in ("protocol_sha256", "model_sha256") if document.get(key)
    }
    subtitle = "Every agent is scored in the virtual patient. 0 is random among what is allowed, 1 the oracle."
    body = join([header("Benchmark", subtitle, links), tag("main", *parts, provenance(facts), id="content")])
    return page("Benchmark of ecg-gym", body)


def _table(anchor: str, title: str, agents: Mapping[str, Mapping[str, Any]], warning: str = "") -> Markup:
    """One row per agent, best first, on an axis that holds all intervals, random and the oracle."""
    numbers = {agent: _known(row) for agent, row in agents.items()}
    ends = [x for iqm, low, high in numbers.values() for x in (iqm, low, high) if math.isfinite(x)]
    least, most = min([0.0, *ends]), max([1.0, *ends])
    visible = [(key, heading, form) for key, heading, form in COLUMNS if any(key in row for row in agents.values())]
    head: list[Piece] = [tag("th", "agent", scope="col", class_="words"), tag("th", "score, IQM, 95 %", scope="col"),
                         tag("th", f"{least:.2g} to {most:.2g}; lines: random 0, oracle 1", scope="col")]  # fmt: skip
    head += [tag("th", heading, scope="col") for _, heading, _ in visible]

    def place(agent: str) -> tuple[bool, float, str]:
        iqm = numbers[agent][0]
        return not math.isfinite(iqm), -iqm if math.isfinite(iqm) else 0.0, agent

    rows = []
    for agent in sorted(agents, key=place):
        iqm, low, high = numbers[agent]
        interval = f"{low:.2f} to {high:.2f}" if math.isfinite(low) and math.isfinite(high) else "-"
        cells = [tag("td", number(_number(agents[agent].get(key)), form)) for key, _, form in visible]
        rows.append(tag("tr", tag("th", agent, scope="row"), tag("td", number(iqm, ".2f"), tag("small", interval)),
                        tag("td", _axis(iqm, low, high, least, most), class_="bar wide"), *cells))  # fmt: skip
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    said = tag("p", warning, class_="warning") if warning else None
    return section(anchor, title, said, tag("div", table, class_="scroll"))


def _axis(iqm: float, low: float, high: float, least: float, most: float) -> Markup:
    def at(x: float) -> str:
        return f"{EDGE + (PIXELS - 2 * EDGE) * (x - least) / (most - least):.1f}"

    parts: list[Piece] = [tag("line", x1=at(x), x2=at(x), y1=0, y2=26, class_="today") for x in (0.0, 1.0)]
    if math.isfinite(low) and math.isfinite(high):
        parts.append(tag("line", x1=at(low), x2=at(high), y1=13, y2=13, class_="whisker"))
    if math.isfinite(iqm):
        parts.append(tag("circle", cx=at(iqm), cy=13, r=4, class_="score"))
    return tag("svg", *parts, viewBox=f"0 0 {PIXELS:g} 26", aria_hidden="true")


def _known(row: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = row.get("ci95") or (None, None)
    return _number(row.get("normalised_iqm")), _number(low), _number(high)


def _played(agents: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The agents that have results; null stands for one whose first episode is still to come."""
    return {str(name): row for name, row in agents.items() if row is not None}


def _number(value: Any) -> float:
    """A number, or one with its interval; null is NaN."""
    if isinstance(value, Mapping):
        value = value.get("value")
    return math.nan if value is None else float(value)
