"""The study of scenarios: rows that become anchors, signs of two worlds, and cards that say what is known."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from ecg_gym.envs import load_scenarios
from training.cli.study import app
from training.evaluation.scenarios import scenarios
from training.evaluation.scenarios.scenarios import ANCHORS
from training.evaluation.scenarios.scenarios_page import card, page


def rows_of(evaluation, risk_hours: dict[str, float]):
    """Rows that nobody played: ``risk_hours`` is the mean of each anchor; one of watch's patients died."""

    def row(anchor, patient):
        died = anchor == "watch" and patient == 0
        return {"risk_hours": risk_hours[anchor] - 0.1 * patient, "died": died, "harm": 0.1}

    return {
        anchor: {name: [[row(anchor, i) for i in range(evaluation.episodes)]] for name in evaluation.scenarios}
        for anchor in ANCHORS
    }


@pytest.fixture(scope="module")
def result():
    evaluation = scenarios.evaluation_of(["svt", "healthy_volunteer"], 4)
    hours = {"random": 4.0, "watch": 6.0, "constant-search": 3.0, "guideline": 2.5, "truth-search": 2.0}
    changes = {"true_change": -80.0, "model_change": -60.0, "true_risk": -0.4, "model_risk": 0.1}
    signs = [{"scenario": "svt", "treatment": "adenosine", "moves": "hr_bpm", **changes}]
    return scenarios.study(evaluation, rows_of(evaluation, hours), signs)


def test_anchors_carry_returns_gaps_and_deaths(result) -> None:
    anchors = result["scenarios"]["svt"]["anchors"]
    assert set(anchors) == set(ANCHORS)
    assert anchors["truth-search"]["return"] == pytest.approx(-1.85)
    assert anchors["truth-search"]["return_ci95"][0] < -1.85 < anchors["truth-search"]["return_ci95"][1]
    assert result["scenarios"]["svt"]["gap"] == {"value": pytest.approx(2.0), "guideline": pytest.approx(0.75)}
    assert (anchors["watch"]["deaths"], anchors["truth-search"]["deaths"]) == (250.0, 0.0)
    assert anchors["watch"]["harm"] == pytest.approx(100)
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
    text = card(load_scenarios()["av_block"], {"anchors": {}, "gap": {"value": None, "guideline": None}})
    assert "Returns" not in text
    assert load_scenarios()["av_block"].first_line[:12].lower() in text.lower()
    assert "complete in the node" in text


def test_a_page_before_the_first_episode_says_so(result) -> None:
    unplayed = {name: {"anchors": {}, "gap": {"value": None, "guideline": None}} for name in result["scenarios"]}
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
