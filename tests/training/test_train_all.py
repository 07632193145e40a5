"""Everything in so many minutes: shares of time, resuming, sizes; and the whole of it, tiny, slowly."""

import json
from dataclasses import replace

import pytest

from ecg_gym.checkpoint import ASSETS
from ecg_gym.datasets import transitions
from ecg_gym.executor import InProcess
from ecg_gym.world_model.model import WorldModel
from ecg_gym.world_model.vae import VAE
from training import train_all
from training.train_all import PRESETS, STAGES, Budget, check_sizes, preset_named


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_what_one_stage_leaves_over_the_next_ones_have(tmp_path):
    clock = Clock()
    budget = Budget(tmp_path, 10, dict.fromkeys(STAGES, 1.0), clock)
    assert budget.of(STAGES[0]) == pytest.approx(600 / 8)
    with budget.stage(STAGES[0]) as left:
        clock.now += 5
        assert left() == pytest.approx(70)
    assert budget.of(STAGES[1]) == pytest.approx(595 / 7)


def test_time_is_counted_over_sessions(tmp_path):
    clock = Clock()

    def killed():
        with Budget(tmp_path, 10, PRESETS["brief"].shares, clock).stage("trials") as left:
            clock.now += 30
            left()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    again = Budget(tmp_path, 10, PRESETS["brief"].shares, clock)
    assert again.usage == {"trials": 30}
    with again.stage("trials") as left:
        clock.now += 10
        left()
    assert again.usage["trials"] == 40


def test_a_late_stage_takes_from_those_behind_it_not_from_the_whole(tmp_path):
    budget = Budget(tmp_path, 10, dict.fromkeys(STAGES, 1.0), Clock(), {"findings": 400.0})
    assert sum(budget.of(s) for s in STAGES[1:2]) == pytest.approx(200 / 7)


def test_every_preset_is_whole_and_a_device_reaches_every_network():
    for name in PRESETS:
        chosen = preset_named(name, "cuda")
        loops = [chosen.findings.loop, chosen.codec.loop, chosen.world.loop, chosen.world.prognosis.loop]
        assert {loop.device for loop in [*loops, chosen.student.loop]} == {"cuda"}
        assert set(chosen.shares) == set(STAGES)
    assert preset_named("gpu").world.loop.device == "cuda"
    assert preset_named("default").world.loop.device == "cpu"
    with pytest.raises(ValueError, match="preset is 'huge'; expected one of"):
        preset_named("huge")


def test_weights_that_are_there_go_on_at_half_the_rate_and_in_their_own_sizes():
    fresh, gentle = PRESETS["brief"], train_all.continued(PRESETS["brief"], ASSETS)
    pairs = [(fresh.codec, gentle.codec), (fresh.world, gentle.world), (fresh.student, gentle.student),
             (fresh.world.prognosis, gentle.world.prognosis)]  # fmt: skip
    for before, after in pairs:
        assert after.loop.learning_rate == before.loop.learning_rate / 2
        assert replace(after.loop, learning_rate=before.loop.learning_rate) == before.loop
    assert fresh.codec.model.latent_channels == 16
    assert gentle.codec.model == VAE.load().config


def test_a_folder_goes_on_from_the_weights_it_began_with_only(tmp_path):
    with pytest.raises(ValueError, match=r"has no risk.*vae.*world_model.*student.*; expected a folder with all four"):
        train_all.begin(tmp_path / "run", tmp_path)
    train_all.begin(tmp_path, ASSETS)
    train_all.begin(tmp_path, ASSETS)
    with pytest.raises(ValueError, match="from other weights; expected the same --start"):
        train_all.begin(tmp_path, None)
    (tmp_path / "random").mkdir()
    train_all.begin(tmp_path / "random", None)
    with pytest.raises(ValueError, match="from random weights; expected the same --start"):
        train_all.begin(tmp_path / "random", ASSETS)


class OnceOnly(InProcess):
    """Workers that take nothing more once they are closed, as processes do."""

    closed = False

    def submit(self, work, job):
        assert not self.closed, "work for workers that have ended"
        super().submit(work, job)

    def close(self):
        self.closed = True


def test_trials_are_made_by_the_score_while_there_is_time(tmp_path, monkeypatch):
    made = []

    def make(folder, design, starts, shard):
        made.append((folder.name, shard))
        return folder

    monkeypatch.setattr(transitions, "_make_file", make)
    monkeypatch.setattr(train_all, "executor", lambda workers: OnceOnly())
    monkeypatch.setattr(
        train_all.train_denoiser, "write_splits", lambda folder, shards, design: made.append(len(shards))
    )
    time_left = iter([100.0] * 80 + [50.0] * 1000)
    train_all._trials(PRESETS["default"], tmp_path, lambda: next(time_left), 2)
    counts = json.loads((tmp_path / "shards.json").read_text())
    assert counts == {"trials": 80, "situations": 60, "readings": 300}, "all of the last: there is time left"
    assert made.count(("trials", 79)) == 1
    assert [n for n in made if isinstance(n, int)] == [80, 60, 300]


def test_a_part_without_time_has_the_fewest_shards(tmp_path):
    numbers = []
    assert list(train_all._due(160, 10.0, lambda: 0.0, numbers)) == numbers == list(range(train_all.FEWEST_SHARDS))
    assert list(train_all._due(5, 10.0, lambda: 0.0, [])) == list(range(5))


def test_the_denoiser_learns_from_the_shards_that_half_of_its_time_could_prepare(tmp_path, monkeypatch):
    (tmp_path / "shards.json").write_text('{"trials": 160, "situations": 60, "readings": 300}')
    assert train_all._world(PRESETS["default"], tmp_path).denoiser_shards == 120
    monkeypatch.setattr(train_all.train_denoiser, "prepare", lambda *_: iter(_[4]))
    time_left = iter([100.0] * 60 + [49.0] * 1000)
    train_all._prepare(PRESETS["default"], tmp_path, tmp_path, lambda: next(time_left), 0)
    world = train_all._world(PRESETS["default"], tmp_path)
    assert (world.shards, world.denoiser_shards, world.situations, world.readings) == (160, 60, 60, 300)


def test_with_a_start_the_judge_stays(tmp_path):
    train_all._findings(PRESETS["tiny"], tmp_path, None, ASSETS, 1.0, False)
    assert (tmp_path / "risk.safetensors").read_bytes() == (ASSETS / "risk.safetensors").read_bytes()


def test_files_that_are_too_large_are_refused(tmp_path):
    small, large = tmp_path / "a", tmp_path / "b"
    small.write_bytes(b"x" * 1000)
    large.write_bytes(b"x" * (15 * 2**20))
    check_sizes([small])
    with pytest.raises(ValueError, match=r"in all; expected at most 14 MiB each"):
        check_sizes([small, large])


@pytest.mark.slow
def test_all_of_it_tiny_and_again(tmp_path):
    preset = replace(PRESETS["tiny"], calibrated_on=12, judged_on=10)
    paths = train_all.run(preset, tmp_path, minutes=2.0, workers=0, show=False)
    world = WorldModel.load(tmp_path)
    assert world.emits
    assert world.forecaster.prognosis.findings is not None
    assert (tmp_path / "world_model.calibration.json").is_file()
    assert (tmp_path / "world_model.md").is_file()
    before = {name: path.stat().st_mtime_ns for name, path in paths.items()}
    train_all.run(preset, tmp_path, minutes=2.0, workers=0, show=False)
    assert before == {name: path.stat().st_mtime_ns for name, path in paths.items()}, "nothing is made twice"
