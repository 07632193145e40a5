"""Distilling a sampler, where the teacher's path is known by hand: a Gaussian world and its probability-flow ODE."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from ecg_gym.world_model.diffusion import linear_schedule, sample, time_grid
from ecg_gym.world_model.student import Student, checked_taus, load_student, save_student
from training import train_student as module
from training.loop import LoopConfig
from training.train_student import (
    PRESETS,
    StudentPreset,
    StudentTrainer,
    endpoint_error,
    heading,
    make_paths,
    read_paths,
)

torch.set_num_threads(1)
SCHEDULE = linear_schedule()
SD = 0.5
PRESET = replace(PRESETS["tiny"], paths=16, per_file=8, batch=8)


@dataclass(frozen=True)
class DenoiserInputs:
    """What is known in this world: the mean."""

    mean: torch.Tensor  # (B, 4, 128)

    def __len__(self):
        return len(self.mean)

    @property
    def latent_shape(self):
        return self.mean.shape[1:]

    def __getitem__(self, rows):
        return DenoiserInputs(self.mean[rows])


@dataclass(frozen=True)
class Config:
    prediction: str = "sample"


class World(nn.Module):
    """A stand-in for the forecaster; its denoiser is the exact teacher, the exact student, or wrong by a bias."""

    schedule = SCHEDULE

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def estimator(self, known):
        return lambda z, tau: self.denoiser(z, tau, known.mean)


class ExactTeacher(nn.Module):
    """E[z0 | z] of N(mean, SD^2), plus a bias that can be learnt."""

    config = Config()

    def __init__(self, bias=0.0):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, z, tau, mean):
        alpha_bar = SCHEDULE.at(tau, z)
        gain = SD**2 * alpha_bar.sqrt() / (alpha_bar * SD**2 + 1 - alpha_bar)
        return mean + gain * (z - alpha_bar.sqrt() * mean) + self.bias


class ExactStudent(ExactTeacher):
    """Where the exact path stands at the next level of the walk that ``tau`` belongs to, as a heading."""

    def __init__(self, taus, bias=0.0):
        super().__init__(bias)
        self.after = {here: there for levels in taus.values() for here, there in pairwise(levels)}

    def forward(self, z, tau, mean):
        then = torch.tensor([self.after[int(t)] for t in tau])
        return heading(z, moved(z, tau, then, mean), tau, then, SCHEDULE) + self.bias


def moved(z, tau, then, mean):
    """The exact path's latent at level ``then``: (x - mean) / sqrt(SD^2 + sigma^2) stays, x = z / sqrt(alpha_bar)."""

    def noise_variance(level):
        return (1 - SCHEDULE.at(level, z)) / SCHEDULE.at(level, z)

    ratio = ((SD**2 + noise_variance(then)) / (SD**2 + noise_variance(tau))).sqrt()
    x = mean + (z / SCHEDULE.at(tau, z).sqrt() - mean) * ratio
    return x * SCHEDULE.at(then, z).sqrt()


@pytest.fixture(autouse=True)
def gaussian_world(monkeypatch):
    monkeypatch.setattr(module, "DenoiserInputs", DenoiserInputs)


def exact_paths(n=16, seed=0):
    """A batch of exact paths at the preset's levels."""
    rng = torch.Generator().manual_seed(seed)
    mean, noise = torch.randn(n, 4, 128, generator=rng), torch.randn(n, 4, 128, generator=rng)
    levels = module.path_levels(SCHEDULE, PRESET)
    start = torch.full((n,), levels[0])
    points = [moved(noise, start, torch.full((n,), level), mean) for level in levels]
    return {"known.mean": mean, "path": torch.stack(points, dim=1)}


def taus():
    return module.stride_levels(SCHEDULE, PRESET)


@pytest.mark.parametrize(("now", "then"), [(1000, 400), (400, 30), (30, 0)])
def test_a_heading_takes_one_step_to_its_goal(now, then):
    rng = torch.Generator().manual_seed(0)
    here, there = torch.randn(5, 4, 128, generator=rng), torch.randn(5, 4, 128, generator=rng)
    target = heading(here, there, torch.full((5,), now), torch.full((5,), then), SCHEDULE)
    reached = sample(lambda z, tau: target, here, SCHEDULE, "student", taus=[now, then])
    torch.testing.assert_close(reached, there, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 4])
def test_the_exact_student_ends_where_the_exact_path_ends(steps):
    batch = exact_paths(64)
    world = World(ExactStudent(taus()))
    samples = sample(
        world.estimator(DenoiserInputs(batch["known.mean"])),
        batch["path"][:, 0],
        SCHEDULE,
        "student",
        taus=list(taus()[steps]),
    )
    torch.testing.assert_close(samples, batch["path"][:, -1], rtol=1e-2, atol=1e-2)  # the second walk begins at N - 1


def loss_of(denoiser, own):
    trainer = StudentTrainer(World(denoiser), replace(PRESET, own=own))
    result = [trainer.loss(exact_paths(), torch.Generator().manual_seed(seed)) for seed in range(6)]
    return np.mean([float(loss.detach()) for loss, _ in result])


def test_the_exact_student_has_nothing_left_to_learn_and_the_teacher_has():
    assert loss_of(ExactStudent(taus()), own=0.5) < 1e-4
    assert loss_of(ExactStudent(taus(), bias=0.1), own=0.0) == pytest.approx(0.01, rel=1e-3)
    assert loss_of(ExactTeacher(), own=0.0) > 1e-3


