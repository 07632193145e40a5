"""What a notebook shows: a strip as SVG, a plan as a table, an episode as its newest strip."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import gymnasium as gym
import numpy as np
from analytic_ecg import analytic
from planning import planned
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ


def words(svg: str) -> str:
    return " ".join(element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text"))


def test_a_strip_shows_its_twelve_leads() -> None:
    ecg = analytic()
    svg = ecg._repr_html_()
    assert sum(e.tag.endswith("polyline") for e in ET.fromstring(svg).iter()) == 12
    assert set(LEADS) <= set(words(svg).split())
    assert "10 s at 500 Hz" in words(svg)
    broken = ECG(np.full((2, 12, 1024), np.nan, np.float32), MODEL_RATE_HZ, missing=("V1",))._repr_html_()
    assert "first of 2" in words(broken)
    assert "missing V1" in words(broken)


def test_a_plan_shows_every_candidate_and_the_notice() -> None:
    plan = planned(k=3)
    html = plan._repr_html_()
    for row in plan.candidates:
        assert str(row.treatment) in html
    assert "Research only" in html
    assert "nan" not in html


def test_an_episode_shows_its_newest_strip_and_what_was_given() -> None:
    env = gym.make("ecg_gym:ECGIntervention-v0", world=AnalyticWorld(), risk=AnalyticRisk(), drugs=["metoprolol"],
                   scenario="healthy_volunteer")  # fmt: skip
    env.reset(seed=0)
    env.step(1)
    text = words(env.unwrapped.episode._repr_html_())
    assert "metoprolol" in text
    assert "1 h" in text
