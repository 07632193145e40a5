"""Learning curves of ``ecg-gym train policy``: a picture of the mean return while the policies explore."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#1f5fa8", "#d08700", "#2e7d32", "#9c27b0", "#c62828", "#455a64")


def figure(folders: Sequence[Path]) -> Figure:
    """One line per training seed, one colour per folder; ``ValueError`` for a folder without a policy."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(7.5, 4), layout="constrained")
    axes = picture.subplots()
    for place, folder in enumerate(folders):
        trainings = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
        trainings = [one for one in trainings if isinstance(one, dict) and one.get("curve")]
        if not trainings:
            raise ValueError(
                f"{folder} has no learning curve; expected the folder of `ecg-gym train policy`, with a JSON file per "
                "training seed; let a training end"
            )
        for n, one in enumerate(trainings):
            words = f"{one['algorithm']} in the {'virtual patient' if one['world'] == 'truth' else 'learned world'}"
            seeds = f"{len(trainings)} seed{'s' * (len(trainings) > 1)}"
            axes.plot(
                [steps / 1000 for steps, *_ in one["curve"]], [earned for _, earned, _ in one["curve"]],
                color=COLOURS[place % len(COLOURS)], lw=1.2, label="" if n else f"{words}, {seeds}",
            )  # fmt: skip
    axes.set(xlabel="thousand steps of the default id", ylabel="mean return of an episode\nin the world it learns in")
    axes.legend(fontsize=8, loc="lower right")
    return picture
