"""The benchmark: statistics with known answers, rows that survive, hashes that tell apart, agents that do not peek."""

import json
import math
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from scipy import stats
from worlds import AnalyticRisk, AnalyticWorld

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.executor import InProcess, executor
from ecg_gym.statistics import bootstrap, cvar, iqm, p_better, resamples
from training.evaluation.benchmark import agents as table
from training.evaluation.benchmark import leaderboard
from training.evaluation.benchmark.agents import contestants
from training.evaluation.benchmark.base import Contestant, Setting
from training.evaluation.benchmark.protocol import JUDGED, MODEL, TRAINED, TRUTH, TUNED, Protocol, canonical
from training.evaluation.benchmark.results import document
from training.evaluation.benchmark.run import Job, cells, do, expected_rows, missing, replay, run, stored
from training.evaluation.benchmark.storage import Cell

RNG = np.random.default_rng(0)


@pytest.fixture
def light(monkeypatch):
    """A protocol without weights: interval limits judge, and no learned model is loaded for its hash."""
    monkeypatch.setattr("training.evaluation.benchmark.protocol.model_sha256", lambda model: "none")
    monkeypatch.setattr("training.evaluation.benchmark.results.model_sha256", lambda model: "none")
    return Protocol(("bradycardia",), episodes=2, inside=0, risk="limits", resamples=200)


@pytest.fixture
def brisk(light, monkeypatch):
    """The same, in a world of Gaussians that takes no time."""
    env = gym.make("ECGIntervention-v0", world=AnalyticWorld(), risk=AnalyticRisk(), scenario="bradycardia")
    monkeypatch.setattr("training.evaluation.benchmark.run.made", lambda world, arguments: env)
    return light


# --- statistics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 4, 7, 20])
def test_iqm_is_the_trimmed_mean(n):
    values = RNG.normal(size=(5, n))
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=-1))


def test_iqm_does_not_see_one_death_and_cvar_does():
    values = np.array([-1.0] * 19 + [-16.0])
    assert iqm(values) == -1.0
    assert cvar(values) == pytest.approx((-16 - 1) / 2)  # the worst two of twenty


def test_cvar_counts_a_fraction_of_an_episode():
    assert cvar(np.array([3.0, 1.0, 2.0])) == 1.0  # three tenths of one episode: the worst
    assert cvar(np.arange(15.0)) == pytest.approx((0 + 0.5 * 1) / 1.5)


def test_resamples_stay_within_their_stratum():
    rows = resamples([3, 5, 1], 100, seed=0)
    assert rows.shape == (100, 9)
    assert set(rows[:, :3].ravel()) == {0, 1, 2}
    assert set(rows[:, 3:8].ravel()) == {3, 4, 5, 6, 7}
    assert set(rows[:, 8]) == {8}


def test_bootstrap_of_the_mean_has_the_textbook_width():
    values = RNG.normal(size=400)
    value, (low, high) = bootstrap(lambda rows: values[rows].mean(axis=-1), [400], 4000, seed=1)
    assert value == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_differences_between_strata_are_no_uncertainty():
    values = np.array([0.0, 0.0, 0.0, 10.0, 10.0])
    assert bootstrap(lambda rows: values[rows].mean(axis=-1), [3, 2], 100, seed=0) == (4.0, [4.0, 4.0])


def test_one_episode_has_no_interval():
    assert bootstrap(lambda rows: rows.mean(axis=-1), [1], 100, seed=0) == (0.0, None)


def test_ties_count_half():
    assert p_better(np.array([1.0, 2.0, 3.0, 0.0]), np.array([1.0, 1.0, 4.0, 0.0])) == 0.5


