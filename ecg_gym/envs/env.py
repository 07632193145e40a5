"""``ECGInterventionEnv``: one patient, one treatment per step, the ECG afterwards; a batch of one over ``episode``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from ecg_gym.core import State, Treatment, World, row_generators
from ecg_gym.envs import episode as course
from ecg_gym.envs.actions import action_code
from ecg_gym.envs.episode import INVALID, Episode, Outcome, Task
from ecg_gym.envs.information import information
from ecg_gym.envs.observations import Layout, space
from ecg_gym.envs.resolve import load_risk, load_world
from ecg_gym.envs.scenarios import scenario_named
from ecg_gym.envs.start import start
from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.registration import HORIZON
from ecg_gym.risk import RiskModel

RENDER_MODES = ("rgb_array", "ansi")


class ECGInterventionEnv(gym.Env):
    """Choose drugs for a heart and see the ECG ``dt_hours`` later. Research only, never bedside.

    ==============  ====================================================================================================
    Action          ``Discrete(n)``: 0 watch and wait, others a standard dose of the menu (``env.unwrapped.menu``).
                    With ``actions="multidiscrete"``: drug x dose level.
    Mask            ``action_masks()`` (bool, for sb3-contrib), ``info["action_mask"]`` (int8): what the clinical rules
                    allow now. What is not allowed is a noop, ends the episode or raises: ``invalid_action``.
    Observation     ``obs="features"``: ``Box(-1, 1, (d,))``, named by ``env.unwrapped.feature_names``; 0 where unknown,
                    with a known flag. ``"waveform"`` and ``"latent"`` put the strip [mV] or the latent beside it.
    Reward          minus the risk of the new strip against the episode's first, in [-1, 0]; a lethal rhythm costs
                    ``-(horizon + steps left)``, which is worse than any survival.
    Ends            ``terminated`` at a lethal rhythm (or a strip that is not finite); truncated after 8 steps by
                    ``gym.make``'s TimeLimit (for longer: ``gym.make(id, max_episode_steps=24, horizon=24)``).
    Info            the same keys at reset and step: risk and its terms, cost, intervals with known flags, hours, what
                    was given, whether it was refused, the hash of the weights. ``privileged=True`` adds
                    ``info["truth_*"]`` where the world knows the truth.
    reset(options)  ``scenario``, ``patient``, ``ecg``, ``given``; see :func:`ecg_gym.envs.start.start`.
    ==============  ====================================================================================================

    Arguments are names and numbers, so that the spec is JSON; a live world or risk is taken too, then it is not.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        world: str | World = "model",  # "model", "oracle", a path, "package.module:Name", or a World
        risk: str | RiskModel = "adverse",  # "limits", "mean", "max", "top3", "package.module:Name", a RiskModel
        scenario: str = "healthy_volunteer",  # whom episodes start with, and the drugs at hand
        drugs: Sequence[str] | None = None,  # at hand instead of the scenario's
        actions: str = "discrete",  # or "multidiscrete"
        obs: str = "features",  # or "waveform", "latent"
        invalid_action: str = "noop",  # or "terminate", "raise"
        horizon: int = HORIZON,  # [steps] an episode may last: gym.make's TimeLimit, which an env cannot see itself
        dt_hours: float | None = None,  # [h] of a step; None is the world's own
        samples: int = 1,  # futures judged per step; the first is the one that happens
        risk_aversion: float = 0.0,  # weight of the SD of those futures in the reward
        privileged: bool = False,  # show the truth in info, where the world knows it
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"render_mode is {render_mode!r}; expected one of {RENDER_MODES}; or leave it out")
        if invalid_action not in INVALID:
            raise ValueError(f"invalid_action is {invalid_action!r}; expected one of {INVALID}; pass 'noop'")
        if horizon < 1 or samples < 1:
            raise ValueError(f"horizon is {horizon} and samples {samples}; expected at least 1 each; leave them out")
        self.render_mode = render_mode
        self._names = {"world": (world, dt_hours), "risk": (risk,)}
        self._scenario = scenario_named(scenario)
        self._obs, self._privileged = obs, privileged
        menu = FORMULARY.menu(self._scenario.drugs if drugs is None else drugs)
        self._code = action_code(actions, menu)
        layout = Layout(menu, course.finding_names(), tuple(CONDITIONS))
        live_world = load_world(world, dt_hours) if isinstance(world, str) else world
        live_risk = load_risk(risk) if isinstance(risk, str) else risk
        self._task = Task(live_world, live_risk, menu, layout, horizon, invalid_action, samples, risk_aversion)
        self.action_space = self._code.space()
        self.observation_space = space(obs, layout, getattr(live_world, "latent_shape", None))
        self._episode: Episode | None = None
        self._outcome: Outcome | None = None

    # --- what may be known from outside ------------------------------------------------------------------------------

    @property
    def menu(self) -> tuple[Treatment, ...]:
        """The treatments behind the actions, watch and wait first."""
        return self._task.menu

    @property
    def layout(self) -> Layout:
        """What the numbers of the feature vector mean; see :func:`ecg_gym.envs.observations.describe`."""
        return self._task.layout

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per number of the feature vector."""
        return self._task.layout.names

    @property
    def world(self) -> World:
        """The world this env runs on; shared between envs, so leave it as it is."""
        return self._task.world

    @property
    def risk(self) -> RiskModel:
        """What judges the strips."""
        return self._task.risk

    @property
    def state(self) -> State:
        """The world's own state, a batch of one: for planners, who imagine from it; never for policies."""
        return self.episode.state

    @property
    def episode(self) -> Episode:
        """The episode so far; ``RuntimeError`` before the first reset."""
        if self._episode is None:
            raise RuntimeError("the env has no episode yet; expected a reset first; call env.reset(seed=0)")
        return self._episode

    def treatment(self, action: Any) -> Treatment:
        """The treatment that an action means."""
        return self.menu[self._code.entry(action)]

    def action(self, treatment: Treatment) -> Any:
        """The action that means a treatment of the menu."""
        if treatment not in self.menu:
            raise ValueError(f"{treatment} is not on the menu; expected one of {len(self.menu)} entries; see env.menu")
        return self._code.action(self.menu.index(treatment))

    def action_masks(self) -> np.ndarray:
        """Allowed actions, bool, as sb3-contrib wants them; before the first reset everything is."""
        everything = np.ones(len(self.menu), dtype=bool)
        return self._code.mask(everything if self._episode is None else self._episode.allowed[0])

    # --- Gymnasium ---------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observation and info of a new patient."""
        super().reset(seed=seed)
        rng = row_generators(self.np_random, 1)[0]
        state = start(self.world, self._scenario, rng, options)
        self._episode, self._outcome = course.begin(self._task, state), None
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Give what the action means, wait ``dt_hours``, look again."""
        entry = self._code.entry(action)
        rngs = row_generators(self.np_random, 1)
        self._episode, self._outcome = course.advance(self._task, self.episode, [entry], rngs)
        ended = bool(self._outcome.terminated[0])
        return self._observation(), float(self._outcome.reward[0]), ended, False, self._info()

    def render(self) -> Any:
        """The strip on ECG paper ``(H, W, 3) uint8`` or one line of text, as ``render_mode`` says."""
        from ecg_gym.envs import rendering

        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode shows nothing; pass gym.make(..., render_mode='ansi')")
            return None
        draw = {"rgb_array": rendering.picture, "ansi": rendering.line}[self.render_mode]
        return draw(self.episode, self._outcome)

    # --- copies ------------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> ECGInterventionEnv:
        """A twin with an identical future; world and risk are shared, not copied."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        for shared in (self._task, self._names):
            memo[id(shared)] = shared
        twin.__dict__ = {name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()}
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what can be loaded again by name."""
        kept = dict(self.__dict__)
        named = {part: None for part in ("world", "risk") if isinstance(self._names[part][0], str)}
        kept["_task"] = {**vars(self._task), **named}
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Weights come from this process's own cache."""
        task = dict(kept["_task"])
        task["world"] = task["world"] if task["world"] is not None else load_world(*kept["_names"]["world"])
        task["risk"] = task["risk"] if task["risk"] is not None else load_risk(*kept["_names"]["risk"])
        self.__dict__ = {**kept, "_task": Task(**task)}

    # --- parts -------------------------------------------------------------------------------------------------------

    def _observation(self) -> Any:
        seen = course.features(self._task, self.episode)[0]
        if self._obs == "waveform":
            return {"ecg": course.strips(self.episode)[0], "features": seen}
        if self._obs == "latent":
            return {"latent": course.latents(self.episode)[0], "features": seen}
        return seen

    def _info(self) -> dict[str, Any]:
        return information(self._task, self.episode, self._outcome, self.action_masks(), self._privileged)
