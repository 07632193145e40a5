"""``ecg-gym report``: episodes, evaluations and records become pages; anything else is refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from games import start
from pages import browse, parsed
from typer.testing import CliRunner, Result

from training.cli import episode_file
from training.cli.app import DEMO, app
from training.cli.default_patient import SCENARIO
from training.cli.report import PEEK, ReportOptions, replay, report

QUICK = ("--samples", 3, "--hours", 1, "--trust-code")  # the world is that of the tests


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, words)])


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps in the analytic world, metoprolol in the middle, the strips noisy and some leads off."""
    game = start(tmp_path_factory.mktemp("played"), seed=1, tier="missing")
    for words in ("watch", "metoprolol 50", "watch"):
        game.step(next(i for i, t in enumerate(game.inner.menu) if words in str(t)))
    return game.path


def result(**more: object) -> dict[str, object]:
    """The result of an evaluation as small as it can be."""
    scenarios = {
        "svt": {"paired_difference": 0.62, "ci95": [0.5, 0.7], "normalised": 0.8, "harm": 120.0, "deaths": 5, "n": 100},
        "<b>mine</b>": {"paired_difference": -1.0, "ci95": [-1.5, -0.5], "normalised": None, "harm": 0.0, "deaths": 0,
                        "n": 100},
    }  # fmt: skip
    mean = {"paired_difference": -0.19, "ci95": [-0.4, 0.02], "normalised": 0.8}
    return {"policy": "search", "split": "test-v1", "protocol_sha256": "p" * 64, "model_sha256": "", "mean": mean,
            "scenarios": scenarios, **more}  # fmt: skip


# --- an episode -----------------------------------------------------------------------------------------------------


def test_an_episode_becomes_a_page_of_what_was_played_and_a_plan(episode, tmp_path) -> None:
    out = tmp_path / "page.html"
    done = run(episode, *QUICK, "--out", out)
    assert done.exit_code == 0, (done.output, done.exception)
    document, saved = parsed(out.read_text()), episode_file.read(episode)
    assert document.all("title")[0].text == "Episode episode, and a plan for its hour 0"
    played = document.id("played")
    assert len(played.all("details")) == len(saved.looks)
    rows = [[cell.text for cell in r.children] for r in played.all("tbody")[0].all("tr")]
    assert [r[0] for r in rows] == ["0", "1", "2", "3"]
    assert [r[-2] for r in rows] == [look.treatment for look in saved.looks]
    assert rows[1][-2] == "metoprolol 50 mg PO"
    missing = {text.text for text in played.all("details")[0].all("text") if "missing" in text.text}
    assert missing == {f"{lead} (missing)" for lead in saved.looks[0].missing}
    facts = document.id("repeat").text
    for word in (
        "actions",
        " ".join(map(str, saved.actions)),
        f"ecg-gym report {episode} --samples 3 --hours 1 --trust-code",
        "analytic-risk",
    ):
        assert word in facts
    assert not [p for p in document.all("p", class_="warning") if "Replayed" in p.text]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html"]


def test_the_plan_can_be_made_for_a_later_step(episode) -> None:
    document = parsed(report(episode, ReportOptions(trust_code=True, samples=3, steps=1, at=2)))
    env, _ = replay(episode_file.read(episode), 2)
    true = env.unwrapped.episode.truth
    assert document.all("h1")[0].text.endswith("hour 2")
    assert f"{true['hr_bpm'][0]:.0f} /min" in document.id("before").all("ul", class_="tiles")[0].text
    assert "metoprolol 50 mg PO at 1 h" in document.id("repeat").text
    assert document.all("p", class_="warning")[0].text == PEEK, "some leads were off, and the plan knows them all"


@pytest.mark.parametrize("at", [4, 99])
def test_a_step_that_was_not_played_is_refused(episode, at) -> None:
    with pytest.raises(ValueError, match=f"--at is {at} and the episode has 3 steps; expected 0 to 3"):
        report(episode, ReportOptions(at=at, trust_code=True))


def test_another_menu_is_refused(episode, tmp_path) -> None:
    path = tmp_path / "other.json"
    saved = episode_file.read(episode)
    episode_file.write(replace(saved, menu=(*saved.menu, "snake oil 1 mL PO")), path)
    with pytest.raises(ValueError, match="another menu"):
        report(path, ReportOptions(trust_code=True))


