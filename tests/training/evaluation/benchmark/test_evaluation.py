"""Evaluation: any policy plays the same patients, rows survive, scores have known answers, submissions are verified."""

from __future__ import annotations

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner
from worlds import AnalyticRisk, AnalyticWorld

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.executor import InProcess, executor
from ecg_gym.statistics import Anchor
from planners import GuidelinePlanner, WatchAndWait
from training.cli.app import app
from training.evaluation.benchmark import board
from training.evaluation.benchmark.evaluation import BLOCK, Entry, Evaluation, Job, Rows, evaluate, jobs, play, table
from training.evaluation.benchmark.hashes import canonical
from training.evaluation.benchmark.policies import MODEL, TABLE, load_policy
from training.evaluation.benchmark.scores import Anchors, load_anchors, scored, summary
from training.evaluation.benchmark.submission import read_submission, verify, write_submission

SCENARIO = "svt"
KEYS = {"paired_difference", "ci95", "normalised", "harm", "deaths", "n"}


def always_watch(observation: np.ndarray) -> int:
    """A policy that is a function of the observation."""
    assert observation.ndim == 1
    return 0


class Predicting:
    """A policy with SB3's ``predict`` that takes masks and keeps a memory."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True, action_masks=None):
        assert action_masks.shape[0] == len(observation) == len(episode_start)
        assert episode_start.all() == (state is None)
        steps = np.zeros(len(observation), int) if state is None else state + 1
        return np.zeros(len(observation), int), steps


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return Evaluation("validation", (SCENARIO,), 4, risk="limits", fidelity="vitals")


@pytest.fixture(scope="module")
def folder(evaluation, tmp_path_factory):
    """Rows of the guideline and of watching."""
    path = tmp_path_factory.mktemp("rows")
    list(evaluate(evaluation, [Entry("guideline"), Entry("watch")], path, InProcess()))
    return path


# --- playing -------------------------------------------------------------------------------------------------------


def test_a_row_is_an_episode_of_the_single_env(evaluation, folder) -> None:
    (rows,) = table(evaluation, Entry("guideline"), folder)[SCENARIO]
    env = gym.make("ECGOracle/SVT-v0", risk="limits", fidelity="vitals")
    for row in rows[:2]:
        observation, info = env.reset(seed=row["seed"])
        planner, rewards, over, hours = GuidelinePlanner(env), [], False, 0.0
        while not over:
            observation, reward, terminated, truncated, info = env.step(planner.act(observation, info)[0])
            rewards.append(float(reward))
            over, dt = terminated or truncated, env.unwrapped.state.dt_hours
            hours -= float(reward) * (float(env.unwrapped.world.dt_hours) if dt is None else float(dt[0]))
        assert row["rewards"] == pytest.approx(rewards, abs=1e-5)
        assert row["risk_hours"] == pytest.approx(hours, abs=1e-6)


@pytest.mark.parametrize("policy", [always_watch, Predicting(), Predicting, WatchAndWait, "planners:WatchAndWait"])
def test_policies_of_every_sort_play_the_same_patients(policy, evaluation, folder) -> None:
    rows = play(Job(evaluation, policy, "model", SCENARIO, 0, 0))
    known = table(evaluation, Entry("watch"), folder)[SCENARIO][0]
    names = ("patient", "seed", "strip", "kind", "rewards", "treatments")
    assert [{name: row[name] for name in names} for row in rows] == [
        {name: row[name] for name in names} for row in known
    ]


@pytest.mark.parametrize(
    "policy", ["kind-constant", "kitchen-sink", "constant-search:k=1", "search:budget=6", "truth-search", "random"]
)
def test_rows_of_the_table_play_within_the_mask(policy, evaluation) -> None:
    rows = play(Job(replace(evaluation, episodes=2), policy, "model", SCENARIO, 0, 0))
    assert all(row["refused"] == 0 for row in rows)
    assert (rows[0]["model_calls"] > 0) == ("search" in policy)


def test_what_is_there_is_not_played_again_and_a_cut_line_is(evaluation, folder) -> None:
    entry = Entry("watch")
    assert jobs(evaluation, entry, folder) == []
    rows = Rows(folder, evaluation, entry.loaded())
    whole = rows.path.read_bytes()
    rows.path.write_bytes(whole[:-20])
    assert len(jobs(evaluation, entry, folder)) == 1
    list(evaluate(evaluation, [entry], folder, InProcess()))
    assert rows.path.read_bytes().count(b"\n") == 4
    assert sorted(rows.path.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_stopped_early_nothing_begins(evaluation, tmp_path) -> None:
    assert list(evaluate(evaluation, [Entry("watch")], tmp_path, InProcess(), lambda: False)) == []


def test_blocks_are_counted_and_training_seeds_are_apart(evaluation, tmp_path) -> None:
    many = replace(evaluation, episodes=2 * BLOCK + 1)
    assert [job.first for job in jobs(many, Entry("watch"), tmp_path)] == [0, BLOCK, 2 * BLOCK]
    assert [job.training_seed for job in jobs(many, Entry("watch", seeds=2, episodes=3), tmp_path)] == [0, 1]


def test_every_part_of_the_protocol_changes_its_hash(evaluation) -> None:
    others = [
        replace(evaluation, **change)
        for change in (
            {"scenarios": ("bradycardia",)},
            {"episodes": 5},
            {"tier": "noisy"},
            {"fidelity": "strip"},
            {"split": "train"},
            {"start": 3},
        )
    ]
    assert len({evaluation.sha256, *(one.sha256 for one in others)}) == 1 + len(others)
    assert replace(evaluation, episodes=5).rules_sha256 == evaluation.rules_sha256


@pytest.mark.parametrize(
    ("words", "message"),
    [("magic", "expected one of"), ("search:depth=3", "no setting 'depth'"), ("nowhere.zip", "is not there"),
     ("json:nothing", "cannot be imported")],
)  # fmt: skip
def test_words_that_name_no_policy_are_refused(words, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_policy(words)


def test_settings_are_another_policy() -> None:
    assert load_policy("search:budget=50").sha256 != load_policy("search").sha256
    assert all(row.says for row in TABLE.values())


@pytest.mark.parametrize("name", ["PPO", "DQN", "MaskablePPO", "QRDQN", "RecurrentPPO"])
def test_a_zip_of_sb3_is_played_by_the_class_that_saved_it(name, evaluation, tmp_path) -> None:
    sb3, contrib = pytest.importorskip("stable_baselines3"), pytest.importorskip("sb3_contrib")
    kind = getattr(sb3, name, None) or getattr(contrib, name)
    env = gym.make("ECGOracle/SVT-v0", risk="limits", fidelity="vitals")
    small = {} if "PPO" in name else {"buffer_size": 10}
    model = kind("MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy", env, seed=3, device="cpu", **small)
    model.save(tmp_path / "0.zip")
    rows = play(Job(replace(evaluation, episodes=2), str(tmp_path / "{seed}.zip"), "model", SCENARIO, 0, 0))
    assert len(rows) == 2
    assert all(len(row["rewards"]) == len(row["treatments"]) > 0 for row in rows)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.imagines == MODEL])
def test_planners_in_the_learned_world_do_not_read_hidden_state(name) -> None:
    row = TABLE[name]
    env = gym.make("ECGIntervention-v0", world=AnalyticWorld(), risk=AnalyticRisk(), scenario="af_rapid_response")
    observation, info = env.reset(seed=3)
    observation, *_, info = env.step(env.unwrapped.action(env.unwrapped.menu[1]))
    small = {"budget": 60} if "budget" in row.settings else {"k": 2}

    def decision():
        planner = row.kind(env, world=AnalyticWorld(), **{**row.settings, **small})
        planner.reset(5)
        action, decided = planner.act(observation, info)
        assert decided.model_calls > 0
        return action

    honest = decision()
    episode = env.unwrapped.episode
    poisoned = {name: np.full_like(values, np.nan) for name, values in episode.state.inner.items()}
    assert poisoned
    env.unwrapped.episode = replace(episode, state=replace(episode.state, inner=poisoned))
    assert np.array_equal(decision(), honest)


@pytest.mark.slow
def test_a_ray_cluster_plays_the_same_episodes(evaluation, folder, tmp_path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed; evaluating over a cluster is not tested")
    staff = executor(1, "local")
    try:
        list(evaluate(evaluation, [Entry("watch")], tmp_path, staff))
    finally:
        staff.close()
    assert table(evaluation, Entry("watch"), tmp_path) == table(evaluation, Entry("watch"), folder)


def test_canonical_json_is_one_text_per_value() -> None:
    assert canonical({"b": 1, "a": [1.0, "µ"]}) == '{"a":[1.0,"µ"],"b":1}'


# --- scores ----------------------------------------------------------------------------------------------------------


def rows_of(values, died=False):
    return {"svt": [[{"patient": i, "risk_hours": float(v), "harm": 0.5, "died": died, "model_calls": 8,
                      "rewards": [0.0, 0.0]} for i, v in enumerate(seed)] for seed in values]}  # fmt: skip


def test_scores_have_known_answers(evaluation) -> None:
    rng = np.random.default_rng(0)
    guideline = 3 + rng.normal(0, 1, 40)
    ours = guideline - 1 + rng.normal(0, 0.3, (5, 40)) + np.array([-0.1, 0, 0.1, 0.05, -0.05])[:, None]
    ends = {"svt": Anchors(Anchor(-5.0, 0.01, 1000), Anchor(-1.0, 0.01, 1000), "search")}
    result = scored(evaluation, "mine", "", rows_of(ours), rows_of([guideline]), ends)
    row = result["scenarios"]["svt"]
    assert row["paired_difference"] == pytest.approx(1.0, abs=0.1)
    assert row["ci95"][0] < row["paired_difference"] < row["ci95"][1]
    assert row["sure"]
    assert row["normalised"] == pytest.approx((5 - ours.mean()) / 4)
    assert (row["n"], row["training_seeds"], row["harm"], row["deaths"]) == (40, 5, 500.0, 0.0)
    assert result["mean"]["normalised"] == pytest.approx(row["normalised"])
    printed = summary(result)
    assert set(printed) == {"policy", "split", "protocol_sha256", "model_sha256", "scenarios", "mean"}
    assert set(printed["scenarios"]["svt"]) == KEYS
    assert set(printed["mean"]) == {"paired_difference", "ci95", "normalised"}


def test_anchors_that_cannot_be_told_apart_give_no_score(evaluation) -> None:
    ends = {"svt": Anchors(Anchor(-2.0, 0.1, 50), Anchor(-1.5, 0.1, 50), "search")}
    table_of = rows_of([[1.0, 2.0, 3.0]])
    row = scored(evaluation, "mine", "", table_of, table_of, ends)["scenarios"]["svt"]
    assert row["normalised"] is None
    assert row["gap_standard_errors"] == pytest.approx(0.5 / np.hypot(0.1, 0.1))
    assert not row["sure"]


def test_only_patients_of_both_are_compared(evaluation) -> None:
    result = scored(evaluation, "mine", "", rows_of([[1.0, 1.0, 1.0]]), rows_of([[2.0, 2.5]]), {})
    assert result["scenarios"]["svt"]["n"] == 2
    assert result["scenarios"]["svt"]["paired_difference"] == pytest.approx(1.25)


# --- submissions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def submission(evaluation, folder, tmp_path):
    ours, book = (table(evaluation, Entry(name), folder) for name in ("watch", "guideline"))
    result = scored(evaluation, "watch", "", ours, book)
    path = tmp_path / "watch.jsonl"
    weights = [load_policy("watch").sha256]
    write_submission(path, evaluation, "watch", "model", weights, result, ours, book)
    return path


def test_a_submission_is_verified_by_playing_it_again(submission, tmp_path) -> None:
    assert verify(read_submission(submission)) == 8
    board.add(submission, tmp_path / "board")
    assert board.write_page(tmp_path / "board", tmp_path / "page.md") == 1
    text = (tmp_path / "page.md").read_text()
    assert "| watch |" in text
    assert "### svt" in text
    (tmp_path / "page.md").write_text(text.replace("<!-- remarks -->\n", "<!-- remarks -->\nBecause.\n"))
    board.write_page(tmp_path / "board", tmp_path / "page.md")
    assert "<!-- remarks -->\nBecause.\n<!-- end -->" in (tmp_path / "page.md").read_text()


def test_a_page_goes_on_without_the_submissions_of_its_older_entries(submission, tmp_path) -> None:
    page, result = tmp_path / "page.md", read_submission(submission).head["result"]
    older = [{**result, "policy": "older"}, {**result, "policy": "watch", "mean": {**result["mean"], "iqm": 9.0}}]
    (tmp_path / "page.json").write_text(json.dumps(older))
    board.add(submission, tmp_path / "board")
    assert board.write_page(tmp_path / "board", page) == 2
    assert "| older |" in page.read_text()
    assert json.loads((tmp_path / "page.json").read_text())[1] == json.loads(json.dumps(result))  # the newer is kept
    (tmp_path / "page.json").write_text(json.dumps([{**older[0], "protocol_sha256": "other"}]))
    with pytest.raises(ValueError, match="under 2 protocols"):
        board.write_page(tmp_path / "board", page)


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        (0, lambda head: head["result"]["scenarios"]["svt"].update(paired_difference=9.0), "not those of the rows"),
        (0, lambda head: head.update(weights_sha256=["0" * 64]), "expected the same weights"),
        (0, lambda head: head["protocol"].update(tables_sha256="other"), "expected the same patients"),
        (1, lambda row: row.update(treatments=["placebo 1 mg PO"] * len(row["rewards"])), "played again"),
    ],
)
def test_what_was_changed_by_hand_is_noticed(where, change, message, submission) -> None:
    lines = [json.loads(line) for line in submission.read_text().splitlines()]
    change(lines[where])
    submission.write_text("\n".join(map(json.dumps, lines)) + "\n")
    with pytest.raises(ValueError, match=message):
        verify(read_submission(submission))


def test_another_file_is_refused(tmp_path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="is no submission"):
        read_submission(tmp_path / "x.jsonl")


def test_the_command_prints_the_document_and_nothing_else(tmp_path) -> None:
    words = ["evaluate", "planners:WatchAndWait", "--scenarios", "svt", "--split", "validation", "--episodes", "2",
             "--fidelity", "vitals", "--workers", "0", "--json", "--out", str(tmp_path)]  # fmt: skip
    result = CliRunner().invoke(app, [*words, "--name", "a watcher"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["policy"] == "a watcher"
    assert (tmp_path / "a-watcher.jsonl").is_file()
    assert set(document["scenarios"]["svt"]) == KEYS
    assert document["scenarios"]["svt"]["n"] == 2


def test_anchors_judged_in_another_way_are_no_ends_of_a_score(evaluation, tmp_path) -> None:
    one = {"risk_hours": 2.0, "standard_error": 0.1, "n": 50}
    ends = {"random": {**one, "risk_hours": 5.0}, "constant-search": one, "truth-search": {**one, "risk_hours": 1.0}}
    for key, there in (("fidelity", False), ("tables_sha256", False), ("split", True), ("episodes", True)):
        protocol = {**evaluation.to_json_dict(), key: "another"}
        (tmp_path / f"{key}.yaml").write_text(yaml.safe_dump({"protocol": protocol, "scenarios": {"svt": ends}}))
        frozen = load_anchors(evaluation, tmp_path / f"{key}.yaml")
        assert bool(frozen) == there, key
    assert frozen["svt"] == Anchors(Anchor(-5.0, 0.1, 50), Anchor(-1.0, 0.1, 50), "truth-search")
    assert not load_anchors(evaluation, tmp_path / "absent.yaml")
