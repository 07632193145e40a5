"""Which proposer keeps what matters? A few proposals ranked, beside the whole menu, in the virtual patient.

For people of each scenario the oracle ranks every treatment of the menu that the rules allow, in the virtual patient.
Each proposer then names its k; only these (and watching) are ranked, by the same futures, and the first of them is
judged by other futures. Reported are the recall of the oracle's best, where that is not watching; the regret; the
share of the gap between watching and the oracle that is lost; the calls of the world saved; and the share of proposals
that the rules refuse. Chance (k at random) and the guideline's list stand beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, State, Treatment
from ecg_gym.envs.reset import start
from ecg_gym.envs.scenarios import load_scenarios, scenario_named
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from planners import Plan, plan
from planners.chat_choice import choose
from planners.facts import facts_of_state
from planners.proposers import Enumeration, Guideline, Proposer, proposed
from planners.proposers.listed import Shuffled
from training.evaluation.result import Size, document, estimate_mean, estimate_ratio, metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecg_gym.llm import ChatClient

USUAL = Size(10, 8)  # people of each scenario, futures of each treatment
SMALL = Size(2, 2)
QUICK_SCENARIOS = ("svt", "bradycardia")
ALLOWED_LOSS = 0.05  # of the gap to the oracle: a proposer that loses less earns its place
RECOMMENDATION = "recommendation"


@dataclass(frozen=True)
class Person:
    """One patient, what the oracle says of the menu, and what other futures say."""

    scenario: str
    state: State
    ranked: Plan  # by the futures that choose
    true: Mapping[Treatment, float]  # mean risk over the futures that judge

    @property
    def best(self) -> Treatment:
        """What the oracle takes."""
        return self.ranked.best.treatment

    def choice(self, treatments: Sequence[Treatment]) -> Treatment:
        """The first of the oracle's ranking among some."""
        return next(row.treatment for row in self.ranked.candidates if row.treatment in set(treatments))


def scenarios_of(quick: bool) -> tuple[str, ...]:
    """Which scenarios the study looks at."""
    return QUICK_SCENARIOS if quick else tuple(load_scenarios())


def study(
    size: Size,
    quick: bool = False,
    proposers: Mapping[str, Proposer] | None = None,
    k: int = 8,
    client: ChatClient | None = None,
    progress: Callable[[], None] = lambda: None,
    risk: RiskModel | None = None,
) -> dict[str, Any]:
    """The study's document; ``proposers`` come beside enumeration, chance and guideline.

    With a ``client`` a language model chooses among the ranked (whole menu), beside the plain ranking.
    """
    risk, truth = risk or RiskModel.load(), VirtualPatient()
    table: dict[str, Proposer] = {
        "enumeration": Enumeration(),
        "random": Shuffled(Enumeration()),
        "guideline": Guideline(risk),
        **(proposers or {}),
    }
    rows: list[dict[str, Any]] = []
    for scenario in scenarios_of(quick):
        for number in range(size.patients):
            for seed in size.seeds:
                person = examined(truth, risk, scenario, size.samples, [seed, number])
                key = f"{scenario} {number} {seed}"
                rng = np.random.default_rng([seed, number, 7])
                rows += [judge(name, proposer, person, risk, k, rng, key) for name, proposer in table.items()]
                if client is not None:
                    rows.append(recommended(client, person, key))
                progress()
    names = [*table, *([RECOMMENDATION] if client is not None else [])]
    metrics = {name: metrics_of([row for row in rows if row["proposer"] == name]) for name in names}
    flat = {f"{name}: {what}": value for name, part in metrics.items() for what, value in part.items()}
    n = len({row["patient"] for row in rows})
    return document(
        "proposers", truth, n, size.seeds, flat, rows, k=k, futures=size.samples, menu=len(FORMULARY.menu()),
        scenarios=list(scenarios_of(quick)), allowed_loss=ALLOWED_LOSS,
    )  # fmt: skip


