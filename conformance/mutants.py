"""Do the tests bite? A seeded sample of small mutations, each met by the nearest tests: ``make mutants``.

    python -m conformance.mutants --sample 100 --seed 0

Mutations are cosmic-ray's, one at a time, in a clone of the last commit. The sample takes positions in the source, the
seven parts of the code in turn, and one mutation of each position. Left out is what every test that reaches the line
would see, or none could: bit operators on floats, ``is`` for ``==``, annotations, decorators that only save time.

First every test that may be needed runs without a mutation: a suite that fails anyway kills nothing. A mutant then
meets the tests of its module's name and those that import the module, then those of its package, then those of env and
planners; the shortest first, as far as they fit into ``--budget``. Loops that Numba has compiled are compiled again
only where they may hold the mutated code. Rows are kept as they come (``out/mutants``), and the same command goes on
after a stop; ``--again`` meets the survivors once more, with the tests of the last commit.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any

from training.console import progress_bar

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "core": "ecg_gym/core.py",
    "pharmacology": "ecg_gym/pharmacology",
    "risk": "ecg_gym/risk",
    "envs": "ecg_gym/envs",
    "planners": "planners",
    "world_model": "ecg_gym/world_model",
    "waveform": "ecg_gym/waveform",
}
ALWAYS = ("tests/test_dataclasses.py",)  # looks at every module's text, in a second
LAST = ("tests/envs", "tests/planners")  # what a mutant meets last
SECONDS = 420.0  # to compile, beside three times what a stage takes; a mutant that takes longer hangs, and is dead
FEW, MOST = 12.0, 16  # seconds and files of tests of the first process
BUDGET = 60.0  # seconds of tests, without a mutation, that a mutant meets at most: the nearest
GOAL = 0.9
KINDS = (  # an operator is replaced by one of its own kind
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"BitOr", "BitAnd", "BitXor", "LShift", "RShift"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
    {"Delete", "USub", "Not", "Invert"},
)
FASTER = ("compiled", "compiled_exact", "cache", "lru_cache", "cached_property")
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow")


def main() -> int:
    """Exit code 1 where fewer than nine of ten are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=100, help="number of mutants (a larger sample holds a smaller)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mutants", help="folder of rows and of the clone")
    parser.add_argument("--again", action="store_true", help="meet the survivors once more")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of tests that a mutant meets at most")
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    tree = clone(out / "tree")
    mutants = kept_sample(tree, out, options.sample, options.seed)
    rows = {key(row): row for row in read(out / "rows.jsonl")}
    if options.again:
        rows = {place: row for place, row in rows.items() if row["outcome"] != "survived"}
    tests = {test for mutant in mutants for test in nearest(mutant["module"], tree)}
    seconds = baseline(tree, out, sorted(tests))
    with progress_bar() as progress:
        for mutant in progress.track(mutants, description="mutants"):
            if key(mutant) in rows:
                continue
            row = rows[key(mutant)] = meet(mutant, tree, out, seconds, options.budget)
            with open(out / "rows.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{row['outcome']:9s} {row['seconds']:5.0f} s  {row['module']}:{row['line']}", flush=True)
    results = [rows[key(mutant)] for mutant in mutants]
    survivors = [row for row in results if row["outcome"] == "survived"]
    for row in survivors:
        print(f"survived: {row['module']}:{row['line']} {row['operator']}\n{row['diff']}")
    share = 1 - len(survivors) / max(1, len(results))
    print(f"{len(results)} mutants, {len(survivors)} survived, {100 * share:.0f} % killed (goal {100 * GOAL:.0f} %)")
    return int(share < GOAL)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def key(mutant: dict[str, Any]) -> tuple[str, str, int]:
    """What names a mutation as long as its module stays as it is."""
    return mutant["module"], mutant["operator"], mutant["occurrence"]


def clone(tree: Path) -> Path:
    """The last commit in a folder of its own."""
    if not tree.is_dir():
        subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(tree)], check=True)
    for words in (["fetch", "--quiet", "origin"], ["checkout", "--quiet", "--force", "--detach", revision(ROOT)]):
        subprocess.run(["git", *words], cwd=tree, check=True)
    return tree


def revision(tree: Path) -> str:
    """The commit of a working tree."""
    words = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(words, cwd=tree, check=True, capture_output=True, text=True).stdout.strip()


# --- the sample ---------------------------------------------------------------------------------------------------


def kept_sample(tree: Path, out: Path, number: int, seed: int) -> list[dict[str, Any]]:
    """:func:`sample`, which takes a minute, kept for the commit."""
    path = out / f"sample-{revision(tree)}-{seed}.json"
    mutants = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if len(mutants) < number:
        mutants = sample(tree, number, seed)
        path.write_text(json.dumps(mutants), encoding="utf-8")
    return mutants[:number]


