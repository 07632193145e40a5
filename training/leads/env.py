"""``LEADS/Discovery-v0``: one episode is one patient's recordings and a budget of fits.

Action space: ``Discrete(27)``, an edit of the best structure so far.

| number | action |
|---|---|
| 0-7 | reaction fhn, rm, ap, ms, mms, fk, bocf, neural |
| 8-15 | diffusion iso, aniso, spline, nodes, edge_mlp, gcn, flux_mlp, free |
| 16, 17 | add or remove the residual network |
| 18, 19 | widen or narrow networks and fields |
| 20, 21 | regulariser up or down |
| 22, 23 | refine the diffusion by one rung of the ladder; simplify (the residual goes first) |
| 24, 25 | more iterations; restart from other parameters |
| 26 | stop |

``action_masks()`` (and ``info["action_mask"]``) is true where an action leads to a candidate that was not fitted in
this episode. An action outside it costs one fit of the budget and changes nothing.

Observation space: ``Dict``, all float32, nothing that the truth alone could tell.

| key | shape | what |
|---|---|---|
| candidates | (12, 44) | the last 12 candidates, newest first: one-hot spec, then ``CANDIDATE_NUMBERS`` |
| best | (25,) | one-hot spec of the best |
| diagnostics | (14,) | ``BEST_NUMBERS`` of the best |
| budget | (1,) | share of the budget that is left |

Reward: the drop of the best log10 validation error (it begins at that of a tissue at rest), minus 0.02 for each fit,
minus 0.05 log10 of the number of parameters when the episode ends. An unstable candidate never becomes the best.
The episode terminates with ``stop`` or with the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ecg_gym.tissue.spec import REACTIONS
from training.leads.outcome import Evaluator, Outcome
from training.leads.structure import ACTIONS, SPACES, STOP, Candidate, Space, features

if TYPE_CHECKING:
    from ecg_gym.tissue import DataSet

ROWS = 12  # candidates that are seen
FIT_COST, SIZE_COST = 0.02, 0.05
CANDIDATE_NUMBERS = (
    "log10_train_error", "log10_validation_error", "log10_gap", "activation_error_10ms", "apd_error_10ms",
    "second_beat_error_10ms", "smoothness_10ms", "missed_fraction", "log10_parameters", "log10_cpu_s", "residual_share",
    "effort", "restart", "stable", "is_best", "log10_gain", "apd_to_activation", "distance_correlation",
    "coupling_correlation",
)  # fmt: skip
BEST_NUMBERS = (
    "upstroke_error", "plateau_error", "repolarisation_error", "rest_error", "activation_error_10ms", "apd_error_10ms",
    "second_beat_error_10ms", "distance_correlation", "coupling_correlation", "field_roughness", "residual_share",
    "log10_gap", "missed_fraction", "log10_gain",
)  # fmt: skip
LIMIT = 20.0  # of every number that is seen
CHOICES = 25  # of a spec


class DiscoveryEnv(gym.Env[dict[str, np.ndarray], int]):
    """The environment. ``mode="table"`` replays fits made before; ``mode="live"`` fits ``data``."""

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - Gymnasium's own

    def __init__(
        self,
        data: DataSet | Sequence[DataSet] | None = None,
        mode: str | None = None,
        budget: int = 12,
        space: str | Space = "small",
        cases: Sequence[Any] | None = None,
        cache: Path | str | None = None,
        render_mode: str | None = None,
    ) -> None:
        """``data``: what to fit in live mode, one of them per episode (``reset(options={"case": 0})`` chooses).

        ``cases``: hearts of a table; default those of the shipped table. ``cache``: folder that keeps live fits.
        """
        mode = mode or ("table" if data is None else "live")
        if mode not in ("table", "live") or (mode == "live") != (data is not None):
            presence = "with" if data is not None else "without"
            raise ValueError(
                f"mode is {mode!r} {presence} data; expected 'table' without data or 'live' with data; leave mode out"
            )
        if isinstance(space, str) and space not in SPACES:
            raise ValueError(f"space is {space!r}; expected one of {tuple(SPACES)} or a Space; check the spelling")
        if budget < 1:
            raise ValueError(f"budget is {budget}; expected at least one fit; pass budget=12")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}; expected 'ansi' or None; correct it")
        self.space = SPACES[space] if isinstance(space, str) else space
        self.budget, self.render_mode = budget, render_mode
        self.evaluators = _evaluators(data, cases, None if cache is None else Path(cache))
        self.action_space: spaces.Space[Any] = spaces.Discrete(len(ACTIONS))
        box = lambda *shape: spaces.Box(-LIMIT, LIMIT, shape, np.float32)  # noqa: E731
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {
                "candidates": box(ROWS, CHOICES + len(CANDIDATE_NUMBERS)),
                "best": box(CHOICES),
                "diagnostics": box(len(BEST_NUMBERS)),
                "budget": box(1),
            }
        )
        self._steps = _Edits.of(self.space)
        self._evaluator: Evaluator | None = None

    # --- Gymnasium -------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """A new patient: drawn, or number ``options["case"]``."""
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - {"case"}:
            raise ValueError(f"options have {sorted(unknown)}; expected only 'case'; leave the others out")
        number = options.get("case", None)
        if number is None:
            number = int(self.np_random.integers(len(self.evaluators)))
        if not 0 <= number < len(self.evaluators):
            raise ValueError(f"case is {number}; expected 0 to {len(self.evaluators) - 1}; choose one of them")
        self.case_number, self._evaluator = number, self.evaluators[number]
        self._log_best = math.log10(self._evaluator.null_error)
        self._log_error = math.inf  # of the best candidate
        self._base, self._best = self.space.index[self.space.start], -1
        self._left, self._over = self.budget, False
        self.history: list[tuple[Candidate, Outcome]] = []
        self._has_fit = np.zeros(len(self.space.candidates), dtype=bool)
        self._table = np.zeros((ROWS, CHOICES + len(CANDIDATE_NUMBERS)), np.float32)
        self._best_row = np.zeros(len(BEST_NUMBERS), np.float32)
        self._available = self._steps.available(self._evaluator)
        return self._observation(), self._info()

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One fit, or the end."""
        if self._evaluator is None or self._over:
            raise RuntimeError("the episode is over or has not begun; expected reset() first; call env.reset()")
        number = int(action)
        if not 0 <= number < len(ACTIONS):
            raise ValueError(f"action is {action}; expected 0 to {len(ACTIONS) - 1}; see ACTIONS")
        reward, refused = 0.0, False
        if number == STOP:
            self._over = True
        else:
            refused = not self.action_masks()[number]
            reward = -FIT_COST
            self._left -= 1
            if not refused:
                reward += self._fit(int(self._steps.row(self._base)[number]))
            self._over = self._left == 0
        if self._over and (best := self.best) is not None:
            reward -= SIZE_COST * math.log10(max(1, best[1].n_parameters))
        return self._observation(), float(reward), self._over, False, self._info(refused)

    def action_masks(self) -> np.ndarray:
        """``(27,)`` bool: actions that lead to a candidate that was not fitted yet; stopping is always allowed."""
        row = self._steps.row(self._base)
        new = self._available[row] & ~self._has_fit[row]
        mask = new & (row != self._base)
        own = self._steps.own_reaction(self._base)  # before it is fitted, the start is chosen by its own reaction
        mask[own], mask[STOP] = new[own], True
        return mask

    def render(self) -> str | None:
        """A line for each candidate of the episode, the best marked."""
        if self.render_mode is None:
            return None
        best = self.best[0] if self.best else None
        return "\n".join(
            f"{'*' if candidate == best else ' '} {candidate!s:44} validation {outcome.validation_error:.5f}"
            + ("" if outcome.stable else "  unstable")
            for candidate, outcome in self.history
        )

    # --- what an episode knows -------------------------------------------------------------------------------------

    @property
    def best(self) -> tuple[Candidate, Outcome] | None:
        """The stable candidate with the least validation error, or None."""
        if self._best < 0:
            return None
        candidate = self.space.candidates[self._best]
        return candidate, next(outcome for other, outcome in self.history if other == candidate)

    def _fit(self, number: int) -> float:
        """Fit a candidate; the drop of the best log10 validation error."""
        assert self._evaluator is not None
        candidate = self.space.candidates[number]
        outcome = self._evaluator.evaluate(candidate)
        self.history.append((candidate, outcome))
        self._has_fit[number] = True
        log_error = math.log10(max(outcome.validation_error, 1e-12))
        drop = 0.0
        if outcome.stable and log_error < self._log_error:
            drop = max(0.0, self._log_best - log_error)
            self._base = self._best = number
            self._log_error, self._log_best = log_error, min(self._log_best, log_error)
        numbers = _numbers(candidate, outcome, self._evaluator.null_error)
        self._table[1:] = self._table[:-1]
        self._table[0, :CHOICES] = self._steps.one_hot[number]
        self._table[0, CHOICES:] = [numbers[name] for name in CANDIDATE_NUMBERS]
        if self._best == number:
            self._table[:, CHOICES + CANDIDATE_NUMBERS.index("is_best")] = 0.0
            self._table[0, CHOICES + CANDIDATE_NUMBERS.index("is_best")] = 1.0
            self._best_row[:] = [numbers[name] for name in BEST_NUMBERS]
        return drop

    def _observation(self) -> dict[str, np.ndarray]:
        best = self._steps.one_hot[self._best] if self._best >= 0 else np.zeros(CHOICES, np.float32)
        return {
            "candidates": self._table.copy(),
            "best": best.copy(),
            "diagnostics": self._best_row.copy(),
            "budget": np.array([self._left / self.budget], np.float32),
        }

    def _info(self, refused: bool = False) -> dict[str, Any]:
        return {"action_mask": self.action_masks(), "refused": refused, "fits": len(self.history)}


