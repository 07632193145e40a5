"""``ecg-gym play``: what is typed is obeyed or refused in a sentence, and nothing that was played is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from games import start
from typer.testing import CliRunner, Result
from worlds import AnalyticWorld

from ecg_gym.core import WATCH
from ecg_gym.envs.rendering import FRAME, newest_strip
from training.cli import episode_file
from training.cli.app import app
from training.cli.episode_file import packed, unpacked
from training.cli.play import HELP, Game, forbidden, play, what_if
from training.cli.report import replay


def number(game: Game, words: str) -> int:
    return next(i for i, t in enumerate(game.inner.menu) if words in str(t))


def typed(game: Game, *words: str) -> list[str]:
    lines: list[str] = []
    play(game, words, lines.append)
    return lines


def run(*words: object, input: str | None = None) -> Result:
    return CliRunner().invoke(app, ["play", *map(str, words)], input=input)


BASE = ("--world", "worlds:AnalyticWorld", "--risk", "worlds:AnalyticRisk", "--scenario", "healthy_volunteer",
        "--horizon", 4)  # fmt: skip


# --- the game -------------------------------------------------------------------------------------------------------


def test_an_episode_is_played_and_saved_after_every_step(tmp_path) -> None:
    game = start(tmp_path)
    assert not game.path.exists(), "nothing was done yet"
    game.step(number(game, "metoprolol"))
    game.step(0)
    saved = episode_file.read(game.path)
    assert saved.actions == (number(game, "metoprolol"), 0)
    assert [look.hours for look in saved.looks] == [0.0, 1.0, 2.0]
    assert saved.looks[0].treatment == str(game.inner.menu[saved.actions[0]])
    assert saved.looks[2].action is None
    assert saved.ended == ""
    assert saved.total == pytest.approx(sum(look.reward for look in game.looks[:2]))
    assert list(tmp_path.iterdir()) == [game.path], "nothing is left beside it"


def test_the_saved_file_is_strict_json_that_says_research_only(tmp_path) -> None:
    game = start(tmp_path)
    game.step(0)
    document = json.loads(game.path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert document["notice"] == "Research only, never bedside."
    assert document["kind"] == "ecg-gym episode"


def test_a_saved_episode_can_be_replayed_to_the_same_strips(tmp_path) -> None:
    game = start(tmp_path, seed=5, tier="noisy")
    for word in ("metoprolol", "watch", "placebo"):
        game.step(number(game, word))
    saved = episode_file.read(game.path)
    for step, look in enumerate(game.looks):
        env, notes = replay(saved, step)
        assert notes == ()
        np.testing.assert_array_equal(newest_strip(env.unwrapped.episode).signal, look.ecg)
    _, notes = replay(episode_file.read(_other_strips(game.path)), 0)
    assert "another strip than the saved one" in notes[0]


def _other_strips(path: Path) -> Path:
    document = json.loads(path.read_text(encoding="utf-8"))
    document["looks"][0]["ecg"] = packed(np.zeros((12, 1024)))
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_undo_goes_back_and_the_same_choice_leads_to_the_same_strip(tmp_path) -> None:
    game = start(tmp_path)
    game.step(0)
    first = game.looks[-1]
    game.undo()
    assert len(game.looks) == 1
    assert game.looks[0].action is None
    assert episode_file.read(game.path).actions == ()
    game.step(number(game, "metoprolol"))
    assert not np.array_equal(game.looks[-1].ecg, first.ecg)
    game.undo()
    game.step(0)
    np.testing.assert_array_equal(game.looks[-1].ecg, first.ecg)


def test_undo_leads_out_of_a_lethal_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("worlds.AnalyticWorld", lambda: AnalyticWorld(lethal=("metoprolol",), sha256="lethal"))
    from ecg_gym.envs.loading import load_world

    load_world.cache_clear()
    game = start(tmp_path)
    lines = typed(game, str(number(game, "metoprolol")), "0", "u", "0", "q")
    load_world.cache_clear()
    assert any("the episode is over: a lethal rhythm" in line for line in lines)
    assert any(line.startswith("refused: the episode is over (lethal)") for line in lines)
    assert episode_file.read(game.path).actions == (0,)


def test_the_horizon_ends_it(tmp_path) -> None:
    game = start(tmp_path, horizon=2)
    lines = typed(game, "0", "0", "w 1", "0")
    assert game.ended == "horizon"
    assert sum(line.startswith("refused: the episode is over") for line in lines) == 2
    assert episode_file.read(game.path).ended == "horizon"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("lots", "'lots' is no number of the menu; expected 0 to"),
        ("99", "99 is not on the menu; expected 0 to"),
        ("-1", "-1 is not on the menu"),
        ("w", "'' is no number of the menu"),
        ("w 1 2", "'1 2' is no number"),
        ("u", "nothing has been done yet"),
        ("1.5", "'1.5' is no number"),
    ],
)
def test_a_slip_of_the_keyboard_is_a_sentence_and_loses_nothing(tmp_path, words, refusal) -> None:
    game = start(tmp_path)
    before = list(game.looks)
    lines = typed(game, words)
    assert any(line.startswith(f"refused: {refusal}") for line in lines), lines
    assert game.looks == before


def test_what_the_rules_forbid_is_shown_with_the_reason_and_refused(tmp_path) -> None:
    game = start(tmp_path)
    dofetilide = number(game, "dofetilide 0.5")
    lines = typed(game, str(dofetilide), str(dofetilide))
    rows = [line for line in lines if line.startswith("  x  dofetilide 0.5 mg PO: ")]
    assert rows
    assert "the last dose was" in rows[-1]
    refused = next(line for line in lines if line.startswith("refused:"))
    assert "not allowed now" in refused
    assert "the last dose was" in refused
    assert game.saved().actions == (dofetilide,)
    masked = {str(t) for t, yes in zip(game.inner.menu, game.inner.action_masks()) if not yes}
    assert set(forbidden(game.inner)) == masked


def test_what_if_compares_with_watching_and_touches_nothing(tmp_path) -> None:
    game = start(tmp_path)
    state = game.inner.np_random.bit_generator.state
    lines = what_if(game.inner, game.inner.menu[number(game, "metoprolol 50")], 0)
    assert "metoprolol 50 mg PO" in lines[1]
    assert str(WATCH) in lines[2]
    treated, watched = (int(re.search(r"HR ([+-]\d+)", line)[1]) for line in lines[1:3])
    assert treated - watched == pytest.approx(-10 * 0.5 ** (2 / 4), abs=1.5), "10 /min less, two hours of washout"
    assert lines == what_if(game.inner, game.inner.menu[number(game, "metoprolol 50")], 0)
    assert game.inner.np_random.bit_generator.state == state
    assert "cannot be told apart" in what_if(game.inner, game.inner.menu[number(game, "placebo")], 0)[-1]


def test_the_screen_tells_who_what_and_how_it_changed(tmp_path) -> None:
    game = start(tmp_path)
    lines = typed(game, str(number(game, "metoprolol 50")))
    screen = "\n".join(lines[len(lines) // 2 :])
    assert "== 1 h == healthy_volunteer == 50 years, female, 70 kg" in screen
    assert "given: metoprolol 50 mg PO at 0 h" in screen
    change = game.looks[1].read["hr_bpm"] - game.looks[0].read["hr_bpm"]
    assert f"HR {game.looks[1].read['hr_bpm']:.0f} bpm ({change:+.0f})" in screen
    assert "PR not measurable" in screen
    assert "  0  watch and wait" in screen
    assert any(0x2800 < ord(c) < 0x2900 for c in screen), "lead II in braille"


def test_missing_leads_are_named(tmp_path) -> None:
    game = start(tmp_path, seed=1, tier="missing")
    missing = game.inner.episode.missing[0]
    assert f"missing leads: {', '.join(missing)}" in typed(game)
    assert game.looks[0].missing == missing


def test_a_picture_lies_beside_the_episode(tmp_path) -> None:
    from matplotlib.image import imread

    game = start(tmp_path)
    lines = typed(game, "p")
    assert f"picture  {tmp_path / 'episode-0.png'}" in lines
    assert imread(tmp_path / "episode-0.png").shape[:2] == FRAME[::-1]


def test_help_is_one_line(tmp_path) -> None:
    assert HELP in typed(start(tmp_path), "h")
    assert HELP in typed(start(tmp_path / "b"), "")


# --- the file -------------------------------------------------------------------------------------------------------


def test_strips_survive_to_the_microvolt_and_what_is_unknown_stays_unknown() -> None:
    strip = np.random.default_rng(0).normal(0, 1, (12, 1024)).astype(np.float32)
    strip[3, 7] = np.nan
    again = unpacked(packed(strip))
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, strip, atol=0.00051)
    with pytest.raises(ValueError, match="samples"):
        unpacked(packed(strip[:, :5]))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "recipe"}, "no episode"),
        ({"schema": 99}, "no episode"),
        ({"looks": [{"hours": 0}]}, "broken part"),
        ({"patient": {"species": "dog"}}, "species"),
        ({"taken": [{"hours": 0, "dose": "some"}]}, "dose"),
        ({"env": None}, "broken part"),
        ({"looks": 7}, "broken part"),
        ({"looks": []}, "first look"),
        ({"menu": []}, "actions of the menu"),
        ({"env": {"id": "evil:Env-v0", "kwargs": {}}}, "evil"),
        ({"env": {"id": "ECGIntervention-v0", "kwargs": {"reward": "evil:reward"}}}, "reward"),
        ({"env": {"id": "ECGIntervention-v0", "kwargs": {"horizon": "8"}}}, "horizon"),
        ({"options": {"patient": {}}}, "patient"),
    ],
)
def test_a_file_that_is_no_episode_is_refused_in_three_parts(tmp_path, change, word) -> None:
    game = start(tmp_path)
    game.step(0)
    game.path.write_text(json.dumps({**json.loads(game.path.read_text()), **change}))
    with pytest.raises(ValueError, match=word) as refusal:
        episode_file.read(game.path)
    assert str(refusal.value).count(";") >= 2


@pytest.mark.parametrize("change", [{"hours": 1e308}, {"hours": -1e9}, {"read": {"hr_bpm": 1e300}}, {"ecg": "AAAA"},
                                    {"ecg": "?"}, {"missing": ["V9"]}, {"action": -1}, {"action": 99}])  # fmt: skip
def test_a_look_that_nobody_could_have_had_is_refused(tmp_path, change) -> None:
    game = start(tmp_path)
    game.step(0)
    document = json.loads(game.path.read_text())
    document["looks"][0] |= change
    game.path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="broken part"):
        episode_file.read(game.path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"[1, 2]", b'{"kind": NaN}'])
def test_a_file_that_is_no_json_document_is_refused(tmp_path, content) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected"):
        episode_file.read(path)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_plays_given_actions(tmp_path) -> None:
    out = tmp_path / "e.json"
    result = run(*BASE, "--actions", "0,1,0", "--seed", 2, "--out", out)
    assert result.exit_code == 2, "nothing indicates the placebo"
    assert "no indication: placebo" in " ".join(result.stderr.split())
    out = tmp_path / "all.json"
    result = run(*BASE, "--all-drugs", "--actions", "0,1,0", "--seed", 2, "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    assert episode_file.read(out).actions == (0, 1, 0)
    assert "== 3 h ==" in result.stdout


def test_the_command_obeys_what_is_piped_in_and_saves_at_the_end(tmp_path) -> None:
    out = tmp_path / "e.json"
    result = run(*BASE, "--out", out, input="0\nnonsense\n0\n")
    assert result.exit_code == 0, (result.output, result.exception)
    assert episode_file.read(out).actions == (0, 0)
    assert "refused: 'nonsense' is no number" in result.stdout
    assert "Research only" in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--actions", "0,zero"), "zero"),
        (("--actions", "0,77"), "77"),
        (("--scenario", "sunburn"), "sunburn"),
        (("--world", "nowhere"), "nowhere"),
        (("--tier", "foggy"), "foggy"),
        (("--record", "/no/such/record"), "/no/such/record"),
    ],
)
def test_the_command_refuses_in_one_message_and_exit_code_2(tmp_path, words, expected) -> None:
    result = run(*BASE, *words, "--out", tmp_path / "e.json")
    assert result.exit_code == 2, (result.output, result.exception)
    message = " ".join(result.stderr.split())
    assert message.startswith("refused")
    assert expected in message
    assert message.count(";") >= 2


def test_what_was_played_before_a_refusal_is_kept(tmp_path) -> None:
    out = tmp_path / "e.json"
    assert run(*BASE, "--actions", "0,0,nine", "--out", out).exit_code == 2
    assert episode_file.read(out).actions == (0, 0)


def test_nobodys_file_is_overwritten(tmp_path) -> None:
    out = tmp_path / "e.json"
    out.write_text("mine")
    result = run(*BASE, "--actions", "0", "--out", out)
    assert result.exit_code == 2
    assert "exists" in result.stderr
    assert out.read_text() == "mine"


@pytest.mark.slow
def test_a_terminal_without_braille_and_a_killed_game(tmp_path) -> None:
    """ASCII terminals get question marks; a game that is killed keeps every step."""
    code = "import sys; sys.path.insert(0, 'tests/support'); from training.cli.app import app; app()"
    out = tmp_path / "e.json"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "play", *map(str, BASE), "--out", str(out)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("0\n0\n")
    process.stdin.flush()
    seen_hours = 0
    for line in process.stdout:
        seen_hours += "== 2 h ==" in line
        if seen_hours:
            break
    process.kill()
    process.wait()
    assert episode_file.read(out).actions == (0, 0)