def test_iqm_and_interval_agree_with_rliable():
    library = pytest.importorskip("rliable.library", reason="rliable is not installed")
    metrics = pytest.importorskip("rliable.metrics")
    scores = RNG.normal(size=(12, 5)) + np.arange(5)  # runs x tasks
    value, interval = library.get_interval_estimates(
        {"a": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=4000, random_state=np.random.RandomState(0)
    )
    flat = scores.T.ravel()
    ours, ci95 = bootstrap(lambda rows: iqm(flat[rows]), [12] * 5, 4000, seed=0)
    assert ours == pytest.approx(float(value["a"][0]))
    assert ci95 == pytest.approx(interval["a"].ravel().tolist(), abs=0.03)


# --- protocol ------------------------------------------------------------------------------------------------------


def test_every_part_of_the_protocol_changes_its_hash(light):
    others = [
        replace(light, **change)
        for change in (
            {"scenarios": ("svt",)},
            {"episodes": 3},
            {"seeds": 2},
            {"inside": 1},
            {"tier": "noisy"},
            {"horizon": 4},
            {"knobs": {}},
            {"bootstrap_seed": 1},
            {"resamples": 300},
            {"purpose": TUNED},
        )
    ]
    assert len({light.sha256, *(one.sha256 for one in others)}) == 1 + len(others)
    assert replace(light).sha256 == light.sha256


def test_more_episodes_go_on_with_the_rows_there_are_and_other_rules_do_not(light, tmp_path):
    place = Cell.of(tmp_path, light, "bradycardia", "watch", {}).path
    assert Cell.of(tmp_path, replace(light, episodes=9, seeds=3), "bradycardia", "watch", {}).path == place
    assert Cell.of(tmp_path, replace(light, tier="noisy"), "bradycardia", "watch", {}).path.parent != place.parent
    assert Cell.of(tmp_path, light, "bradycardia", "watch", {"k": 1}).path != place


def test_what_never_met_the_learned_model_outlives_its_weights(brisk, tmp_path, monkeypatch):
    who = contestants(["watch", "ppo"])
    p = replace(brisk, inside=1)
    list(run(p, who[:1], tmp_path, InProcess()))
    monkeypatch.setattr("training.evaluation.benchmark.protocol.model_sha256", lambda model: "other weights")
    assert set(stored(p, who, tmp_path)["bradycardia", "watch"]) == {(TRUTH, 0, 0), (TRUTH, 0, 1)}
    assert {(job.agent, job.world) for job in missing(p, who, tmp_path)} == {
        ("watch", MODEL), ("ppo", TRUTH), ("ppo", MODEL)
    }  # fmt: skip


def test_nobody_is_judged_on_patients_of_training_or_tuning():
    p = Protocol(("svt",), episodes=20, seeds=3)
    judged, tuned, trained = (
        {p.seed(s, e, purpose) for s in range(3) for e in range(1000)} for purpose in (JUDGED, TUNED, TRAINED)
    )
    assert len(judged) == 3000
    assert not judged & tuned
    assert not judged & trained
    assert not tuned & trained
    assert max(trained) < 2**32  # Stable-Baselines3 takes no larger seed


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scenarios": ("gout",)}, "or one of"),
        ({"scenarios": ()}, "expected some"),
        ({"scenarios": ("svt", "svt")}, "each once"),
        ({"scenarios": ("svt",), "episodes": 0}, "expected 1 to"),
        ({"scenarios": ("svt",), "episodes": 2, "inside": 3}, "expected 0 to 2"),
    ],
)
def test_wrong_protocols_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Protocol(**wrong)


@pytest.mark.parametrize(("name", "words"), [("magic", "expected one of"), ("exhaustive:kk=3", "no setting 'kk'")])
def test_unknown_agents_and_settings_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        contestants([name])


def test_an_agent_with_other_settings_is_another_agent():
    plain, turned = contestants(["exhaustive:k=3;belief=last", "exhaustive"])
    assert (plain.name, turned.name) == ("exhaustive:k=3;belief=last", "exhaustive")
    assert plain.settings == {**turned.settings, "k": 3, "belief": "last"}


# --- rows ----------------------------------------------------------------------------------------------------------


def a_row(world=TRUTH, seed=0, episode=0, value=-1.0, **more):
    numbers = {"return": value, "steps": 8, "cost": 0.1, "died": False, "model_calls": 4.0, "seconds": 0.1}
    numbers |= {"cpu_seconds": 0.1, "nonfinite": 0, "refused": 0, "revision": "r"}
    return {"world": world, "seed": seed, "episode": episode, **numbers, **more}


