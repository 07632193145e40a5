"""Are the futures right on average? Every drug of the formulary, given to virtual patients the model never met.

Three kinds of arms: each drug's usual dose, a dose level held out from training (0.75 x), and pairs of drugs that
training never met together. Each arm and a placebo are given to the same patients under common random numbers, at the
step length (1, 2 or 4 h) at which an average person has most of the drug at the effect site. The placebo-corrected
group effect, measured by the delineator from drawn ECGs, is set against the virtual truth's own noise-free intervals.

Who takes part: people in a sinus rhythm or atrial fibrillation, all conduction and disease included, on whom the drug
can physically act (the population's modulation of what that rhythm shows is not nil). Flutter, running tachycardias and
pacing are left to the other studies: their cycle is not a drug effect that six intervals can show.

Beside the model: no effect; population pharmacology without a network (EPK alone); the mean effect in other patients
(of the doses and drugs that training may know: held-out levels in proportion, pairs added up); the model told of
another drug. And two ceilings: the truth measured again (a perfect model, delineated like ours, its noise the same),
and strangers, who know the heart and the population's law but not this person's sensitivity.

The paper's Table 2 counts whether an interval is called normal or abnormal rightly; we print the same beside the rate
of always saying what is commoner. Its 90.6, 76.0 and 94.7 % are of nine healthy volunteers and of single ECGs, so they
are not comparable: nearly everybody there is normal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, Administration, Dose, Patient, State, Treatment, World
from ecg_gym.datasets.transitions import TrialDesign, is_held_out
from ecg_gym.pharmacology import FORMULARY, exposure, modulate
from ecg_gym.powers import Truthful
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.yaml_files import read_yaml
from training.evaluation import questions, result
from training.evaluation.questions import (
    INTERVALS,
    SHORT,
    Questions,
    both,
    futures,
    mean_known,
    measure_step,
    observe_first,
)
from training.evaluation.result import Size, estimate_mean, estimates, metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=64, samples=6), Size(patients=12, samples=3)
TOLERANCE = {name: 2.0 if name == "hr_bpm" else 5.0 for name in INTERVALS}  # [1/min] or [ms], the study's question
SHARE = 4  # every arm is given to one patient in so many
PAIRS = 12  # held-out pairs
QUICK_ARMS = 12
KINDS = ("usual dose", "held-out dose", "held-out pair")
PREDICTORS = ("model", "no effect", "EPK alone", "treatment mean", "wrong drug", "strangers", "truth again")
SHOWN_BY = {  # words of Modulation that a rhythm's six intervals show, and from how much on it is an effect
    "sinus": ("sinus_rate", "pr_ms", "conduction", "jtpeak_ms", "tpeak_tend_ms"),
    "atrial": ("av_rate", "conduction", "jtpeak_ms", "tpeak_tend_ms"),
}
LEAST = {"pr_ms": 0.5, "jtpeak_ms": 0.5, "tpeak_tend_ms": 0.5}  # [ms]; factors: 0.002
PAPER = Path(__file__).with_name("paper.yaml")

StepInputs = Callable[[int], None]


@dataclass(frozen=True)
class Arm:
    """One treatment and the step it is judged over."""

    name: str
    treatment: Treatment
    kind: str  # out of KINDS
    dt_hours: float


def study(
    world: World, truth: World, size: Size = USUAL, quick: bool = False, progress: StepInputs = lambda n: None
) -> dict:
    """The study's document. ``truth`` answers as the virtual patient does; ``world`` is judged by what it draws."""
    selection = arms()[:: len(arms()) // QUICK_ARMS][:QUICK_ARMS] if quick else arms()
    queries = questions.joined([ask(truth, selection, size.patients, seed) for seed in size.seeds])
    table = answers(world, truth, queries, selection, size.samples, progress)
    rows = effect_rows(table, selection)
    return result.document(
        "intervals",
        world,
        len(np.unique(queries.patient)),
        size.seeds,
        metrics(table),
        rows,
        samples=size.samples,
        n_questions=len(queries),
        n_arms=len(selection),
        tolerance=TOLERANCE,
        figure_points={
            "true": table.change["true"][:, INTERVALS.index("qtcf_ms")],
            "model": table.change["model"][:, INTERVALS.index("qtcf_ms")],
        },
    )


def answers_of(size: Size, quick: bool = False) -> int:
    """About how many questions are answered, for a progress bar."""
    n_arms = QUICK_ARMS if quick else len(arms())
    queries = n_arms * max(4, size.patients // SHARE) * len(size.seeds)
    watched = min(queries, 3 * size.patients * len(size.seeds))
    return 5 * queries + 4 * watched + n_arms * max(8, size.patients // SHARE)


@cache
def arms(pairs: int = PAIRS) -> tuple[Arm, ...]:
    """Every drug at its usual dose and at the held-out level, and ``pairs`` held-out pairs, in a mixed order."""
    design = TrialDesign()
    results = []
    for drug in FORMULARY.medicines:
        dose = usual_dose(drug)
        less = replace(dose, amount=dose.amount * design.held_out_level)
        results += [_arm((dose,), KINDS[0]), _arm((less,), KINDS[1])]
    held_out = [pair for pair in combinations(FORMULARY.medicines, 2) if is_held_out(pair, design)]
    rng = np.random.default_rng(questions.HELD_OUT)
    drugs: set[str] = set()
    for place in rng.permutation(len(held_out)):
        pair = held_out[int(place)]
        if drugs.isdisjoint(pair) and pairs > 0:  # as many different drugs as there can be
            drugs.update(pair)
            pairs -= 1
            results.append(_arm(tuple(usual_dose(drug) for drug in pair), KINDS[2]))
    return tuple(results[int(i)] for i in rng.permutation(len(results)))


def usual_dose(drug: str) -> Dose:
    """The middle one of a drug's usual doses."""
    usual = FORMULARY.usual_doses(drug)
    return usual[len(usual) // 2]


def _arm(doses: tuple[Dose, ...], kind: str) -> Arm:
    treatment = Treatment(doses)
    return Arm(str(treatment), treatment, kind, best_hours(treatment))


def best_hours(treatment: Treatment) -> float:
    """The step length [h] after which an average person has most at the effect site, drugs relative to their peak."""
    history = tuple(Administration(0.0, dose) for dose in treatment.doses)
    levels = np.array([exposure(history, Patient(), hours).effect for hours in questions.STEPS_HOURS])
    peak = levels.max(axis=0)
    relative = np.divide(levels, peak, out=np.zeros_like(levels), where=peak > 0).sum(axis=1)
    return float(questions.STEPS_HOURS[int(np.argmax(relative))])


def ask(truth: World, arms: Sequence[Arm], patients: int, seed: int) -> Questions:
    """Every arm for one in ``SHARE`` of the patients it can act on, in turn, so that everybody is asked as often."""
    people = questions.held_out_patients(truth, patients, seed, keep=lambda state: _leader(truth, state) != "")
    leader = _leader(truth, people)
    rng = np.random.default_rng([questions.HELD_OUT, seed, 2])
    asked_often = np.zeros(len(people), int)
    rows: list[int] = []
    arm_of: list[Arm] = []
    for arm in arms:
        can = np.array([acts_on(arm, patient, kind) for patient, kind in zip(people.patients, leader)])
        if not can.any():  # gone within the step: the right answer is that nothing happens
            can[:] = True
        order = sorted(np.flatnonzero(can), key=lambda i: (asked_often[i], rng.random()))
        mine = [int(i) for i in order[: max(4, patients // SHARE)]]
        asked_often[mine] += 1
        rows += mine
        arm_of += [arm] * len(mine)
    return Questions(
        people[np.array(rows)],
        tuple(arm.treatment for arm in arm_of),
        np.array(rows) + 100_000 * seed,
        np.array([arm.name for arm in arm_of]),
        np.array([arm.dt_hours for arm in arm_of]),
        np.array([arm.kind != KINDS[0] for arm in arm_of]),
    )


def acts_on(arm: Arm, patient: Patient, leader: str) -> bool:
    """Whether an average heart of this rhythm would show the arm in its intervals."""
    history = tuple(Administration(0.0, dose) for dose in arm.treatment.doses)
    there = modulate(exposure(history, patient, arm.dt_hours), patient, clock_hours=arm.dt_hours)
    without = modulate(exposure((), patient, arm.dt_hours), patient, clock_hours=arm.dt_hours)
    return any(
        abs(getattr(there, word) - getattr(without, word)) > LEAST.get(word, 0.002)
        for word in SHOWN_BY.get(leader, SHOWN_BY["sinus"])
    )


def _leader(truth: World, state: State) -> np.ndarray:
    """What leads each heart that can take part, "" for the others; a truth without rhythms is all sinus."""
    if not isinstance(truth, Truthful):
        return np.full(len(state), "sinus")
    return np.array([_taking_part().get(str(facts.rhythm), "") for facts in truth.truth(state)])


@cache
def _taking_part() -> dict[str, str]:
    """Leaders of the rhythms that can take part: sinus rhythms and atrial fibrillation."""
    return {
        name: row["leader"]
        for name, row in rhythms().items()
        if row["leader"] == "sinus" or (row["leader"] == "atrial" and row.get("waves") == "fibrillation")
    }


@dataclass(frozen=True)
class Answers:
    """Per question and interval ``(N, 6)`` what changed, for the truth and every predictor by name."""

    queries: Questions
    kind: np.ndarray  # (N,) out of KINDS
    effect: Mapping[str, np.ndarray]  # placebo-corrected, "true" and PREDICTORS
    change: Mapping[str, np.ndarray]  # from the strip before
    before: np.ndarray  # (N, 6) measured
    after: np.ndarray  # (N, 6) measured, one true future
    samples: np.ndarray  # (N, 6) mean of the model's futures
    unmeasured: np.ndarray  # (N, 6) share of the model's futures that could not be, where the true one could


def answers(
    world: World, truth: World, queries: Questions, arms: Sequence[Arm], k: int, progress: StepInputs = lambda n: None
) -> Answers:
    """All worlds' answers to the questions and to their placebo."""
    watched, of = placebo_of(queries)
    pre_true, pre = questions.truth_of(truth, queries.start), questions.intervals_of(queries.start.ecg)
    look, own = both(measure_step, questions.truths(truth)), questions.read_in(world)

    def pair(ask: Callable[[Questions], dict[str, np.ndarray]], what: str) -> tuple[np.ndarray, np.ndarray]:
        drug, placebo = mean_known(ask(queries)[what]), mean_known(ask(watched)[what])[of]
        return drug, drug - placebo

    def of_truth(stream: str) -> Callable[[Questions], dict[str, np.ndarray]]:
        return lambda these: futures(truth, these.start, these, k, look, 0, stream, progress=progress)

    def of_model(these: Questions) -> dict[str, np.ndarray]:
        return futures(world, observe_first(world, these), these, k, own, progress=progress)

    effect, change, level = {}, {}, {}
    level["true"], effect["true"] = pair(of_truth("true"), "truth")
    level["truth again"], effect["truth again"] = pair(of_truth("again"), "intervals")
    level["model"], effect["model"] = pair(of_model, "intervals")
    change = {
        "true": level["true"] - pre_true,
        "truth again": level["truth again"] - pre,
        "model": level["model"] - pre,
    }
    row = queries.with_treatments([_wrong(queries, arms)[name] for name in queries.arm])
    wrong = mean_known(
        futures(world, observe_first(world, queries), row, max(2, k // 2), own, progress=progress)["intervals"]
    )
    placebo = mean_known(of_model(watched)["intervals"])[of]
    effect["wrong drug"], change["wrong drug"] = wrong - placebo, wrong - pre
    there = questions.pharmacology_alone(queries)
    effect["EPK alone"], change["EPK alone"] = there - questions.pharmacology_alone(watched)[of], there - pre
    effect["no effect"] = np.zeros_like(pre)
    change["no effect"] = np.zeros_like(pre)
    effect["treatment mean"], change["treatment mean"] = elsewhere(truth, queries, arms, progress)
    lost = questions.futures_of_other_patients(truth, queries, k, look, progress=progress)
    if lost is not None:
        alone = questions.futures_of_other_patients(truth, watched, k, look, progress=progress)
        assert alone is not None
        strange = mean_known(lost["intervals"])
        effect["strangers"] = strange - mean_known(alone["intervals"])[of]
        change["strangers"] = strange - pre
    one, samples = of_truth("true")(queries)["intervals"][0], of_model(queries)["intervals"]
    kinds = {arm.name: arm.kind for arm in arms}
    return Answers(
        queries,
        np.array([kinds[str(name)] for name in queries.arm]),
        effect,
        change,
        pre,
        one,
        mean_known(samples),
        np.where(np.isfinite(one), (~np.isfinite(samples)).mean(axis=0), np.nan),
    )


def placebo_of(queries: Questions) -> tuple[Questions, np.ndarray]:
    """Every patient watched for every step length they are asked about, and the row ``(N,)`` of each question."""
    keys = list(zip(queries.patient.tolist(), queries.dt_hours.tolist()))
    first: dict[tuple[int, float], int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    place = {key: i for i, key in enumerate(first)}
    return queries[np.array(list(first.values()))].placebo, np.array([place[key] for key in keys])


def _wrong(queries: Questions, arms: Sequence[Arm]) -> dict[str, Treatment]:
    """For every arm the treatment of the arm before it in the list that shares no drug with it."""
    wrong = {}
    for i, arm in enumerate(arms):
        drugs = {dose.drug for dose in arm.treatment.doses}
        others = [arms[i - j].treatment for j in range(1, len(arms))]
        wrong[arm.name] = next((t for t in others if drugs.isdisjoint(dose.drug for dose in t.doses)), WATCH)
    return wrong


def elsewhere(
    truth: World, queries: Questions, arms: Sequence[Arm], progress: StepInputs = lambda n: None, k: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Mean effect and mean change ``(N, 6)`` of the same drug in other patients, as training's patients may know them.

    Only usual doses of single drugs are known; a held-out level is taken in proportion, a pair as the sum of its drugs.
    """
    n = max(8, len(np.unique(queries.patient)) // SHARE)
    people = questions.held_out_patients(truth, n, 0, "validation", keep=lambda state: _leader(truth, state) != "")
    targets = {(dose.drug, arm.dt_hours) for arm in arms for dose in arm.treatment.doses}
    keys = [*sorted(targets), *(("", hours) for hours in sorted({arm.dt_hours for arm in arms}))]
    parts = [
        Questions(
            people,
            (Treatment((usual_dose(drug),)) if drug else WATCH,) * n,
            np.arange(n) + 50_000_000,
            np.full(n, drug),
            np.full(n, hours),
            np.zeros(n, bool),
        )
        for drug, hours in keys
    ]
    their = questions.joined(parts)
    results = mean_known(futures(truth, their.start, their, k, questions.truths(truth), progress=progress)["truth"])
    results = results - np.tile(questions.truth_of(truth, people), (len(keys), 1))
    with np.errstate(all="ignore"):
        mean = {key: np.nan_to_num(_nanmean(results[i * n : (i + 1) * n])) for i, key in enumerate(keys)}
        effect = {
            key: np.nan_to_num(_nanmean(results[i * n : (i + 1) * n] - results[keys.index(("", key[1])) * n :][:n]))
            for i, key in enumerate(keys)
        }
    by_arm = {}
    for arm in arms:
        total = np.zeros(len(INTERVALS))
        for dose in arm.treatment.doses:
            total = total + effect[dose.drug, arm.dt_hours] * dose.amount / usual_dose(dose.drug).amount
        by_arm[arm.name] = (total, total + mean["", arm.dt_hours])
    return tuple(np.stack([by_arm[str(name)][i] for name in queries.arm]) for i in (0, 1))  # type: ignore[return-value]


def _nanmean(values: np.ndarray) -> np.ndarray:
    return mean_known(values, least=0.0)


def group_effects(
    arm: np.ndarray, n_arms: int, true: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean ``true`` and ``predicted`` effect of each arm and interval ``(A, 6)``, and whether the pair counts.

    Means are over the questions where both are known. A pair counts where the truth is known in at least three patients
    and half of the arm; it then fails (NaN predicted) if the prediction is known in less than half of those.
    """
    real, both_known = np.isfinite(true), np.isfinite(true) & np.isfinite(predicted)

    def summed(values: np.ndarray) -> np.ndarray:
        out = np.zeros((n_arms, values.shape[1]))
        np.add.at(out, arm, values)
        return out

    queries, real_count, shared = (summed(mask.astype(float)) for mask in (np.ones_like(real), real, both_known))
    counts = (real_count >= 3) & (real_count >= queries / 2)
    with np.errstate(all="ignore"):
        mean_true = summed(np.where(both_known, true, 0)) / shared
        mean = np.where(shared >= real_count / 2, summed(np.where(both_known, predicted, 0)) / shared, np.nan)
    return mean_true, mean, counts


def within(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Whether each group effect ``(A, 6)`` is right to within its tolerance; what is not known is not."""
    with np.errstate(invalid="ignore"):
        return np.abs(predicted - true) <= np.array([TOLERANCE[name] for name in INTERVALS])


def metrics(table: Answers) -> dict[str, Any]:
    """The study's metrics, each beside all predictors."""
    queries, effect, change = table.queries, table.effect, table.change
    names, arm = np.unique(queries.arm, return_inverse=True)
    kind_of = np.array([table.kind[np.flatnonzero(arm == i)[0]] for i in range(len(names))])
    tolerance = np.array([TOLERANCE[name] for name in INTERVALS])
    predictors = [name for name in PREDICTORS if name in effect]
    qtcf = INTERVALS.index("qtcf_ms")

    keys: dict[str, np.ndarray] = {}  # name of a metric -> which arms and intervals it counts
    every = np.ones((len(names), len(INTERVALS)), bool)
    for i, name in enumerate(INTERVALS):
        keys[f"within_tolerance_{SHORT[name]}"] = every & (np.arange(len(INTERVALS)) == i)
    for kind in KINDS:
        if (kind_of == kind).any():
            keys[f"within_tolerance_{kind.replace(' ', '_').replace('-', '_')}"] = every & (kind_of == kind)[:, None]

    def fractions(predictor: str) -> Callable[[np.ndarray], list[float]]:
        def statistics(rows: np.ndarray) -> list[float]:
            parts = effect["true"][rows], effect[predictor][rows]
            true, predicted, counts = group_effects(arm[rows], len(names), *parts)
            right = within(true, predicted)
            masks = [counts, counts & (np.abs(true) > tolerance), *(counts & mask for mask in keys.values())]
            return [float(right[mask].mean()) if mask.any() else np.nan for mask in masks]

        return statistics

    def correlations(of: Mapping[str, np.ndarray], interval: int) -> dict[str, Any]:
        def statistics(rows: np.ndarray) -> list[float]:
            return [pearson(of["true"][rows, interval], of[name][rows, interval]) for name in predictors]

        each = dict(zip(predictors, estimates(statistics, queries.patient, 200)))
        return metric(each.pop("model"), baselines=each)

    shares = {name: estimates(fractions(name), queries.patient, 200) for name in predictors}
    results = {
        key: metric(shares["model"][i], baselines={name: shares[name][i] for name in predictors if name != "model"})
        for i, key in enumerate(("within_tolerance_fraction", "within_tolerance_where_effect", *keys))
    }
    results["patient_corr_qtcf"] = correlations(change, qtcf)
    results["patient_corr_qtcf_placebo_corrected"] = correlations(effect, qtcf)
    results["patient_corr_hr"] = correlations(change, INTERVALS.index("hr_bpm"))
    for i, name in enumerate(INTERVALS):
        lost = table.unmeasured[:, i]
        results[f"unmeasured_{SHORT[name]}"] = metric(estimate_mean(lost, queries.patient, 200))
    return results | accuracies(table)


def pearson(true: np.ndarray, predicted: np.ndarray) -> float:
    """Correlation over what is known of both; NaN where either does not move."""
    ok = np.isfinite(true) & np.isfinite(predicted)
    if np.count_nonzero(ok) < 3:
        return np.nan
    x, y = true[ok], predicted[ok]
    x, y = x - x.sum() / len(x), y - y.sum() / len(y)  # np.corrcoef takes ten times as long
    xx, yy = float(x @ x), float(y @ y)
    return float(x @ y) / np.sqrt(xx * yy) if min(xx, yy) > 1e-18 * len(x) else np.nan


def accuracies(table: Answers) -> dict[str, Any]:
    """Normal or abnormal, as the paper's Table 2 counts, of the mean of the drawn futures against one true future."""
    ranges = read_yaml(PAPER)["normal_ranges"]
    sex = np.array([patient.sex or "F" for patient in table.queries.start.patients])
    patients, results = table.queries.patient, {}
    for name, row in ranges.items():
        low, high = (np.array([row[s][i] for s in sex]) for i in (0, 1))

        def abnormal(
            values: np.ndarray, name: str = name, low: np.ndarray = low, high: np.ndarray = high
        ) -> np.ndarray:
            value = column_of(values, name)
            return np.where(np.isfinite(value), (value < low) | (value > high), np.nan)

        true = abnormal(table.after)
        labels = {
            "model": abnormal(table.samples),
            "copy pre-dose": abnormal(table.before),
            "EPK alone": abnormal(table.change["EPK alone"] + table.before),
        }
        rate = float(np.nanmean(true)) if np.isfinite(true).any() else np.nan
        labels["commoner class"] = np.where(np.isfinite(true), float(rate > 0.5), np.nan)
        queries = np.isfinite(true)

        def right(label: np.ndarray, of: np.ndarray, true: np.ndarray = true) -> dict[str, Any]:
            return estimate_mean(np.where(of, (label == true).astype(float), np.nan), patients, 200)

        ill = queries & (true == 1)
        beside = {other: right(label, queries) for other, label in labels.items() if other != "model"}
        results[f"accuracy_{name.removesuffix('_ms')}"] = metric(
            right(labels["model"], queries), baselines=beside, abnormal_share=rate
        )
        beside = {other: right(label, ill) for other, label in labels.items() if other != "model"}
        results[f"sensitivity_{name.removesuffix('_ms')}"] = metric(right(labels["model"], ill), baselines=beside)
    return results


def column_of(values: np.ndarray, name: str) -> np.ndarray:
    """A column of ``INTERVALS``, or QT after Bazett from QTcF and rate: QTcB = QTcF RR^(-1/6)."""
    if name != "qtcb_ms":
        return values[:, INTERVALS.index(name)]
    rr_s = 60 / values[:, INTERVALS.index("hr_bpm")]
    return values[:, INTERVALS.index("qtcf_ms")] * rr_s ** (-1 / 6)


def effect_rows(table: Answers, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """One row per arm and interval: the true group effect and everybody's, and whether the model's is right."""
    names, arm = np.unique(table.queries.arm, return_inverse=True)
    by_name = {a.name: a for a in arms}
    results = {
        predictor: group_effects(arm, len(names), table.effect["true"], table.effect[predictor])
        for predictor in PREDICTORS
        if predictor in table.effect
    }
    rows = []
    for a, name in enumerate(names):
        of = by_name[str(name)]
        for i, interval in enumerate(INTERVALS):
            true, model, counts = (part[a, i] for part in results["model"])
            rows.append(
                {
                    "arm": str(name),
                    "kind": of.kind,
                    "hours": of.dt_hours,
                    "interval": interval,
                    "n": int(np.isfinite(table.effect["true"][arm == a, i]).sum()),
                    "counts": bool(counts),
                    "true": true,
                    **{predictor: parts[1][a, i] for predictor, parts in results.items()},
                    "within": bool(np.abs(model - true) <= TOLERANCE[interval]),
                }
            )
    return rows


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per arm for people: true / drawn effect of every interval, "!" where it is not right."""
    lines: dict[str, dict[str, Any]] = {}
    for row in document["rows"]:
        line = lines.setdefault(row["arm"], {"arm": row["arm"], "kind": row["kind"], "h": row["hours"]})
        true, samples = (np.nan if row[name] is None else row[name] for name in ("true", "model"))
        mark = "" if row["within"] else "!"
        line[SHORT[row["interval"]]] = f"{true:+.0f} / {samples:+.0f}{mark}" if row["counts"] else "-"
    return sorted(lines.values(), key=lambda line: (KINDS.index(line["kind"]), line["arm"]))


def figure(document: Mapping[str, Any]) -> Figure:
    """True against predicted group effects per interval, the fractions within tolerance, and single patients' QTcF."""
    from matplotlib.figure import Figure

    samples = Figure(figsize=(15, 8), layout="constrained")
    axes = samples.subplots(2, 4)
    rows = [row for row in document["rows"] if row["counts"]]
    colours = dict(zip(KINDS, ("tab:blue", "tab:orange", "tab:green")))
    for ax, name in zip(axes.flat, INTERVALS):
        mine = [row for row in rows if row["interval"] == name and row["model"] is not None]
        unit = "1/min" if name == "hr_bpm" else "ms"
        for kind, colour in colours.items():
            points = [(row["true"], row["model"]) for row in mine if row["kind"] == kind]
            if points:
                ax.scatter(*zip(*points), s=14, color=colour, label=kind, alpha=0.8)
        reach = [row["true"] for row in mine] + [row["model"] for row in mine] or [0.0]
        ends = np.array([min(reach) - 3, max(reach) + 3])
        ax.plot(ends, ends, color="black", lw=0.8)
        ax.fill_between(ends, ends - TOLERANCE[name], ends + TOLERANCE[name], color="black", alpha=0.08, lw=0)
        right = document["metrics"][f"within_tolerance_{SHORT[name]}"]
        share, none = right["value"], right["baselines"]["no effect"]
        ax.set_title(f"{SHORT[name]}: {share or 0:.0%} within (no effect: {none or 0:.0%})", fontsize=10)
        ax.set_xlabel(f"true group effect [{unit}]")
        ax.set_ylabel(f"drawn [{unit}]")
    axes.flat[0].legend(fontsize=8)
    _bars(axes.flat[6], document["metrics"]["within_tolerance_fraction"])
    _patients(axes.flat[7], document)
    samples.suptitle(
        f"Placebo-corrected group effects of {document['settings']['n_arms']} arms, {document['n_patients']} patients"
    )
    return samples


def _bars(ax: Any, row: Mapping[str, Any]) -> None:
    shares = {"model": row["value"], **row["baselines"]}
    names = [name for name in PREDICTORS if shares.get(name) is not None]
    colours = ["tab:red" if name == "model" else "lightgray" for name in names]
    ax.barh(names[::-1], [shares[name] for name in names][::-1], color=colours[::-1])
    ax.axvline(0.9, color="black", ls="--", lw=0.8)
    ax.set_xlim(0, 1)
    ax.set_title("arm x interval pairs within tolerance", fontsize=10)


def _patients(ax: Any, document: Mapping[str, Any]) -> None:
    points = document["settings"]["figure_points"]
    pairs = [(t, m) for t, m in zip(points["true"], points["model"]) if t is not None and m is not None]
    if pairs:
        ax.scatter(*zip(*pairs), s=4, alpha=0.3, color="tab:red")
        ends = np.array([min(min(p) for p in pairs), max(max(p) for p in pairs)])
        ax.plot(ends, ends, color="black", lw=0.8)
    r = document["metrics"]["patient_corr_qtcf"]
    ax.set_title(f"QTcF change of single patients: r = {r['value'] or np.nan:.2f}", fontsize=10)
    ax.set_xlabel("true mean change [ms]")
    ax.set_ylabel("drawn [ms]")
