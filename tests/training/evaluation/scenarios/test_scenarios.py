"""The study of scenarios: rows that become anchors, signs of two worlds, and cards that say what is known."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from ecg_gym.envs import load_scenarios
from training.cli.study import app
from training.evaluation.benchmark.agents import ANCHORS
from training.evaluation.benchmark.protocol import TRUTH
from training.evaluation.scenarios import scenarios
from training.evaluation.scenarios.scenarios_page import card, page


def rows_of(protocol, better: dict[str, float]):
    """Episodes that nobody played: ``better`` is the mean return of each anchor; one of watch's patients died."""

    def row(anchor, episode):
        died = anchor == "watch" and episode == 0
        value = {"return": better[anchor] + 0.1 * episode, "steps": 4 if died else 8, "died": died, "cost": 0.1}
        return value | {"model_calls": 0, "seconds": 0, "cpu_seconds": 0, "nonfinite": 0, "refused": 0}

    keys = [(TRUTH, 0, episode) for episode in range(protocol.episodes)]
    return {
        (name, anchor): {key: row(anchor, key[2]) for key in keys} for name in protocol.scenarios for anchor in ANCHORS
    }


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    protocol = scenarios.protocol_of(["svt", "healthy_volunteer"], 4)
    better = {"random": -4.0, "watch": -6.0, "constant": -3.0, "guideline": -2.5, "oracle": -2.0}
    changes = {"true_change": -80.0, "model_change": -60.0, "true_risk": -0.4, "model_risk": 0.1}
    signs = [{"scenario": "svt", "treatment": "adenosine", "moves": "hr_bpm", **changes}]
    return scenarios.study(protocol, tmp_path_factory.mktemp("rows"), rows_of(protocol, better), signs)


def test_anchors_carry_returns_gaps_and_deaths_per_hour(result) -> None:
    anchors = result["scenarios"]["svt"]["anchors"]
    assert set(anchors) == set(ANCHORS)
    assert anchors["guideline"]["gap_closed"] == pytest.approx(0.75)
    assert anchors["watch"]["deaths_per_hour"] == pytest.approx(1 / (4 + 3 * 8))
    assert anchors["oracle"]["deaths_per_hour"] == 0
    assert len(scenarios.summary(result)) == 2 * len(ANCHORS)


def test_the_page_has_a_card_for_each_scenario_and_says_where_the_worlds_disagree(result) -> None:
    text = page(result, "ecg-gym study scenarios")
    for name in result["scenarios"]:
        scenario = load_scenarios()[name]
        assert f"ECG/{scenario.id}-v0" in text
        assert all(source in text for source in scenario.sources)
        assert all(kind.name in text for kind in scenario.kinds)
    assert "| [svt](#svt) | -5.85" in text
    assert "75 %" in text
    assert "**no**" in text  # the learned world's risk goes the other way
    assert "-Delayed" in text
    assert "None" not in text
    assert "nan" not in text.lower().replace("dominance", "")


def test_a_scenario_that_nobody_played_still_has_a_card() -> None:
    text = card(load_scenarios()["av_block"], {"anchors": {}, "constant": []})
    assert "Returns" not in text
    assert load_scenarios()["av_block"].first_line[:12].lower() in text.lower()
    assert "complete in the node" in text


def test_a_page_before_the_first_episode_says_so(result) -> None:
    unplayed = {name: {"anchors": {}, "constant": []} for name in result["scenarios"]}
    text = page({**result, "scenarios": unplayed, "signs": []}, "ecg-gym study scenarios --minutes 0")
    assert "study of the task" in text
    assert "over 0 virtual patients" not in text


@pytest.mark.slow
def test_the_worlds_are_asked_which_way_a_treatment_goes() -> None:
    from ecg_gym.virtual_patient import VirtualPatient

    class Twin(VirtualPatient):
        """A learned world that learned everything."""

        def start_from(self, state):
            return state

    (row,) = scenarios.signs(Twin(), ["bradycardia", "healthy_volunteer"], people=3)
    assert row["true_change"] == row["model_change"] > 5
    assert row["true_risk"] == row["model_risk"] < 0
    assert np.isfinite(row["true_risk"])


@pytest.mark.slow
def test_the_command_plays_and_writes_the_cards(tmp_path) -> None:
    words = ["scenarios", "--scenarios", "bradycardia", "--quick", "--people", "0", "--workers", "0", "--out", tmp_path]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert "ECG/Bradycardia-v0" in (tmp_path / "scenarios.md").read_text()
