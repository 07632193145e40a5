"""``pose``: the arguments of an env made into what it works with. Shared by the single env and the vector env."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from ecg_gym.core import State, Treatment, World, is_number
from ecg_gym.envs import dynamics
from ecg_gym.envs.actions import ActionCode, action_code
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import FIDELITIES, INVALID, Episode, Outcome, Reward
from ecg_gym.envs.info import Columns, columns
from ecg_gym.envs.loading import load_reward, load_risk, load_world, with_fields
from ecg_gym.envs.observability import USUAL, Tier, tier_named
from ecg_gym.envs.observations import Layout, space
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import Scenario, scenario_named
from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.powers import ReadsVitals, RepeatsBatches
from ecg_gym.registration import HORIZON
from ecg_gym.risk import RiskModel

DETERMINISTIC = (None, "batch")
MOST_STEPS = 1_000_000  # of an episode
LONGEST_STEP_HOURS = 168.0  # a week between two looks
MOST_SAMPLES = 4096  # futures judged per step: a number beyond it is a slip, and would ask for all memory


@dataclass(frozen=True, eq=False)
class EnvConfig:
    """The arguments of :class:`~ecg_gym.envs.ECGInterventionEnv` and of its vector env, spelt and checked once.

    All are names and numbers, so that a spec is JSON; a live world, risk or reward is taken too. Raises ValueError or
    TypeError for values that make no env.
    """

    world: str | World = "model"  # "model", "oracle", a path, "package.module:Name", or a World
    risk: str | RiskModel = "adverse"  # "limits", "mean", "max", "top3", "package.module:Name", a RiskModel
    scenario: str = "healthy_volunteer"  # whom episodes start with, and the drugs at hand
    drugs: Sequence[str] | None = None  # at hand instead of the scenario's
    actions: str = "discrete"  # or "multidiscrete"
    obs: str = "features"  # or "waveform", "latent"
    tier: str = USUAL  # how hard it is to see: "clean", "variation", "noisy", "missing", "delayed"
    invalid_action: str = "noop"  # or "terminate", "raise"
    mask: str = dynamics.CONTRAINDICATIONS  # or "indications": of what no rule forbids, what has an indication
    horizon: int = HORIZON  # [steps] an episode may last: gym.make's TimeLimit, which an env cannot see itself
    dt_hours: float | None = None  # [h] of a step; None is the world's own
    knobs: Mapping[str, Any] | None = None  # fields of the world, as {"sampler": "student", "steps": 2}
    deterministic: str | None = None  # "batch": a row's bits do not depend on its batch (slower for few rows)
    reward: str | Reward = "risk"  # "package.module:name", or a function of a Transition
    burden: float = 0.0  # what a dose costs in the usual reward
    samples: int = 1  # futures judged per step; the first is the one that happens
    risk_aversion: float = 0.0  # weight of the SD of those futures in the reward
    privileged: bool = False  # show the truth in info, where the world knows it
    fidelity: str = "strip"  # "vitals": readings without strips, some fifty times as fast

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()
        self._check_parts()

    def _check_words(self) -> None:
        if self.invalid_action not in INVALID:
            raise ValueError(f"invalid_action is {self.invalid_action!r}; expected one of {INVALID}; pass 'noop'")
        if self.fidelity not in FIDELITIES:
            raise ValueError(f"fidelity is {self.fidelity!r}; expected one of {FIDELITIES}; leave it out")
        if self.mask not in dynamics.MASKS:
            raise ValueError(f"mask is {self.mask!r}; expected one of {dynamics.MASKS}; leave it out")
        if self.deterministic not in DETERMINISTIC:
            raise ValueError(f"deterministic is {self.deterministic!r}; expected one of {DETERMINISTIC}; leave it out")
        tier = tier_named(self.tier)
        if self.obs == "latent" and not (tier.clear and not tier.delayed):
            raise ValueError(
                f"obs is 'latent' in the tier {self.tier!r}; expected one in which all is seen: the latent is the "
                "world's own and would show what the tier hides; pass obs='features' or obs='waveform'"
            )

    def _check_numbers(self) -> None:
        horizon, samples = self.horizon, self.samples
        whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (horizon, samples))
        if not whole or not 1 <= horizon <= MOST_STEPS or not 1 <= samples <= MOST_SAMPLES:
            raise ValueError(
                f"horizon is {horizon!r} and samples {samples!r}; expected whole numbers from 1 up to {MOST_STEPS} and "
                f"{MOST_SAMPLES}; leave them out"
            )
        if not is_number(self.risk_aversion) or self.risk_aversion < 0:
            raise ValueError(f"risk_aversion is {self.risk_aversion!r}; expected a finite number from 0; leave it out")
        dt_hours = self.dt_hours
        if dt_hours is not None and (not is_number(dt_hours) or not 0 < dt_hours <= LONGEST_STEP_HOURS):
            raise ValueError(
                f"dt_hours is {dt_hours!r}; expected a positive number of hours up to {LONGEST_STEP_HOURS:g}; "
                "leave it out"
            )

    def _check_parts(self) -> None:
        if self.knobs is not None and not isinstance(self.knobs, Mapping):
            raise TypeError(f"knobs are {self.knobs!r}; expected a dict of fields of the world; pass {{'steps': 2}}")
        if self.drugs is not None and (isinstance(self.drugs, str) or not isinstance(self.drugs, Sequence)):
            raise TypeError(f"drugs are {self.drugs!r}; expected a list of names; pass drugs=['metoprolol']")
        if not isinstance(self.world, str | World):  # such as what JSON makes of a live one
            raise TypeError(
                f"world is {str(self.world)[:80]!r}; expected a name or a World; pass world='package.module:Name'"
            )
        if not isinstance(self.risk, str) and (isinstance(self.risk, type) or not callable(self.risk)):
            raise (ValueError if callable(self.risk) else TypeError)(
                f"risk is {str(self.risk)[:60]!r}; expected a name such as 'adverse' or a RiskModel; "
                "pass the model, not its class"
            )
        if not isinstance(self.reward, str) and not callable(self.reward):
            raise TypeError(
                f"reward is {self.reward!r}; expected 'risk', 'package.module:name' or a function; leave it out"
            )


@dataclass(frozen=True, eq=False)
class EnvSetup:
    """Everything about an env that never changes; copies share it, pickles name what can be loaded again by name."""

    config: EnvConfig = field(repr=False)
    task: Task
    code: ActionCode
    scenario: Scenario

    @property
    def action_space(self) -> spaces.Space:
        """The space of one env's actions."""
        return self.code.space()

    @property
    def observation_space(self) -> spaces.Space:
        """The space of one env's observations."""
        return space(self.config.obs, self.task.layout, getattr(self.task.world, "latent_shape", None))

    def begin(self, rngs: Sequence[np.random.Generator], options: Mapping[str, Any] | None) -> Episode:
        """New episodes, one per generator."""
        state: State = start(self.task.world, self.scenario, rngs, options, self.task.tier)
        return dynamics.begin(self.task, state, rngs)

    def advance(
        self, episode: Episode, entries: Sequence[int] | np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> tuple[Episode, Outcome]:
        """One step of every row."""
        return dynamics.advance(self.task, episode, entries, rngs)

    def observation(self, episode: Episode) -> Any:
        """What the agents see: an array ``(B, d)``, or a dict of arrays."""
        seen = dynamics.features(self.task, episode)
        if self.config.obs == "waveform":
            return {"ecg": dynamics.strips(episode), "features": seen}
        if self.config.obs == "latent":
            return {"latent": dynamics.latents(episode), "features": seen}
        return seen

    def masks(self, episode: Episode) -> np.ndarray:
        """Actions that are allowed now ``(B, A)`` bool."""
        return self.code.masks(episode.allowed)

    def info(self, episode: Episode, outcome: Outcome | None, fresh: np.ndarray | None = None) -> Columns:
        """The infos of all rows; those of ``fresh (B,)`` have just been reset."""
        return columns(self.task, episode, outcome, self.masks(episode), self.config.privileged, fresh)

    def __deepcopy__(self, memo: dict[int, Any]) -> EnvSetup:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return make_setup, (self.config,)


class EnvProperties:
    """What may be known from outside about an env, single or vector: the same properties of its problem."""

    setup: EnvSetup

    @property
    def menu(self) -> tuple[Treatment, ...]:
        """The treatments behind the actions, watch and wait first."""
        return self.setup.task.menu

    @property
    def scenario(self) -> Scenario:
        """Whom episodes start with, and the drugs at hand."""
        return self.setup.scenario

    @property
    def tier(self) -> Tier:
        """How hard it is to see."""
        return self.setup.task.tier

    @property
    def task(self) -> Task:
        """World, risk, menu, horizon, reward and tier, for planners; never for policies."""
        return self.setup.task

    @property
    def layout(self) -> Layout:
        """What the numbers of the feature vector mean; see :func:`ecg_gym.envs.observations.describe`."""
        return self.setup.task.layout

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per number of the feature vector."""
        return self.setup.task.layout.names

    @property
    def world(self) -> World:
        """The world this env runs on; shared between envs, so leave it as it is."""
        return self.setup.task.world

    @property
    def risk(self) -> RiskModel:
        """What judges the strips."""
        return self.setup.task.risk

    def treatment(self, action: Any) -> Treatment:
        """The treatment that an action means."""
        return self.menu[self.setup.code.entry(action)]

    def action(self, treatment: Treatment) -> Any:
        """The action that means a treatment of the menu."""
        if treatment not in self.menu:
            raise ValueError(f"{treatment} is not on the menu; expected one of {len(self.menu)} entries; see env.menu")
        return self.setup.code.action(self.menu.index(treatment))


def make_setup(config: EnvConfig) -> EnvSetup:
    """What an env works with: the parts that ``config`` names, loaded."""
    row, tier = scenario_named(config.scenario), tier_named(config.tier)
    menu: tuple[Treatment, ...] = row.menu if config.drugs is None else FORMULARY.menu(config.drugs)
    task = Task(
        world=_world(config),
        risk=load_risk(config.risk, config.deterministic) if isinstance(config.risk, str) else config.risk,
        menu=menu,
        layout=Layout(menu, dynamics.finding_names(), tuple(CONDITIONS)),
        horizon=config.horizon,
        invalid=config.invalid_action,
        mask=config.mask,
        samples=config.samples,
        risk_aversion=config.risk_aversion,
        reward=load_reward(config.reward, config.burden),
        tier=tier,
        fidelity=config.fidelity,
    )
    _check_fidelity(task)
    setup = EnvSetup(config, task, action_code(config.actions, menu), row)
    setup.observation_space  # noqa: B018 - says now what is wrong with `obs`
    return setup


def _check_fidelity(task: Task) -> None:
    """Whether world and risk can do without strips, where they have to."""
    if task.fidelity == "vitals" and not isinstance(task.world, ReadsVitals):
        raise ValueError(
            f"fidelity is 'vitals' and {type(task.world).__name__} has no readings without strips; expected a world "
            "with vitals(state, seen, findings), such as the virtual patient; pass fidelity='strip'"
        )
    if task.fidelity == "vitals" and not hasattr(task.risk, "judge"):
        raise ValueError(
            f"fidelity is 'vitals' and the risk {type(task.risk).__name__} judges strips only; expected a risk with "
            "judge(home, look, patients, alive), such as RiskModel; pass fidelity='strip'"
        )


BEYOND = (
    "the episode went on beyond its horizon of {horizon} steps, where dying may cost less than living on; expected "
    "a horizon as long as an episode may last; pass both: gym.make(id, max_episode_steps=24, horizon=24)"
)


def check_horizon(horizon: int, max_episode_steps: int) -> None:
    """ValueError where an episode may last longer than its horizon, which prices dying: ``-(horizon + steps left)``."""
    if max_episode_steps > horizon:
        raise ValueError(f"max_episode_steps is {max_episode_steps}: {BEYOND.format(horizon=horizon)}")


def _world(config: EnvConfig) -> World:
    """The world with the fields that the config sets; named ones are made once per process."""
    values = dict(config.knobs or {})
    if isinstance(config.world, str):
        if config.deterministic and isinstance(load_world(config.world, config.dt_hours), RepeatsBatches):
            values["deterministic"] = config.deterministic
        return load_world(config.world, config.dt_hours, tuple(sorted(values.items())))
    if config.dt_hours is not None:
        values["dt_hours"] = config.dt_hours
    if config.deterministic and isinstance(config.world, RepeatsBatches):
        values["deterministic"] = config.deterministic
    return with_fields(config.world, type(config.world).__name__, values)
