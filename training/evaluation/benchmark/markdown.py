"""Numbers and tables of a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; what is not known is a dash."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(number(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def number(value: Any) -> str:
    """Three digits, or the word it is."""
    if value is None:
        return "-"
    if isinstance(value, float):
        text = f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
        return text if float(text) else "0.00"
    return str(value).replace("|", "/")


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """``value [low, high]``, or the value alone where there is no interval."""
    return number(value) + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")
