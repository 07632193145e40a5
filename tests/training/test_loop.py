"""The loop: killed and resumed, it repeats the same losses; it refuses to continue another run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ecg_gym.world_model.vae import VAE
from training import distributed, loop
from training.loop import Batch, LoopConfig, learning_rate, losses, precision, report, resume, start, train
from training.train_codec import PRESETS, VAETrainer

torch.set_num_threads(1)

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


class Forgetful(Line):
    """The same line with dropout, which draws from the global generator."""

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return super().loss({"x": nn.functional.dropout(batch["x"], 0.5)}, rng)


def forgetful() -> Forgetful:
    torch.manual_seed(0)
    return Forgetful()


@pytest.mark.parametrize(("make", "batches"), [(line, draw), (forgetful, draw), (vae, draw_strips)])
def test_a_killed_run_repeats_the_same_losses(tmp_path: Path, make, batches) -> None:
    unbroken = start(make(), CONFIG)
    value = [logs["loss"] for _, logs in train(unbroken, batches)]

    killed = train(start(make(), CONFIG), batches, tmp_path)
    for _ in range(6):  # the state on disk is that of step 4; steps 5 and 6 die with the process
        next(killed)
    del killed

    again = resume(make(), CONFIG, tmp_path)
    assert again.step == 4
    assert [logs["loss"] for _, logs in train(again, batches, tmp_path)] == value[4:]
    for ours, theirs in zip(again.ema.state_dict().values(), unbroken.ema.state_dict().values()):
        assert torch.equal(ours, theirs)
    assert [(row["step"], row["loss"]) for row in losses(tmp_path)] == list(enumerate(value, 1))


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_loop as t

state = t.resume(t.vae(), t.CONFIG, {folder!r})
for step, logs in t.train(state, t.draw_strips, {folder!r}):
    if step == {dies_at}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_process_killed_with_signal_9_goes_on_to_the_same_losses(tmp_path: Path) -> None:
    def process(folder: str, dies_at: int) -> int:
        words = {"tests": str(Path(__file__).parent), "folder": str(tmp_path / folder), "dies_at": dies_at}
        run = subprocess.run(
            [sys.executable, "-c", KILLED.format(**words)], cwd=Path(__file__).parents[2], env=os.environ | ALONE
        )
        return run.returncode

    list(train(start(vae(), CONFIG), draw_strips, tmp_path / "whole"))
    assert process("killed", 7) == -signal.SIGKILL  # the saved state is that of step 4
    assert resume(vae(), CONFIG, tmp_path / "killed").step == 4
    assert process("killed", 10) == -signal.SIGKILL  # killed once more, after the state of step 8
    list(train(resume(vae(), CONFIG, tmp_path / "killed"), draw_strips, tmp_path / "killed"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == CONFIG.steps
    ours, theirs = (load_file(tmp_path / folder / loop.STATE) for folder in ("killed", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_a_kill_leaves_in_the_losses_is_dropped(tmp_path: Path) -> None:
    for _ in train(start(line(), CONFIG), draw, tmp_path):
        pass
    path = tmp_path / loop.LOSSES
    whole = path.read_text()
    path.write_text(whole + '{"step": 13, "loss": 1.0}\n{"step": 14, "lo')
    assert list(train(resume(line(), CONFIG, tmp_path), draw, tmp_path)) == []
    assert path.read_text() == whole


def test_batches_drawn_ahead_by_other_processes_are_the_same() -> None:
    def run(workers: int) -> list[float]:
        return [logs["loss"] for _, logs in train(start(line(), replace(CONFIG, workers=workers)), draw)]

    assert run(2) == run(0)


def test_the_seeds_of_a_step_depend_on_the_process_and_the_first_ones_are_those_of_a_process_alone() -> None:
    first = [loop._random(3, 5, 0, what).random() for what in (0, 1)]
    assert first == [np.random.default_rng([3, 5]).random(), np.random.default_rng([3, 5, 1]).random()]
    everything = {loop._random(3, step, rank, what).random() for step in (5, 6) for rank in (0, 1) for what in (0, 1)}
    assert len(everything) == 8


def test_nothing_depends_on_the_global_seed() -> None:
    def value(seed: int) -> list[float]:
        state = start(forgetful(), CONFIG)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (to show that it does not matter)
        return [logs["loss"] for _, logs in train(state, draw)]

    assert value(1) == value(2)


def test_it_learns_and_the_average_follows() -> None:
    state = start(line(), replace(CONFIG, steps=400, learning_rate=0.05))
    value = [logs["loss"] for _, logs in train(state, draw)]
    assert np.mean(value[-20:]) < 0.05 < 0.5 < value[0]
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


def test_the_average_of_the_weights_follows_its_decay_exactly() -> None:
    config = replace(CONFIG, steps=4)
    state, mean = start(line(), config), line().linear.weight.detach().double()
    for step, _ in train(state, draw):
        decay = min(config.ema_decay, step / (9 + step))
        mean = decay * mean + (1 - decay) * state.component.linear.weight.detach().double()
        torch.testing.assert_close(state.ema.linear.weight.double(), mean, rtol=0, atol=1e-7)


def test_the_gradient_is_clipped_to_its_largest_norm() -> None:
    state = start(line(), replace(CONFIG, steps=1, clip=0.01))
    [(_, logs)] = train(state, draw)
    assert logs["gradient_norm"] > 0.01  # as it was found
    left = torch.stack([p.grad.square().sum() for p in state.component.parameters()]).sum().sqrt()
    assert float(left) == pytest.approx(0.01, rel=1e-4)


def test_bf16_is_used_where_it_is_fast_and_left_out_with_a_remark_elsewhere(monkeypatch) -> None:
    class Seen(Line):
        def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            kinds.append(self.linear(batch["x"]).dtype)
            return super().loss(batch, rng)

    kinds: list[torch.dtype] = []
    one = replace(CONFIG, steps=1, bf16=True)
    for avx, amx, kind in ((False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        list(train(start(Seen(), one), draw))
        assert kinds.pop() == kind
        assert precision(one)[0] == (kind == torch.bfloat16)
        assert ("training in float32" in precision(one)[1]) == (kind == torch.float32)
    assert precision(replace(one, bf16=False)) == (False, "")
    assert precision(replace(one, device="mps"))[0] is False


def test_a_state_of_before_a_field_was_added_goes_on(tmp_path: Path) -> None:
    half = train(start(line(), CONFIG), draw, tmp_path)
    for _ in range(4):
        next(half)
    del half
    path = tmp_path / loop.STATE
    older = {key: value for key, value in asdict(CONFIG).items() if key not in ("workers", "devices")}
    save_file(load_file(path), path, {"training": json.dumps({"step": 4, "config": older})})
    assert resume(line(), CONFIG, tmp_path).step == 4
    with pytest.raises(ValueError, match=r"\[\('devices', 1\)\]; expected \[\('devices', 2\)\]; use the same"):
        resume(line(), replace(CONFIG, devices=2), tmp_path)


def test_a_run_killed_while_its_weights_are_written_comes_back_to_that(tmp_path: Path) -> None:
    def work(dies: bool) -> list[int]:
        done = []
        for step, _ in train(resume(line(), CONFIG, tmp_path), draw, tmp_path):
            if step == CONFIG.steps and dies:
                raise KeyboardInterrupt
            done.append(step)
        return done

    with pytest.raises(KeyboardInterrupt):
        work(dies=True)
    assert work(dies=False) == [9, 10, 11, 12]
    assert [row["step"] for row in losses(tmp_path)] == list(range(1, 13))
    assert work(dies=False) == []


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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["losses.jsonl", "state.safetensors"]


def test_the_report_hands_on_every_step() -> None:
    steps = [step for step, _ in report(train(start(line(), CONFIG), draw), CONFIG, "line")]
    assert steps == list(range(1, 13))


def test_a_gradient_that_is_no_number_stops_the_run_before_it_reaches_the_weights() -> None:
    class Steep(Line):
        def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return (self.linear.weight - self.linear.weight.detach()).abs().sqrt().sum(), {}  # 0, and its slope is not

    state = start(Steep(), CONFIG)
    before = state.component.linear.weight.detach().clone()
    with pytest.raises(FloatingPointError, match=r"the gradient norm of step 0 is (nan|inf); expected a finite number"):
        list(train(state, draw))
    assert torch.equal(state.component.linear.weight, before)


def test_a_log_file_gets_lines_instead_of_a_bar(monkeypatch, capsys) -> None:
    monkeypatch.setattr(loop, "EVERY_S", 0.0)
    value = [logs["loss"] for _, logs in report(train(start(line(), CONFIG), draw), CONFIG, "line")]
    lines = [row for row in capsys.readouterr().err.splitlines() if row.startswith("line  step")]
    assert lines[0] == f"line  step 1 of 12  loss {value[0]:.4f}  remaining unknown"
    assert lines[-1].startswith(f"line  step 12 of 12  loss {value[-1]:.4f}  remaining 0 min")


def test_the_time_that_remains_is_that_of_steps_done_now_not_of_those_done_before() -> None:
    now = 0.0
    progress = loop._progress(lambda: now)
    task = progress.add_task("line", total=2000)
    for step in range(1001, 1101):  # resumed at step 1000, two seconds a step
        now += 2.0
        progress.update(task, completed=step)
    assert progress.tasks[0].time_remaining == pytest.approx(900 * 2, rel=0.02)
    for step in range(1101, 1201):  # a neighbour leaves: half a second a step; a minute later nothing else counts
        now += 0.5
        progress.update(task, completed=step)
    for step in range(1201, 1301):
        now += 0.5
        progress.update(task, completed=step)
    assert progress.tasks[0].time_remaining == pytest.approx(700 * 0.5, rel=0.02)


ALONE = {"OMP_NUM_THREADS": "1"}


class Means(nn.Module):
    """A small network whose loss is a mean over rows, its noise in the batch: two halves make the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        error = self.layers(batch["x"]) - batch["x"].sum(1, keepdim=True)
        return error.square().mean(), {"absolute": error.abs().mean()}


