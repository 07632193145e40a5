"""The mutation run: which mutations it leaves out, and which tests a mutant meets."""

from __future__ import annotations

import ast

from conformance.mutants import annotated, ours, stages

MODULE = """
class Reads(Protocol):
    @property
    def rate(self) -> float: ...

class Look:
    @property
    def rate(self) -> float | None:
        return 1 + 2

@cache
def table(rows: int | None = None): ...
"""


def test_a_file_that_does_not_fit_leaves_its_place_to_those_behind_it() -> None:
    seconds = {"near": 5.0, "long": 90.0, "next": 6.0, "last": 20.0, "beyond": 12.0}
    assert stages([*seconds], seconds, 40.0) == [["near", "next"], ["last"]]
    assert stages(["long", "near"], seconds, 40.0) == [["long"]], "the nearest is met in any case"


def test_what_no_test_could_tell_is_left_out() -> None:
    positions = annotated(ast.parse(MODULE))
    lines = MODULE.splitlines()
    place = {text: [(n, line.index(text)) for n, line in enumerate(lines, 1) if text in line]
             for text in ("@property", "float", "@cache", "None", "+")}  # fmt: skip
    protocols, others = place["@property"]
    assert protocols in positions
    assert others not in positions
    assert {*place["float"], *place["@cache"]} <= positions
    assert not {*place["+"]} & positions
    annotation, default = place["None"][1], (place["None"][1][0], lines[place["None"][1][0] - 1].rindex("None"))
    assert annotation in positions
    assert default not in positions


def test_an_operator_is_replaced_by_one_of_its_kind() -> None:
    assert ours("core/ReplaceBinaryOperator_Add_Sub")
    assert not ours("core/ReplaceBinaryOperator_Add_BitOr")
    assert ours("core/ReplaceUnaryOperator_Delete_Not")
    assert not ours("core/ReplaceUnaryOperator_USub_Not")
    assert ours("core/NumberReplacer")
