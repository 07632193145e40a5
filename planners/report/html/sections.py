"""The sections of a page about one patient; each returns markup, and none knows the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ecg_gym.core import WATCH, Patient
from planners.plan import NOTICE, Change, Plan
from planners.report.html import drawing
from planners.report.html.markup import Markup, Piece, join, tag
from planners.report.html.story import Masked, Story
from planners.report.table import number, remarks

INTERVALS = (("hr_bpm", "HR", "/min"), ("pr_ms", "PR", "ms"), ("qrs_ms", "QRS", "ms"), ("qtcf_ms", "QTcF", "ms"))
DRAWN = 32  # futures laid over each other on a card, the first ones
CARDS = 18  # candidates whose futures are drawn: the best, and watching


def header(title: str, subtitle: Piece, links: Sequence[tuple[str, str]], warnings: Sequence[str] = ()) -> Markup:
    """Title, notice and the ways into the page."""
    ways = [tag("li", tag("a", name, href=f"#{anchor}")) for anchor, name in links]
    return join(
        [
            tag("a", "Skip to the content", href="#content", class_="skip"),
            drawing.paper_patterns(),
            tag("header", tag("h1", title), tag("p", subtitle, class_="soft"),
                tag("p", NOTICE, class_="notice", role="note"),
                [tag("p", sentence, class_="warning") for sentence in warnings]),
            tag("nav", tag("ul", *ways), aria_label="On this page"),
        ]
    )  # fmt: skip


def section(anchor: str, title: str, *pieces: Piece) -> Markup:
    """A part of the page with its heading; ``anchor`` is where links to it lead."""
    return tag("section", tag("h2", title, id=f"{anchor}-title"), *pieces, id=anchor, aria_labelledby=f"{anchor}-title")


def person(patient: Patient) -> str:
    """What is known about somebody, in words; nothing is made up for what is not."""
    facts = [
        "" if patient.age_years is None else f"{patient.age_years:.0f} years",
        {"F": "female", "M": "male", None: ""}[patient.sex],
        "" if patient.weight_kg is None else f"{patient.weight_kg:.0f} kg",
        "" if patient.potassium is None else f"K {patient.potassium:.1f} mmol/L",
        "" if patient.magnesium is None else f"Mg {patient.magnesium:.2f} mmol/L",
        "" if patient.calcium is None else f"Ca {patient.calcium:.2f} mmol/L",
        ""
        if patient.creatinine_clearance is None
        else f"creatinine clearance {patient.creatinine_clearance:.0f} mL/min",
        *(name.replace("_", " ") for name in sorted(patient.conditions)),
    ]
    if patient.medication:
        facts.append("takes " + ", ".join(sorted(patient.medication)))
    return ", ".join(word for word in facts if word) or "nothing is known about the patient"


def before(story: Story) -> Markup:
    """The strip before any of this, and what was read off it."""
    plan = story.plan
    alt = f"12-lead ECG before treatment: {read_aloud(plan.intervals)}."
    strip = drawing.sheet(plan.before, alt, story.missing)
    read = {**plan.intervals, "risk": plan.risk_now}
    return section("before", "The strip before", strip, tag("p", person(story.patient)), tiles(read))


def tiles(read: Mapping[str, float]) -> Markup:
    """What was read off a strip, one tile each."""
    items = []
    for key, name, unit in (*INTERVALS, ("risk", "risk", "")):
        value = read.get(key, math.nan)
        words = f"{value:.{0 if unit else 3}f} {unit}" if math.isfinite(value) else "not measurable"
        items.append(tag("li", name, tag("b", words)))
    return tag("ul", *items, class_="tiles")


def futures(story: Story) -> Markup:
    """A card per candidate: typical beats before and after, one rhythm strip, intervals with their spread."""
    plan, cards = story.plan, []
    for i in carded(plan):
        row = plan.candidates[i]
        strips = story.futures[row.treatment][:DRAWN].ecg
        place = 1 if row.tie == plan.best.tie else i + 1
        alt = f"Typical beats in II, V2 and V5 before (dark) and in futures after {row.treatment} (blue)."
        over = drawing.beats(plan.before, strips, alt)
        title = tag("h3", tag("span", f"{place}{'=' if place == 1 and len(plan.tied) > 1 else ''}.", class_="place"),
                    " ", row.treatment)  # fmt: skip
        words = [f"risk {row.mean:.3f} ± {number(row.sd, '.3f')}", *remarks(row)]
        head = tag("tr", *(tag("th", h, scope="col") for h in ("", "before", "change", "5–95 %")))
        lines = [_interval_row(key, name, unit, row.changes.get(key)) for key, name, unit in INTERVALS]
        table = tag("table", tag("thead", head), tag("tbody", *lines))
        cards.append(
            tag("li", title, tag("p", "; ".join(words), class_="soft"), over, table,
                drawing.rhythm(strips[0], f"Lead II in the first future after {row.treatment}.", seconds=5.0),
                class_="card best" if row.tie == plan.best.tie else "card", data_i=i)
        )  # fmt: skip
    hidden = len(plan.candidates) - len(cards)
    more = f" Not drawn, further down: {hidden}." if hidden else ""
    caption = (
        f"Dark: the typical beat before. Blue: that of {min(plan.k, DRAWN)} futures {plan.horizon * plan.dt_hours:g} h "
        "later, aligned at R; red where no two beats are alike, then a piece of the raw strip. Below it lead II of "
        f"the first future. 25 mm/s, 10 mm/mV, tall waves cut.{more}"
    )
    return section(
        "futures", "What each may lead to", tag("p", caption, class_="soft"), tag("ul", *cards, class_="cards")
    )


def carded(plan: Plan) -> list[int]:
    """Places of the candidates that get a card: the best, and watching wherever it stands."""
    best = range(min(CARDS, len(plan.candidates)))
    beyond = [i for i, c in enumerate(plan.candidates) if c.treatment == WATCH and i not in best]
    return [*best[: len(best) - len(beyond)], *beyond]


def masked(story: Story) -> Markup:
    """Why treatments are not offered: rule, sentence, citation; and what to mind about those that are."""
    if not story.forbidden and not story.remarked:
        return section("masked", "Not allowed, and why", tag("p", "No rule speaks against any of the candidates."))
    parts: list[Piece] = []
    if story.forbidden:
        parts.append(_rules(story.forbidden, "Forbidden for this patient now", hard=True))
    if story.remarked:
        parts.append(_rules(story.remarked, "Allowed, but mind", hard=False))
    return section("masked", "Not allowed, and why", *parts)


def provenance(facts: Mapping[str, str]) -> Markup:
    """What it takes to get the same page again."""
    rows = [(tag("dt", name), tag("dd", tag("code", value))) for name, value in facts.items() if value]
    return section("repeat", "To repeat this", tag("dl", *rows), tag("p", NOTICE, class_="notice"))


def read_aloud(intervals: Mapping[str, float]) -> str:
    """Intervals in words, for those who cannot see the strip."""
    values = {name: intervals.get(key, math.nan) for key, name, _ in INTERVALS}
    units = {name: unit for _, name, unit in INTERVALS}
    return ", ".join(
        f"{name} {value:.0f} {units[name]}" if math.isfinite(value) else f"{name} not measurable"
        for name, value in values.items()
    )


def _rules(masked: Sequence[Masked], title: str, hard: bool) -> Markup:
    """One row per rule that applies, with all treatments it forbids or warns of."""
    against: dict[tuple[str, str, str], list[str]] = {}
    for item in masked:
        for v in item.violations:
            if v.hard == hard:
                against.setdefault((v.rule, v.sentence, v.source), []).append(str(item.treatment))
    head = [tag("th", h, scope="col", class_="words") for h in ("treatment", "why", "source", "rule")]
    rows = [
        tag("tr", tag("th", ", ".join(names), scope="row"), tag("td", sentence, class_="words"),
            tag("td", source, class_="words"), tag("td", tag("code", rule), class_="words"))
        for (rule, sentence, source), names in against.items()
    ]  # fmt: skip
    table = tag("table", tag("caption", title), tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", table, class_="scroll")


def _interval_row(key: str, name: str, unit: str, change: Change | None) -> Markup:
    start = math.nan if change is None else change.before
    cells = [tag("th", f"{name} [{unit}]", scope="row"), tag("td", number(start, ".0f"))]
    if change is None or not change.n:
        cells.append(tag("td", "not measurable", colspan=2))
    else:
        cells += [tag("td", f"{change.mean:+.0f}"), tag("td", f"{change.low:+.0f} to {change.high:+.0f}")]
    return tag("tr", *cells)
