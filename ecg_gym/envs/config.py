"""``pose``: the arguments of an env made into what it works with. Shared by the single env and the vector env."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from ecg_gym.core import State, Treatment, World, is_number, row_streams
from ecg_gym.envs import dynamics
from ecg_gym.envs.actions import ActionCode, action_code
from ecg_gym.envs.consequences import TIMINGS
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import FIDELITIES, INVALID, Episode, Outcome, Reward
from ecg_gym.envs.info import Columns, columns
from ecg_gym.envs.loading import load_reward, load_risk, load_world, with_fields
from ecg_gym.envs.observability import USUAL, Tier, tier_named
from ecg_gym.envs.observations import Layout, space
from ecg_gym.envs.reset import draw_scenarios, start
from ecg_gym.envs.scenarios import ANY, MENUS, Scenario, load_scenarios, scenario_named, scenarios_of, whole_menu
from ecg_gym.pharmacology import CONDITIONS, FORMULARY
from ecg_gym.pharmacology.tables import medication_names
from ecg_gym.powers import KnowsTreatments, ReadsVitals, RepeatsBatches
from ecg_gym.risk import RiskModel

DETERMINISTIC = (None, "batch")
MOST_STEPS = 1_000_000  # of an episode
LONGEST_STEP_HOURS = 168.0  # a week between two looks
MOST_SAMPLES = 4096  # futures judged per step: a number beyond it is a slip, and would ask for all memory


def as_options(options: Any) -> dict[str, Any]:
    """The options of a reset, none for None; ValueError for what is no mapping."""
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(
            f"options are {str(options)[:60]!r}; expected a mapping or None; pass options={{'scenario': 'svt'}}"
        )
    return dict(options or {})


@dataclass(frozen=True, eq=False)
class EnvConfig:
    """The arguments of :class:`~ecg_gym.envs.ECGInterventionEnv` and of its vector env, spelt and checked once.

    All are names and numbers, so that a spec is JSON; a live world, risk or reward is taken too. Raises ValueError or
    TypeError for values that make no env.
    """

    world: str | World = "model"  # "model", "oracle", a path, "package.module:Name", or a World
    risk: str | RiskModel = "adverse"  # "limits", "mean", "max", "top3", "package.module:Name", a RiskModel
    scenario: str = ANY  # whom episodes start with, and the treatments at hand; "any" draws one for each episode
    menu: str = "formulary"  # what actions there are: every treatment of every scenario, or "scenario": its own alone
    drugs: Sequence[str] | None = None  # on the menu and at hand instead of the scenario's
    actions: str = "discrete"  # or "multidiscrete"
    obs: str = "features"  # or "waveform", "latent"
    tier: str = USUAL  # how hard it is to see: "clean", "variation", "noisy", "missing", "delayed"
    invalid_action: str = "noop"  # or "terminate", "raise"
    mask: str = dynamics.CONTRAINDICATIONS  # or "indications": of what no rule forbids, what has an indication
    horizon: int | None = None  # [steps] of an episode; None is the scenario's own
    dt_hours: float | None = None  # [h] of a step; None is the scenario's own, or the world's where it has one pace
    clock: bool = True  # the time that is left is seen, and its end terminates; False hides it, and its end truncates
    knobs: Mapping[str, Any] | None = None  # fields of the world, as {"sampler": "student", "steps": 2}
    deterministic: str | None = None  # "batch": a row's bits do not depend on its batch (slower for few rows)
    reward: str | Reward = "risk"  # "package.module:name", or a function of a Transition
    burden: float = 0.0  # what a dose costs in the usual reward
    reward_timing: str = "seen"  # rewards and costs come with the strip as it is seen; "end": true ones, at the end
    cost: bool = True  # keep the untreated twin and tell harm by treatment in info["cost"]; False saves its steps
    samples: int = 1  # futures judged per step; the first is the one that happens
    risk_aversion: float = 0.0  # weight of the SD of those futures in the reward
    privileged: bool = False  # show the truth in info, where the world knows it
    fidelity: str | None = None  # "strip": readings off strips; "vitals": without; None is the world's own

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()
        self._check_parts()

    def _check_words(self) -> None:
        if self.invalid_action not in INVALID:
            raise ValueError(f"invalid_action is {self.invalid_action!r}; expected one of {INVALID}; pass 'noop'")
        if self.fidelity not in (None, *FIDELITIES):
            raise ValueError(f"fidelity is {self.fidelity!r}; expected one of {FIDELITIES}; leave it out")
        if self.menu not in MENUS:
            raise ValueError(f"menu is {self.menu!r}; expected one of {MENUS}; leave it out")
        if self.reward_timing not in TIMINGS:
            raise ValueError(f"reward_timing is {self.reward_timing!r}; expected one of {TIMINGS}; leave it out")
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
        horizon, samples = 1 if self.horizon is None else self.horizon, self.samples
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

    @property
    def action_space(self) -> spaces.Space:
        """The space of one env's actions."""
        return self.code.space()

    @property
    def observation_space(self) -> spaces.Space:
        """The space of one env's observations."""
        return space(self.config.obs, self.task.layout, getattr(self.task.world, "latent_shape", None))

    def begin(self, rngs: Sequence[np.random.Generator], options: Mapping[str, Any] | None) -> Episode:
        """New episodes, one per generator; ValueError for options that are no mapping."""
        options = as_options(options)
        streams, scenarios = row_streams(rngs, len(rngs)), self.task.scenarios
        if options and "scenario" in options:
            scenarios = (scenario_named(options["scenario"]),)
        which = draw_scenarios(scenarios, streams)
        state: State = start(self.task.world, [scenarios[i] for i in which], streams, options, self.task.tier)
        place = [tuple(load_scenarios()).index(scenario.name) for scenario in scenarios]
        return dynamics.begin(self.task, state, streams, np.array(place)[which])

    def advance(
        self, episode: Episode, entries: Sequence[int] | np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> tuple[Episode, Outcome]:
        """One step of every row."""
        return dynamics.advance(self.task, episode, entries, rngs)

    def observation(self, episode: Episode) -> Any:
        """What the agents see: an array ``(B, d)``, or a dict of arrays."""
        features = dynamics.features(self.task, episode)
        if self.config.obs == "waveform":
            return {"ecg": dynamics.strips(episode), "features": features}
        if self.config.obs == "latent":
            return {"latent": dynamics.latents(self.task, episode), "features": features}
        return features

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
    def scenarios(self) -> tuple[Scenario, ...]:
        """Whom episodes start with, and the treatments at hand: one, or all that are drawn from."""
        return self.setup.task.scenarios

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
    scenarios, tier = scenarios_of(config.scenario), tier_named(config.tier)
    menu, world = _menu(config, scenarios), _world(config)
    task = Task(
        world=world,
        risk=load_risk(config.risk, config.deterministic) if isinstance(config.risk, str) else config.risk,
        menu=menu,
        layout=Layout(
            menu, dynamics.finding_names(), tuple(CONDITIONS), tuple(medication_names()), tuple(load_scenarios())
        ),
        at_hand=_at_hand(config, menu, world),
        scenarios=scenarios,
        horizon=config.horizon,
        dt_hours=config.dt_hours,
        clock=config.clock,
        invalid=config.invalid_action,
        mask=config.mask,
        samples=config.samples,
        risk_aversion=config.risk_aversion,
        reward=load_reward(config.reward, config.burden),
        reward_timing=config.reward_timing,
        cost=config.cost,
        tier=tier,
        fidelity=config.fidelity or str(getattr(world, "fidelity", "strip")),
    )
    _check_fidelity(task)
    setup = EnvSetup(config, task, action_code(config.actions, menu))
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
            "judge(baseline, look, patients, alive), such as RiskModel; pass fidelity='strip'"
        )


def _menu(config: EnvConfig, scenarios: Sequence[Scenario]) -> tuple[Treatment, ...]:
    """The treatments behind the actions: of the ``drugs``, of everything, or of what these scenarios offer."""
    if config.drugs is not None:
        return FORMULARY.menu(config.drugs)
    if config.menu == "formulary":
        return whole_menu()
    offered = {treatment for scenario in scenarios for treatment in scenario.menu}
    return tuple(treatment for treatment in whole_menu() if treatment in offered)


def _at_hand(config: EnvConfig, menu: Sequence[Treatment], world: World) -> np.ndarray:
    """What there is in each scenario of the table ``(scenarios, menu)`` bool, as far as the world knows it."""
    mask = np.array([not isinstance(world, KnowsTreatments) or world.knows(treatment) for treatment in menu])
    rows = [
        [config.drugs is not None or treatment in scenario.menu for treatment in menu]
        for scenario in load_scenarios().values()
    ]
    return np.array(rows) & mask


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
