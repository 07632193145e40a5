"""``pose``: the arguments of an env made into what it works with. Shared by the single env and the vector env."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from ecg_gym.core import State, Treatment, World, _is_number
from ecg_gym.envs import dynamics
from ecg_gym.envs.actions import ActionCode, action_code
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import INVALID, Episode, Outcome, Reward
from ecg_gym.envs.info import Columns, columns
from ecg_gym.envs.loading import load_reward, load_risk, load_world
from ecg_gym.envs.observability import USUAL, Tier, tier_named
from ecg_gym.envs.observations import Layout, space
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import Scenario, scenario_named
from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.registration import HORIZON
from ecg_gym.risk import RiskModel

DETERMINISTIC = (None, "batch")
MOST_STEPS = 1_000_000  # of an episode
LONGEST_STEP_HOURS = 168.0  # a week between two looks
MOST_SAMPLES = 4096  # futures judged per step: a number beyond it is a slip, and would ask for all memory


@dataclass(frozen=True, eq=False)
class EnvSetup:
    """Everything about an env that never changes; copies share it, pickles name what can be loaded again by name."""

    task: Task
    code: ActionCode
    scenario: Scenario
    obs: str
    privileged: bool
    arguments: Mapping[str, Any] = field(repr=False)

    @property
    def action_space(self) -> spaces.Space:
        """The space of one env's actions."""
        return self.code.space()

    @property
    def observation_space(self) -> spaces.Space:
        """The space of one env's observations."""
        return space(self.obs, self.task.layout, getattr(self.task.world, "latent_shape", None))

    def begin(self, rngs: Sequence[np.random.Generator], options: Mapping[str, Any] | None) -> Episode:
        """New episodes, one per generator."""
        state: State = start(self.task.world, self.scenario, rngs, options, self.task.tier)
        return dynamics.begin(self.task, state, rngs)

    def advance(
        self, episode: Episode, entries: Sequence[int], rngs: Sequence[np.random.Generator]
    ) -> tuple[Episode, Outcome]:
        """One step of every row."""
        return dynamics.advance(self.task, episode, entries, rngs)

    def observation(self, episode: Episode) -> Any:
        """What the agents see: an array ``(B, d)``, or a dict of arrays."""
        seen = dynamics.features(self.task, episode)
        if self.obs == "waveform":
            return {"ecg": dynamics.strips(episode), "features": seen}
        if self.obs == "latent":
            return {"latent": dynamics.latents(episode), "features": seen}
        return seen

    def masks(self, episode: Episode) -> np.ndarray:
        """Actions that are allowed now ``(B, A)`` bool."""
        return np.stack([self.code.mask(row) for row in episode.allowed])

    def info(self, episode: Episode, outcome: Outcome | None) -> Columns:
        """The infos of all rows."""
        return columns(self.task, episode, outcome, self.masks(episode), self.privileged)

    def __deepcopy__(self, memo: dict[int, Any]) -> EnvSetup:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _setup_again, (dict(self.arguments),)


