"""Drugs of one's own: they come after the package's, are checked as strictly, and errors say what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ecg_gym.pharmacology import constants, user_drugs
from ecg_gym.pharmacology.formulary import FORMULARY, Formulary

ROW = (Path(__file__).resolve().parents[2] / "examples" / "your_own_drug.yaml").read_text(encoding="utf-8")


@pytest.fixture
def formulary_of(tmp_path, monkeypatch):
    """``formulary_of(text, ...)`` names files with these texts and gives a formulary that has not been read yet."""
    caches: tuple[Callable, ...] = (user_drugs.own_table, constants.sources)

    def write(*texts: str) -> Formulary:
        paths = [tmp_path / f"own_{i}.yaml" for i in range(len(texts))]
        for path, text in zip(paths, texts):
            path.write_text(text, encoding="utf-8")
        monkeypatch.setenv(user_drugs.VARIABLE, os.pathsep.join(map(str, paths)))
        for cache in caches:
            cache.cache_clear()
        return Formulary()

    yield write
    monkeypatch.delenv(user_drugs.VARIABLE, raising=False)
    for cache in caches:
        cache.cache_clear()


def test_an_own_drug_comes_after_those_of_the_package_and_is_on_the_menu(formulary_of) -> None:
    formulary = formulary_of(ROW)
    assert formulary.names == (*FORMULARY.names, "compound_x")
    assert [str(t) for t in formulary.menu(["compound_x"])] == [
        "watch and wait",
        "compound_x 50 mg PO",
        "compound_x 100 mg PO",
    ]
    assert constants.sources()["your_notebook"].startswith("An invented compound")
    assert constants.sources().keys() > {"cipa", "label_dofetilide"}


def test_several_files_are_read(formulary_of) -> None:
    second = ROW.replace("compound_x:", "compound_y:").replace("your_notebook", "another_notebook")
    assert formulary_of(ROW, second).names[-2:] == ("compound_x", "compound_y")


def test_without_the_variable_there_are_the_packages_drugs_alone(formulary_of) -> None:
    assert formulary_of().names == FORMULARY.names


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([ROW, ROW], r"own_1.yaml has \['compound_x'\] once more; expected every name in one file; rename it"),
        ([ROW.replace("compound_x:", "dofetilide:")], r"brings \['dofetilide'\], which the package has.*rename yours"),
        ([ROW.replace("your_notebook", "cipa")], r"brings \['cipa'\], which the package has"),
        ([ROW.replace("source: your_notebook", "source: hearsay")], r"cites 'hearsay'; expected a key of sources"),
        ([ROW.replace("unit: L/h", "unit: mL/h")], r"is in 'mL/h'; expected 'L/h'"),
        (["- compound_x"], r"holds .*expected drugs by name; see examples/your_own_drug.yaml"),
        (["a: [1"], r"cannot be read .*expected a YAML file of drugs"),
    ],
    ids=["twice", "taken", "cited twice", "no source", "wrong unit", "no mapping", "no YAML"],
)
def test_what_cannot_be_read_is_said(formulary_of, texts, words) -> None:
    with pytest.raises(ValueError, match=words):
        _ = formulary_of(*texts).names


def test_a_file_that_is_not_there_is_said(formulary_of, monkeypatch) -> None:
    formulary_of()
    monkeypatch.setenv(user_drugs.VARIABLE, "nowhere.yaml")
    user_drugs.own_table.cache_clear()
    with pytest.raises(ValueError, match=r"ECG_GYM_DRUGS names nowhere.yaml, which cannot be read.*full path"):
        _ = Formulary().names
