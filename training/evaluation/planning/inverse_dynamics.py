"""Which drug was given between two strips? The trained model beside chance, pharmacology and a simulated ceiling.

People of the virtual population get one treatment of the menu, drawn at random. Drugs are then ordered by the model,
by the distance of the measured change to what the population's pharmacology expects (Mahalanobis 1936), and by the
*ceiling*: the likelihood of the measured change among changes that are simulated for each treatment in the virtual
patient, from the very state that the person was in. Nobody who sees strips alone can do better than that, and it is
below 1, because many drugs look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import State, Treatment, row_generators
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model.conditioning import OBSERVED, observe_strips
from planners.proposers.effects import EFFECTS, effects, expected, mahalanobis
from training.evaluation.result import Size, document, estimate_mean, metric
from training.train_inverse import TOP, drug_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from planners.proposers.inverse import InverseDynamics

USUAL = Size(200, 6)  # people, simulated futures of each treatment
SMALL = Size(4, 3)
_PLACES = [OBSERVED.index(name) for name in EFFECTS]


def study(
    size: Size,
    model: InverseDynamics | None = None,
    menu: Sequence[Treatment] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The study's document; ``menu`` (default: the formulary's) is what is given and what is simulated."""
    truth = VirtualPatient()
    items = [treatment for treatment in (FORMULARY.menu() if menu is None else menu) if treatment]
    drugs = list(dict.fromkeys(treatment.doses[0].drug for treatment in items))
    rows: list[dict[str, Any]] = []
    for seed in size.seeds:
        for number in range(size.patients):
            rng = np.random.default_rng([seed, number])
            rows += _person(truth, items, drugs, size.samples, model, rng, f"{number} {seed}")
            progress()
    scored = [name for name in ("model", "pharmacology", "ceiling") if any(row["by"] == name for row in rows)]
    metrics = {
        f"{name}: {what}": metric(_mean(rows, name, what), baselines={"chance": _chance(what, drugs)})
        for name in scored
        for what in (*(f"top {k}" for k in TOP), "class")
    }
    n = len({row["patient"] for row in rows})
    return document("inverse-dynamics", truth, n, size.seeds, metrics, rows, drugs=len(drugs), futures=size.samples)


def _person(
    truth: VirtualPatient, items: Sequence[Treatment], drugs: Sequence[str], futures: int,
    model: InverseDynamics | None, rng: np.random.Generator, key: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each who guesses, or none where the person died or nothing could be measured."""
    state = truth.initial(1, rng)
    treatment = items[int(rng.integers(len(items)))]
    after = truth.step(state, [treatment], rng)
    before, later = observe_strips(state.ecg)[0], observe_strips(after.ecg)[0]
    if not after.alive[0] or not np.isfinite(later[OBSERVED.index("hr_bpm")]):
        return []
    change = np.nan_to_num((later - before)[_PLACES], nan=0.0)
    simulated = simulated_changes(truth, state, items, before, futures, rng)
    centres, covariance = simulated.mean(axis=1), scatter(simulated)
    population = effects(expected(state, before, items, float(truth.dt_hours)), before)
    orders = {
        "ceiling": -mahalanobis(centres, change, covariance),
        "pharmacology": -mahalanobis(population, change, covariance),
    }
    if model is not None:
        orders["model"] = model.likelihood(state, later, items, float(truth.dt_hours))
    drug = treatment.doses[0].drug
    return [{"by": name, "patient": key, "drug": drug, **places(scores, items, drugs, drug)}
            for name, scores in orders.items()]  # fmt: skip


def simulated_changes(
    truth: VirtualPatient, state: State, items: Sequence[Treatment], before: np.ndarray, futures: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Changes ``(items, futures, len(EFFECTS))`` measured after each treatment from one state; unknown ones count 0."""
    crowd = state.repeat(len(items) * futures)
    treatments = [treatment for treatment in items for _ in range(futures)]
    after = truth.step(crowd, treatments, row_generators(rng, len(crowd)))
    change = (observe_strips(after.ecg) - before)[:, _PLACES]
    return np.nan_to_num(change, nan=0.0).reshape(len(items), futures, len(EFFECTS))


def scatter(simulated: np.ndarray) -> np.ndarray:
    """The covariance ``(E, E)`` of simulated changes about the mean of their treatment, and 1 unit of reading."""
    rest = (simulated - simulated.mean(axis=1, keepdims=True)).reshape(-1, simulated.shape[-1])
    freedom = max(1, len(rest) - len(simulated))
    return rest.T @ rest / freedom + np.eye(simulated.shape[-1])


def places(scores: np.ndarray, items: Sequence[Treatment], drugs: Sequence[str], drug: str) -> dict[str, float]:
    """Whether the drug is among the first 1, 3 and 5, and whether the first is of its class; a drug counts by its best
    dose."""
    best = dict.fromkeys(drugs, -np.inf)
    for treatment, score in zip(items, scores):
        name = treatment.doses[0].drug
        best[name] = max(best[name], float(score))
    order = sorted(drugs, key=lambda name: -best[name])
    kinds = dict(zip(FORMULARY.names, drug_classes()))
    top = {f"top {k}": float(drug in order[:k]) for k in TOP}
    return {**top, "class": float(kinds[order[0]] == kinds[drug])}


def _mean(rows: Sequence[Mapping[str, Any]], by: str, what: str) -> dict[str, Any]:
    mine = [row for row in rows if row["by"] == by]
    return estimate_mean(np.array([row[what] for row in mine]), np.array([row["patient"] for row in mine]))


def _chance(what: str, drugs: Sequence[str]) -> float:
    """What a guess at random reaches, drugs given equally often."""
    if what == "class":
        kinds = dict(zip(FORMULARY.names, drug_classes()))
        return float(np.mean([[kinds[a] == kinds[b] for a in drugs] for b in drugs]))
    return min(1.0, int(what.removeprefix("top ")) / len(drugs))


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each who guesses, chance last."""
    columns = (*(f"top {k}" for k in TOP), "class")
    names = list(dict.fromkeys(name.partition(": ")[0] for name in document["metrics"]))
    table = document["metrics"]
    rows = [{"by": name, **{what: table[f"{name}: {what}"]["value"] for what in columns}} for name in names]
    chance = {what: table[f"{names[0]}: {what}"]["baselines"]["chance"] for what in columns}
    return [*rows, {"by": "chance", **chance}]


def figure(document: Mapping[str, Any]) -> Figure:
    """The share of drugs among the first k, by who guesses."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(5, 3.5), layout="constrained")
    axes = picture.subplots()
    for row in summary(document):
        axes.plot(TOP, [row[f"top {k}"] for k in TOP], "o-", label=row["by"])
    axes.set(xlabel="first k drugs", ylabel="share with the drug among them", ylim=(0, 1), xticks=TOP)
    axes.legend(frameon=False)
    return picture