def means() -> Means:
    torch.manual_seed(0)
    return Means()


def draw_both(rng: np.random.Generator) -> Batch:
    """What two processes draw at this step, in one batch."""
    draw_both.step += 1
    parts = [draw(loop._random(CONFIG.seed, draw_both.step - 1, rank, 0)) for rank in (0, 1)]
    return {"x": torch.cat([part["x"] for part in parts])}


def test_one_process_behind_fabric_trains_exactly_as_without() -> None:
    fabric = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    for make, batches in ((line, draw), (vae, draw_strips)):
        plain, behind = start(make(), CONFIG), start(make(), CONFIG, fabric)
        assert list(train(plain, batches)) == list(train(behind, batches))
        for ours, theirs in zip(plain.component.state_dict().values(), behind.component.state_dict().values()):
            assert torch.equal(ours, theirs)


TWO = """
import sys
sys.path.insert(0, {tests!r})
import test_loop as t

config = t.replace(t.CONFIG, devices=2)
state = t.resume(t.means(), config, {folder!r})
try:
    for step, logs in t.report(t.train(state, t.draw, {folder!r}), config, "two", {folder!r}):
        print("rank", state.rank, "step", step, flush=True)
    print("after training", state.rank, flush=True)
except t.distributed.WorkerDone:
    pass
"""


