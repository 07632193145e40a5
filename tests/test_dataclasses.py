"""Values are frozen: a state, a configuration or a result is never changed under somebody who holds it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHANGING = {  # what something is written into while it works
    "ecg_gym/tissue/model.py": {"Trajectory", "Model"},
    "ecg_gym/virtual_patient/beat_intervals.py": {"_Table"},
    "ecg_gym/virtual_patient/beat_spectra.py": {"_Maps"},
    "planners/advice.py": {"_Sampling"},
    "planners/branches.py": {"_Node"},
    "planners/racing.py": {"Race"},
    "training/cli/play.py": {"Game"},
    "training/evaluation/benchmark/kind_constant.py": {"KindConstant"},
    "training/evaluation/benchmark/policies.py": {"FunctionActor", "PlannerActor"},
    "training/evaluation/benchmark/truth_search.py": {"TruthSearch"},
    "training/evaluation/speed/sampler.py": {"ProcessorTime"},
    "training/leads/searches.py": {"Run"},
    "training/loop.py": {"TrainState"},
    "training/train_all.py": {"Budget"},
}


def unfrozen(path: Path) -> set[str]:
    """Names of the dataclasses of a file that can be changed."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            text = ast.unparse(decorator)
            if text.startswith("dataclass") and "frozen=True" not in text:
                names.add(node.name)
    return names


def test_dataclasses_are_frozen_but_for_those_that_are_written_into() -> None:
    changing = {p.relative_to(ROOT).as_posix(): unfrozen(p) for top in ("ecg_gym", "planners", "training")
             for p in sorted((ROOT / top).rglob("*.py"))}  # fmt: skip
    assert {path: names for path, names in changing.items() if names} == CHANGING
