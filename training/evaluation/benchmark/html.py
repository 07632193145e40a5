"""The result of ``ecg-gym evaluate --json`` as one HTML page: paired with the guideline, scenario by scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from planners.report.html.markup import Markup, Piece, join, page, tag
from planners.report.html.sections import header, provenance, section
from planners.report.table import number

PIXELS, EDGE = 260.0, 6.0  # width of the axis of a row, and the air on its sides


def is_result(document: Any) -> bool:
    """Whether a JSON document looks like what `ecg-gym evaluate --json` writes."""
    return isinstance(document, Mapping) and {"policy", "scenarios", "mean", "protocol_sha256"} <= set(document)


def evaluation_page(document: Mapping[str, Any], name: str) -> str:
    """The document as a page; ``ValueError`` for one with a broken part."""
    try:
        policy, rows = str(document["policy"]), dict(document["scenarios"])
        table = _table({**rows, "mean": document["mean"]})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{name} is the result of an evaluation with a broken part ({type(error).__name__}: {error}); expected it "
            "as `ecg-gym evaluate --json` writes it; evaluate again"
        ) from error
    facts = {"result": name} | {
        key: str(document[key]) for key in ("split", "protocol_sha256", "model_sha256") if document.get(key)
    }
    subtitle = (
        "Paired difference to the guideline on the same virtual patients [risk-hours per episode]; above 0 is better."
    )
    links = [("scenarios", "Scenarios"), ("repeat", "To repeat this")]
    body = join([header(policy, subtitle, links), tag("main", table, provenance(facts), id="content")])
    return page(f"{policy} on virtual patients", body)


def _table(rows: Mapping[str, Mapping[str, Any]]) -> Markup:
    """One row per scenario and the mean, on an axis that holds all intervals and 0."""
    numbers = {name: _interval(row) for name, row in rows.items()}
    ends = [x for values in numbers.values() for x in values if math.isfinite(x)]
    least, most = min([0.0, *ends]), max([1e-9, *ends])
    head: list[Piece] = [tag("th", "scenario", scope="col", class_="words"), tag("th", "difference, 95 %", scope="col"),
                         tag("th", f"{least:.2g} to {most:.2g}; line: the guideline", scope="col")]  # fmt: skip
    head += [tag("th", word, scope="col") for word in ("normalised", "deaths in 1,000", "harm in 1,000", "n")]
    body = []
    for name, row in rows.items():
        value, low, high = numbers[name]
        interval = f"{low:.2f} to {high:.2f}" if math.isfinite(low) and math.isfinite(high) else "-"
        cells = [tag("td", number(_number(row.get(key)), form)) for key, form in
                 (("normalised", ".2f"), ("deaths", ".0f"), ("harm", ".0f"), ("n", ".0f"))]  # fmt: skip
        body.append(tag("tr", tag("th", name.replace("_", " "), scope="row"),
                        tag("td", number(value, ".2f"), tag("small", interval)),
                        tag("td", _axis(value, low, high, least, most), class_="bar wide"), *cells))  # fmt: skip
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return section("scenarios", "Scenarios", tag("div", table, class_="scroll"))


def _axis(value: float, low: float, high: float, least: float, most: float) -> Markup:
    def at(x: float) -> str:
        return f"{EDGE + (PIXELS - 2 * EDGE) * (x - least) / (most - least):.1f}"

    parts: list[Piece] = [tag("line", x1=at(0.0), x2=at(0.0), y1=0, y2=26, class_="today")]
    if math.isfinite(low) and math.isfinite(high):
        parts.append(tag("line", x1=at(low), x2=at(high), y1=13, y2=13, class_="whisker"))
    if math.isfinite(value):
        parts.append(tag("circle", cx=at(value), cy=13, r=4, class_="score"))
    return tag("svg", *parts, viewBox=f"0 0 {PIXELS:g} 26", aria_hidden="true")


def _interval(row: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = row.get("ci95") or (None, None)
    return _number(row["paired_difference"]), _number(low), _number(high)


def _number(value: Any) -> float:
    """A number; null is NaN."""
    return math.nan if value is None else float(value)
