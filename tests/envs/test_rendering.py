"""Frames: one size through an episode, what is seen and not what is true, gaps, limits and doses where they belong."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from matplotlib.figure import Figure

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.core import ECG, MODEL_RATE_HZ, Administration, Dose
from ecg_gym.envs.chart import DRUGS_SHOWN, PANELS, Moment, draw_chart
from ecg_gym.envs.rendering import FRAME, frame, history, newest_strip
from ecg_gym.waveform.plotting import draw_twelve_leads

NAMED = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide", "metoprolol"],
         "scenario": "healthy_volunteer"}  # fmt: skip


def make(**kwargs: Any) -> gym.Env:
    return gym.make("ECGIntervention-v0", render_mode="rgb_array", **{**NAMED, **kwargs})


def chart(moments, doses=(), until: float = 8.0, sex: str | None = None) -> dict[str, Any]:
    """The axes of a chart by the name of their reading, and "doses"."""
    figure = Figure(figsize=(12, 4))
    draw_chart(figure, moments, doses, until, sex)
    return dict(zip([*(name for name, *_ in PANELS), "doses"], figure.axes))


def moment(hours: float, **values: float) -> Moment:
    return Moment(hours, {"hr_bpm": 70.0, "pr_ms": 160.0, "qrs_ms": 95.0, "qtcf_ms": 420.0, "risk": 0.1, **values})


def trend(ax) -> tuple[np.ndarray, np.ndarray]:
    """The line of a panel: the first that has a marker."""
    line = next(line for line in ax.lines if line.get_marker() == "o")
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata(), dtype=float)


def test_every_frame_of_an_episode_has_the_same_even_size_and_more_in_it_each_time() -> None:
    env = make()
    env.reset(seed=0)
    frames = [env.render()]
    for action in (1, 0):
        env.step(action)
        frames.append(env.render())
    width, height = FRAME
    assert width % 2 == 0, "h264 wants even numbers"
    assert height % 2 == 0, "h264 wants even numbers"
    assert {(f.shape, f.dtype) for f in frames} == {((height, width, 3), np.dtype("uint8"))}
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


def test_the_trend_has_a_gap_and_a_cross_where_nothing_could_be_measured() -> None:
    axes = chart([moment(0), moment(1, pr_ms=np.nan), moment(2, pr_ms=180.0)])
    hours, values = trend(axes["pr_ms"])
    np.testing.assert_array_equal(hours, [0, 1, 2])
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])
    crosses = next(line for line in axes["pr_ms"].lines if line.get_marker() == "x")
    np.testing.assert_array_equal(crosses.get_xdata(), [1])
    assert axes["pr_ms"].get_title(loc="left") == "PR  180 ms  (+20)"
    last = chart([moment(0), moment(1, pr_ms=np.nan)])["pr_ms"]
    assert last.get_title(loc="left") == "PR  not measurable"


@pytest.mark.parametrize(("sex", "begins"), [("F", 460.0), ("M", 450.0), (None, 455.0)])
def test_the_limits_of_the_table_are_drawn_for_this_patient(sex, begins) -> None:
    axes = chart([moment(0)], sex=sex)
    flat = [float(line.get_ydata()[0]) for line in axes["qtcf_ms"].lines if len(set(line.get_ydata())) == 1]
    assert {begins, 500.0, 360.0, 320.0} <= set(flat)
    assert not [line for line in axes["risk"].lines if line.get_linestyle() == "--"], "risk has no limits"


def test_readings_beyond_the_usual_range_are_still_inside_the_panel() -> None:
    low, high = chart([moment(0, hr_bpm=12.0), moment(1, hr_bpm=260.0)])["hr_bpm"].get_ylim()
    assert low < 12
    assert high > 260


def test_doses_stand_at_their_hours_and_long_ago_at_the_edge() -> None:
    old, new = Dose("dofetilide", 0.5, "mg", "PO"), Dose("amiodarone", 150.0, "mg", "IV", 1 / 6)
    axes = chart([moment(0), moment(3)], [Administration(-30.0, old), Administration(1.0, new)])
    positions = {text.get_text(): text.xy[0] for text in axes["doses"].texts}
    assert positions["dofetilide 0.5 mg (-30 h)"] == -6.0
    assert positions["amiodarone 150 mg"] == pytest.approx(1 + 1 / 6)
    marks = [float(line.get_xdata()[0]) for line in axes["hr_bpm"].lines if line.get_color() == "#1f5fa8"]
    assert marks == [1.0], "a line through the trends for each dose that is on the axis"


def test_more_drugs_than_fit_are_counted() -> None:
    doses = [Administration(float(i), Dose(f"drug{i}", 1.0, "mg", "PO")) for i in range(DRUGS_SHOWN + 2)]
    ax = chart([moment(0)], doses)["doses"]
    assert ax.get_title(loc="left") == "doses, 2 drugs more"
    assert len(ax.texts) == DRUGS_SHOWN


def test_the_history_is_what_was_seen_not_what_is_true() -> None:
    env = make(tier="delayed")
    env.reset(seed=3)
    for action in (1, 0, 0):
        env.step(action)
    episode = env.unwrapped.episode
    moments = history(episode)
    assert [m.hours for m in moments] == [0.0, 1.0, 2.0], "the strip of hour 3 has not been seen yet"
    assert [m.values["risk"] for m in moments] == [s.risk for s in episode.sights[0]]
    assert moments[-1].values["risk"] == episode.now["risk"][0]
    strip = newest_strip(episode)
    assert strip.missing == episode.missing[0]
    np.testing.assert_array_equal(strip.signal, episode.sights[0][-1].ecg)
    assert not np.array_equal(strip.signal, episode.state.ecg[0])


def test_a_trend_of_ones_own_can_be_drawn() -> None:
    env = make()
    env.reset(seed=0)
    plain = frame(env.unwrapped.episode, None, 0, [moment(0)])
    other = frame(env.unwrapped.episode, None, 0, [moment(0, qtcf_ms=530.0)])
    assert plain.shape == other.shape
    top = int(FRAME[1] * 0.6)
    np.testing.assert_array_equal(plain[:top], other[:top])  # the strip is the same, the chart is not
    assert (plain[top:] != other[top:]).any()


def test_a_missing_lead_is_named_and_dashed_and_not_a_flat_trace() -> None:
    signal = np.random.default_rng(0).standard_normal((12, 1024)) * 0.1
    whole = draw_twelve_leads(ECG(signal, MODEL_RATE_HZ)).axes[0]
    figure = draw_twelve_leads(ECG(signal, MODEL_RATE_HZ, missing=("V3", "aVL"))).axes[0]
    words = {text.get_text() for text in figure.texts}
    assert {"V3 (missing)", "aVL (missing)", "V2"} <= words
    dashed = [line for line in figure.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "--"]
    assert len(dashed) == 2
    assert not [line for line in whole.lines if line.get_linestyle() == "--"]


def test_rendering_needs_no_display_and_import_no_matplotlib() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/support'); import ecg_gym, gymnasium as gym, os\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        f"env = gym.make('ECGIntervention-v0', render_mode='rgb_array', **{NAMED!r})\n"
        "env.reset(seed=0); print(env.render().shape); assert 'matplotlib.pyplot' not in sys.modules"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"({FRAME[1]}, {FRAME[0]}, 3)"
