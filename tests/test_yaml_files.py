"""libyaml reads what PyYAML reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ecg_gym.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parent.parent
TABLES = sorted(path for folder in ("ecg_gym", "planners", "training") for path in (ROOT / folder).rglob("*.yaml"))


def test_every_table_of_the_package_is_read_alike() -> None:
    assert len(TABLES) > 20
    for path in TABLES:
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8")), path


def test_what_is_no_yaml_raises(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text("a: [1\n")
    with pytest.raises(yaml.YAMLError):
        read_yaml(path)
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(yaml.YAMLError):  # nothing in a table is executed
        read_yaml(path)
