"""``ECGInterventionVectorEnv``: many episodes as one batch, made by ``gym.make_vec``.

Row i draws from its own generator exactly as a single env with its seed would, so rows can be compared with single
envs, and with ``deterministic="batch"`` a row of a large run can be replayed alone, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from ecg_gym.core import World
from ecg_gym.envs.config import EnvConfig, EnvProperties, as_options, make_setup
from ecg_gym.envs.env import ECGInterventionEnv, checked_render_mode
from ecg_gym.envs.episode import Episode, Outcome
from ecg_gym.envs.info import spread
from ecg_gym.streams import Streams

MASK = "reset_mask"


class ECGInterventionVectorEnv(EnvProperties, VectorEnv):
    """A batch of :class:`~ecg_gym.envs.ECGInterventionEnv`, stepped together; it takes the same arguments.

    ``autoreset_mode`` is ``"NextStep"`` (default), ``"SameStep"`` (``info["final_obs"]``, ``info["final_info"]``) or
    ``"Disabled"`` (``reset(options={"reset_mask": (num_envs,) bool})``). ``max_episode_steps`` truncates before the
    horizon. Seeds: ``reset(seed=5)`` gives row i the seed 5 + i. ``action_masks()`` and ``info["action_mask"]`` are
    ``(num_envs, A)``.
    """

    metadata = dict(ECGInterventionEnv.metadata)  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        num_envs: int = 1,
        world: str | World = "model",
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; expected at least 1; pass num_envs=8")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}; expected at least 1, or None for no limit")
        self.setup = make_setup(EnvConfig(world, **arguments))
        self.render_mode = checked_render_mode(render_mode)
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_action_space = self.setup.action_space
        self.single_observation_space = self.setup.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._streams = Streams.start(np.zeros((num_envs, 2), np.uint64))  # of each row's episode
        self._seeded = np.zeros(num_envs, bool)
        self._over = np.zeros(num_envs, bool)  # rows whose episode has ended
        self._outcome: Outcome | None = None  # what the last step brought
        self._fresh = np.ones(num_envs, bool)  # rows that it reset
        self._episode: Episode | None = None
        self._pool: Episode | None = None  # the episodes that follow, where they cost little: made for many at once
        self._pooled = np.zeros(num_envs, bool)

    # --- what may be known from outside ------------------------------------------------------------------------------

    @property
    def episode(self) -> Episode:
        """All episodes as they stand, a batch; ``RuntimeError`` before the first reset."""
        if self._episode is None:
            raise RuntimeError("the envs have no episodes yet; expected a reset first; call envs.reset(seed=0)")
        return self._episode

    def action_masks(self) -> np.ndarray:
        """Allowed actions ``(num_envs, A)`` bool; before the first reset everything is."""
        if self._episode is None:
            everything = np.ones(len(self.menu), bool)
            return np.stack([self.setup.code.mask(everything)] * self.num_envs)
        return self.setup.masks(self.episode)

    # --- Gymnasium ---------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """New patients in all rows, or in those of ``options["reset_mask"]``; other options hold for every row."""
        value = as_options(options)
        mask = self._rows_of(value.pop(MASK)) if MASK in value else np.ones(self.num_envs, bool)
        rows = np.flatnonzero(mask)
        if self._episode is None and len(rows) < self.num_envs:
            raise ValueError(
                f"reset_mask names {len(rows)} of {self.num_envs} rows; expected all at the first reset; leave it out"
            )
        self._seed(mask, self._seeds(seed))
        self._pooled[:] = False
        self._put([(rows, self.setup.begin(self._streams.take(rows), value or None))])
        self._over[rows] = False
        self._outcome, self._fresh = None, np.ones(self.num_envs, bool)
        info = self.setup.info(self.episode if len(rows) == self.num_envs else self.episode[rows], None)
        return self.setup.observation(self.episode), spread(info, rows, self.num_envs)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every row; rows that ended start anew as ``autoreset_mode`` says."""
        n = self.num_envs
        if self.autoreset_mode == AutoresetMode.DISABLED and self._over.any():
            raise ValueError(
                f"rows {np.flatnonzero(self._over).tolist()} have ended; expected a reset of them first; call "
                "envs.reset(options={'reset_mask': terminated | truncated})"
            )
        entries = self._entries(actions)
        over, same = self._over, self.autoreset_mode == AutoresetMode.SAME_STEP
        truncated, final, lasting = np.zeros(n, bool), {}, np.flatnonzero(~over)
        parts, outcome, anew = [], None, np.flatnonzero(over)
        if len(lasting):
            # without strips it costs less to step ended rows too than to take the others out of the batch
            going = np.arange(n) if self.task.fidelity == "vitals" else lasting
            whole = len(going) == n
            before = self.episode if whole else self.episode[going]
            streams = self._streams if whole else self._streams.take(going)
            after, outcome = self.setup.advance(
                before, np.where(over, 0, entries)[going], streams.after(before.steps + 1)
            )
            outcome = outcome.among(going, n, lasting)
            parts = [(going, after)]
            truncated |= outcome.truncated
            if self.max_episode_steps is not None:
                truncated[going] |= after.steps >= self.max_episode_steps
                truncated[anew] = False
        ended = truncated if outcome is None else truncated | outcome.terminated
        if same and ended.any():
            anew = np.flatnonzero(ended)
            final = self._final(after, outcome, anew)
        if len(anew):
            parts.append((anew, self._following(anew)))
        self._put(parts)
        self._over = np.zeros(n, bool) if same else ended
        self._outcome, self._fresh = outcome, np.zeros(n, bool)
        self._fresh[anew] = True
        result = outcome
        if outcome is not None and same and len(anew):  # nothing is told of a step to rows that begin
            result = outcome.among(np.arange(n), n, np.flatnonzero(~self._fresh))
        info = spread(self.setup.info(self.episode, result, self._fresh), np.arange(n), n) | final
        rewards = np.zeros(n) if outcome is None else outcome.reward
        terminated = np.zeros(n, bool) if outcome is None else outcome.terminated
        return self.setup.observation(self.episode), rewards, terminated, truncated, info

    def render(self) -> tuple[Any, ...] | None:
        """A picture or a line of each row, as ``render_mode`` says."""
        from ecg_gym.envs import rendering

        if self.render_mode is None:
            return None
        draw = {"rgb_array": rendering.picture, "ansi": rendering.line}[self.render_mode]
        last = self._outcome
        outcomes = [None if last is None or self._fresh[row] else last.row(row) for row in range(self.num_envs)]
        return tuple(draw(self.episode[[row]], outcome) for row, outcome in enumerate(outcomes))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _following(self, rows: np.ndarray) -> Episode:
        """The episodes that follow in ``rows``. Without strips they are made for every row that lacks its next one."""
        streams = self._streams.next_episode()
        self._streams = replace(self._streams, episode=np.where(np.isin(np.arange(self.num_envs), rows),
                                                                streams.episode, self._streams.episode))  # fmt: skip
        if self.task.fidelity != "vitals":
            return self.setup.begin(streams.take(rows), None)
        if self._pool is None or not self._pooled[rows].all():
            lacking = np.flatnonzero(~self._pooled)
            episodes = self.setup.begin(streams.take(lacking), None)
            self._pool = episodes if self._pool is None or len(lacking) == self.num_envs else self._pool.placed(
                [(lacking, episodes)])  # fmt: skip
            self._pooled[:] = True
        self._pooled[rows] = False
        return self._pool[rows]

    def _final(self, last: Episode, outcome: Outcome | None, ended: np.ndarray) -> dict[str, Any]:
        """What the rows that ended in this step saw last: ``final_obs`` and ``final_info``."""
        assert outcome is not None  # they took a step
        last, n = last[ended], self.num_envs
        batch, final = self.setup.observation(last), np.full(n, None, dtype=object)
        for i, row in enumerate(ended):
            final[row] = {k: part[i] for k, part in batch.items()} if isinstance(batch, dict) else batch[i]
        there = np.isin(np.arange(n), ended)
        value = self.setup.info(last, outcome.take(ended))
        return {"final_obs": final, "_final_obs": there, "final_info": spread(value, ended, n),
                "_final_info": there.copy()}  # fmt: skip

    def _put(self, parts: list[tuple[np.ndarray, Episode]]) -> None:
        """The parts in their rows, later ones over earlier ones, the other rows as they were."""
        (rows, first), *more = parts
        if len(rows) == self.num_envs:
            self._episode = first.placed(more) if more else first
        else:
            self._episode = self.episode.placed(parts)

    def _seed(self, mask: np.ndarray, seeds: Sequence[int | None]) -> None:
        """New streams for the chosen rows: of their seed, of chance, or of the episode that follows theirs."""
        following = self._streams.next_episode()
        key, episode = self._streams.key.copy(), self._streams.episode.copy()
        for row in np.flatnonzero(mask).tolist():
            if seeds[row] is not None or not self._seeded[row]:
                generator = seeding.np_random(seeds[row])[0]
                key[row], episode[row] = generator.integers(0, 2**64, (1, 2), dtype=np.uint64)[0], 0
            else:
                episode[row] = following.episode[row]
        self._seeded |= mask
        self._streams = replace(self._streams, key=key, episode=episode)

    def _entries(self, actions: Any) -> np.ndarray:
        """The menu entries ``(num_envs,)`` of a batch of actions."""
        n = self.num_envs
        if isinstance(actions, np.ndarray) and actions.shape == (n,):
            return self.setup.code.entries(actions, n)
        try:
            each = list(iterate(self.action_space, actions))
        except TypeError as error:
            raise ValueError(
                f"actions are {str(actions)[:100]!r}; expected one per env, {n} in all; draw them with "
                "envs.action_space.sample()"
            ) from error
        entries = np.array([self.setup.code.entry(action) for action in each])
        if len(entries) != n:
            raise ValueError(f"{len(entries)} actions for {n} envs; expected one each; use envs.action_space")
        return entries

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One seed per row; None leaves a row's generator as it is."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} envs; expected one each; or pass one number")
        return list(seed)

    def _rows_of(self, mask: Any) -> np.ndarray:
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise ValueError(
                f"reset_mask is {mask!r}; expected a bool array of shape ({self.num_envs},); "
                "pass terminated | truncated"
            )
        if not mask.any():
            raise ValueError("reset_mask names no row; expected at least one True; leave it out to reset all")
        return mask
