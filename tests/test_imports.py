"""Arrows point one way, and `import ecg_gym` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# A package may import from its own level and from those before it.
PACKAGES = (("ecg_gym",), ("planners",), ("training",))
INSIDE = (
    ("yaml_files", "compiled", "svg", "streams", "look"),
    ("plausibility",),
    ("patient", "philox"),
    ("columns",),
    ("core", "executor", "io", "statistics"),
    ("powers", "checkpoint"),
    ("registration",),
    ("pharmacology", "waveform", "llm"),
    ("virtual_patient", "physiology"),
    ("tissue",),
    ("risk",),
    ("world_model",),
    ("foreign",),
    ("rollout",),
    ("datasets",),  # virtual trials are written in the words of the world model
    ("envs", "clinical_trial"),
    ("real_trials",),  # read by the protocols of virtual ones
    ("checks",),
    ("precompile",),  # steps the envs by their ids
)
HEAVY = ("torch", "matplotlib", "neurokit2", "wfdb", "stable_baselines3", "diffusers", "pandas")
NUMPY_ONLY = ("core", "llm", "pharmacology", "waveform", "virtual_patient", "physiology")
STRANGERS = {
    "wfdb": ("ecg_gym/datasets/wfdb_files.py",),
    "pyedflib": ("ecg_gym/datasets/edf.py",),
    "pydicom": ("ecg_gym/datasets/dicom.py",),
}  # each stranger has one door


def level(name: str, order: tuple[tuple[str, ...], ...]) -> int:
    return next(i for i, names in enumerate(order) if name in names)


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names of every module that a file imports anywhere in it, lazily or not, types or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@pytest.mark.parametrize("package", [name for names in PACKAGES for name in names])
def test_packages_import_only_downwards(package: str) -> None:
    above = {name for names in PACKAGES[level(package, PACKAGES) + 1 :] for name in names} | {"conformance", "tests"}
    for path in files(package):
        upward = {name for name in imported(path) if name.split(".")[0] in above}
        assert not upward, f"{path.relative_to(ROOT)} imports {sorted(upward)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Lazy imports and those for types count too; packages' ``__init__`` do not."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for names in PACKAGES for package in names
               for path in files(package) if path.name != "__init__.py"}  # fmt: skip
    graph = {}
    for name, path in modules.items():
        targets = {target for full in imported(path) for target in (full, full.rpartition(".")[0]) if target in modules}
        graph[name] = targets - {name}
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as circle:
        pytest.fail(f"import circle: {' -> '.join(circle.args[1])}")


def test_inside_ecg_gym_imports_go_one_way() -> None:
    known = {name for names in INSIDE for name in names}
    for path in files("ecg_gym"):
        mine = path.relative_to(ROOT / "ecg_gym").parts[0].removesuffix(".py")
        if mine == "__init__":
            continue
        assert mine in known, f"ecg_gym.{mine} has no place in the order; give it one in tests/test_imports.py"
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "ecg_gym" and len(parts) > 1 and parts[1] in known and parts[1] != mine:
                lower = level(parts[1], INSIDE) < level(mine, INSIDE)
                assert lower, f"{path.relative_to(ROOT)} imports {name}"


def test_the_numeric_parts_know_no_torch() -> None:
    for part in NUMPY_ONLY:
        paths = [ROOT / "ecg_gym" / f"{part}.py"] if part == "core" else files(f"ecg_gym/{part}")
        for path in paths:
            assert not {n for n in imported(path) if n.split(".")[0] == "torch"}, path.relative_to(ROOT)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_each_stranger_has_one_door(stranger: str) -> None:
    users = {p.relative_to(ROOT).as_posix() for names in PACKAGES for package in names for p in files(package)
             if stranger in {name.split(".")[0] for name in imported(p)}}  # fmt: skip
    assert users <= set(STRANGERS[stranger]), users


def loaded_by(code: str) -> set[str]:
    """Which heavy packages a fresh process has loaded after ``code``."""
    code = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import ecg_gym", "import planners"])
def test_a_bare_import_is_light(code: str) -> None:
    assert loaded_by(code) == set()


def test_a_bare_import_makes_the_ids_known() -> None:
    code = "import ecg_gym, gymnasium; gymnasium.spec('ECGIntervention-v0'); gymnasium.spec('ECGInterventionOracle-v0')"
    assert loaded_by(code) == set()


def test_the_env_over_a_world_without_weights_needs_no_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/support')\n"
        "import gymnasium as gym\n"
        "env = gym.make('ecg_gym:ECGIntervention-v0', world='worlds:AnalyticWorld', risk='limits')\n"
        "env.reset(seed=0); env.step(0)"
    )
    assert loaded_by(code) == set()
