"""Make a table of fits: every candidate of a space on synthetic hearts of several truths. Stop it any time, it goes on.

    python -m training.leads.make_table --out runs/fits --space twelve

Each candidate is fitted to all hearts as one tensor and leaves one file in the folder; the table is put together from
the files that are there. The shipped ``fits.csv.gz`` was made by this command.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ecg_gym.io import atomic_write
from ecg_gym.tissue import DataSet, FitOptions, fit, hearts, held_out_errors
from training.leads.outcome import Outcome, null_error
from training.leads.structure import SPACES, Candidate
from training.leads.table import SHIPPED, Case, write_table

TRUTHS = ("ap", "ms", "fhn", "rm")
FIRST_SEED, HEARTS = 1000, 5  # per truth; the study of LEADS draws others
TEST_SEEDS = frozenset(range(FIRST_SEED + 3, FIRST_SEED + HEARTS))  # agents learn on the hearts before


def make_table(
    candidates: Sequence[Candidate],
    folder: Path,
    truths: Sequence[str] = TRUTHS,
    seeds: Sequence[int] = range(FIRST_SEED, FIRST_SEED + HEARTS),
    kind: str = "voltage",
    options: FitOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Case]:
    """Fit what is missing in ``folder`` and return the cases of everything that is there."""
    options = options or FitOptions()
    folder.mkdir(parents=True, exist_ok=True)
    data: list[DataSet] = [one for truth in truths for one in hearts(truth, list(seeds), kind)]
    for number, candidate in enumerate(candidates):
        part = folder / f"{candidate.key}.json"
        if not part.is_file():
            _fit_part(candidate, data, options, part)
        if progress:
            progress(number + 1, len(candidates))
    return list(assemble(candidates, data, folder))


def assemble(candidates: Sequence[Candidate], data: Sequence[DataSet], folder: Path) -> Iterator[Case]:
    """One case for each heart, with the candidates whose files are there."""
    ready = [candidate for candidate in candidates if (folder / f"{candidate.key}.json").is_file()]
    parts = {candidate: json.loads((folder / f"{candidate.key}.json").read_text()) for candidate in ready}
    for number, one in enumerate(data):
        assert one.truth is not None
        rows = {candidate: part["hearts"][number] for candidate, part in parts.items()}
        if any(row["data_key"] != one.key for row in rows.values()):
            raise ValueError(
                f"{folder} holds fits of other hearts; expected those of {one.name}; choose another folder"
            )
        outcomes = {candidate: Outcome(**row["outcome"]) for candidate, row in rows.items()}
        maes = {candidate: row["held_out_mae"] for candidate, row in rows.items()}
        seed = int(one.name.split("-")[1])
        yield Case(one.truth.reaction, seed, one.kind, null_error(one), outcomes, maes)


def _fit_part(candidate: Candidate, data: Sequence[DataSet], options: FitOptions, part: Path) -> None:
    """One candidate on all hearts, as one file, written aside and renamed."""
    (fits,) = fit([candidate.spec], data, replace(options, effort=options.effort * candidate.effort))
    errors = held_out_errors(fits, data)
    rows = [
        {"data_key": one.key, "outcome": asdict(Outcome.of(result)), "held_out_mae": error["mae"]}
        for one, result, error in zip(data, fits, errors)
    ]
    with atomic_write(part) as aside:
        aside.write_text(json.dumps({"candidate": str(candidate), "hearts": rows}), encoding="utf-8")


def main() -> None:
    """The command."""
    from training.console import progress_bar

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the parts")
    parser.add_argument("--space", choices=tuple(SPACES), default="twelve")
    parser.add_argument("--table", type=Path, default=SHIPPED, help="where the table is written")
    arguments = parser.parse_args()
    candidates = SPACES[arguments.space].candidates
    with progress_bar() as bar:
        task = bar.add_task("candidates", total=len(candidates))
        cases = make_table(candidates, arguments.out, progress=lambda done, total: bar.update(task, completed=done))
    write_table(cases, arguments.table)


if __name__ == "__main__":
    main()