class _Edits:
    """The candidates that the actions lead to, by number, and the one-hot specs; shared by all envs of a space."""

    _of: dict[Space, _Edits] = {}  # noqa: RUF012 - a cache

    def __init__(self, space: Space) -> None:
        self.space = space
        self.one_hot = np.array(
            [[float(getattr(c.spec, name) == value) for name, value in features(space)] for c in space.candidates],
            np.float32,
        )
        self._rows: dict[int, np.ndarray] = {}
        self._available: dict[int, tuple[Evaluator, np.ndarray]] = {}

    @classmethod
    def of(cls, space: Space) -> _Edits:
        """The one of a space."""
        if space not in cls._of:
            cls._of[space] = cls(space)
        return cls._of[space]

    def row(self, base: int) -> np.ndarray:
        """``(27,)`` where each action leads from a candidate; an edit that leaves the space leads to itself."""
        if base not in self._rows:
            candidate, index = self.space.candidates[base], self.space.index
            edits = [self.space.apply(action, candidate) for action in ACTIONS]
            self._rows[base] = np.array([index.get(edit, base) for edit in edits])
        return self._rows[base]

    def own_reaction(self, base: int) -> int:
        """The action that names a candidate's own reaction."""
        return REACTIONS.index(self.space.candidates[base].spec.reaction)

    def available(self, evaluator: Evaluator) -> np.ndarray:
        """``(candidates,)`` bool: what the evaluator knows."""
        if id(evaluator) not in self._available:
            mask = np.array([evaluator.available(candidate) for candidate in self.space.candidates])
            self._available[id(evaluator)] = (evaluator, mask)  # held, so that the id stays its own
        return self._available[id(evaluator)][1]


