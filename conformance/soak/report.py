"""What a soak has found so far: one document out of the ledger, readable at any time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conformance.soak.ledger import Ledger
from conformance.soak.run import Plan, remaining

Row = Mapping[str, Any]
FAULTS_SHOWN = 20


def document(plan: Plan, folder: Path, finished: bool = True) -> dict[str, Any]:
    """``{steps, nonfinite, inputs, tracebacks, files_harmed, kills, lost, ...}``; ``complete`` says if all was done.

    ``tracebacks`` counts inputs that were answered with anything but a sentence, and walks that broke.
    """
    ledger = Ledger(folder)
    walked, attempts, killed = (ledger.rows(kind) for kind in ("steps", "inputs", "kills"))
    faults = [fault for row in walked for fault in row["faults"]]
    bad = [fault for row in attempts for fault in row["faults"]]
    return {
        "steps": sum(row["steps"] for row in walked),
        "nonfinite": sum(row["nonfinite"] for row in walked if "nonfinite" in row),
        "inputs": sum(row["inputs"] for row in attempts),
        "tracebacks": len(bad) + len(faults),
        "files_harmed": sum(row["harmed"] for row in attempts),
        "kills": sum(row["kills"] for row in killed),
        "lost": sum(row["lost"] for row in killed),
        "global_random_touched": sum(row["touched"] for row in [*walked, *attempts]),
        "asked": {"steps": plan.steps, "inputs": plan.inputs, "kills": plan.kills},
        "complete": finished and not any(remaining(plan, folder).values()),
        "seed": plan.seed,
        "inputs_taken": sum(row["taken"] for row in attempts),
        "inputs_refused": sum(row["refused"] for row in attempts),
        "episodes": sum(row.get("episodes", 0) for row in walked),
        "deaths": sum(row.get("deaths", 0) for row in walked),
        "refusals": sum(row.get("refusals", 0) for row in walked),
        "cpu_hours_of_walks": round(sum(row.get("seconds", 0.0) for row in walked) / 3600, 3),
        "memory": memory(walked),
        "ids": by_id(walked),
        "families": by_family(attempts),
        "jobs": by_job(killed),
        "faults": [*({"walk": str(fault)} for fault in faults), *bad][:FAULTS_SHOWN],
    }


def good(document: Mapping[str, Any]) -> bool:
    """Whether everything that was tried so far held."""
    return not any(
        document[key] for key in ("nonfinite", "tracebacks", "files_harmed", "lost", "global_random_touched")
    )


def memory(walked: Sequence[Row]) -> dict[str, Any]:
    """Resident MB of the processes: at the start and end of each kind of world, and the slope over the second half.

    The slope is that of a straight line through MB against steps of each process (least squares), the largest of them,
    in MB per 100,000 steps; None where a process has fewer than 8 walks in its second half.
    """
    slopes: list[float] = []
    worlds: dict[str, list[dict[str, Any]]] = {}
    for pid in dict.fromkeys(row["pid"] for row in walked if "pid" in row):
        mine = [row for row in walked if row.get("pid") == pid]
        steps = np.cumsum([row["steps"] for row in mine])
        half = steps > steps[-1] / 2
        if half.sum() >= 8:
            slopes.append(float(np.polyfit(steps[half], np.array([row["mb_after"] for row in mine])[half], 1)[0] * 1e5))
        for world in ("oracle", "learned"):
            there = [row for row in mine if row["world"] == world]
            if there:
                first, last = there[min(1, len(there) - 1)]["mb_after"], there[-1]["mb_after"]
                worlds.setdefault(world, []).append({"pid": pid, "mb_start": first, "mb_end": last})
    return {"mb_per_100k_steps_second_half": max(slopes) if slopes else None, "worlds": worlds}


def by_id(walked: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Steps, episodes, deaths and values that are not finite, for each id."""
    result: dict[str, Counter[str]] = {}
    for row in walked:
        if "id" in row:
            here = result.setdefault(row["id"], Counter())
            here.update({key: row[key] for key in ("steps", "episodes", "deaths", "nonfinite")})
    return {name: dict(counts) for name, counts in sorted(result.items())}


def by_family(attempts: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Inputs tried, taken, refused and answered with a traceback, for each kind."""
    result: dict[str, Counter[str]] = {}
    for row in attempts:
        for family, counts in row["families"].items():
            result.setdefault(family, Counter()).update(counts)
    return {name: dict(counts) for name, counts in result.items()}


def by_job(killed: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Kills and results lost of each command."""
    result: dict[str, Counter[str]] = {}
    for row in killed:
        result.setdefault(row["job"], Counter()).update({key: row[key] for key in ("kills", "results", "lost")})
    return {name: dict(counts) for name, counts in result.items()}