class EnvProperties:
    """What may be known from outside about an env, single or vector: the same properties of its problem."""

    _problem: EnvSetup

    @property
    def menu(self) -> tuple[Treatment, ...]:
        """The treatments behind the actions, watch and wait first."""
        return self._problem.task.menu

    @property
    def scenario(self) -> Scenario:
        """Whom episodes start with, and the drugs at hand."""
        return self._problem.scenario

    @property
    def tier(self) -> Tier:
        """How hard it is to see."""
        return self._problem.task.tier

    @property
    def task(self) -> Task:
        """World, risk, menu, horizon, reward and tier, for planners; never for policies."""
        return self._problem.task

    @property
    def layout(self) -> Layout:
        """What the numbers of the feature vector mean; see :func:`ecg_gym.envs.observations.describe`."""
        return self._problem.task.layout

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per number of the feature vector."""
        return self._problem.task.layout.names

    @property
    def world(self) -> World:
        """The world this env runs on; shared between envs, so leave it as it is."""
        return self._problem.task.world

    @property
    def risk(self) -> RiskModel:
        """What judges the strips."""
        return self._problem.task.risk

    def treatment(self, action: Any) -> Treatment:
        """The treatment that an action means."""
        return self.menu[self._problem.code.entry(action)]

    def action(self, treatment: Treatment) -> Any:
        """The action that means a treatment of the menu."""
        if treatment not in self.menu:
            raise ValueError(f"{treatment} is not on the menu; expected one of {len(self.menu)} entries; see env.menu")
        return self._problem.code.action(self.menu.index(treatment))


def make_setup(
    world: str | World,
    risk: str | RiskModel,
    scenario: str,
    *,
    drugs: Sequence[str] | None = None,
    actions: str = "discrete",
    obs: str = "features",
    tier: str = USUAL,
    invalid_action: str = "noop",
    horizon: int = HORIZON,
    dt_hours: float | None = None,
    knobs: Mapping[str, Any] | None = None,
    deterministic: str | None = None,
    reward: str | Reward = "risk",
    burden: float = 0.0,
    samples: int = 1,
    risk_aversion: float = 0.0,
    privileged: bool = False,
) -> EnvSetup:
    """The arguments of :class:`~ecg_gym.envs.ECGInterventionEnv`, checked and made into a :class:`Problem`."""
    arguments = dict(locals())
    if invalid_action not in INVALID:
        raise ValueError(f"invalid_action is {invalid_action!r}; expected one of {INVALID}; pass 'noop'")
    if deterministic not in DETERMINISTIC:
        raise ValueError(f"deterministic is {deterministic!r}; expected one of {DETERMINISTIC}; leave it out")
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (horizon, samples))
    if not whole or not 1 <= horizon <= MOST_STEPS or not 1 <= samples <= MOST_SAMPLES:
        raise ValueError(
            f"horizon is {horizon!r} and samples {samples!r}; expected whole numbers from 1 up to {MOST_STEPS} and "
            f"{MOST_SAMPLES}; leave them out"
        )
    if knobs is not None and not isinstance(knobs, Mapping):
        raise TypeError(f"knobs are {knobs!r}; expected a dict of fields of the world; pass knobs={{'steps': 2}}")
    if not _is_number(risk_aversion) or risk_aversion < 0:
        raise ValueError(f"risk_aversion is {risk_aversion!r}; expected a finite number from 0; leave it out")
    if dt_hours is not None and (not _is_number(dt_hours) or not 0 < dt_hours <= LONGEST_STEP_HOURS):
        raise ValueError(
            f"dt_hours is {dt_hours!r}; expected a positive number of hours up to {LONGEST_STEP_HOURS:g}; leave it out"
        )
    if drugs is not None and (isinstance(drugs, str) or not isinstance(drugs, Sequence)):
        raise TypeError(f"drugs are {drugs!r}; expected a list of names; pass drugs=['metoprolol']")
    if not isinstance(risk, str) and not callable(risk):
        raise TypeError(f"risk is {risk!r}; expected 'adverse', 'limits', 'max' or a RiskModel; leave it out")
    if not isinstance(reward, str) and not callable(reward):
        raise TypeError(f"reward is {reward!r}; expected 'risk', 'package.module:name' or a function; leave it out")
    seeing = tier_named(tier)
    if obs == "latent" and not (seeing.clear and not seeing.delayed):
        raise ValueError(
            f"obs is 'latent' in the tier {tier!r}; expected one in which all is seen: the latent is the world's "
            "own and would show what the tier hides; pass obs='features' or obs='waveform'"
        )
    row = scenario_named(scenario)
    menu: tuple[Treatment, ...] = row.menu if drugs is None else FORMULARY.menu(drugs)
    layout = Layout(menu, dynamics.finding_names(), tuple(CONDITIONS))
    task = Task(
        world=_world(world, dt_hours, knobs, deterministic),
        risk=_risk(risk, deterministic),
        menu=menu,
        layout=layout,
        horizon=horizon,
        invalid=invalid_action,
        samples=samples,
        risk_aversion=risk_aversion,
        reward=load_reward(reward, burden),
        tier=seeing,
    )
    problem = EnvSetup(task, action_code(actions, menu), row, obs, privileged, arguments)
    problem.observation_space  # noqa: B018 - says now what is wrong with `obs`
    return problem


def _setup_again(arguments: dict[str, Any]) -> EnvSetup:
    return make_setup(**arguments)


def _world(
    world: str | World, dt_hours: float | None, knobs: Mapping[str, Any] | None, deterministic: str | None
) -> World:
    """The world, turned as asked; named ones are made once per process."""
    turned = dict(knobs or {})
    if deterministic and not isinstance(world, str):
        turned["deterministic"] = deterministic
    if isinstance(world, str):
        if deterministic and hasattr(load_world(world, dt_hours), "deterministic"):
            turned["deterministic"] = deterministic
        return load_world(world, dt_hours, tuple(sorted(turned.items())))
    if not isinstance(world, World):  # such as what JSON makes of a live one
        raise TypeError(f"world is {str(world)[:80]!r}; expected a name or a World; pass world='package.module:Name'")
    if dt_hours is not None:
        turned["dt_hours"] = dt_hours
    turned = {name: value for name, value in turned.items() if name != "deterministic" or hasattr(world, name)}
    return replace(world, **turned) if turned else world  # type: ignore[type-var]


def _risk(risk: str | RiskModel, deterministic: str | None) -> RiskModel:
    if isinstance(risk, str):
        return load_risk(risk, deterministic)
    if isinstance(risk, type) or not callable(risk):
        raise ValueError(
            f"risk is {str(risk)[:60]!r}; expected a name such as 'adverse' or a RiskModel; "
            "pass the model, not its class"
        )
    return risk
