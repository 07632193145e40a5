"""Small random decision problems whose optimum is known: what every planner is measured on before it meets a heart.

    problem = RandomMDP(seed=3)
    problem.value()                      # (states,): the best expected return from each state, by backward induction
    env = problem.env()                  # the same problem as an environment that any planner can sit beside
    shares = optimality(lambda env: CEMPlanner(env, budget=400), problems=range(20))

A problem has a few states, of which the strip tells which one it is, and steps that lead to one of ``branching`` next
states by chance. A state costs a risk in [0, 1]. So a plan that does not look at what happened (an open loop) cannot
be optimal, and the share of the optimum that a planner reaches can be told exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from ecg_gym.core import ECG, MODEL_SAMPLES, Administration, Patient, Randomness, State, Treatment, row_generators
from ecg_gym.waveform.intervals import NUMERIC, Intervals
from planners.base import Planner

DRUGS = ("placebo", "magnesium", "propofol", "salbutamol")  # of one dose each: the actions besides watching
LEAST_BPM, BPM_PER_STATE = 60.0, 4.0  # the rate tells the state, and stays where no clinical rule forbids anything
LEVEL_MV = 0.1  # of a flat strip per state
PERSON = Patient(50.0, "F", 70.0, potassium=4.4, magnesium=0.9)


@dataclass(frozen=True)
class RandomMDP:
    """A problem drawn from its seed.

    Risks are uniform in [0, 1]; each (state, action) leads to ``branching`` states drawn without replacement, with
    probabilities from a flat Dirichlet distribution; an episode begins in state 0 and lasts ``horizon`` steps.
    """

    seed: int = 0
    states: int = 8
    actions: int = 4  # with watching, at most 1 + len(DRUGS)
    branching: int = 3
    horizon: int = 4  # steps

    def __post_init__(self) -> None:
        if not 2 <= self.actions <= 1 + len(DRUGS) or not 1 <= self.branching <= self.states or self.horizon < 1:
            raise ValueError(
                f"actions, branching, states, horizon are {self.actions}, {self.branching}, {self.states}, "
                f"{self.horizon}; expected 2 to {1 + len(DRUGS)} actions, a branching of at most the states and at "
                "least one step; leave them out"
            )

    @cached_property
    def risks(self) -> np.ndarray:
        """What a step into each state costs ``(states,)`` in [0, 1]."""
        return np.random.default_rng([self.seed, 0]).random(self.states)

    @cached_property
    def transitions(self) -> np.ndarray:
        """Probabilities ``(states, actions, states)`` of the next state."""
        rng, table = np.random.default_rng([self.seed, 1]), np.zeros((self.states, self.actions, self.states))
        for state in range(self.states):
            for action in range(self.actions):
                after = rng.choice(self.states, self.branching, replace=False)
                table[state, action, after] = rng.dirichlet(np.ones(self.branching))
        return table

    def value(self, policy: str = "best") -> np.ndarray:
        """Expected undiscounted returns ``(states,)`` over the horizon: of the ``"best"`` policy, or of ``"random"``.

        Backward induction (Bellman 1957, Dynamic Programming): V_h(s) = max_a sum_s' P(s' | s, a) (V_{h-1}(s') -
        risk(s')), or the mean over a.
        """
        value = np.zeros(self.states)
        for _ in range(self.horizon):
            action_values = self.transitions @ (value - self.risks)
            value = action_values.max(axis=1) if policy == "best" else action_values.mean(axis=1)
        return value

    def env(self) -> gym.Env:
        """The problem as ``ECGInterventionEnv``; every action is allowed at every step."""
        return gym.make(
            "ecg_gym:ECGIntervention-v0", world=MDPWorld(self), risk=MDPRisk(self), scenario="healthy_volunteer",
            drugs=list(DRUGS[: self.actions - 1]), horizon=self.horizon, disable_env_checker=True,
        )  # fmt: skip


@dataclass(frozen=True)
class MDPWorld:
    """The world of a problem: a flat strip whose level tells the state; doses leave no trace."""

    problem: RandomMDP
    dt_hours: float = 1.0

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` times state 0."""
        return self._state(np.zeros(n, int), np.zeros(n), np.ones(n, bool))

    def observe(self, ecg: ECG, patient: Patient, doses: Sequence[Administration] = ()) -> State:
        """The state that the strip tells."""
        return self._state(place_of(ecg.signal.reshape(-1, *ecg.signal.shape[-2:])), np.zeros(1), np.ones(1, bool))

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """One draw of the next state for each row."""
        actions = [1 + DRUGS.index(t.doses[0].drug) if t.doses else 0 for t in treatments]
        chances = np.cumsum(self.problem.transitions[state.inner["place"], actions], axis=1)
        u = np.array([generator.random() for generator in row_generators(rng, len(state))])
        place = np.minimum((chances < u[:, None]).sum(axis=1), self.problem.states - 1)
        return self._state(place, state.hours + self.dt_hours, state.alive)

    def _state(self, place: np.ndarray, hours: np.ndarray, alive: np.ndarray) -> State:
        strips = np.broadcast_to((LEVEL_MV * place).astype(np.float32)[:, None, None], (len(place), 12, MODEL_SAMPLES))
        return State(strips, (PERSON,) * len(place), ((),) * len(place), hours, alive, {"place": place})


@dataclass(frozen=True)
class MDPJudgement:
    """What ``MDPRisk`` says of B strips; the fields of ``ecg_gym.risk.Risk``."""

    total: np.ndarray
    cost: np.ndarray
    terms: Mapping[str, np.ndarray]
    intervals: Intervals
    probabilities: np.ndarray
    finite: np.ndarray


@dataclass(frozen=True)
class MDPRisk:
    """The risk of the state that a strip tells."""

    problem: RandomMDP
    sha256: str = ""

    def __call__(
        self, before: np.ndarray, after: np.ndarray, patients: Sequence[Patient], alive: np.ndarray | None = None
    ) -> MDPJudgement:
        """Risks ``(B,)`` of strips ``after (B, 12, 1024)``; the rate tells the state, nothing else is measured."""
        place = place_of(after)
        total, n = self.problem.risks[place], len(place)
        columns = {name: np.full(n, np.nan) for name in NUMERIC}
        columns |= {"hr_bpm": LEAST_BPM + BPM_PER_STATE * place, "p_present": np.ones(n, bool),
                    "regular": np.ones(n, bool), "n_beats": np.full(n, 10)}  # fmt: skip
        intervals = Intervals(**columns, reason=("",) * n)
        return MDPJudgement(total, total, {"state": total}, intervals, np.full((n, 17), np.nan), np.ones(n, bool))


def place_of(strips: np.ndarray) -> np.ndarray:
    """The states ``(B,)`` that flat strips ``(B, 12, 1024)`` [mV] tell."""
    return np.rint(strips[:, 1, 0] / LEVEL_MV).astype(int)


@dataclass(frozen=True)
class Optimality:
    """What share of the optimum a planner reaches: 0 is acting at random, 1 the best policy there is."""

    share: float  # (mean return - random) / (optimum - random), returns and values summed over the problems
    standard_error: float  # of the share, over problems
    model_calls: float  # per decision


def optimality(
    make: Callable[[gym.Env], Planner], problems: Iterable[int] = range(20), episodes: int = 20, **size: int
) -> Optimality:
    """How near a planner comes to the optimum over random problems, ``episodes`` of each.

    ``make(env)`` makes the planner; ``size`` are the problems' ``states``, ``actions``, ``branching`` and ``horizon``.
    """
    won, possible, calls, decisions = [], [], 0, 0
    for seed in problems:
        problem = RandomMDP(seed, **size)
        env = problem.env()
        planner, total = make(env), 0.0
        for episode in range(episodes):
            luck = 1000 * seed + episode  # luck shared by all problems would not average out
            obs, info = env.reset(seed=luck)
            planner.reset(luck)
            over = False
            while not over:
                action, decision = planner.act(obs, info)
                obs, reward, terminated, truncated, info = env.step(action)
                total, over = total + float(reward), terminated or truncated
                calls, decisions = calls + decision.model_calls, decisions + 1
        floor = float(problem.value("random")[0])
        won.append(total / episodes - floor)
        possible.append(float(problem.value()[0]) - floor)
    gain, most = np.array(won), np.array(possible)
    share = gain.sum() / most.sum()
    error = np.std(gain - share * most, ddof=1) * np.sqrt(len(gain)) / most.sum() if len(gain) > 1 else np.nan
    return Optimality(float(share), float(error), calls / max(1, decisions))
