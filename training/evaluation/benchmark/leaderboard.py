"""The leaderboard: one Markdown page and one figure out of the benchmark's document, and nothing that is not in it.

What stands between ``<!-- remarks -->`` and ``<!-- end -->`` on the old page is the only text by hand, and is kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_gym.io import atomic_write, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REMARKS = re.compile(r"<!-- remarks -->\n(.*?)<!-- end -->", re.DOTALL)
Found = Mapping[str, Any]


def write(document: Found, page: Path, picture: Path, command: str) -> None:
    """Writes the page and its figure, each aside and renamed."""
    with atomic_write(picture) as aside:
        figure(document).savefig(aside, dpi=130, format="png", bbox_inches="tight")
    kept = REMARKS.search(page.read_text(encoding="utf-8")) if page.is_file() else None
    link = Path(os.path.relpath(picture, page.parent)).as_posix()
    write_text(page, markdown(document, command, link, kept[1] if kept else ""))


def markdown(document: Found, command: str, picture: str, remarks: str = "") -> str:
    """The whole page."""
    protocol = document["protocol"]
    unsound = document["not_well_defined"]
    parts = [
        "# Leaderboard",
        f"{document['notice']} Every agent treats the same virtual patients, in hearts of known truth, and is judged "
        "by "
        "the same risk model, whatever it imagined in or was trained in. A score is the return of an episode (minus "
        "the risk of every step; a death costs more than any survival). Normalised, the scenario's mean random return "
        "is 0 and its mean oracle return is 1. IQM is the mean of the middle half of the episodes (so it does not see "
        "rare deaths: the worst decile and the death rate do); *gap closed* is the plain mean. Brackets are 95 % "
        "stratified bootstrap intervals over patients within scenarios and seeds, of the anchors too for *gap closed*.",
        f"`{command}`",
        _facts(document, protocol),
    ]
    if document["episodes_missing"]:
        parts.append(
            f"**Not finished: {document['episodes_missing']} of "
            f"{document['episodes_missing'] + document['episodes_played']} episodes are missing.** Each number stands "
            "on the episodes that were played; comparisons use those that both sides have."
        )
    parts += ["## All scenarios", _overall(document)]
    if unsound:
        parts.append(
            f"Left out of these means, and shown below: {', '.join(unsound)}. There the oracle cannot be told from "
            "the random agent (or the gap is below 0.01 of risk per step), so a normalised score means nothing."
        )
    parts += [f"![Gap closed by each agent]({picture})", _goal(document)]
    parts += ["## Why, where it does not", f"<!-- remarks -->\n{remarks}<!-- end -->", "## Scenario by scenario"]
    parts += [_scenario(name, one, document["lessons"].get(name, {})) for name, one in document["scenarios"].items()]
    parts += ["## The agents", _agents(document)]
    return "\n\n".join(parts) + "\n"


def _facts(document: Found, protocol: Found) -> str:
    first = next(iter(protocol["rules"].values()))
    row = [
        ("Protocol", f"`{document['protocol_sha256']}`"),
        (
            "Learned model",
            f"`{document['model_sha256']}`, turned to {_words(first['envs']['model']['kwargs']['knobs'])}",
        ),
        ("Risk model", f"`{document['risk_sha256']}`"),
        ("Truth", f"{first['envs']['truth']['id']}, {_words(first['envs']['truth']['kwargs'], ('scenario',))}"),
        ("Patients", f"{protocol['episodes']} per scenario and seed, {protocol['seeds']} seed(s), none of them trained "
         f"or tuned on; {protocol['episodes_inside_the_model']} also inside the learned model"),
        ("Code", f"ecg-gym {document['package_version']}, revision(s) {', '.join(document['revisions'])}"),
    ]  # fmt: skip
    return table(["", ""], row)


def _overall(document: Found) -> str:
    rows = [
        [name, document["agents"][name]["kind"], with_interval(one["normalised_iqm"], one["ci95"]),
         with_interval(one["gap_closed"], one["gap_closed_ci95"]), one["scenarios"]]
        for name, one in ranked(document["mean"])
    ]  # fmt: skip
    return table(["agent", "kind", "normalised IQM", "gap closed (mean)", "scenarios"], rows)


def _goal(document: Found) -> str:
    """Whether planning in the learned model does what it is meant to do."""
    planners = [name for name, one in document["agents"].items() if one["kind"] == "planner"]
    said = ["Does planning in the learned model beat the guideline heuristic and watching, with an interval above 0?"]
    rows = []
    for scenario, one in document["scenarios"].items():
        agents = one["agents"]
        for name in planners:
            if agents.get(name):
                rows.append([scenario, name, *(_ahead(agents[name], other) for other in ("heuristic", "watch")),
                             with_interval(agents[name]["gap_closed"], agents[name]["gap_closed_ci95"])])  # fmt: skip
    head = ["scenario", "planner", "return above the heuristic's", "return above watching", "gap closed"]
    return "\n\n".join([*said, table(head, rows)])


def _ahead(agent: Found, other: str) -> str:
    value, interval = agent[f"ahead_of_{other}"], agent[f"ahead_of_{other}_ci95"]
    if value is None:
        return "-"
    verdict = "" if not interval else "yes" if interval[0] > 0 else "**no**" if interval[1] < 0 else "cannot be told"
    return f"{with_interval(value, interval)} {verdict}".strip()


def _scenario(name: str, one: Found, lessons: Found) -> str:
    gap = one["oracle_minus_random"]
    record = f"Random returns {number(one['random_return'])}, the oracle {number(one['oracle_return'])} (gap " + (
        f"{with_interval(gap['value'], gap['ci95'])}, {gap['episodes']} episodes)."
    )
    if not one["well_defined"]:
        record += " **The normalised score is not well defined here.**"
    if constants := [str(lesson["treatment"]) for lesson in lessons.get("constant", ())]:
        record += f" The best constant treatment is {', '.join(dict.fromkeys(constants))}."
    head = ["agent", "return", "normalised IQM", "worst decile", "cost per step", "deaths", "P(beats heuristic)",
            "regret per step", "inside minus truth", "model calls", "CPU s", "n"]  # fmt: skip
    rows = [
        [agent, with_interval(row["return"], row["return_ci95"]), with_interval(row["normalised_iqm"], row["ci95"]),
         row["cvar10"], row["cost_rate"], f"{100 * row['death_rate']:.0f} %",
         with_interval(row["p_beats_heuristic"], row["p_beats_heuristic_ci95"]), row["regret_per_step"],
         with_interval(row["exploitation_gap"], row["exploitation_gap_ci95"]), f"{row['model_calls']:.0f}",
         row["cpu_seconds_per_decision"], row["episodes"]]
        for agent, row in ranked(one["agents"], "return")
    ]  # fmt: skip
    return f"### {name}\n\n{record}\n\n{table(head, rows)}"


def _agents(document: Found) -> str:
    rows = [[name, one["kind"], one["says"], _words(one["settings"])] for name, one in document["agents"].items()]
    text = table(["agent", "kind", "what it is", "settings"], rows)
    if steps := sorted(
        {int(one["settings"]["steps"]) for one in document["agents"].values() if one["kind"] == "learner"}
    ):
        text += (
            f"\n\nLearners were trained for {' or '.join(f'{n:,}' for n in steps)} steps per scenario and world, which "
            "is very little: their scores say what such a budget brings, not what the algorithms can do. For more: "
            "`--agents 'maskable-ppo:steps=100000'`. PPO and DQN see no mask; what they may not give is a noop."
        )
    return text


def ranked(agents: Mapping[str, Any], by: str = "gap_closed") -> list[tuple[str, Found]]:
    """The agents that have a result, best first; those without a value of ``by`` last."""
    known = [(name, one) for name, one in agents.items() if one is not None]
    return sorted(known, key=lambda item: -(item[1][by] if item[1][by] is not None else -float("inf")))


def figure(document: Found) -> Figure:
    """Gap closed by every agent: the mean with its interval, and a point per scenario."""
    from matplotlib.figure import Figure

    order = [name for name, one in reversed(ranked(document["mean"]))]
    samples = Figure(figsize=(8, 0.36 * len(order) + 1.2))
    axes = samples.subplots()
    colours = {"anchor": "0.35", "planner": "C0", "learner": "C1"}
    for y, name in enumerate(order):
        colour = colours[document["agents"][name]["kind"]]
        for scenario in document["scenarios"].values():
            one = scenario["agents"].get(name)
            if scenario["well_defined"] and one and one["gap_closed"] is not None:
                axes.plot(max(-1.0, one["gap_closed"]), y, ".", color=colour, alpha=0.35)
        mean = document["mean"][name]
        if mean["gap_closed"] is not None:
            if mean["gap_closed_ci95"]:
                axes.plot([max(-1.0, x) for x in mean["gap_closed_ci95"]], [y, y], color=colour, lw=2.5)
            axes.plot(max(-1.0, mean["gap_closed"]), y, "o", color=colour)
    axes.axvline(0, color="0.7", lw=0.8, zorder=0)
    axes.axvline(1, color="0.7", lw=0.8, zorder=0)
    axes.axvline(0.6, color="C2", lw=0.8, ls=":", zorder=0)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlim(-1.05, 1.35)
    said = "share of the gap from random (0) to oracle (1) closed in the virtual patient"
    axes.set_xlabel(f"{said}; points are scenarios, -1 and less drawn at -1", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return samples


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
        return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
    return str(value).replace("|", "/")


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """``value [low, high]``, or the value alone where there is no interval."""
    return number(value) + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")


def _words(row: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.items() if key not in without) or "-"
