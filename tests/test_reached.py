"""Every module of more than sixty lines is tested: by a file of its name, one that imports it, or one named here."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from conformance.mutants import imports

ROOT = Path(__file__).resolve().parent.parent
LONG = 60  # lines
REACHED = {  # module -> the tests that go through it, by way of what they import
    "ecg_gym.clinical_trial.figure": "tests/clinical_trial/test_trial.py",
    "ecg_gym.clinical_trial.protocol": "tests/clinical_trial/test_trial.py",
    "ecg_gym.clinical_trial.yaml_path": "tests/clinical_trial/test_trial.py",
    "ecg_gym.datasets.aecg": "tests/datasets/test_formats.py",
    "ecg_gym.datasets.annotations": "tests/training/evaluation/virtual_patient/test_delineation.py",
    "ecg_gym.datasets.channels": "tests/datasets/test_records.py",
    "ecg_gym.datasets.ep.activation": "tests/datasets/ep/test_converters.py",
    "ecg_gym.datasets.ep.carto": "tests/datasets/ep/test_converters.py",
    "ecg_gym.datasets.ep.edgar": "tests/datasets/ep/test_converters.py",
    "ecg_gym.datasets.ep.optical": "tests/datasets/ep/test_converters.py",
    "ecg_gym.datasets.ep.recording": "tests/datasets/ep/test_folder.py",
    "ecg_gym.datasets.wfdb_files": "tests/datasets/test_records.py",
    "ecg_gym.envs.info": "tests/envs/test_env.py",
    "ecg_gym.llm.transcript": "tests/llm/test_client.py",
    "ecg_gym.pharmacology.laws": "tests/pharmacology/test_effects.py",
    "ecg_gym.real_trials.mimic_people": "tests/real_trials/test_mimic_episodes.py",
    "ecg_gym.tissue.graph": "tests/tissue/test_kernel.py",
    "ecg_gym.tissue.judging": "tests/tissue/test_fitting.py",
    "ecg_gym.virtual_patient.atrial_beats": "tests/virtual_patient/test_strip_plan.py",
    "ecg_gym.virtual_patient.draws": "tests/virtual_patient/test_kernel.py",
    "ecg_gym.virtual_patient.fibrillation": "tests/virtual_patient/test_strip_drawing.py",
    "ecg_gym.virtual_patient.rhythm_arrays": "tests/virtual_patient/test_beat_trains.py",
    "ecg_gym.virtual_patient.vitals": "tests/virtual_patient/test_world.py",
    "ecg_gym.waveform.neurokit": "tests/waveform/test_measurement.py",
    "ecg_gym.waveform.qrs_marks": "tests/waveform/test_delineation.py",
    "ecg_gym.waveform.r_peaks": "tests/waveform/test_measurement.py",
    "ecg_gym.waveform.t_marks": "tests/waveform/test_delineation.py",
    "planners.checks": "tests/planners/test_mpc.py",
    "planners.constant_search": "tests/training/evaluation/benchmark/test_evaluation.py",
    "planners.model_based": "tests/planners/test_mpc.py",
    "planners.report.beats": "tests/planners/report/test_table.py",
    "planners.report.html.sections": "tests/planners/report/html/test_pages.py",
    "planners.report.html.story": "tests/planners/report/html/test_pages.py",
    "planners.report.html.whatif": "tests/planners/report/html/test_pages.py",
    "training.cli.data": "tests/training/cli/test_app.py",
    "training.cli.episode_page": "tests/training/cli/test_report.py",
    "training.cli.evaluate": "tests/training/cli/test_app.py",
    "training.cli.leads": "tests/training/cli/test_app.py",
    "training.cli.show": "tests/training/cli/test_app.py",
    "training.evaluation.benchmark.html": "tests/training/cli/test_report.py",
    "training.evaluation.benchmark.kind_constant": "tests/training/evaluation/benchmark/test_evaluation.py",
    "training.evaluation.virtual_patient.exposure_response":
        "tests/training/evaluation/virtual_patient/test_drug_effects.py",
    "training.evaluation.world_model.baseline_answers": "tests/training/rivals/test_run.py",
    "training.evaluation.world_model.baseline_scores": "tests/training/rivals/test_run.py",
    "training.rivals.convolutional": "tests/training/rivals/test_learning.py",
    "training.rivals.dadm": "tests/training/rivals/test_learning.py",
    "training.rivals.diffusets": "tests/training/rivals/test_learning.py",
    "training.rivals.tts_cgan": "tests/training/rivals/test_learning.py",
}  # fmt: skip
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
           for top in ("ecg_gym", "planners", "training") for path in (ROOT / top).rglob("*.py")}  # fmt: skip
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@cache
def imported(path: Path, by_name: bool = False) -> frozenset[str]:
    """Dotted names of the modules that a file imports anywhere, or names in a table (studies, rivals, commands)."""
    names = set(imports(path))
    if by_name:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= {node.value, f"training.evaluation.{node.value}"}
                names.add(f"training.rivals.{node.value.partition(':')[0]}")
    return frozenset(names & MODULES.keys())


def closure(path: Path) -> set[str]:
    """The modules that a file reaches; lazy imports count, and those that a registry imports by name."""
    reached, waiting = set(), set(imported(path))
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= imported(MODULES[name], by_name=True) - reached
    return reached


def without_a_test_of_their_own() -> set[str]:
    """Long modules that no test is named after and none imports."""
    direct = {name for test in TESTS for name in imported(test)}
    stems = {test.stem.removeprefix("test_") for test in TESTS}
    return {name for name, path in MODULES.items() if path.name != "__init__.py" and name not in direct
            and path.stem not in stems and len(path.read_text(encoding="utf-8").splitlines()) > LONG}  # fmt: skip


def test_every_long_module_is_tested_or_says_by_what_it_is_reached() -> None:
    assert without_a_test_of_their_own() == REACHED.keys(), "write a test, or say which one reaches it"


def test_what_is_said_to_reach_a_module_imports_it() -> None:
    by_test: dict[str, set[str]] = {}
    for module, test in REACHED.items():
        by_test.setdefault(test, set()).add(module)
    assert not {test: left for test, modules in by_test.items() if (left := modules - closure(ROOT / test))}
