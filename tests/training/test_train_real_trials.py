"""Fine-tuning on real shards: what it refuses, and that the validation side never does worse than at the start."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym.core import Patient
from ecg_gym.datasets.transitions import Trials
from ecg_gym.real_trials.manifest import RealTrial, Written
from ecg_gym.virtual_patient.truth import HAZARDS
from ecg_gym.world_model import WorldModel
from ecg_gym.world_model.conditioning import ENDINGS, EXPOSURE, OBSERVED, PEOPLE, exposures, people
from training import train_real_trials as module
from training.data.real_trials import real_pairs

HOURS = (-0.5, 2.0, 4.0)


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return WorldModel.load()


def shard(subjects: int, seed: int) -> tuple[Trials, dict[int, RealTrial]]:
    """People whose intervals are numbers, without strips: QTcF grows by 40 ms though nothing was given."""
    rng, n = np.random.default_rng(seed), subjects * len(HOURS)
    hours = np.tile(HOURS, subjects)
    usual = {"hr_bpm": 60.0, "rr_sd_ms": 20.0, "pr_ms": 160.0, "qrs_ms": 90.0, "qt_ms": 400.0, "qtcf_ms": 400.0,
             "jtpeak_ms": 220.0, "jtpeakc_ms": 220.0, "tpeak_tend_ms": 90.0, "r_amplitude_mv": 1.0,
             "t_amplitude_mv": 0.3, "p_present": 1.0, "regular": 1.0}  # fmt: skip
    observed = np.array([[usual[name] for name in OBSERVED]] * n)
    observed[:, :9] *= rng.normal(1, 0.01, size=(n, 9))
    for name in ("qt_ms", "qtcf_ms", "jtpeak_ms", "jtpeakc_ms"):
        observed[:, OBSERVED.index(name)] += 40 * (hours > 0)
    who, nothing = (Patient(sex="F"),) * n, ((),) * n
    trials = Trials(
        np.zeros((n, 0), np.float16), observed.astype(np.float32), exposures(nothing, who, hours),
        np.zeros((n, len(ENDINGS)), np.float32), people(who), np.full((n, 7), np.nan, np.float32),
        np.full((n, len(HAZARDS)), np.nan, np.float32), np.ones(n, bool), np.full((n, 17), 0.05, np.float32),
        np.full(n, 93.0, np.float32), np.full(n, ""), np.zeros(n, bool),
        np.full(n, "unknown"), np.repeat(np.arange(subjects), len(HOURS)), hours,
        (*OBSERVED, *EXPOSURE, *ENDINGS, *PEOPLE),
    )  # fmt: skip
    flags = (True, False, False)
    known = {
        i: RealTrial(i, "t", f"s{i}", "train", "a", 1, 1, True, Patient(sex="F"), (), HOURS, (1.0,) * 3, flags)
        for i in range(subjects)
    }
    return trials, known


def test_what_was_learned_is_better_on_other_people_and_the_start_is_untouched(world: WorldModel) -> None:
    learned, held = shard(6, 0), shard(4, 1)
    before = copy.deepcopy(world.forecaster.prognosis.state_dict())
    preset = replace(
        module.PRESETS["tiny"],
        interval_model=replace(
            module.PRESETS["tiny"].interval_model,
            batch=32,
            loop=replace(module.PRESETS["tiny"].interval_model.loop, steps=20, learning_rate=1e-3),
        ),
        looks=4,
    )
    tuned, scores = module.fit_interval_model(
        world.forecaster, (learned[0], real_pairs(*learned)[0]), (held[0], *real_pairs(*held)), None, preset, show=False
    )
    values = [row["score"] for row in scores]
    assert min(values) < values[0], "40 ms that pharmacology does not explain were learned"
    reached = module.likelihood(tuned, world.forecaster.outlook, held[0], *real_pairs(*held))
    assert reached == pytest.approx(min(values), rel=1e-5), "and the best look is what is handed back"
    assert all(torch.equal(before[name], value) for name, value in world.forecaster.prognosis.state_dict().items())


def test_nothing_learned_hands_back_the_start(world: WorldModel) -> None:
    learned, held = shard(2, 0), shard(2, 1)
    tiny = module.PRESETS["tiny"].interval_model
    preset = replace(module.PRESETS["tiny"], interval_model=replace(tiny, loop=replace(tiny.loop, learning_rate=0.5)))
    tuned, _ = module.fit_interval_model(
        world.forecaster, (learned[0], real_pairs(*learned)[0]), (held[0], *real_pairs(*held)), None, preset, show=False
    )
    for name, value in world.forecaster.prognosis.state_dict().items():
        assert torch.equal(value, tuned.state_dict()[name]), "steps a thousand times too long made everything worse"


def test_another_codec_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vae.safetensors").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"were trained with the codec .*; expected .*; leave --codec out"):
        module.run(module.PRESETS["tiny"], tmp_path, tmp_path / "out", vae=tmp_path / "vae.safetensors")


def test_presets_are_named_and_moved_to_a_device() -> None:
    with pytest.raises(ValueError, match=r"preset is 'paper'; expected one of \['tiny', 'default'\] with real trials"):
        module.preset_named("paper")
    moved = module.preset_named("default", "cuda")
    assert (moved.loop.device, moved.interval_model.loop.device) == ("cuda", "cuda")


def test_a_card_says_who_was_met_and_carries_the_notices(tmp_path: Path) -> None:
    trials = tuple(
        RealTrial(i, "t", f"s{i % 2}", "train", "a", 1, 1, False, Patient(), (), (0.0,), (1.0,), (True,))
        for i in range(3)
    )
    about = {"profile": "full", "sources": [{"source": "A trial", "licence": "ODC-By 1.0"}], "notices": ["Confounded."]}
    written = Written(tmp_path, 3, trials, {}, about)
    assert module.sources(written)[0]["people"] == {"train": 2, "validation": 0, "test": 0}
    limits = module.limits(written)
    assert "2 people of A trial" in limits[0]
    assert limits[-1] == "Confounded."
