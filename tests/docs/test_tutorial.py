"""The tutorial's code runs as it stands, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"


def test_every_block_runs_in_order(capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    output = capsys.readouterr().out
    assert "(1, 12, 1024)" in output
    assert "the planner gives" in output
    assert -16 <= names["total"] <= 0
    assert names["treated"] > names["untreated"], "dofetilide prolongs QTcF"
