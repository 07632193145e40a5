"""A table of fits made before: every candidate of a space on many synthetic hearts, as one CSV file.

``TableEvaluator`` replays one heart's rows at no cost, so that learning agents take 10^4 steps a second and tests need
no fit. Columns that agents may not see (``truth``, ``held_out_mae``) are for judges. Rows say the heart's seed: train
and test hearts are different ones.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ecg_gym.io import atomic_write
from ecg_gym.tissue.diagnostics import DIAGNOSTICS
from ecg_gym.tissue.spec import Spec
from training.leads.outcome import Outcome
from training.leads.structure import Candidate

NAMES = ("truth", "seed", "kind", "null_error")  # of a heart
CHOICES = ("reaction", "diffusion", "residual", "width", "regulariser", "effort", "restart")
NUMBERS = ("train_error", "validation_error", "stable", "n_parameters", "residual_share", "cpu_s")
COLUMNS = (*NAMES, *CHOICES, *NUMBERS, *DIAGNOSTICS, "held_out_mae")
SHIPPED = Path(__file__).with_name("fits.csv.gz")


@dataclass(frozen=True)
class Case:
    """One heart of a table."""

    truth: str  # name of the reaction that made it; for judges
    seed: int
    kind: str  # of observation
    null_error: float
    outcomes: Mapping[Candidate, Outcome]
    held_out_mae: Mapping[Candidate, float]  # for judges

    @property
    def name(self) -> str:
        """A name for reports."""
        return f"{self.truth}-{self.seed}-{self.kind}"

    def best(self, candidates: Iterable[Candidate] | None = None) -> Candidate:
        """The stable candidate with the least validation error."""
        among = candidates if candidates is not None else self.outcomes
        stable = [c for c in among if c in self.outcomes and self.outcomes[c].stable]
        return min(stable, key=lambda c: self.outcomes[c].validation_error)


class TableEvaluator:
    """An evaluator that looks up."""

    def __init__(self, case: Case) -> None:
        self.case, self.null_error = case, case.null_error

    def available(self, candidate: Candidate) -> bool:
        """Whether the table has it."""
        return candidate in self.case.outcomes

    def evaluate(self, candidate: Candidate) -> Outcome:
        """Its row; ``ValueError`` for a candidate that the table does not have."""
        if candidate not in self.case.outcomes:
            raise ValueError(
                f"the table has no fit of {candidate}; expected one of its {len(self.case.outcomes)} "
                "candidates; use live fits"
            )
        return self.case.outcomes[candidate]


@cache
def read_table(path: Path = SHIPPED) -> tuple[Case, ...]:
    """The hearts of a table, in the order of the file. ``ValueError`` for another file."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path.name} cannot be read ({type(error).__name__}); expected a table of fits; make it anew"
        ) from None
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ValueError(
            f"{path.name} has the columns {list(rows[0]) if rows else []}; expected {COLUMNS}; make it anew"
        )
    hearts: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        hearts.setdefault(tuple(row[name] for name in NAMES), []).append(row)
    return tuple(_case(key, some) for key, some in hearts.items())


def write_table(cases: Sequence[Case], path: Path) -> None:
    """Write a table, compressed, aside and renamed; the same cases give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        for candidate, outcome in case.outcomes.items():
            spec, row = candidate.spec, outcome.row()
            choices = [getattr(spec, name) for name in CHOICES[:5]]
            numbers = [f"{row[name]:.4g}" for name in (*NUMBERS, *DIAGNOSTICS)]
            mae = f"{case.held_out_mae.get(candidate, float('nan')):.4g}"
            heart = [case.truth, case.seed, case.kind, f"{case.null_error:.6g}"]
            writer.writerow([*heart, *choices, f"{candidate.effort:g}", candidate.restart, *numbers, mae])
    with (
        atomic_write(path) as aside,
        open(aside, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
    ):
        packed.write(text.getvalue().encode())


def _case(key: tuple[str, ...], rows: Sequence[Mapping[str, str]]) -> Case:
    outcomes, held_out = {}, {}
    for row in rows:
        spec = Spec(row["reaction"], row["diffusion"], row["residual"], int(row["width"]), row["regulariser"])
        candidate = Candidate(spec, float(row["effort"]), int(row["restart"]))
        outcomes[candidate] = Outcome(
            float(row["train_error"]), float(row["validation_error"]), float(row["stable"]) > 0,
            int(float(row["n_parameters"])),
            float(row["residual_share"]), float(row["cpu_s"]), {name: float(row[name]) for name in DIAGNOSTICS},
        )  # fmt: skip
        held_out[candidate] = float(row["held_out_mae"])
    return Case(key[0], int(key[1]), key[2], float(key[3]), outcomes, held_out)