def sample(tree: Path, number: int, seed: int) -> list[dict[str, Any]]:
    """So many mutants, the parts in turn, each of a position of its own, as JSON."""
    rng = random.Random(seed)
    queues = []
    for part in PARTS.values():
        positions: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
        for mutant in mutations(tree, part):
            positions.setdefault((mutant["module"], mutant["line"], mutant["column"]), []).append(mutant)
        queues.append([positions[place] for place in rng.sample(sorted(positions), len(positions))])
    mutants: list[dict[str, Any]] = []
    for turn in range(number):
        queue = queues[turn % len(queues)]
        mutants.append(rng.choice(queue[turn // len(queues) % len(queue)]))
    return mutants


def mutations(tree: Path, part: str) -> Iterator[dict[str, Any]]:
    """Every mutation of the modules of a part, as JSON."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast_from_path

    operators = {name: plugins.get_operator(name) for name in plugins.operator_names() if ours(name)}
    operators = {name: operator() for name, operator in operators.items() if not operator.arguments()}
    paths = [tree / part] if part.endswith(".py") else (tree / part).rglob("*.py")
    for path in sorted(path for path in paths if path.name != "__init__.py"):
        nodes = list(ast_nodes(get_ast_from_path(path)))
        parsed = ast.parse(path.read_text(encoding="utf-8"))
        out = annotated(parsed)
        inside = {line for node in parsed.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
                  for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}  # fmt: skip
        for name, operator in operators.items():
            starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
            for occurrence, start in enumerate(starts):
                if tuple(start) not in out:
                    yield {"module": path.relative_to(tree).as_posix(), "operator": name, "occurrence": occurrence,
                           "line": start[0], "column": start[1], "top": start[0] not in inside}  # fmt: skip


def ours(operator: str) -> bool:
    """Whether an operator of cosmic-ray keeps the kind of value, so that more than a crash tells."""
    words = operator.rpartition("/")[2].split("_")
    if words[0] in ("ReplaceBinaryOperator", "ReplaceComparisonOperator", "ReplaceUnaryOperator"):
        unary = words[0] == "ReplaceUnaryOperator"
        return any({*words[1:]} <= kind for kind in KINDS) and (not unary or words[1] == "Delete")
    return True


def annotated(parsed: ast.Module) -> set[tuple[int, int]]:
    """Positions ``(line, column)`` in annotations, and in decorators of protocols or that only make code faster."""
    parts = []
    protocols = [
        node for node in parsed.body if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases)
    ]
    stated = {method for protocol in protocols for method in protocol.body}
    for node in ast.walk(parsed):
        parts += [getattr(node, name, None) for name in ("annotation", "returns")]
        for part in getattr(node, "decorator_list", ()):
            name = ast.unparse(part).partition("(")[0].rpartition(".")[2]
            if name in FASTER or node in stated:
                parts.append(part)
    positions = set()
    for part in parts:
        if isinstance(part, ast.expr):
            last = part.end_lineno or part.lineno
            for line in range(part.lineno, last + 1):
                start = max(0, part.col_offset - 1) if line == part.lineno else 0  # a decorator's "@" lies before it
                stop = part.end_col_offset or 0 if line == last else 200
                positions |= {(line, column) for column in range(start, stop)}
    return positions


# --- the tests ----------------------------------------------------------------------------------------------------


def nearest(module: str, tree: Path, seconds: Mapping[str, float] = MappingProxyType({})) -> list[str]:
    """Files of tests: of the module's name, that import it, of its package, the last; each kind the shortest first."""
    path = Path(module)
    package = path.parts[0] if path.parts[0] == "planners" else path.parts[1].removesuffix(".py")
    dotted = ".".join(path.with_suffix("").parts)
    tests = [test for test in (tree / "tests").rglob("test_*.py") if tree / "tests" / "training" not in test.parents]
    own = [test for test in tests if test.name == f"test_{path.stem}.py" and package in (*test.parent.parts, path.stem)]
    kinds = [own, [tree / name for name in ALWAYS], [test for test in tests if dotted in imports(test)]]
    kinds += [[test for test in tests if tree / folder in test.parents] for folder in (f"tests/{package}", *LAST)]
    result: list[str] = []
    for kind in kinds:
        names = {test.relative_to(tree).as_posix() for test in kind} - {*result}
        result += sorted(names, key=lambda name: (seconds.get(name, 0.0), name))
    return result


def stages(tests: list[str], seconds: Mapping[str, float], budget: float) -> list[list[str]]:
    """The tests as far as they fit into so many seconds, in two processes: what is quick is not kept waiting.

    A file that does not fit is left out, unless it is the nearest, and those behind it get its place.
    """
    some, total = tests[:1], seconds[tests[0]]
    for name in tests[1:]:
        if total + seconds[name] <= budget:
            some.append(name)
            total += seconds[name]
    few = max(1, sum(upto <= FEW for upto in accumulate(seconds[name] for name in some[:MOST])))
    return [part for part in (some[:few], some[few:]) if part]


@cache
def imports(path: Path) -> set[str]:
    """Dotted names of what a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def baseline(tree: Path, out: Path, tests: list[str]) -> dict[str, float]:
    """Seconds of every file of tests without a mutation; an error where one fails. Kept for the commit."""
    path = out / f"baseline-{revision(tree)}.json"
    seconds = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if left := [test for test in tests if test not in seconds]:
        print(f"{len(left)} files of tests without a mutation ...", flush=True)
        words = [sys.executable, "-m", "ecg_gym.precompile"]  # or the first file of tests seems to take that time
        subprocess.run(words, cwd=tree, check=True, env={**os.environ, "PYTHONPATH": str(tree)})
        report = out / "baseline.xml"
        if pytest(left, tree, {}, 3600.0, f"--junitxml={report}"):
            raise SystemExit("the tests fail without a mutation; run them, mend them, commit")
        seconds |= dict.fromkeys(left, 0.0)
        for case in ElementTree.parse(report).iter("testcase"):
            name = str(case.get("classname")).replace(".", "/") + ".py"
            seconds[name] = seconds.get(name, 0.0) + float(case.get("time") or 0.0)
        path.write_text(json.dumps(seconds), encoding="utf-8")
    return seconds


def meet(mutant: dict[str, Any], tree: Path, out: Path, seconds: dict[str, float], budget: float) -> dict[str, Any]:
    """The mutant with its ``outcome`` (killed, timeout or survived), the seconds that took and its ``diff``."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import use_mutation

    begin = time.monotonic()
    outcome = "survived"
    with use_mutation(tree / mutant["module"], plugins.get_operator(mutant["operator"])(), mutant["occurrence"]) as (
        before, after):  # fmt: skip
        old, new = before.splitlines(), after.splitlines()
        diff = "\n".join(
            line for line in difflib.unified_diff(old, new, n=0, lineterm="") if line[:2] not in ("--", "++")
        )
        environment = {"NUMBA_CACHE_DIR": str(compiled_before(mutant, tree, out))}
        for tests in stages(nearest(mutant["module"], tree, seconds), seconds, budget):
            if code := pytest(tests, tree, environment, SECONDS + 3 * sum(seconds[test] for test in tests)):
                outcome = "timeout" if code == -signal.SIGKILL else "killed"
                break
    return {**mutant, "outcome": outcome, "seconds": time.monotonic() - begin, "diff": diff}


def pytest(tests: list[str], tree: Path, environment: dict[str, str], limit: float, *words: str) -> int:
    """The exit code of the tests; minus nine where they took longer than the limit."""
    variables = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    process = subprocess.Popen([sys.executable, *PYTEST, *words, *tests], cwd=tree, env=variables, text=True,
                               stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


# --- what Numba has compiled --------------------------------------------------------------------------------------


def compiled_before(mutant: dict[str, Any], tree: Path, out: Path) -> Path:
    """A folder for Numba: what the clone has compiled, but for modules that may hold a mutated constant; those that
    hold mutated code have another folder there.
    """
    folder = out / "numba"
    shutil.rmtree(folder, ignore_errors=True)
    code = "from ecg_gym.compiled import _home; print(_home())"
    result = subprocess.run([sys.executable, "-c", code], cwd=tree, check=False, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(folder)})  # fmt: skip
    whole = tree / "ecg_gym" / "__pycache__" / "ecg-gym-compiled"
    if result.returncode:  # the mutated package cannot be imported
        return folder
    changed = readers(mutant["module"], tree) if mutant["top"] else set()
    names = {(path.parent.name, path.stem) for path in changed}
    for path in whole.rglob("*.nb?"):
        if (path.parent.name.rpartition("_")[0], path.name.partition(".")[0]) not in names:
            target = Path(result.stdout.strip()) / path.relative_to(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    return folder


def readers(module: str, tree: Path) -> set[Path]:
    """The module and all that import it, directly or not."""
    paths = [path for top in ("ecg_gym", "planners", "training") for path in (tree / top).rglob("*.py")]
    names = {path: ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    graph = {path: imports(path) for path in paths}
    reached = {tree / module}
    while more := {path for path in paths if path not in reached and graph[path] & {names[old] for old in reached}}:
        reached |= more
    return reached


if __name__ == "__main__":
    sys.exit(main())
