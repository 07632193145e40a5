"""Do the tests bite? A seeded sample of small mutations, each met by the nearest tests: ``make mutants``.

    python -m conformance.mutants --sample 100 --seed 0

Mutations are cosmic-ray's (operators, comparisons, numbers, keywords, decorators ...), made one at a time in a clone of
the last commit. A mutant that the test file of its own name lets live meets the tests of its package, then those of env
and planners. Mutations inside annotations are left out: nothing evaluates them. Rows are kept as they come
(``out/mutants.jsonl``), and the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "ecg_gym/core.py",
    "ecg_gym/pharmacology",
    "ecg_gym/risk",
    "ecg_gym/envs",
    "planners",
    "ecg_gym/world_model",
    "ecg_gym/waveform",
)
SECONDS = 600.0  # of tests; a mutant that takes longer hangs, and is dead
LAST = ("tests/envs", "tests/planners")
GOAL = 0.9


def modules() -> list[Path]:
    """The modules that are mutated, relative to the root."""
    paths: list[Path] = []
    for name in PACKAGES:
        paths += [ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py")
    return sorted(path.relative_to(ROOT) for path in paths if path.name != "__init__.py")


def mutants() -> Iterator[dict[str, Any]]:
    """Every mutation of every module, as JSON."""
    from cosmic_ray.commands.init import _all_work_items

    for module in modules():
        ours = annotated(ROOT / module)
        for item in _all_work_items([ROOT / module], {}):
            (mutation,) = item.mutations
            if tuple(mutation.start_pos) not in ours:
                yield {
                    "module": module.as_posix(),
                    "operator": mutation.operator_name,
                    "occurrence": mutation.occurrence,
                    "line": mutation.start_pos[0],
                }


def annotated(path: Path) -> set[tuple[int, int]]:
    """Positions ``(line, column)`` inside annotations."""
    inside = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if isinstance(part, ast.expr):
                rows = range(part.lineno, (part.end_lineno or part.lineno) + 1)
                first, last = part.col_offset, part.end_col_offset or 0
                inside |= {(row, column) for row in rows for column in range(first if row == rows[0] else 0,
                           last if row == rows[-1] else 200)}  # fmt: skip
    return inside


def nearest(module: str) -> list[list[str]]:
    """Tests to meet a mutant, the nearest first: its own file, its package, env and planners."""
    path = Path(module)
    package = "." if path.parts[1:2] == ("core.py",) else path.parts[0 if path.parts[0] == "planners" else 1]
    own = [test.as_posix() for test in Path("tests").rglob(f"test_{path.stem}.py") if package in (".", *test.parts)]
    whole = [] if package == "." else [f"tests/{package}"]
    return [tests for tests in (own, whole, list(LAST)) if tests]


def meet(mutant: dict[str, Any], copy: Path) -> dict[str, Any]:
    """The mutant with its ``outcome``: killed, survived or incompetent (it could not be made), and by which tests."""
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_item import MutationSpec

    spec = MutationSpec(
        module_path=copy / mutant["module"], operator_name=mutant["operator"], operator_args={},
        occurrence=mutant["occurrence"], start_pos=(1, 0), end_pos=(1, 1),
    )  # fmt: skip
    os.chdir(copy)
    for tests in nearest(mutant["module"]):
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *tests]
        result = mutate_and_test([spec], shlex.join(words), SECONDS)
        outcome = str(result.test_outcome.value if result.test_outcome else result.worker_outcome.value)
        if outcome != "survived":
            return {**mutant, "outcome": outcome, "tests": tests, "diff": result.diff}
    return {**mutant, "outcome": "survived", "tests": [], "diff": result.diff}


def main() -> int:
    """Exit code 1 where fewer than nine of ten are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mutants.jsonl")
    options = parser.parse_args()
    options.out = options.out.absolute()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(options.seed).sample(list(mutants()), options.sample)
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    done = {(row["module"], row["operator"], row["occurrence"]) for row in rows}
    copy = ROOT / "out" / "mutants-tree"
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(copy)], check=True)
    os.environ["PYTHONPATH"] = str(copy)
    for number, mutant in enumerate(chosen, 1):
        if (mutant["module"], mutant["operator"], mutant["occurrence"]) in done:
            continue
        rows.append(meet(mutant, copy))
        with open(options.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(f"{number}/{len(chosen)} {rows[-1]['outcome']:12s} {mutant['module']}:{mutant['line']}", flush=True)
    os.chdir(ROOT)
    shutil.rmtree(copy, ignore_errors=True)
    lived = [row for row in rows if row["outcome"] == "survived"]
    share = 1 - len(lived) / max(1, len(rows))
    for row in lived:
        print(f"survived: {row['module']}:{row['line']} {row['operator']}\n{row['diff']}")
    print(f"{len(rows)} mutants, {len(lived)} survived, {100 * share:.0f} % killed (goal {100 * GOAL:.0f} %)")
    return int(share < GOAL)


if __name__ == "__main__":
    sys.exit(main())