@pytest.mark.slow
def test_two_processes_train_the_model_of_one_with_twice_the_batch_and_only_the_first_writes(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    script, folder = tmp_path / "two.py", tmp_path / "run"
    script.write_text(TWO.format(tests=str(Path(__file__).parent), folder=str(folder)))
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=Path(__file__).parents[2], env=os.environ | ALONE, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = [row for row in run.stdout.splitlines() if row.startswith(("rank", "after"))]
    assert lines == [f"rank 0 step {step}" for step in range(1, 13)] + ["after training 0"]

    draw_both.step = 0
    alone = start(means(), CONFIG)
    expected = [logs for _, logs in train(alone, draw_both)]
    together = losses(folder)
    assert [row["step"] for row in together] == list(range(1, 13))
    for ours, theirs in zip(together, expected):
        for name in ("loss", "gradient_norm", "learning_rate"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
    result = load_file(folder / loop.STATE)
    for name, value in alone.ema.state_dict().items():
        torch.testing.assert_close(result[f"ema.{name}"], value, rtol=1e-5, atol=1e-6)


def test_several_processes_need_a_place_for_each(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    distributed.check("cuda", 2)
    distributed.check("cuda:1")
    with pytest.raises(ValueError, match=r"--device is 'cuda:1' with --devices 2; expected 'cuda' or 'cpu'"):
        start(line(), replace(CONFIG, device="cuda:1", devices=2))
    with pytest.raises(ValueError, match=r"--devices is 3; expected at most the 2 GPUs .*; ask for fewer"):
        distributed.launch("cuda", 3)
    with pytest.raises(ValueError, match=r"--device is 'cuda:2', and this machine has 2 GPUs .*; expected one of them"):
        distributed.check("cuda:2")
    with pytest.raises(ValueError, match=r"--device is 'gpu'; expected cpu, cuda, .*; correct the spelling"):
        distributed.check("gpu")
    with pytest.raises(ValueError, match=r"--devices is 0; expected at least 1"):
        distributed.check("cpu", 0)
    monkeypatch.setattr(distributed, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"lightning-fabric is not installed; .*pip install 'ecg-gym\[train\]'"):
        distributed.check("cpu", 2)


def test_only_the_first_process_is_first(monkeypatch) -> None:
    for variable in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    assert distributed.is_first()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not distributed.is_first()
    monkeypatch.setenv("RANK", "0")
    assert distributed.is_first()


def test_a_run_with_seconds_skips_what_it_has_no_time_for_and_ends(tmp_path):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    config = LoopConfig(steps=100, warmup=2, seconds=10.0, save_every=10)
    state, clock = start(line(), config), Clock()
    state.clock = clock
    seen = []
    for step, _ in train(state, draw, tmp_path):
        seen.append(step)
        clock.now += 0.35  # a step of this machine
    assert seen[-1] == 100
    assert len(seen) <= 31
    assert seen[:4] == [1, 3, 7, 10]
    again = resume(line(), replace(config, seconds=20.0), tmp_path)  # another share of time is no other run
    assert again.elapsed == pytest.approx(state.elapsed)
    assert again.step == 100
