"""A run of a rival from shards to weights with a card, killed and begun again; and the study beside ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym import checkpoint
from ecg_gym.datasets.transitions import TrialDesign, make_shards
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model import WorldModel
from training import loop, train_baseline
from training.evaluation.result import Size
from training.evaluation.world_model import baselines
from training.rivals.catalogue import NETWORKS, BaselinePreset, preset_named, words_of
from training.rivals.condition import TEXT, fact_names, hashed, sentence
from training.rivals.pairs import Pairs, read_pairs
from training.rivals.world import WEIGHTS, RivalWorld


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    assert list(make_shards(folder, [0], TrialDesign(patients=6, steps=(2,), watch=(0.2,))))
    return folder


@pytest.fixture(scope="module")
def pairs(shards: Path) -> Pairs:
    return read_pairs(shards)


def preset(name: str, steps: int) -> BaselinePreset:
    usual = preset_named(name, steps=steps)
    return replace(usual, width=8, condition=8, batch=4, loop=replace(usual.loop, warmup=2, save_every=2))


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wgan")
    train_baseline.run(preset("wgan", 3), shards, folder, show=False)
    return folder


def test_pairs_are_what_our_denoiser_learns_from(pairs: Pairs) -> None:
    assert len(pairs) > 6
    assert np.all(pairs.before < pairs.after)
    features = pairs.facts(np.arange(len(pairs)), np.ones(len(pairs), bool))
    alone = pairs.facts(np.arange(len(pairs)), np.zeros(len(pairs), bool))
    names = fact_names()
    assert features.shape == (len(pairs), len(names))
    rate = names.index("asked.hr_bpm")
    assert np.isnan(alone[:, rate]).all()
    np.testing.assert_allclose(features[:, rate], pairs.intervals[pairs.after, 0])
    np.testing.assert_allclose(np.linalg.norm(pairs.text.astype(float), axis=1), 1, atol=1e-2)


def test_words_are_hashed_into_buckets_and_unknown_facts_are_left_out() -> None:
    from ecg_gym.core import Patient
    from ecg_gym.world_model.conditioning import people

    known, unknown = people([Patient(age_years=63, sex="F"), Patient()])
    assert sentence(known, ["quinidine 300 mg PO"]) == "aged 60s woman then quinidine 300 mg PO"
    assert sentence(unknown, []) == "then nothing"
    assert hashed("then nothing").shape == (TEXT,)
    assert not np.array_equal(hashed("then nothing"), hashed("then quinidine"))


@pytest.mark.parametrize("name", ["dadm", pytest.param("wgan", marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_with_the_same_losses(name: str, pairs: Pairs, tmp_path: Path) -> None:
    chosen = preset(name, 6)
    whole = [row for *row, _ in train_baseline.train(chosen, pairs, tmp_path / "whole", show=False)]
    stopped = train_baseline.train(chosen, pairs, tmp_path / "cut", show=False)
    for step, _, _ in stopped:
        if step == 3 and (name == "wgan" or (tmp_path / "cut" / loop.LOSSES).is_file()):
            break
    stopped.close()
    rest = list(train_baseline.train(chosen, pairs, tmp_path / "cut", show=False))
    assert [logs["loss"] for _, logs, _ in rest] == [logs["loss"] for _, logs in whole][-len(rest) :]
    assert len(rest) < len(whole), "it went on"
    a, b = (train_baseline.finished(chosen, pairs, tmp_path / of, train_baseline.scale_of(pairs)).state_dict()
            for of in ("whole", "cut"))  # fmt: skip
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_card_names_each_deviation_and_its_budget(run: Path) -> None:
    card = json.loads((run / "baseline.json").read_text())
    assert card["deviations"] == list(words_of("wgan").deviations)
    assert card["updates"] == 3
    text = (run / "baseline.md").read_text()
    assert all(line in text for line in card["deviations"])
    assert card["weights_sha256"] == checkpoint.sha256(run / WEIGHTS)
    assert {words_of(name).source for name in (*NETWORKS, "llm")}, "everyone has words"


def test_the_study_has_a_row_for_everybody(run: Path, shards: Path) -> None:
    world = WorldModel.load()
    rivals = baselines.load_rivals([run.parent], world, shards)
    document = baselines.study(world, VirtualPatient(), Size(4, 2), quick=True, rivals=rivals)
    names = [row["row"] for row in document["rows"]]
    assert names == [
        "ours", "ours, drawn", "ours, latent diffusion", "copy", "population pharmacology", "WGAN-GP, alone",
        "WGAN-GP, with our forecast", "majority class",
    ]  # fmt: skip
    table = {row["row"]: row for row in document["rows"]}
    assert table["copy"]["crps_qtcf"] >= table["copy"]["mae_qtcf"], "a mean over true futures of absolute errors"
    assert table["ours, drawn"]["einthoven_uv"] < 1
    assert table["ours, drawn"]["nearest_training_uv"] > 10
    assert table["WGAN-GP, alone"]["works"] in ("yes", "collapsed", "does not listen", "not measurable")
    assert set(document["settings"]["winners"]) >= {"hr", "qtcf"}
    assert "two CPU-hours" in document["settings"]["origin"]
    assert baselines.summary(document)[0]["row"] == "ours"
    assert baselines.figure(document).axes


def test_what_is_no_rival_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected folders of `ecg-gym train baseline`"):
        baselines.load_rivals([tmp_path], WorldModel.load(), None)
    with pytest.raises(ValueError, match="expected one of"):
        preset_named("vqvae")
    with pytest.raises(ValueError, match="no file at"):
        RivalWorld.load(tmp_path)
