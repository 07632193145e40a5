"""``ECGInterventionEnv``: one patient, one treatment per step, the ECG afterwards; a batch of one over ``episode``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from ecg_gym.core import State, World
from ecg_gym.envs.config import EnvConfig, EnvProperties, make_setup
from ecg_gym.envs.episode import Episode, Outcome
from ecg_gym.envs.info import one
from ecg_gym.envs.scenarios import Scenario, load_scenarios
from ecg_gym.streams import Streams

RENDER_MODES = ("rgb_array", "ansi")


class ECGInterventionEnv(EnvProperties, gym.Env):
    """Choose drugs for a heart and see the ECG ``dt_hours`` later. Research only, never bedside.

    ==============  ====================================================================================================
    Action          ``Discrete(n)``: 0 watch and wait, others a standard dose of the menu (``env.unwrapped.menu``).
                    With ``actions="multidiscrete"``: drug x dose level.
    Mask            ``action_masks()`` (bool, for sb3-contrib), ``info["action_mask"]`` (int8): what the clinical rules
                    allow now; with ``mask="indications"`` of that what has an indication. What is not allowed is a
                    noop, ends the episode or raises: ``invalid_action``.
    Observation     ``obs="features"``: ``Box(-1, 1, (d,))``, named by ``env.unwrapped.feature_names``; 0 where unknown,
                    with a known flag. ``"waveform"`` and ``"latent"`` put the strip [mV] or the latent beside it.
    Tier            how hard it is to see: ``clean``, ``variation`` (default), ``noisy``, ``missing`` leads, ``delayed``
                    strips; each adds to the one before. Reward and cost are always those of the true strip.
    Reward          minus the risk of the new strip against the episode's first, in [-1, 0]; a lethal rhythm costs
                    ``-(horizon + steps left)``, which is worse than any survival. ``burden`` is a cost per dose;
                    ``reward="package.module:name"`` is your own. ``info["reward_terms"]`` sums to it.
    Cost            ``info["cost"]`` in [0, 1]: the safety part of the risk; by hazard in ``info["costs"]``.
    Starts          with a person of the scenario's population, or with your record: ``reset(options={"ecg": path})``.
    Ends            ``terminated`` at a lethal rhythm (or a strip that is not finite); truncated after 8 steps by
                    ``gym.make``'s TimeLimit (for longer: ``gym.make(id, max_episode_steps=24, horizon=24)``); a step
                    after the end raises.
    Info            the same keys at reset and step: risk and its terms, cost, intervals with known flags, hours, what
                    was given, whether it was refused, the hash of the weights. ``privileged=True`` adds
                    ``info["truth_*"]`` where the world knows the truth.
    reset(options)  ``scenario``, ``patient``, ``ecg``, ``given``; see :func:`ecg_gym.envs.reset.start`. Other keys are
                    errors.
    Ids             ``ECGIntervention-v0`` (learned world), ``ECGInterventionOracle-v0`` (virtual patient), and for each
                    scenario and tier ``ECG/AFRapidResponse-v0``, ``ECGOracle/AFRapidResponse-Noisy-v0``, ...
    Many at once    ``gym.make_vec(id, num_envs=64)`` is one batched env: the same episodes for the same seeds.
    ==============  ====================================================================================================

    Arguments are the fields of :class:`~ecg_gym.envs.config.EnvConfig`, and ``render_mode``.
    Copies and pickles continue identically; weights are shared, and loaded again by name where a pickle is opened.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, world: str | World = "model", *, render_mode: str | None = None, **arguments: Any) -> None:
        self.setup = make_setup(EnvConfig(world, **arguments))
        self.render_mode = checked_render_mode(render_mode)
        self.action_space = self.setup.action_space
        self.observation_space = self.setup.observation_space
        self._episode: Episode | None = None
        self._outcome: Outcome | None = None
        self._streams: Streams | None = None  # of the episode

    # --- what may be known from outside ------------------------------------------------------------------------------

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

    @episode.setter
    def episode(self, episode: Episode) -> None:
        """Go on from another episode of the same task, a batch of one; ``ValueError`` for another menu or size."""
        if len(episode) != 1 or episode.allowed.shape[1] != len(self.menu):
            raise ValueError(
                f"the episode has {len(episode)} rows and masks of {episode.allowed.shape[1]} treatments; expected one "
                f"row and {len(self.menu)}; take it from an env with the same arguments"
            )
        self._episode, self._outcome = episode, None

    @property
    def scenario(self) -> Scenario:
        """The scenario of the episode so far."""
        return tuple(load_scenarios().values())[int(self.episode.scenario[0])]

    def observation(self) -> Any:
        """What an agent sees now: what the last reset or step returned."""
        return self._observation()

    def action_masks(self) -> np.ndarray:
        """Allowed actions, bool, as sb3-contrib wants them; before the first reset everything is."""
        everything = np.ones(len(self.menu), dtype=bool)
        return self.setup.code.mask(everything if self._episode is None else self._episode.allowed[0])

    # --- Gymnasium ---------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observation and info of a new patient."""
        super().reset(seed=seed)
        if seed is not None or self._streams is None:
            streams = Streams.start(self.np_random.integers(0, 2**64, (1, 2), dtype=np.uint64))
        else:
            streams = self._streams.next_episode()
        self._episode, self._outcome, self._streams = self.setup.begin(streams, options), None, streams
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Give what the action means, wait ``dt_hours``, look again.

        Raises ``gymnasium.error.ResetNeeded`` once the episode has ended.
        """
        if self._outcome is not None and (self._outcome.terminated[0] or self._outcome.truncated[0]):
            raise gym.error.ResetNeeded(
                "the episode has ended; expected a reset before the next step; call env.reset()"
            )
        entry = self.setup.code.entry(action)
        episode = self.episode
        assert self._streams is not None  # there is an episode
        self._episode, self._outcome = self.setup.advance(episode, [entry], self._streams.after(episode.steps + 1))
        ends = bool(self._outcome.terminated[0]), bool(self._outcome.truncated[0])
        return self._observation(), float(self._outcome.reward[0]), *ends, self._info()

    def render(self) -> Any:
        """The strip on ECG paper ``(H, W, 3) uint8`` or one line of text, as ``render_mode`` says."""
        from ecg_gym.envs import rendering

        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode shows nothing; pass gym.make(..., render_mode='ansi')")
            return None
        draw = {"rgb_array": rendering.picture, "ansi": rendering.line}[self.render_mode]
        return draw(self.episode, self._outcome)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _observation(self) -> Any:
        batch = self.setup.observation(self.episode)
        return {name: part[0] for name, part in batch.items()} if isinstance(batch, dict) else batch[0]

    def _info(self) -> dict[str, Any]:
        return one(self.setup.info(self.episode, self._outcome))


def checked_render_mode(mode: str | None) -> str | None:
    """The mode itself, if there is one of that name."""
    if mode is not None and mode not in RENDER_MODES:
        raise ValueError(f"render_mode is {mode!r}; expected one of {RENDER_MODES}; or leave it out")
    return mode
