"""What a person looks at after a trial: a table of the largest effects in the terminal, and the figure as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_gym.clinical_trial.effects import TRUTH
from ecg_gym.clinical_trial.figure import trial_figure
from ecg_gym.io import atomic_write

if TYPE_CHECKING:
    from rich.table import Table

    from ecg_gym.clinical_trial.result import TrialResult


def save_figure(result: TrialResult, path: Path) -> Path:
    """``path`` with the figure of the trial, as PNG; written aside, then renamed."""
    with atomic_write(path) as aside:
        trial_figure(result.protocol, result.summary).savefig(aside, dpi=110, format="png")
    return path


def effects_table(result: TrialResult) -> Table:
    """Per arm and endpoint, the hour at which QTcF (or the first endpoint) is farthest from zero."""
    from rich.table import Table

    protocol = result.protocol
    effect = "placebo_corrected" if protocol.placebo else "change_from_baseline"
    rows = [row for row in result.summary if row["effect"] == effect and row["mean"] is not None]
    lead = "QTcF" if "QTcF" in protocol.endpoints else protocol.endpoints[0]
    words = effect.replace("_", " ")
    table = Table(title=f"{protocol.title or protocol.name}: {words}, measured (true), where {lead} moves most")
    table.add_column("arm")
    table.add_column("hour", justify="right")
    for endpoint in protocol.endpoints:
        table.add_column(endpoint, justify="right")
    for arm in protocol.arms:
        own = {(row["hour"], row["endpoint"]): row for row in rows if row["arm"] == arm.name}
        hours = [hour for hour, endpoint in own if endpoint == lead]
        if hours:
            peak = max(hours, key=lambda hour: abs(own[hour, lead]["mean"]))
            table.add_row(arm.label, f"{peak:g}", *[_cell(own.get((peak, name))) for name in protocol.endpoints])
    return table


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    low, high, true = row["ci_low"], row["ci_high"], row[f"{TRUTH}mean"]
    around = f" [{low:.1f}, {high:.1f}]" if low is not None else ""
    return f"{row['mean']:.1f}{around}" + (f" ({true:.1f})" if true is not None else "")
