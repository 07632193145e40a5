"""What the site generates from the code says what the code does."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / "docs" / "hooks"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(HOOKS))
    yield
    for name in ("tables", "reference", "rst", "site_hooks"):
        sys.modules.pop(name, None)


def test_the_observation_table_has_every_number_of_the_vector_once_with_its_unit() -> None:
    import tables

    layout = tables.default_env().layout
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \| (\S+) \| (\S+) to (\S+) \| (\d+|always known) \|$", tables.observation_table(), re.M
    )
    index = {name: i for i, name in enumerate(layout.names)}
    assert {name: int(i) for i, name, *_ in rows} == {f.name: index[f.name] for f in layout.features}
    flags = {f"{name}_known": int(flag) for _, name, _, _, _, flag in rows if flag.isdigit()}
    assert flags == {name: i for name, i in index.items() if name.endswith("_known")}
    assert {(name, float(low), float(high)) for _, name, _, low, high, _ in rows} == {
        (f.name, f.low, f.high) for f in layout.features
    }
    unit = {name: unit for _, name, unit, *_ in rows}
    assert (unit["hr_bpm"], unit["qtcf_ms_change"], unit["r_amplitude_mv"]) == ("1/min", "ms", "mV")
    assert (unit["potassium"], unit["age_years"], unit["p_present"], unit["hours"]) == ("mmol/L", "years", "1", "h")


def test_the_action_table_gives_each_action_its_treatment() -> None:
    import tables

    from ecg_gym.envs import load_scenarios

    table = tables.action_table()
    for name, scenario in load_scenarios().items():
        block = table.split(f'"{name}: ')[1].split("\n???")[0]
        rows = re.findall(r"^    \| (\d+) \| (.+) \|$", block, re.M)
        assert [(int(i), words) for i, words in rows] == [(i, str(t)) for i, t in enumerate(scenario.menu)]


def test_every_argument_is_in_the_table_with_its_default() -> None:
    import tables

    from ecg_gym.envs import ECGInterventionEnv
    from ecg_gym.envs.config import EnvConfig

    rows = [line.strip("| ").split(" | ") for line in tables.argument_table().splitlines()[2:]]
    defaults = {row[0].strip("`"): eval(row[-2].strip("`")) for row in rows}
    assert defaults.pop("render_mode") is None
    assert vars(EnvConfig(**defaults)) == vars(EnvConfig())
    assert all(row[-1] for row in rows), "each has its meaning"
    assert "render_mode" in inspect.signature(ECGInterventionEnv).parameters


def test_every_marked_table_is_made_and_every_made_table_is_marked() -> None:
    import tables

    marked = set()
    for page in (ROOT / "docs").rglob("*.md"):
        marked |= set(re.findall(r"<!-- generated: (\w+) -->", page.read_text(encoding="utf-8")))
    assert marked == set(tables.TABLES)


def test_a_public_name_without_a_docstring_is_found(tmp_path) -> None:
    from reference import undocumented

    for package in ("ecg_gym", "planners", "training"):
        (tmp_path / package).mkdir()
    (tmp_path / "ecg_gym" / "core.py").write_text(
        '"""Module."""\ndef said():\n    """Yes."""\ndef bare(): ...\ndef _own(): ...\n'
    )
    (tmp_path / "planners" / "a.py").write_text(
        '"""M."""\nclass A:\n    """A."""\n    def f(self): ...\n    def __len__(self): ...\n'
    )
    assert undocumented(tmp_path) == ["ecg_gym.core.bare", "planners.a.A.f"]


def test_every_public_name_of_the_package_has_a_docstring() -> None:
    from reference import undocumented

    assert undocumented(ROOT) == []


def test_tables_of_docstrings_become_blocks_and_roles_become_code() -> None:
    pytest.importorskip("griffe", reason="griffe is not installed; pip install 'ecg-gym[docs]'")
    from rst import markdown

    assert markdown("See :func:`~a.b`.") == "See `a.b`."
    table = "==  ===\nA   b c\n==  ==="
    assert markdown(f"Head.\n\n{table}\n\nTail.") == f"Head.\n\n```text\n{table}\n```\n\nTail."


def test_ranges_in_the_table_are_those_of_the_scaling() -> None:
    import tables

    for feature in tables.default_env().layout.features:
        np.testing.assert_allclose(feature.scale(np.array([feature.low, feature.high])), [-1, 1])


def test_links_to_files_of_the_repository_become_words_and_broken_ones_stay() -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; pip install 'ecg-gym[docs]'")
    import site_hooks as site

    def page_text(text: str) -> str:
        return site.OUTSIDE.sub(lambda match: site.outside(match, Path("studies")), text)

    assert page_text("[core](../../ecg_gym/core.py)") == "core"
    assert page_text("[gone](../../ecg_gym/gone.py)") == "[gone](../../ecg_gym/gone.py)"
    assert page_text("[page](../planners.md)") == "[page](../planners.md)"
