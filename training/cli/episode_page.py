"""What was played, as sections of a page: the trend, every step in a table, and every strip on its paper."""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.core import WATCH
from planners.report.html import charts, drawing
from planners.report.html.markup import Markup, tag
from planners.report.html.sections import INTERVALS, person, read_aloud, section, tiles
from planners.report.table import number
from training.cli.episode_file import Look, SavedEpisode

ENDS = {
    "lethal": "It ended in a lethal rhythm, or in a strip that is no strip.",
    "horizon": "It ran its full time.",
    "": "It was left before its time.",
}


def course(episode: SavedEpisode) -> Markup:
    """The episode from the first look to the last."""
    looks = episode.looks
    caption = f"{episode.goal} {ENDS.get(episode.ended, episode.ended)} Return {episode.total:.2f} (0 is perfect). "
    caption += "Dashed vertical lines: something was given."
    return section(
        "played", "What was played", tag("p", person(episode.patient)), tag("p", caption),
        tag("div", *_trends(episode), class_="charts"), _table(episode),
        *(_strip(look, i == len(looks) - 1) for i, look in enumerate(looks)),
    )  # fmt: skip


def _trends(episode: SavedEpisode) -> list[Markup]:
    """One chart per reading, with a dashed line wherever something was given."""
    hours = np.array([look.hours for look in episode.looks])
    samples = []
    for key, name, unit in (*INTERVALS, ("risk", "risk", "")):
        values = np.array([look.read.get(key, math.nan) for look in episode.looks])
        y = (0.0, 1.0) if key == "risk" else charts.span([values], 40.0)
        frame = charts.Frame((float(hours[0]), float(max(hours[-1], hours[0] + 1))), y)
        alt = f"{name} by hour: " + ", ".join(f"{h:g} h {number(v, '.2f' if not unit else '.0f')}"
                                              for h, v in zip(hours, values))  # fmt: skip
        title = f"{name} [{unit}]" if unit else name
        line = charts.Line(name, hours, values)
        marks = [_dose(frame, look) for look in episode.looks if look.treatment not in ("", str(WATCH))]
        samples.append(charts.chart(frame, title, "hours", [line], alt, key, episode.patient.sex, over=marks))
    return samples


def _dose(frame: charts.Frame, look: Look) -> Markup:
    """When something was given: a line from top to bottom that says what."""
    at = f"{frame.at(look.hours, frame.y[0])[0]:.1f}"
    return tag("g", tag("title", f"{look.hours:g} h: {look.treatment}"),
               tag("line", x1=at, x2=at, y1=frame.top, y2=frame.height - frame.bottom, class_="now"))  # fmt: skip


def _table(episode: SavedEpisode) -> Markup:
    headings = ("hour", *(f"{name} [{unit}]" for _, name, unit in INTERVALS), "risk", "cost", "then given", "reward")
    head = [tag("th", h, scope="col", class_="words" if h == "then given" else None) for h in headings]
    rows = [
        tag("tr", tag("th", f"{look.hours:g}", scope="row"),
            *(tag("td", number(look.read.get(key, math.nan), ".0f")) for key, _, _ in INTERVALS),
            *(tag("td", number(look.read.get(key, math.nan), ".3f")) for key in ("risk", "cost")),
            tag("td", look.treatment, class_="words"),
            tag("td", "" if look.reward is None else f"{look.reward:+.3f}"))
        for look in episode.looks
    ]  # fmt: skip
    before = [f"{a.dose} at {a.hours:g} h" for a in episode.doses]
    caption = "What was seen each hour, and what was given then; - could not be measured."
    if before:
        caption += f" Doses taken in all: {'; '.join(before)}."
    table = tag("table", tag("caption", caption), tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", table, class_="scroll")


def _strip(look: Look, last: bool) -> Markup:
    alt = f"12-lead ECG at {look.hours:g} h: {read_aloud(look.read)}."
    refused = [tag("li", f"{name}: {'; '.join(why)}") for name, why in look.forbidden.items()]
    words = f"Strip at {look.hours:g} h" + (f", then {look.treatment}" if look.treatment else "")
    return tag(
        "details", tag("summary", words), drawing.sheet(look.ecg, alt, look.missing), tiles(look.read),
        [tag("p", "Not allowed then:"), tag("ul", *refused)] if refused else None, open=last,
    )  # fmt: skip