def examined(truth: VirtualPatient, risk: RiskModel, scenario: str, futures: int, seed: Sequence[int]) -> Person:
    """A person of the scenario, the oracle's ranking of the menu, and the risks by which choices are judged."""
    state = start(truth, scenario_named(scenario), np.random.default_rng(list(seed)))
    menu, base = FORMULARY.menu(), 1000 * seed[1] + 10 * seed[0]
    ranked, judging = (plan(truth, state, menu, risk, k=futures, seed=base + i) for i in (1, 2))
    return Person(scenario, state, ranked, {row.treatment: row.mean for row in judging.candidates})


def judge(
    name: str, proposer: Proposer, person: Person, risk: RiskModel, k: int, rng: np.random.Generator, key: str
) -> dict[str, Any]:
    """One row: what came of one proposer's proposals for one person; enumeration is not limited to ``k``."""
    facts = facts_of_state(person.state, risk)
    limit = len(FORMULARY.menu()) if name == "enumeration" else k
    result = proposed(proposer, person.state, limit, rng, intervals=facts.intervals, findings=facts.findings)
    scored = [treatment for treatment in result.treatments if treatment in person.true]
    choice, menu = person.choice(scored), len(person.ranked.candidates)
    return {
        **_outcome(name, person, key, choice),
        "recall": float(person.best in scored) if person.best != WATCH else np.nan,
        "calls_saved": 1 - len(scored) / menu,
        "refused": result.refused_share,
        "proposals": result.n,
    }


def recommended(client: ChatClient, person: Person, key: str) -> dict[str, Any]:
    """One row: what a language model chose among the ranked; where it gave no answer, the plain ranking stands."""
    choice = choose(client, person.ranked)
    treatment = person.best if choice.treatment is None else choice.treatment
    return {
        **_outcome(RECOMMENDATION, person, key, treatment),
        "recall": float(choice.agrees),
        "calls_saved": 0.0,
        "refused": float(choice.treatment is None),
        "proposals": 1,
    }


def _outcome(name: str, person: Person, key: str, treatment: Treatment) -> dict[str, Any]:
    true = person.true
    return {
        "proposer": name,
        "scenario": person.scenario,
        "patient": key,
        "choice": str(treatment),
        "regret": true.get(treatment, np.nan) - true.get(person.best, np.nan),
        "gap": true[WATCH] - true.get(person.best, np.nan),
    }


def metrics_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means with 95 % intervals over people, and the share of the gap that is lost."""
    people = np.array([row["patient"] for row in rows])
    column = {name: np.array([float(row[name]) for row in rows]) for name in
              ("recall", "regret", "gap", "calls_saved", "refused")}  # fmt: skip
    means = {
        name: metric(estimate_mean(column[name], people)) for name in ("recall", "regret", "calls_saved", "refused")
    }
    return {**means, "gap lost": metric(estimate_ratio(column["regret"], column["gap"], people))}


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per proposer for a screen."""
    names = list(dict.fromkeys(name.partition(": ")[0] for name in document["metrics"]))
    rows = []
    for name in names:
        values = {what: document["metrics"][f"{name}: {what}"] for what in
                  ("recall", "regret", "gap lost", "calls_saved", "refused")}  # fmt: skip
        lost = values["gap lost"]["value"]
        rows.append(
            {"proposer": name, **{what: value["value"] for what, value in values.items()},
             "gap lost 95 %": values["gap lost"]["ci95"], "within 5 %": None if lost is None else lost < ALLOWED_LOSS}
        )  # fmt: skip
    return rows


def figure(document: Mapping[str, Any]) -> Figure:
    """The share of the gap that each proposer loses, with its interval, and the 5 % that are allowed."""
    from matplotlib.figure import Figure

    rows = [row for row in summary(document) if row["gap lost"] is not None]
    picture = Figure(figsize=(6, 0.5 * len(rows) + 1.5), layout="constrained")
    axes = picture.subplots()
    for place, row in enumerate(rows):
        axes.plot([row["gap lost"]], [place], "o", color="black")
        if row["gap lost 95 %"]:
            axes.plot(row["gap lost 95 %"], [place, place], color="black", lw=1)
    axes.axvline(ALLOWED_LOSS, ls="--", lw=1, color="grey")
    axes.set_yticks(range(len(rows)), [row["proposer"] for row in rows])
    axes.set_xlabel("share of the gap between watching and the oracle that is lost")
    return picture
