"""``docs/scenarios.md``: a card for every scenario, the tiers, and what the anchors reach."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.envs.observability import load_tiers
from ecg_gym.envs.scenarios import People, Scenario, scenario_named
from ecg_gym.io import write_bytes
from ecg_gym.registration import NAMESPACES, TIERS
from training.evaluation.scenarios.scenarios import ANCHORS

HEAD = """# Scenarios

Situations in which treatments are chosen, each with its own menu, its own kinds of patients and a reason why the
obvious choice is sometimes wrong. This page is written by

```bash
{command}
```

from `ecg_gym/envs/scenarios.yaml` and from whole episodes in the virtual patient. Research only.

```python
env = gym.make("ECG/SVT-v0")               # the learned world; "ECGOracle/SVT-v0": the virtual patient
env = gym.make("ECGOracle/SVT-Noisy-v0")   # a harder tier
envs = gym.make_vec("ECG/SVT-v0", num_envs=64)
```
"""

RETURNS = """## Returns of the anchors

Minus the risk-hours of an episode (risk 0 to 1 times hours; a death costs what is left and more), mean over {episodes}
virtual patients per scenario with its 95 % interval; the same patients for everybody, judged by vitals. *Best constant*
and *truth-search* know the truth: the best single treatment of each patient, and a closed-loop search. *Gap* is how
much of the way from random to the better of these two the guideline covers. Deaths are per 1,000 episodes of watching.
"""

SIGNS = """## Direction of effects in the learned world

Mean change one hour after the treatment that helps most patients, against watching, of the interval that shows the
effect and of the risk, over a few people. Where the signs differ, plans made in the learned world are misled.
"""

UNPLAYED = """## Returns of the anchors

What watching, chance, constants, the guideline and a search in the truth reach is in the
[study of the task](studies/task.md). The command above without `--minutes 0` plays these anchors as well."""


def page(document: Mapping[str, Any], command: str) -> str:
    """The page as Markdown: how to make one, tiers, the anchors' table, the worlds' signs, and a card per scenario."""
    names = list(document["scenarios"])
    parts = [HEAD.format(command=command).strip(), _tiers(), *_measurements(document)]
    parts += [card(scenario_named(name), document["scenarios"][name]) for name in names]
    return "\n\n".join(parts) + "\n"


def _tiers() -> str:
    lines = [
        "## Tiers",
        "",
        "Each tier adds one thing to the one before. The observation becomes worse; reward and cost remain those of",
    ]
    lines += [
        "the true strip.",
        "",
        "| tier | id ends in | what is seen |",
        "|---|---|---|",
    ]
    lines += [f"| {tier.name} | `{TIERS[name]}-v0` | {tier.description} |" for name, tier in load_tiers().items()]
    return "\n".join(lines)


def _measurements(document: Mapping[str, Any]) -> list[str]:
    episodes = max(
        (a["episodes"] for one in document["scenarios"].values() for a in one["anchors"].values()), default=0
    )
    heads = ("scenario", *ANCHORS, "guideline's gap", "deaths")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, one in document["scenarios"].items():
        cells = [_sure(one["anchors"].get(anchor)) for anchor in ANCHORS]
        gap, deaths = one["gap"]["guideline"], one["anchors"].get("watch", {}).get("deaths")
        last = ["-" if gap is None else f"{100 * gap:.0f} %", "-" if deaths is None else f"{deaths:.0f}"]
        lines.append(f"| [{name}](#{name.replace('_', '-')}) | {' | '.join([*cells, *last])} |")
    parts = [RETURNS.format(episodes=episodes).strip(), "\n".join(lines)] if episodes else [UNPLAYED]
    if document["signs"]:
        rows = [
            "| scenario | treatment | interval | true | learned | risk, true | learned | same direction |",
            "|" + "---|" * 8,
        ]
        rows += [
            f"| {row['scenario']} | {row['treatment']} | {row['moves']} | {row['true_change']:+.1f} | "
            f"{row['model_change']:+.1f} | {row['true_risk']:+.3f} | {row['model_risk']:+.3f} | "
            f"{'yes' if row['true_risk'] * row['model_risk'] > 0 else '**no**'} |"
            for row in document["signs"]
        ]
        parts += [SIGNS.strip(), "\n".join(rows)]
    return parts


def card(scenario: Scenario, results: Mapping[str, Any]) -> str:
    """One scenario for a reader who wants to use it: who comes, what is on offer, the pitfall, ids, anchors."""
    ids = ", ".join(f"`{space}/{scenario.id}-v0`" for space in NAMESPACES)
    lines = [f"## {scenario.name.replace('_', ' ')}", "", scenario.description, ""]
    lines += [f"- **Ids**: {ids}, and `{scenario.id}-Clean`, `-Noisy`, `-Missing`, `-Delayed`."]
    lines += [f"- **A good choice**: {_lower(scenario.goal)}", f"- **First line**: {_lower(scenario.first_line)}"]
    lines += [f"- **What is wrong**: {_lower(scenario.pitfall)}"]
    lines += [f"- **Who comes**: {_people(scenario)}."]
    lines += [f"- **On offer**, besides watching: {', '.join(scenario.offers)} ({len(scenario.menu) - 1} treatments)."]
    row = [f"{name} {_sure(one)}, deaths {one['deaths']:.0f} in 1,000" for name, one in results["anchors"].items()]
    lines += [f"- **Returns**: {'; '.join(row)}."] if row else []
    lines += [f"- **Sources**: {'; '.join(scenario.sources)}."]
    return "\n".join(lines)


def _people(scenario: Scenario) -> str:
    """Everybody in words, then the kinds with their shares."""
    rest = 1 - sum(kind.share for kind in scenario.kinds)
    row = [f"{100 * rest:.0f} %: {_facts(scenario.people)}" if scenario.kinds else _facts(scenario.people)]
    row += [
        f"{100 * kind.share:.0f} % {kind.name}: {_facts(kind.people) or 'as the others'}" for kind in scenario.kinds
    ]
    return "; ".join(row)


def _facts(people: People) -> str:
    words = [name if value is True else f"{name} {value}" for name, value in people.population.items()]
    words += [f"{name} {low:g} to {high:g}" for name, (low, high) in people.ranges.items()]
    words += sorted(name.replace("_", " ") for name in people.conditions)
    words += [f"{dose.dose} {-dose.hours:g} h ago" for dose in people.doses]
    return ", ".join(words).replace("_", " ")


def _sure(row: Mapping[str, Any] | None) -> str:
    if not row or row["return"] is None:
        return "-"
    low, high = row["return_ci95"] or (np.nan, np.nan)
    return f"{row['return']:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(low) else f"{row['return']:.2f}"


def _lower(sentence: str) -> str:
    sentence = " ".join(sentence.split())
    return sentence[0].lower() + sentence[1:]


def write(document: Mapping[str, Any], where: Path, command: str) -> None:
    """The page, written aside and renamed."""
    write_bytes(where, page(document, command).encode())
