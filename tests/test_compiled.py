"""Compiled code is kept as long as nothing that it depends on has changed, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from numba import njit

from ecg_gym import compiled

FILES = ("tissue/backward", "tissue/kernel", "virtual_patient/kernel", "virtual_patient/vitals", "waveform/families")


def digests() -> dict[str, str]:
    for function in (compiled._digest, compiled._imports):
        function.cache_clear()
    return {name: compiled._digest(compiled._PACKAGE / f"{name}.py") for name in FILES}


@pytest.mark.parametrize(
    ("edited", "affected"),
    [
        ("tissue/backward.py", {"tissue/backward"}),
        ("philox.py", {"virtual_patient/kernel", "virtual_patient/vitals"}),
        ("waveform/arrays.py", {"waveform/families"}),
        ("virtual_patient/transitions.py", {"virtual_patient/kernel", "virtual_patient/vitals"}),  # constants only
        ("world_model/drawing.py", set()),
    ],
)
def test_an_edit_outdates_what_depends_on_it(monkeypatch: pytest.MonkeyPatch, edited: str, affected: set[str]) -> None:
    before, text = digests(), compiled._text
    path = compiled._PACKAGE / edited
    assert path.is_file()
    monkeypatch.setattr(compiled, "_text", lambda one: text(one) + ("# edited" if one == path else ""))
    after = digests()
    monkeypatch.undo()
    assert {name for name in FILES if before[name] != after[name]} == affected
    assert digests() == before


def test_only_the_newest_versions_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_home", lambda: tmp_path)
    path = compiled._PACKAGE / "philox.py"
    for word in "abcdef":
        monkeypatch.setattr(compiled, "_digest", lambda _, word=word: word * 12)
        folder = compiled._folder(path)
    assert folder.is_dir()
    assert len(list(tmp_path.iterdir())) == 1 + compiled._KEPT
    other = compiled._folder(compiled._PACKAGE / "look.py")
    assert other.is_dir()
    assert len(list(tmp_path.iterdir())) == 2 + compiled._KEPT


def test_every_constant_of_a_caller_meets_the_same_compiled_code() -> None:
    @njit
    def power(base: float, exponent: int, negative: bool = False) -> float:
        return base ** (-exponent if negative else exponent)

    compiled._plain(power)

    @njit
    def some(base: float) -> float:
        return power(base, 2) + power(base, exponent=3, negative=True) + power(base, 4, False)

    assert some(2.0) == 4 + 1 / 8 + 16
    assert power(2.0, 5, True) == 1 / 32
    assert len(power.signatures) == 2, "one with the default and one with all three"