def test_a_line_cut_by_a_kill_is_dropped_and_mended(tmp_path):
    cell = Cell(tmp_path, "watch-0")
    cell.append(a_row(episode=0))
    whole = cell.path.read_bytes()
    cell.path.write_bytes(whole + whole[: len(whole) // 2])
    assert set(cell.rows()) == {(TRUTH, 0, 0)}
    cell.mend()
    assert cell.path.read_bytes() == whole
    cell.append(a_row(episode=1))
    assert set(cell.rows()) == {(TRUTH, 0, 0), (TRUTH, 0, 1)}


def test_a_row_that_is_none_is_an_error_that_says_where(tmp_path):
    cell = Cell(tmp_path, "watch-0")
    cell.append(a_row())
    with cell.path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(ValueError, match=r"watch-0.jsonl:2 is no row .*expected one JSON object per line"):
        cell.rows()


def test_a_run_that_stops_goes_on_and_comes_to_the_same_rows(brisk, tmp_path):
    who = contestants(["random", "watch"])
    playing = run(brisk, who, tmp_path / "a", InProcess())
    next(playing)
    playing.close()  # three episodes are missing
    assert len(missing(brisk, who, tmp_path / "a")) == 3
    assert len(list(run(brisk, who, tmp_path / "a", InProcess()))) == 3
    assert not list(run(brisk, who, tmp_path / "a", InProcess()))
    list(run(brisk, who, tmp_path / "b", InProcess()))
    clock = ("seconds", "cpu_seconds", "revision")
    plain = [
        {key: {name: v for name, v in row.items() if name not in clock} for key, row in rows.items()}
        for folder in ("a", "b")
        for rows in stored(brisk, who, tmp_path / folder).values()
    ]
    assert plain[:2] == plain[2:]
    patients = {row["env_seed"] for rows in plain for row in rows.values()}
    assert patients == {brisk.seed(0, 0), brisk.seed(0, 1)}  # the same for both agents


def test_rows_that_the_code_no_longer_gives_are_found(brisk, tmp_path):
    who = contestants(["random"])
    list(run(brisk, who, tmp_path, InProcess()))
    assert replay(brisk, who, tmp_path, 2) == 2
    path = cells(brisk, who, tmp_path)["bradycardia", "random", False].path
    row = json.loads(path.read_text().splitlines()[1])
    path.write_text(path.read_text().replace(str(row["rewards"][3]), "-0.5"))
    with pytest.raises(ValueError, match="the code has changed what happens"):
        replay(brisk, who, tmp_path, 2)


def test_no_episode_begins_once_time_is_up(light, tmp_path):
    assert not list(run(light, contestants(["watch"]), tmp_path, InProcess(), go_on=lambda: False))


def test_what_an_agent_learns_is_learned_once_and_kept(brisk, tmp_path, monkeypatch):
    lessons = []

    def study(setting, value, folder):
        lessons.append(setting.seed)
        return json.dumps({"treatment": "watch and wait"}).encode(), {"lesson": 1}

    pupil = Contestant("pupil", "anchor", "", table._constant, {"x": 1}, study)
    monkeypatch.setattr(table, "TABLE", (*table.TABLE, pupil))
    two = replace(brisk, seeds=2)
    rows = list(run(two, [pupil], tmp_path, InProcess()))
    assert len(rows) == 4
    assert lessons == [0, 1]
    cell = Cell.of(tmp_path, two, "bradycardia", "pupil", {"x": 1}, learned=False)
    assert json.loads(cell.artefact(1).with_suffix(".json").read_text())["lesson"] == 1
    cell.path.unlink()
    list(run(two, [pupil], tmp_path, InProcess()))
    assert lessons == [0, 1]


@pytest.mark.slow
def test_best_constant_is_the_best_of_the_menu(light):
    seeds = [light.seed(0, episode, TUNED) for episode in range(2)]
    menu, returns = table.constant_returns(light, "bradycardia", seeds)
    assert returns.shape == (len(menu), 2)
    watch = [do(Job(replace(light, purpose=TUNED), "bradycardia", "watch", 0, TRUTH, e))["return"] for e in (0, 1)]
    assert returns[menu.index("watch and wait")] == pytest.approx(watch, rel=1e-6)


# --- results -------------------------------------------------------------------------------------------------------


def rows_of(protocol, returns, **more):
    """Rows of each agent: returns[agent] is one number per episode; the same in every scenario."""
    return {
        (scenario, name): {
            key: a_row(*key, value=returns[name][key[2]], agent=name, **more)
            for key in expected_rows(protocol, contestants([name])[0])
        }
        for scenario in protocol.scenarios
        for name in returns
    }


def test_scores_are_normalised_by_the_means_of_random_and_oracle(light):
    p = replace(light, scenarios=("bradycardia", "svt"), episodes=4, inside=2)
    returns = {"random": [-5, -3, -4, -4], "oracle": [-2, -2, -2, -2], "guideline": [-3, -3, -3, -3],
               "watch": [-4, -3, -3, -2], "exhaustive": [-3, -1, -2, -2]}  # fmt: skip
    rows = rows_of(p, returns)
    for key in rows["svt", "exhaustive"]:
        if key[0] == MODEL:
            rows["svt", "exhaustive"][key] = a_row(*key, value=-1.0)
    result = document(p, contestants(list(returns)), rows)
    json.dumps(result, allow_nan=False)
    one = result["scenarios"]["svt"]
    assert one["well_defined"]
    assert one["oracle_minus_random"]["value"] == 2.0
    planned = one["agents"]["exhaustive"]
    assert planned["normalised_iqm"] == 1.0
    assert planned["gap_closed"] == 1.0
    assert one["agents"]["guideline"]["normalised_iqm"] == 0.5
    assert one["agents"]["guideline"]["ci95"] == [0.5, 0.5]
    assert planned["p_beats_heuristic"] == (1 + 1 + 1 + 0.5) / 4
    assert planned["ahead_of_watch"] == 1.0
    assert planned["exploitation_gap"] == 1.0  # -1, -1 inside; -3, -1 in truth
    assert planned["regret_per_step"] == 0.0
    assert planned["cvar10"] == pytest.approx(-3.0)
    assert planned["cost_rate"] == pytest.approx(0.1)
    mean = result["mean"]["guideline"]
    assert (mean["normalised_iqm"], mean["ci95"], mean["gap_closed"], mean["scenarios"]) == (0.5, [0.5, 0.5], 0.5, 2)
    low, high = mean["gap_closed_ci95"]
    assert low < 0.5 < high  # the random agent's mean is uncertain, and is drawn again with the others
    assert result["mean"]["oracle"]["gap_closed_ci95"] == [1.0, 1.0]
    wished = {"normalised_iqm", "ci95", "cost_rate", "cvar10", "p_beats_heuristic", "model_calls", "exploitation_gap"}
    assert wished <= set(planned)
    assert {"protocol_sha256", "model_sha256", "scenarios", "mean"} <= set(result)


def test_where_nothing_can_be_won_the_score_is_flagged_and_left_out_of_the_mean(light):
    p = replace(light, scenarios=("bradycardia", "svt"), episodes=4)
    rows = rows_of(p, {"random": [-5, -3, -4, -4], "oracle": [-2, -2, -2, -2], "watch": [-3, -3, -3, -3]})
    rows |= {("svt", name): result for (place, name), result in
             rows_of(p, {"random": [-1, -2, -1, -2], "oracle": [-2, -1, -2, -1], "watch": [-1, -1, -1, -1]}).items()
             if place == "svt"}  # fmt: skip
    result = document(p, contestants(["random", "oracle", "watch"]), rows)
    assert result["not_well_defined"] == ["svt"]
    assert result["scenarios"]["svt"]["agents"]["watch"]["return"] == -1.0
    assert result["mean"]["watch"]["normalised_iqm"] == 0.5
    assert result["mean"]["watch"]["scenarios"] == 1
    text = leaderboard.markdown(result, "ecg-gym benchmark", "x.png")
    assert "Left out of these means, and shown below: svt." in text
    assert "The normalised score is not well defined here" in text


def test_an_unfinished_run_says_so_and_compares_what_both_have(light):
    p = replace(light, episodes=4)
    rows = rows_of(p, {"random": [-5, -3, -4, -4], "oracle": [-2, -2, -2, -2], "watch": [-3, -3, -3, -9]})
    del rows["bradycardia", "watch"][TRUTH, 0, 3]
    result = document(p, contestants(["random", "oracle", "watch"]), rows)
    assert result["episodes_missing"] == 1
    assert result["scenarios"]["bradycardia"]["agents"]["watch"]["regret_per_step"] == pytest.approx(1 / 24)
    assert "Not finished: 1 of 12 episodes are missing" in leaderboard.markdown(result, "", "x.png")


def test_the_page_keeps_the_remarks_and_draws_the_figure(light, tmp_path):
    p = replace(light, episodes=4)
    rows = rows_of(p, {"random": [-5, -3, -4, -4], "oracle": [-2, -2, -2, -2], "exhaustive": [-3, -2, -2, -2]})
    result = document(p, contestants(["random", "oracle", "exhaustive"]), rows)
    page, picture = tmp_path / "docs" / "leaderboard.md", tmp_path / "docs" / "leaderboard" / "scores.png"
    leaderboard.write(result, page, picture, "ecg-gym benchmark --episodes 4")
    text = page.read_text()
    assert "(leaderboard/scores.png)" in text
    assert result["protocol_sha256"] in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    page.write_text(text.replace("<!-- remarks -->\n", "<!-- remarks -->\nBecause.\n"))
    leaderboard.write(result, page, picture, "ecg-gym benchmark --episodes 4")
    assert page.read_text() == text.replace("<!-- remarks -->\n", "<!-- remarks -->\nBecause.\n")


# --- agents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [one.name for one in table.TABLE if one.kind == "planner"])
def test_planners_in_the_learned_model_do_not_read_the_env_s_hidden_state(name, light, monkeypatch):
    monkeypatch.setattr(table, "learned_world", lambda protocol: AnalyticWorld())
    env = gym.make("ECGIntervention-v0", world=AnalyticWorld(), risk=AnalyticRisk(), scenario="af_rapid_response")
    obs, info = env.reset(seed=3)
    obs, *_, info = env.step(env.unwrapped.action(env.unwrapped.menu[1]))
    (who,) = contestants([name])
    small = {"budget": 60, "k": 2, "horizon": 2} if "budget" in who.settings else {"k": 2}

    def decision():
        agent = who.make(env, Setting(light, "af_rapid_response", 0), {**who.settings, **small})
        agent.reset(5)
        action, decided = agent.act(obs, info)
        assert decided.model_calls > 0
        return action

    honest = decision()
    episode = env.unwrapped.episode
    poisoned = {name: np.full_like(values, np.nan) for name, values in episode.state.inner.items()}
    assert poisoned
    env.unwrapped.episode = replace(episode, state=replace(episode.state, inner=poisoned))
    assert decision() == honest


@pytest.mark.slow
def test_workers_get_the_jobs_and_the_settings_of_their_agent(light, tmp_path):
    staff = executor(1)
    try:
        rows = [row for *_, row in run(light, contestants(["watch"]), tmp_path, staff)]
    finally:
        staff.close()
    assert len(rows) == 2
    assert len(cells(light, contestants(["watch"]), tmp_path)["bradycardia", "watch", False].rows()) == 2


def test_no_workers_is_a_negative_number_refused():
    with pytest.raises(ValueError, match="expected at least 1"):
        executor(-1)


def test_ray_that_is_absent_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'ecg-gym\[ray\]'"):
        executor(1, "local")


@pytest.mark.slow
def test_a_ray_cluster_plays_the_same_episodes(light, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed; the scale-out of the benchmark is not tested")
    staff = executor(1, "local")
    try:
        rows = [row for *_, row in run(light, contestants(["watch"]), tmp_path, staff)]
    finally:
        staff.close()
    mine = do(Job(light, "bradycardia", "watch", 0, TRUTH, 0))
    assert math.isclose(next(row for row in rows if row["episode"] == 0)["return"], mine["return"])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["maskable-ppo", "dqn"])
def test_a_training_that_was_killed_goes_on_from_its_checkpoint(algorithm, light, tmp_path, monkeypatch):
    from training.evaluation.benchmark import learners

    value = {"algorithm": algorithm, "world": TRUTH, "steps": 128, "envs": 4, "every": 32,
            "learning": table.LEARNING[algorithm]}  # fmt: skip
    setting, kept = Setting(light, "bradycardia", 0), []
    keep = learners._keep

    def dies(model, diary, folder):
        keep(model, diary, folder)
        kept.append(diary["steps"])
        if len(kept) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(learners, "_keep", dies)
    with pytest.raises(KeyboardInterrupt):
        learners.train(setting, value, tmp_path / "part")
    content, summary = learners.train(setting, value, tmp_path / "part")
    assert not (tmp_path / "part").exists()
    assert kept[0] < 128 <= summary["steps"]
    assert kept == sorted(kept)
    assert summary["episodes"] <= 128 / 8
    row = do(Job(light, "bradycardia", f"{algorithm}-in-truth", 0, TRUTH, 0, content))
    assert row["steps"] == 24 or row["died"]
    assert algorithm == "dqn" or not row["refused"]  # a masked policy asks for nothing that is refused


def test_canonical_json_is_one_text_per_value():
    assert canonical({"b": 1, "a": [1.0, "µ"]}) == '{"a":[1.0,"µ"],"b":1}'
    assert Path(table.__file__).is_file()