def _evaluators(data: Any, cases: Sequence[Any] | None, cache: Path | None) -> list[Evaluator]:
    from training.leads.outcome import LiveEvaluator
    from training.leads.table import TableEvaluator, read_table

    if data is not None:
        many = list(data) if isinstance(data, Sequence) else [data]
        return [LiveEvaluator(one, cache) for one in many]
    return [TableEvaluator(case) for case in (cases if cases is not None else read_table())]


def _numbers(candidate: Candidate, outcome: Outcome, null_error: float) -> dict[str, float]:
    """Everything that is seen of a fit, bounded."""
    train, validation = (math.log10(max(x, 1e-12)) for x in (outcome.train_error, outcome.validation_error))
    notes = outcome.diagnostics
    activation, apd = notes["activation_error_ms"] / 10, notes["apd_error_ms"] / 10
    values = {
        **notes,
        "log10_train_error": train,
        "log10_validation_error": validation,
        "log10_gap": validation - train,
        "log10_gain": math.log10(null_error) - validation,
        "activation_error_10ms": activation,
        "apd_error_10ms": apd,
        "second_beat_error_10ms": notes["second_beat_error_ms"] / 10,
        "smoothness_10ms": notes["smoothness_ms"] / 10,
        "apd_to_activation": math.log10((apd + 0.01) / (activation + 0.01)),
        "log10_parameters": math.log10(max(1, outcome.n_parameters)),
        "log10_cpu_s": math.log10(max(1e-3, outcome.cpu_s)),
        "residual_share": outcome.residual_share,
        "effort": candidate.effort,
        "restart": float(candidate.restart),
        "stable": float(outcome.stable),
        "is_best": 0.0,
    }
    return {name: min(max(value, -LIMIT), LIMIT) for name, value in values.items()}