def test_rows_that_have_strayed_are_led_back_to_the_path():
    batch = exact_paths()
    trainer = StudentTrainer(World(ExactStudent(taus(), 0.2)), replace(PRESET, own=1.0))
    levels = taus()[4]
    reached = trainer._reached(DenoiserInputs(batch["known.mean"]), batch["path"][:, 0], levels)
    begins = batch["path"][:, list(PRESET.strides[4])]
    strayed = (reached - begins).square().mean(dim=(0, 2, 3))
    assert strayed[0] == 0
    assert (strayed[1:] > 1e-4).all()
    now, then = (torch.full((16,), level) for level in levels[1:3])
    target = heading(reached[:, 1], batch["path"][:, PRESET.strides[4][2]], now, then, SCHEDULE)
    decay = SCHEDULE.sigma(levels[2]) / SCHEDULE.sigma(levels[1])
    x = decay * reached[:, 1] / SCHEDULE.alpha_bar[levels[1]].sqrt() + (1 - decay) * target
    back = (x * SCHEDULE.alpha_bar[levels[2]].sqrt()).float()
    torch.testing.assert_close(back, begins[:, 2], rtol=1e-4, atol=1e-4)


def source(rng, n):
    return DenoiserInputs(torch.from_numpy(rng.standard_normal((n, 4, 128), dtype=np.float32)))


def test_paths_are_made_once_and_a_file_does_not_depend_on_the_others(tmp_path):
    teacher = World(ExactTeacher())
    files = list(make_paths(teacher, source, tmp_path / "whole", PRESET))
    assert len(files) == 2
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / files[0].name).write_bytes(files[0].read_bytes())
    again = list(make_paths(teacher, source, tmp_path / "half", PRESET))
    assert again[1].read_bytes() == files[1].read_bytes()
    stored = read_paths(files)
    assert len(stored) == 16
    assert stored.path.shape == (16, len(time_grid(SCHEDULE, PRESET.teacher_steps)), 4, 128)
    end = moved(
        torch.from_numpy(stored.path[:, 0]).float(), torch.full((16,), 1000), torch.zeros(16, dtype=torch.long),
        torch.from_numpy(stored.inputs["mean"]),
    )  # fmt: skip
    assert np.abs(stored.path[:, -1] - end.numpy()).mean() < 0.05  # 16 steps of DPM-Solver++ against the exact path


def test_training_resumes_to_the_same_student(tmp_path):
    teacher = World(ExactTeacher())
    paths = read_paths(list(make_paths(teacher, source, tmp_path / "paths", PRESET)))
    preset = replace(PRESET, loop=LoopConfig(steps=6, warmup=1, save_every=3, learning_rate=1e-2, ema_decay=0.9))
    whole, _ = module.train(teacher, paths, preset, tmp_path / "a", show=False)

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        draw = paths.draw
        calls = []
        patch.setattr(
            module.Paths, "draw", lambda self, rng, n: calls.append(1) or (killed() if len(calls) > 4 else draw(rng, n))
        )
        with pytest.raises(KeyboardInterrupt):
            module.train(teacher, paths, preset, tmp_path / "b", show=False)
    resumed, _ = module.train(teacher, paths, preset, tmp_path / "b", show=False)
    finished, _ = module.train(teacher, paths, preset, tmp_path / "b", show=False)  # nothing is left to do
    bias = whole.forecaster.denoiser.bias.item()
    assert bias != 0
    assert resumed.forecaster.denoiser.bias.item() == finished.forecaster.denoiser.bias.item() == bias
    assert teacher.denoiser.bias.item() == 0
    assert set(endpoint_error(whole.forecaster, whole.taus, teacher, paths)) == {
        "student_4", "teacher_4", "student_2", "teacher_2"
    }  # fmt: skip


def test_a_student_remembers_its_teacher(tmp_path):
    teacher = World(ExactTeacher())
    learnt = ExactTeacher(0.25)
    save_student(tmp_path / "student.safetensors", learnt, taus(), teacher, "a" * 64, data={}, metrics={})
    result = load_student(tmp_path, teacher, "a" * 64)
    assert result.forecaster.denoiser.bias.item() == 0.25
    assert teacher.denoiser.bias.item() == 0
    assert result.taus == taus()
    assert result.levels() == list(taus()[4])
    assert result.levels(2) == list(taus()[2])
    with pytest.raises(ValueError, match="expected one of") as caught:
        result.levels(3)
    assert "dpm++" in str(caught.value)
    assert load_student(tmp_path, teacher, "b" * 64).taus == taus()  # another card around the same denoiser
    with pytest.raises(ValueError, match="learnt from the world model aaaaaaaaaaaa"):
        load_student(tmp_path, World(ExactTeacher(0.5)), "b" * 64)
    with pytest.raises(ValueError, match="no student at"):
        load_student(tmp_path / "elsewhere", teacher, "a" * 64)


def test_a_level_belongs_to_one_stride():
    assert checked_taus({2: [1000, 300, 0]}, 1000) == {2: (1000, 300, 0)}
    for wrong in ({2: [1000, 300]}, {2: [300, 1000, 0]}, {2: [1001, 300, 0]}, {3: [1000, 300, 0]}):
        with pytest.raises(ValueError, match="that fall from"):
            checked_taus(wrong, 1000)
    with pytest.raises(ValueError, match="no level twice"):
        checked_taus({2: [1000, 300, 0], 1: [1000, 0]}, 1000)
    assert Student(nn.Identity(), {2: (9, 3, 0)}).levels() == [9, 3, 0]


def test_presets_walk_within_their_teachers_path():
    for preset in PRESETS.values():
        assert isinstance(preset, StudentPreset)
        assert set(preset.strides) == set(preset.share) == set(module.stride_levels(SCHEDULE, preset)) == {4, 2}
    with pytest.raises(ValueError, match="preset is 'huge'"):
        module.preset_named("huge")
