"""The loop: killed and resumed, it repeats the same losses; it refuses to continue another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ecg_gym.world_model.vae import VAE
from training.loop import Batch, LoopConfig, learning_rate, report, resume, start, train
from training.vae import PRESETS, VAETrainer

CONFIG = LoopConfig(steps=12, warmup=3, save_every=4, learning_rate=1e-2, ema_decay=0.9)


class Line(nn.Module):
    """Fits a line to noisy sums: small, but with noise from the loop's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        noise = 0.1 * torch.randn(len(batch["x"]), 1, generator=rng)
        error = (self.linear(batch["x"]) - batch["x"].sum(1, keepdim=True) + noise).square().mean()
        return error, {"square": error}


def line() -> Line:
    torch.manual_seed(0)
    return Line()


def draw(rng: np.random.Generator) -> Batch:
    return {"x": torch.from_numpy(rng.standard_normal((8, 4)).astype(np.float32))}


def draw_strips(rng: np.random.Generator) -> Batch:
    signal = torch.from_numpy(rng.standard_normal((2, 8, 1024)).astype(np.float32))
    return {"input": signal, "target": signal, "mask": torch.ones(2, 8), "peaks": torch.full((2, 4), 300)}


def vae() -> VAETrainer:
    torch.manual_seed(0)
    return VAETrainer(VAE(PRESETS["tiny"].model), PRESETS["tiny"].objective)


@pytest.mark.parametrize(("make", "batches"), [(line, draw), (vae, draw_strips)])
def test_a_killed_run_repeats_the_same_losses(tmp_path: Path, make, batches) -> None:
    unbroken = start(make(), CONFIG)
    losses = [logs["loss"] for _, logs in train(unbroken, batches)]

    killed = train(start(make(), CONFIG), batches, tmp_path)
    for _ in range(6):  # the state on disk is that of step 4; steps 5 and 6 die with the process
        next(killed)
    del killed

    again = resume(make(), CONFIG, tmp_path)
    assert again.step == 4
    assert [logs["loss"] for _, logs in train(again, batches, tmp_path)] == losses[4:]
    for ours, theirs in zip(again.ema.state_dict().values(), unbroken.ema.state_dict().values()):
        assert torch.equal(ours, theirs)


def test_nothing_depends_on_the_global_seed() -> None:
    def losses(seed: int) -> list[float]:
        state = start(line(), CONFIG)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (to show that it does not matter)
        return [logs["loss"] for _, logs in train(state, draw)]

    assert losses(1) == losses(2)


def test_it_learns_and_the_average_follows() -> None:
    state = start(line(), replace(CONFIG, steps=400, learning_rate=0.05))
    losses = [logs["loss"] for _, logs in train(state, draw)]
    assert np.mean(losses[-20:]) < 0.05 < 0.5 < losses[0]
    torch.testing.assert_close(state.ema.linear.weight, torch.ones(1, 4), atol=0.1, rtol=0)


def test_the_schedule_rises_to_its_peak_and_falls_to_the_stated_end() -> None:
    config = LoopConfig(steps=100, warmup=10, learning_rate=1.0, final_fraction=0.1)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    for _ in train(start(line(), CONFIG), draw, tmp_path):
        pass
    with pytest.raises(
        ValueError, match=r"was trained with \[\('seed', 0\)\]; expected \[\('seed', 1\)\]; use the same"
    ):
        resume(line(), replace(CONFIG, seed=1), tmp_path)


def test_a_finished_run_stays_finished(tmp_path: Path) -> None:
    for _ in train(start(line(), CONFIG), draw, tmp_path):
        pass
    assert list(train(resume(line(), CONFIG, tmp_path), draw, tmp_path)) == []


def test_a_loss_that_is_no_number_stops_the_run_with_the_last_good_state(tmp_path: Path) -> None:
    def broken(rng: np.random.Generator) -> Batch:
        batch = draw(rng)
        return {"x": batch["x"] * float("nan")} if counted.pop() == 6 else batch

    counted = list(reversed(range(12)))
    with pytest.raises(FloatingPointError, match=r"the loss of step 6 is nan; expected a finite number"):
        list(train(start(line(), CONFIG), broken, tmp_path))
    state = resume(line(), CONFIG, tmp_path)
    assert state.step == 4
    assert all(torch.isfinite(p).all() for p in state.component.parameters())


def test_no_pickle_and_nothing_aside_is_left_in_the_folder(tmp_path: Path) -> None:
    for _ in train(start(line(), CONFIG), draw, tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_the_report_hands_on_every_step() -> None:
    steps = [step for step, _ in report(train(start(line(), CONFIG), draw), CONFIG, "line")]
    assert steps == list(range(1, 13))