def test_other_weights_are_said_not_hidden(episode, tmp_path) -> None:
    saved = episode_file.read(episode)
    looks = (replace(saved.looks[0], ecg=np.roll(saved.looks[0].ecg, 100, axis=1)), *saved.looks[1:])
    path = tmp_path / "other.json"
    episode_file.write(replace(saved, looks=looks), path)
    warnings = [
        p.text
        for p in parsed(report(path, ReportOptions(trust_code=True, samples=3, steps=1))).all("p", class_="warning")
    ]
    assert warnings[0].startswith("Replayed, the episode shows another strip than the saved one")


def test_the_command_to_repeat_it_says_what_is_not_usual_and_no_more() -> None:
    request = ReportOptions(
        seed=3, doses=("digoxin 0.5 mg IV @ -2h", "x @ 0h"), allow_missing_leads=True, patient="age=71,sex=F"
    )
    assert request.command(Path("a b")) == (
        "ecg-gym report 'a b' --seed 3 --patient age=71,sex=F --given 'digoxin 0.5 mg IV @ -2h' --given 'x @ 0h' "
        "--allow-missing-leads"
    )


def test_code_that_a_file_names_is_not_run_unasked(episode, tmp_path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nWorld = None\n")
    document = json.loads(episode.read_text())
    document["env"]["kwargs"]["world"] = f"{evil}:World"
    path = tmp_path / "gift.json"
    path.write_text(json.dumps(document))
    done = run(path, "--out", tmp_path / "o.html")
    assert done.exit_code == 2, (done.output, done.exception)
    assert "--trust-code" in " ".join(done.stderr.split())
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "o.html").exists()


# --- the result of an evaluation ----------------------------------------------------------------------------------


def test_the_result_of_an_evaluation_becomes_a_table(tmp_path) -> None:
    path = tmp_path / "search.json"
    path.write_text(json.dumps(result()))
    document = parsed(report(path, ReportOptions()))
    rows = document.id("scenarios").all("tbody")[0].all("tr")
    assert [r.all("th")[0].text for r in rows] == ["svt", "<b>mine</b>", "mean"]
    assert "0.62" in rows[0].text
    assert "0.50 to 0.70" in rows[0].text
    assert rows[1].all("td")[2].text == "-"  # no normalised score
    at = [float(r.all("circle")[0].attributes["cx"]) for r in rows]
    guideline = float(rows[0].all("line")[0].attributes["x1"])
    assert at[1] < at[2] < guideline < at[0]
    assert at[0] - guideline == pytest.approx(0.62 / 1.0 * (guideline - at[1]), abs=0.2)
    assert "p" * 64 in document.id("repeat").text
    assert not document.all("b")


@pytest.mark.parametrize("broken", [{"scenarios": 3}, {"mean": None}, {"scenarios": {"svt": {}}},
                                    {"mean": {"paired_difference": "good"}}])  # fmt: skip
def test_a_broken_result_is_refused_in_three_parts(tmp_path, broken) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps(result(**broken)))
    done = run(path, "--out", tmp_path / "o.html")
    assert done.exit_code == 2, (done.output, done.exception)
    assert "broken part" in " ".join(done.stderr.split())
    assert not (tmp_path / "o.html").exists()


# --- anything else --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "nonsense", "[1]", '{"candidates": [], "record": "r"}', "null"])
def test_what_is_no_run_is_refused(tmp_path, content) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    done = run(path, "--out", tmp_path / "o.html")
    assert done.exit_code == 2, (done.output, done.exception)
    assert " ".join(done.stderr.split()).count(";") >= 2
    assert not (tmp_path / "o.html").exists()


def test_what_is_not_there_and_what_cannot_be_written(tmp_path, episode) -> None:
    for words in ((tmp_path / "nothing",), (tmp_path / "nothing.json",), (episode, "--out", tmp_path)):
        done = run(*words)
        assert done.exit_code == 2, (done.output, done.exception)
        assert "refused" in done.stderr


# --- a record, with the shipped weights -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_record_becomes_a_page_that_works_in_a_browser(tmp_path) -> None:
    out = tmp_path / "page.html"
    words = ("--scenario", SCENARIO, "--patient", DEMO.with_suffix(".yaml"), "--drugs", "diltiazem,dofetilide,digoxin")
    done = run(DEMO, *words, "--samples", 4, "--hours", 2, "--out", out)
    assert done.exit_code == 0, (done.output, done.exception)
    document = parsed(out.read_text())
    assert document.all("title")[0].text == f"Plan for {DEMO.name}"
    assert len(document.id("repeat").all("code")[0].text) > 20
    assert out.stat().st_size < 5e6
    text, console = browse(out, "#lambda=1.5")
    assert not console
    assert parsed(text).id("said").text.startswith("For lambda 1.5: ")
