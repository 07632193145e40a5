"""``ecg-gym play``: one episode, step by step, in a terminal. Whatever is typed, nothing that was played is lost."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.core import WATCH, Treatment
from ecg_gym.envs.rendering import SHOWN, newest_strip
from ecg_gym.envs.scenarios import scenario_named
from ecg_gym.io import atomic_write
from ecg_gym.pharmacology import indications, violations
from ecg_gym.powers import weights_hash
from ecg_gym.waveform.braille import braille
from planners.report.html.sections import person
from training.cli import episode_file
from training.cli.episode_file import Look, SavedEpisode

HELP = (
    "a number gives that treatment and waits; w N: what if N; u: undo the last step; "
    "p: save a picture of the strip; h: this help; q: save and leave"
)
WHAT_IF_K = 8  # futures of each branch
WHAT_IF_STEPS = 3

Say = Callable[[str], None]


@dataclass
class Game:
    """An episode under way: the env, what was seen and done, and the envs before each step."""

    env: Any
    settings: Mapping[str, Any]  # id and keyword arguments of gym.make
    seed: int
    options: Mapping[str, Any]
    path: Path  # where it is saved after every step
    looks: list[Look] = field(default_factory=list)
    before: list[tuple[Any, list[Look], str]] = field(default_factory=list)  # to undo to
    ended: str = ""

    @classmethod
    def start(cls, kwargs: Mapping[str, Any], seed: int, options: Mapping[str, Any], path: Path) -> Game:
        """The first look. ``ValueError`` for a path that is taken: nobody's file is overwritten."""
        if path.exists():
            raise ValueError(f"{path} exists; expected a new file; choose another --out")
        settings = {"id": "ECGIntervention-v0", "kwargs": dict(kwargs)}
        game = cls(make(settings), settings, seed, options, path)
        _, info = game.env.reset(seed=seed, options=dict(options))
        game._look(info)
        return game

    @property
    def inner(self) -> Any:
        """The env under its wrappers."""
        return self.env.unwrapped

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return bool(self.ended)

    def entry(self, words: str) -> int:
        """The menu entry somebody typed. ``ValueError`` for what is no number, not on the menu, or not allowed now."""
        menu = self.inner.menu
        try:
            number = int(words)
        except ValueError:
            raise ValueError(f"{words!r} is no number of the menu; expected 0 to {len(menu) - 1}; {HELP}") from None
        if not 0 <= number < len(menu):
            raise ValueError(f"{number} is not on the menu; expected 0 to {len(menu) - 1}; 0 is watch and wait")
        if why := self.looks[-1].forbidden.get(str(menu[number])):
            raise ValueError(f"{number} is {menu[number]}, not allowed now ({'; '.join(why)}); "
                             "expected an entry without a reason beside it; 0 is always one")  # fmt: skip
        return number

    def step(self, number: int) -> None:
        """Give the menu entry, wait, look, and save. ``ValueError`` when the episode is over."""
        if self.over:
            raise ValueError(f"the episode is over ({self.ended}); expected no more choices; undo a step or leave")
        self.before.append((copy.deepcopy(self.env), list(self.looks), self.ended))
        _, reward, terminated, truncated, info = self.env.step(self.inner.action(self.inner.menu[number]))
        terms = {str(n): float(v) for n, v in info.get("reward_terms", {}).items()}
        done = replace(
            self.looks[-1], action=number, treatment=str(info["treatment"]), reward=float(reward), terms=terms
        )
        self.looks[-1] = done
        self.ended = "lethal" if info["lost"] else "horizon" if terminated or truncated else ""
        self._look(info)
        self.save()

    def undo(self) -> None:
        """Back to before the last step, randomness included. ``ValueError`` when there is none."""
        if not self.before:
            raise ValueError("nothing has been done yet; expected a step to undo; choose a number first")
        self.env, self.looks, self.ended = self.before.pop()
        self.save()

    def saved(self) -> SavedEpisode:
        """Everything so far, as a document."""
        state, kwargs = self.inner.state, self.settings["kwargs"]
        scenario = scenario_named(kwargs["scenario"])
        return SavedEpisode(
            env=self.settings,
            seed=self.seed,
            options=self.options,
            scenario=scenario.name,
            goal=scenario.goal,
            patient=state.patients[0],
            menu=tuple(map(str, self.inner.menu)),
            doses=tuple(state.doses[0]),
            looks=tuple(self.looks),
            ended=self.ended,
            model_sha256=weights_hash(self.inner.world),
            risk_sha256=str(getattr(self.inner.risk, "sha256", "")),
        )

    def save(self) -> None:
        """Aside and renamed, after every step: a window that is closed loses nothing."""
        episode_file.write(self.saved(), self.path)

    def picture(self) -> Path:
        """The frame of now as PNG beside the episode."""
        from matplotlib.image import imsave

        path = self.path.with_name(f"{self.path.stem}-{len(self.looks) - 1}.png")
        with atomic_write(path) as aside:
            imsave(aside, self.env.render(), format="png")
        return path

    def _look(self, info: Mapping[str, Any]) -> None:
        names = {name for name, *_ in SHOWN}
        read = {n: float(info[n]) if info[f"{n}_known"] else float("nan") for n in sorted(names)}
        read |= {"risk": self.inner.episode.sights[0][-1].risk, "cost": float(info["cost"])}
        strip = newest_strip(self.inner.episode)
        looked = Look(float(info["hours"]), strip.signal, strip.missing, read, forbidden(self.inner))
        self.looks.append(looked)


