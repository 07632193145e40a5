"""Line charts as SVG: how S grows with lambda, and how intervals and risk go on over the hours of each branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg_gym.risk import LIMITS
from planners.report.html.markup import Markup, Piece, tag

ASIDE = 4.0  # pixels between the whiskers of two lines at the same place
SERIES = 6  # kinds of line that page.css can tell apart, by colour and by dash


@dataclass(frozen=True)
class Line:
    """One line of a chart, with the reach around its points if there is one."""

    name: str
    x: np.ndarray  # (n,)
    y: np.ndarray  # (n,) NaN is a gap
    low: np.ndarray | None = None  # (n,)
    high: np.ndarray | None = None
    kind: int = 0  # series of page.css; below 0 one of the crowd


@dataclass(frozen=True)
class Frame:
    """Where a chart stands on its own paper, in pixels, and the ranges it shows."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 330.0
    height: float = 190.0
    left: float = 42.0
    right: float = 16.0
    top: float = 24.0
    bottom: float = 30.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            self.left + across * (self.width - self.left - self.right),
            self.height - self.bottom - up * (self.height - self.top - self.bottom),
        )


def chart(frame: Frame, title: str, x_label: str, lines: Sequence[Line], alt: str, quantity: str = "",
          sex: str | None = None, over: Sequence[Piece] = (), **attributes: str) -> Markup:  # fmt: skip
    """Lines in a frame with ticks; ``quantity`` draws its limits of ``risk/limits.yaml``; ``over`` goes on top."""
    parts: list[Piece] = [tag("title", alt), tag("text", title, x=frame.left, y=14, class_="heading")]
    has_data = any(np.isfinite(line.y).any() for line in lines)
    for y in ticks(*frame.y) if has_data else ():
        (x0, v), (x1, _) = frame.at(frame.x[0], y), frame.at(frame.x[1], y)
        parts += [tag("path", d=f"M{x0:.1f} {v:.1f}H{x1:.1f}", class_="rule"),
                  tag("text", f"{y:g}", x=f"{x0 - 5:.1f}", y=f"{v + 3.5:.1f}", class_="tick end")]  # fmt: skip
    for x in ticks(*frame.x):
        u, v = frame.at(x, frame.y[0])
        parts.append(tag("text", f"{x:g}", x=f"{u:.1f}", y=f"{v + 13:.1f}", class_="tick middle"))
    parts.append(tag("text", x_label, x=f"{frame.width - frame.right:g}", y=f"{frame.height - 4:g}", class_="tick end"))
    for limit in (limit for limit in LIMITS if limit.quantity == quantity and limit.of == "value"):
        for value, kind in ((limit.none[sex or "unknown"], "limit begins"), (limit.half, "limit half")):
            if frame.y[0] < value < frame.y[1]:
                (x0, v), (x1, _) = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
                parts.append(tag("path", d=f"M{x0:.1f} {v:.1f}H{x1:.1f}", class_=kind))
    if not has_data:
        middle = frame.left + (frame.width - frame.left - frame.right) / 2
        parts.append(tag("text", "not measurable", x=f"{middle:g}", y=frame.height / 2, class_="tick middle"))
    parts += [_draw(frame, line) for line in lines]
    parts += over
    return tag("svg", *parts, viewBox=f"0 0 {frame.width:g} {frame.height:g}", role="img", class_="chart", **attributes)


def fan(name: str, hours: np.ndarray, values: np.ndarray, kind: int) -> Line:
    """Median and 5-95 % reach of futures ``(H, K)`` over the hours; a gap where most cannot be measured."""
    enough = np.isfinite(values).mean(axis=-1) >= 0.5
    low, middle, high = np.full((3, len(values)), np.nan)
    for i in np.flatnonzero(enough):
        low[i], middle[i], high[i] = np.nanquantile(values[i], [0.05, 0.5, 0.95])
    return Line(name, hours, middle, low, high, kind)


def legend(names: Sequence[str]) -> Markup:
    """What the kinds of line stand for, one key per name."""
    keys = [
        tag("li", tag("svg", tag("path", d="M1 6H31", class_=f"line s{i % SERIES}"), viewBox="0 0 32 12",
                      aria_hidden="true", class_="key"), " ", name)
        for i, name in enumerate(names)
    ]  # fmt: skip
    return tag("ul", *keys, class_="legend")


def span(values: Sequence[np.ndarray], least: float) -> tuple[float, float]:
    """A range that holds all finite values, at least ``least`` wide, with some air."""
    finite = np.concatenate([np.ravel(v) for v in values]) if values else np.zeros(0)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return 0.0, least
    low, high = float(finite.min()), float(finite.max())
    air = max(0.06 * (high - low), (least - (high - low)) / 2)
    return low - air, high + air


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high."""
    raw = (high - low) / about
    size = 10 ** np.floor(np.log10(raw))
    step = float(size * min((m for m in (1, 2, 2.5, 5, 10) if m * size >= raw), default=10))
    return [round(i * step, 10) + 0.0 for i in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _draw(frame: Frame, line: Line) -> Markup:
    """The line, a dot at each point unless it is just two, and a whisker from low to high, each kind a bit aside."""
    aside = 0.0 if line.low is None else (line.kind - 2) * ASIDE
    d, marks, pen = "", [], False
    for i, (x, y) in enumerate(zip(line.x, line.y)):
        if not np.isfinite(y):
            pen = False
            continue
        u, v = frame.at(x, y)
        u += aside if i else 0.0
        d += f"{'L' if pen else 'M'}{u:.1f} {v:.1f}"
        pen = True
        if line.low is not None and line.high is not None:
            top, bottom = frame.at(x, line.high[i])[1], frame.at(x, line.low[i])[1]
            marks.append(tag("path", d=f"M{u:.1f} {top:.1f}V{bottom:.1f}", class_=f"reach {_series(line)}"))
        if len(line.x) > 2:
            marks.append(tag("circle", cx=f"{u:.1f}", cy=f"{v:.1f}", r=2.6, class_=f"dot {_series(line)}"))
    return tag("g", tag("title", line.name), tag("path", d=d, class_=f"line {_series(line)}"), marks)


def _series(line: Line) -> str:
    return f"s{line.kind % SERIES}" if line.kind >= 0 else "other"