def make(settings: Mapping[str, Any]) -> Any:
    """The env of saved settings, with what is at hand alone on its menu."""
    kwargs = dict(settings["kwargs"])
    return gym.make(settings["id"], render_mode="rgb_array", menu="scenario", **kwargs)


def forbidden(env: Any) -> dict[str, tuple[str, ...]]:
    """What the env's mask refuses now, by the name of the treatment, with the reasons of the clinical rules."""
    from ecg_gym.envs.dynamics import finding_names, likely

    episode = env.episode
    now = {name: float(values[0]) for name, values in episode.now.items()}
    findings = likely(np.array([now[name] for name in finding_names()]))
    state, result = env.state, {}
    for treatment, allowed in zip(env.menu, episode.allowed[0]):
        if not allowed:
            about = (treatment, episode.patients[0], now, state.doses[0], float(state.hours[0]), findings)
            hard = tuple(v.sentence for v in violations(*about) if v.hard)
            result[str(treatment)] = hard or (indications(*about).sentence,)
    return result


def what_if(env: Any, treatment: Treatment, seed: int) -> list[str]:
    """The treatment beside watching over the next steps, imagined in the env's own world with common random numbers."""
    from planners import plan

    ranked = plan(
        env.world, env.state, (treatment,), env.risk, k=WHAT_IF_K, seed=seed, horizon=WHAT_IF_STEPS,
        first=env.episode.first, rules=lambda *_, **__: (),
    )  # fmt: skip
    lines = [
        f"over {WHAT_IF_STEPS * ranked.dt_hours:g} h, {WHAT_IF_K} futures each, imagined in the env's own world "
        "from its own state (intervals: at the end, 5-95 %)"
    ]
    for row in sorted(ranked.candidates, key=lambda c: c.treatment == WATCH):
        changes = []
        for name, short, _ in SHOWN:
            change = row.changes.get(name)
            if change is not None and change.n:
                changes.append(f"{short} {change.mean:+.0f} ({change.low:+.0f} to {change.high:+.0f})")
        lethal = f"  lethal in {row.n_lethal}" if row.n_lethal else ""
        lines.append(f"  {row.treatment!s:32s} risk {row.mean:.3f} ± {row.sd:.3f}  {'  '.join(changes)}{lethal}")
    other = next((c for c in ranked.candidates if c.tie == ranked.best.tie and c is not ranked.best), None)
    record = "cannot be told apart" if other is not None else f"better: {ranked.best.treatment}"
    return [*lines, f"  {record}" if treatment else "  watching is all there is to compare"]


def screen(game: Game, columns: int = 100) -> list[str]:
    """What somebody sees before choosing."""
    look, first = game.looks[-1], game.looks[0]
    saved = game.saved()
    lines = ["", f"== {look.hours:g} h == {saved.scenario} == {person(saved.patient)}", f"goal: {saved.goal}"]
    if saved.doses:
        lines.append("given: " + "; ".join(f"{a.dose} at {a.hours:g} h" for a in saved.doses))
    strip = newest_strip(game.inner.episode)
    trace, height = braille(strip, columns=columns)
    if np.isfinite(height):
        lines += [f"II  {trace[0]}", *(f"    {row}" for row in trace[1:]), f"    5 s; a row is {height:.2f} mV"]
    if strip.missing:
        lines.append("missing leads: " + ", ".join(strip.missing))
    words = []
    for name, short, unit in (*SHOWN, ("risk", "risk", "")):
        value, change = look.read[name], look.read[name] - first.read[name]
        digits = 0 if unit else 2
        value_text = f"{value:.{digits}f}{' ' if unit else ''}{unit}" if np.isfinite(value) else "not measurable"
        words.append(
            f"{short} {value_text}" + (f" ({change:+.{digits}f})" if np.isfinite(change) and game.before else "")
        )
    lines.append("  ".join(words))
    if game.over:
        ending = {"lethal": "a lethal rhythm, or a strip that is no strip", "horizon": "its time is up"}[game.ended]
        return [*lines, f"the episode is over: {ending}; return {saved.total:.2f}"]
    for number, treatment in enumerate(game.inner.menu):
        why = look.forbidden.get(str(treatment))
        lines.append(f"  x  {treatment}: {'; '.join(why)}" if why else f" {number:2d}  {treatment}")
    return lines


def play(game: Game, words: Iterable[str], say: Say, columns: int = 100) -> None:
    """Obey each line until ``q``, or until there are no more; every refusal is a sentence and changes nothing."""
    show(game, say, columns)
    for line in words:
        try:
            if not obey(game, line.strip(), say, columns):
                break
        except ValueError as error:
            say(f"refused: {error}")
    game.save()


def obey(game: Game, line: str, say: Say, columns: int = 100) -> bool:
    """One line of somebody who plays; False to leave."""
    verb, _, rest = line.partition(" ")
    if verb in ("q", "quit"):
        return False
    if verb in ("", "h", "?", "help"):
        say(HELP)
    elif verb in ("p", "picture"):
        say(f"picture  {game.picture()}")
    elif verb in ("u", "undo"):
        game.undo()
        show(game, say, columns)
    elif verb in ("w", "what-if"):
        if game.over:
            raise ValueError("the episode is over; expected one that goes on; undo a step first")
        for row in what_if(game.inner, game.inner.menu[game.entry(rest.strip())], game.seed):
            say(row)
    else:
        game.step(game.entry(line))
        show(game, say, columns)
    return True


def show(game: Game, say: Say, columns: int) -> None:
    """Everything there is to see now."""
    for row in screen(game, columns):
        say(row)
