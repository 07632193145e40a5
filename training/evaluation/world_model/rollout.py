"""Do rollouts hold? Eight steps that feed on themselves, beside single steps that are told the truth before each.

Three arms of the same held-out people with the same noise: *treated* (a treatment at the first step and again at the
fifth), *washout* (once, then watching), *placebo*. Each has a future that happened, in the virtual patient.

    excess_error_H = mean over rate, PR, QRS, QTcF of  CRPS(rollout, H) / CRPS(told the truth at H - 1, H)  - 1

CRPS of intervals, because a rollout is a distribution: the error of its mean would notice neither samples that all
agree nor ones that scatter. Intervals are those that the world says of a look, where it emits them. The virtual patient
has an excess of its own (rhythms convert in between), which stands beside the model's. So does that of "other
patients": a perfect rollout that knows the heart and not how this person answers, over the model's own single step.
Both sides know one strip: the rollout that at hour 0, the single step that at H - 1, as if it were the first.
`..._two_strips` lets the single step remember the first one too, so that even a perfect forecaster who has to guess the
person from noisy strips has an excess; the last half of the steps together has narrower intervals.

    kappa = E |G(s, a, w) - G(s', a, w)|^2 / E |s - s'|^2

is the contraction of one step (Eq. 36) with the noise w shared: s and s' are two samples of one patient at one hour,
measured in intervals, each in SDs between people. 0 forgets, 1 keeps, above 1 diverges. Eq. 36 taken literally, as a
slope of squared errors against the truth within patient and step, is `kappa_eq36`, its intercept `delta_sys`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import World
from ecg_gym.virtual_patient import VirtualPatient
from training.evaluation.questions import INTERVALS, SHORT, fair_crps, mean_known
from training.evaluation.result import Size, cell, document, estimate, mean_of, metric
from training.evaluation.trajectories import Progress
from training.evaluation.world_model.rollout_arms import (
    ARMS,
    JUDGED,
    SCORED,
    Arm,
    Pairs,
    S,
    between_people,
    pair_steps,
    paired,
    run_trial,
    together,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=40, samples=8), Size(patients=5, samples=4)
STEPS = 8
OTHERS = "other patients"  # a perfect rollout of somebody whose answer to drugs is not known


def rows_of(size: Size, steps: int = STEPS) -> int:
    """How many rows the study asks of the world, for the progress bar."""
    each = (len(ARMS) + len(JUDGED)) * steps + len(JUDGED) + len(pair_steps(steps))
    return each * size.patients * size.samples * len(size.seeds)


def study(
    world: World,
    size: Size = USUAL,
    truth: World | None = None,
    steps: int = STEPS,
    progress: Progress = lambda rows: None,
) -> dict[str, Any]:
    """The study's document; ``truth`` is where the patients live, by default the virtual patient."""
    baseline = truth or VirtualPatient(dt_hours=world.dt_hours)
    trials = [run_trial(world, baseline, size, seed, steps, progress) for seed in size.seeds]
    arms = {arm: together([arms[arm] for arms, *_ in trials]) for arm in ARMS}
    pairs = paired([own for _, own, _ in trials], size.patients)
    true_pairs = paired([true for _, _, true in trials], size.patients)
    patient = np.arange(arms["placebo"].real.shape[0])
    metrics = {
        **_excess(arms, patient, steps),
        **_contraction(arms, pairs, true_pairs),
        **_drift(arms["placebo"], patient, steps),
        **_washout(arms, patient),
    }
    return document(
        "rollout", world, len(patient), size.seeds, metrics, _rows(arms),
        samples=size.samples, steps=steps, dt_hours=float(world.dt_hours), arms=ARMS, scored=SCORED,
        died={arm: int(np.isnan(arms[arm].real[:, -1]).all(axis=-1).sum()) for arm in ARMS},
    )  # fmt: skip


def crps(samples: np.ndarray, real: np.ndarray) -> np.ndarray:
    """CRPS ``(N, H + 1, I)`` of samples ``(K, N, H + 1, I)``; NaN where half of them cannot be measured."""
    return fair_crps(samples.reshape(len(samples), -1), real.reshape(-1)).reshape(real.shape)


def excess(far: np.ndarray, near: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean over columns of mean(far) / mean(near) - 1 over rows ``(R, I)`` where both are known, as a statistic."""
    finite = np.isfinite(far) & np.isfinite(near)
    far, near = np.where(finite, far, 0), np.where(finite, near, 0)

    def statistic(rows: np.ndarray) -> float:
        top, bottom = far[rows].sum(axis=0), near[rows].sum(axis=0)
        queries = bottom > 0
        return float((top[queries] / bottom[queries]).mean() - 1) if queries.any() else np.nan

    return statistic


def _excess(arms: Mapping[str, Arm], patient: np.ndarray, steps: int) -> dict[str, Any]:
    errors: dict[str, dict[str, np.ndarray]] = {
        "rollout": {name: crps(arms[name].rollout, arms[name].real) for name in JUDGED},
        "one_step": {name: crps(arms[name].one_step, arms[name].real) for name in JUDGED},
        "two strips": {name: crps(arms[name].remembering, arms[name].real) for name in JUDGED},
        "virtual patient": {name: crps(arms[name].truth, arms[name].real) for name in JUDGED},
        "virtual patient, one step": {name: crps(arms[name].truth_one_step, arms[name].real) for name in JUDGED},
        OTHERS: {name: crps(arms[name].others, arms[name].real) for name in JUDGED},
        "copy": {name: np.abs(arms[name].real[:, :1] - arms[name].real) for name in JUDGED},
        "last strip": {name: _since_last(arms[name].real) for name in JUDGED},
        "pharmacology": {name: np.abs(arms[name].pharmacology - arms[name].real) for name in JUDGED},
    }

    def beyond(
        far: str, near: str, which: Sequence[str] = JUDGED, at: Sequence[int] = (steps,), columns: slice = S
    ) -> dict[str, Any]:
        """The excess over some arms, steps and intervals; all rows of a patient stay together."""
        rows = [[errors[of][arm][:, step, columns] for arm in which for step in at] for of in (far, near)]
        return estimate(excess(*map(np.concatenate, rows)), np.tile(patient, len(which) * len(at)))

    has_others = any(np.isfinite(errors[OTHERS][name]).any() for name in JUDGED)

    def own(**selection: Any) -> dict[str, Any]:
        rows = {"virtual patient": beyond("virtual patient", "virtual patient, one step", **selection)}
        return rows | ({OTHERS: beyond(OTHERS, "one_step", **selection)} if has_others else {})

    beside = {name: beyond(name, "one_step") for name in ("copy", "last strip", "pharmacology")}
    result = {f"excess_error_{steps}": metric(beyond("rollout", "one_step"), baselines={**own(), **beside})}
    virtual = {"virtual patient": own()["virtual patient"]}
    result[f"excess_error_{steps}_two_strips"] = metric(beyond("rollout", "two strips"), baselines=virtual)
    late = range(steps // 2 + 1, steps + 1)
    slices: dict[str, dict[str, Any]] = {
        f"{late[0]}_to_{steps}": {"at": late},
        **{f"{steps}_{arm}": {"which": (arm,)} for arm in JUDGED},
        **{f"{steps}_{SHORT[name]}": {"columns": slice(i, i + 1)} for i, name in enumerate(SCORED)},
    }
    for name, part in slices.items():
        result[f"excess_error_{name}"] = metric(beyond("rollout", "one_step", **part), baselines=own(**part))
    who = np.tile(patient, len(JUDGED))
    lost = {
        of: np.concatenate([_loss_of(getattr(arms[arm], of), arms[arm].real)[:, steps, 1] for arm in JUDGED])
        for of in ("rollout", "one_step", "truth")
    }
    result[f"unmeasured_pr_{steps}"] = metric(
        estimate(mean_of(lost["rollout"]), who),
        baselines={
            "told the truth": estimate(mean_of(lost["one_step"]), who),
            "virtual patient": estimate(mean_of(lost["truth"]), who),
        },
    )
    return result


def _since_last(real: np.ndarray) -> np.ndarray:
    """How far each strip's intervals ``(N, H + 1, I)`` are from those of the strip before."""
    return np.abs(np.concatenate([real[:, :1], real[:, :-1]], axis=1) - real)


def _loss_of(samples: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Share of samples that could not be measured ``(N, H + 1, I)`` where what happened could; NaN elsewhere."""
    return np.where(np.isfinite(real), (~np.isfinite(samples)).mean(axis=0), np.nan)


def _contraction(arms: Mapping[str, Arm], pairs: Pairs, true_pairs: Pairs) -> dict[str, Any]:
    def ratio(of: Pairs) -> dict[str, Any]:
        before, after = of.before, of.after

        def statistic(rows: np.ndarray) -> float:
            bottom = before[rows].sum()
            return float(after[rows].sum() / bottom) if bottom > 0 else np.nan

        return estimate(statistic, of.patient)

    ends: dict[str, Any] = {"forgets everything": 0.0, "keeps everything": 1.0}
    result = {
        "kappa": metric(ratio(pairs), baselines={"virtual patient": ratio(true_pairs), **ends}),
    }
    slope, rest = literal([arms[arm] for arm in JUDGED])
    return result | {"kappa_eq36": metric(slope), "delta_sys": metric(rest)}


def literal(arms: Sequence[Arm]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Eq. 36 as a straight line: squared error after a step against that before it, both from what happened.

    The slope is taken within patient and step (a worse sample of the same patient at the same hour), so that patients
    who are hard throughout do not pass for errors that are kept. Squared errors are in squared SDs between people,
    summed over rate, PR, QRS and QTcF. Estimates of slope and intercept.
    """
    x, y, who = [], [], []
    for arm in arms:
        spread = between_people(arm.real[:, 0, S])
        squares = ((arm.rollout[..., S] - arm.real[..., S]) / spread) ** 2  # (K, N, H + 1, 4)
        before, after = squares[:, :, 1:-1], squares[:, :, 2:]
        finite = np.isfinite(before) & np.isfinite(after)
        x.append(np.where(finite, before, 0).sum(axis=-1).transpose(1, 2, 0))  # (N, H - 1, K)
        y.append(np.where(finite, after, 0).sum(axis=-1).transpose(1, 2, 0))
        who.append(np.arange(x[-1].shape[0]))
    far, then, patient = np.concatenate(x), np.concatenate(y), np.concatenate(who)
    own, own_then = far - far.mean(axis=-1, keepdims=True), then - then.mean(axis=-1, keepdims=True)
    shared, square = (own * own_then).sum(axis=(1, 2)), (own**2).sum(axis=(1, 2))

    def slope(rows: np.ndarray) -> float:
        return float(shared[rows].sum() / square[rows].sum()) if square[rows].sum() > 0 else np.nan

    def rest(rows: np.ndarray) -> float:
        return float(then[rows].mean() - slope(rows) * far[rows].mean())

    return estimate(slope, patient), estimate(rest, patient)


def _drift(placebo: Arm, patient: np.ndarray, steps: int) -> dict[str, Any]:
    """Where the untreated go in the model, beyond where they go in truth."""
    result = {}
    for i, name in enumerate(INTERVALS):
        true = mean_known(placebo.truth[:, :, steps, i]) - placebo.real[:, 0, i]
        model = mean_known(placebo.rollout[:, :, steps, i]) - placebo.rollout[0, :, 0, i]
        population = placebo.pharmacology[:, steps, i] - placebo.real[:, 0, i]
        unit = "bpm" if name.endswith("bpm") else "ms"
        result[f"placebo_drift_{SHORT[name]}_{unit}"] = metric(
            estimate(mean_of(model - true), patient),
            baselines={
                "copy": estimate(mean_of(-true), patient),
                "pharmacology": estimate(mean_of(population - true), patient),
            },
            truth_itself=estimate(mean_of(true), patient),
        )
    return result


def _effects(arms: Mapping[str, Arm]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the single dose does, ``(N, H + 1, 6)``: in the model, in truth, and to an average heart."""
    dosed, watched = arms["washout"], arms["placebo"]
    model, true = (mean_known(getattr(dosed, f) - getattr(watched, f)) for f in ("rollout", "truth"))
    return model, true, dosed.pharmacology - watched.pharmacology


def _directed(effect: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Effects ``(N, H + 1)``, positive in the direction of each patient's largest true one."""
    peak = np.nanargmax(np.where(np.isfinite(true), np.abs(true), -1.0), axis=1)
    return effect * np.sign(np.take_along_axis(true, peak[:, None], axis=1))


def _washout(arms: Mapping[str, Arm], patient: np.ndarray) -> dict[str, Any]:
    model, true, population = _effects(arms)
    result: dict[str, Any] = {}
    for i, name in ((0, "hr_bpm"), (1, "pr_ms"), (3, "qtcf_ms")):
        short, unit = SHORT[name], name.rsplit("_", 1)[1]
        wrong = np.abs(model - true)[:, 1:, i].mean(axis=1)
        result[f"washout_error_{short}_{unit}"] = metric(
            estimate(mean_of(wrong), patient),
            baselines={
                "no effect": estimate(mean_of(np.abs(true)[:, 1:, i].mean(axis=1)), patient),
                "pharmacology": estimate(mean_of(np.abs(population - true)[:, 1:, i].mean(axis=1)), patient),
            },
        )
        course = {"model": model, "virtual patient": true, "pharmacology": population}
        left = {of: estimate(_remainder(_directed(e[..., i], true[..., i])), patient) for of, e in course.items()}
        result[f"washout_left_{short}"] = metric(
            left["model"], baselines={of: left[of] for of in ("virtual patient", "pharmacology")}
        )
    apart = {of: twin_distance(arms, of)[:, 1:].mean(axis=1) for of in ("rollout", "truth")}
    result["twin_divergence"] = metric(
        estimate(mean_of(apart["rollout"]), patient),
        baselines={"virtual patient": estimate(mean_of(apart["truth"]), patient), "copy": 0.0},
    )
    return result


def _remainder(course: np.ndarray) -> Callable[[np.ndarray], float]:
    """Share of the largest mean effect that is left at the last step, of directed effects ``(N, H + 1)``."""

    def statistic(rows: np.ndarray) -> float:
        values = course[rows]
        values = values[np.isfinite(values).all(axis=1)]
        if not len(values):
            return np.nan
        mean = values.mean(axis=0)
        return float(mean[-1] / mean[1:].max()) if mean[1:].max() > 0 else np.nan

    return statistic


def twin_distance(arms: Mapping[str, Arm], of: str) -> np.ndarray:
    """Mean distance ``(N, H + 1)`` of the twin who had the dose from the one who had not, noise alike.

    Root mean square over rate, PR, QRS and QTcF, each in SDs between people; NaN where none could be measured.
    """
    spread = between_people(arms["placebo"].real[:, 0, S])
    apart = (getattr(arms["washout"], of)[..., S] - getattr(arms["placebo"], of)[..., S]) / spread
    finite = np.isfinite(apart)
    square = np.where(finite, apart, 0) ** 2
    return mean_known(
        np.sqrt(np.where(finite.any(axis=-1), square.sum(axis=-1) / np.maximum(finite.sum(axis=-1), 1), np.nan))
    )


def _rows(arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """One row per arm, step and interval."""
    rows = []
    model, true, population = _effects(arms)
    apart = {of: twin_distance(arms, of) for of in ("rollout", "truth")}
    for name, arm in arms.items():
        errors = {
            "crps_rollout": crps(arm.rollout, arm.real),
            "crps_one_step": crps(arm.one_step, arm.real),
            "crps_virtual_patient": crps(arm.truth, arm.real),
            "crps_copy": np.abs(arm.real[:, :1] - arm.real),
            "crps_last_strip": _since_last(arm.real),
            "crps_pharmacology": np.abs(arm.pharmacology - arm.real),
        }
        changes = {
            "change_rollout": mean_known(arm.rollout) - arm.rollout[0, :, :1],
            "change_truth": mean_known(arm.truth) - arm.real[:, :1],
            "unmeasured_rollout": _loss_of(arm.rollout, arm.real),
            "unmeasured_one_step": _loss_of(arm.one_step, arm.real),
            "unmeasured_truth": _loss_of(arm.truth, arm.real),
        }
        if name not in JUDGED:
            errors = {key: value for key, value in errors.items() if key != "crps_one_step"}
        else:
            both = np.isfinite(errors["crps_rollout"]) & np.isfinite(errors["crps_one_step"])
            both[:, 0] = True
            errors = {key: np.where(both, value, np.nan) for key, value in errors.items()}  # the same rows for all
        for step in range(1, arm.real.shape[1]):
            for i, interval in enumerate(INTERVALS):
                row: dict[str, Any] = {"arm": name, "step": step, "interval": interval}
                row |= {key: _mean(value[:, step, i]) for key, value in {**errors, **changes}.items()}
                row |= {f"sd_{key}": _within(getattr(arm, key)[:, :, step, i]) for key in ("rollout", "truth")}
                if name == "washout":
                    course = {"model": model, "truth": true, "pharmacology": population}
                    row |= {
                        f"effect_{of}": _mean(_directed(e[..., i], true[..., i])[:, step]) for of, e in course.items()
                    }
                    row |= {f"twins_apart_{of}": _mean(values[:, step]) for of, values in apart.items()}
                rows.append(row)
    return rows


def _mean(values: np.ndarray) -> float:
    return mean_of(values)(np.arange(len(values)))


def _within(samples: np.ndarray) -> float:
    """Root mean variance over the samples ``(K, N)`` of a patient."""
    whole = samples[:, np.isfinite(samples).all(axis=0)]
    return float(np.sqrt(whole.var(axis=0, ddof=1).mean())) if whole.size and len(samples) > 1 else np.nan


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: CRPS over that of one step, mean of the scored intervals, by arm and step; QTcF's change."""
    scored, every = result["settings"]["scored"], result["rows"]
    row = {v: [r["crps_one_step"] for r in every if r["interval"] == v and r.get("crps_one_step")] for v in scored}
    unit = {v: float(np.mean(values)) if values else np.nan for v, values in row.items()}
    names = [name for name in every[0] if name.startswith("crps_")]
    table = []
    for arm, step in dict.fromkeys((r["arm"], r["step"]) for r in every):
        mine = {r["interval"]: r for r in every if (r["arm"], r["step"]) == (arm, step)}
        line: dict[str, Any] = {"arm": arm, "step": step}
        for name in names:
            over = [mine[v][name] / unit[v] for v in scored if mine[v].get(name) is not None]
            line[name.removeprefix("crps_")] = float(np.nanmean(over)) if over else None
        line |= {f"qtcf_{of}": mine["qtcf_ms"][f"change_{of}"] for of in ("rollout", "truth")}
        table.append(line)
    return table


def figure(result: Mapping[str, Any]) -> Figure:
    """Four pictures: errors over the steps, the placebo's drift, the washout, and twins who differ by one dose."""
    import matplotlib.pyplot as plt

    samples, ((errors, drift), (washout, twins)) = plt.subplots(2, 2, figsize=(11, 7.5))
    steps = range(1, int(result["settings"]["steps"]) + 1)
    hours = [step * result["settings"]["dt_hours"] for step in steps]

    def column(arm: str, interval: str, name: str) -> np.ndarray:
        rows = [r for r in result["rows"] if r["arm"] == arm and r["interval"] == interval]
        return np.array([np.nan if r.get(name) is None else r[name] for r in rows], dtype=float)

    def relative(arm: str, name: str) -> np.ndarray:
        scored = result["settings"]["scored"]
        unit = {v: mean_of(column(arm, v, "crps_one_step"))(np.arange(len(hours))) for v in scored}
        return mean_known(np.array([column(arm, v, name) / one for v, one in unit.items() if one > 0]), least=0.0)

    visible = {"rollout": "C0", "one_step": "C1", "virtual_patient": "k", "copy": "C7", "pharmacology": "C2"}
    words = {"one_step": "told the truth one step before", "virtual_patient": "virtual patient, rolled out"}
    for name, colour in visible.items():
        for arm, line in (("treated", "-"), ("placebo", ":")):
            label = f"{words.get(name, name)}" if arm == "treated" else None
            errors.plot(hours, relative(arm, f"crps_{name}"), line, color=colour, label=label)
    errors.set(
        title="error, in units of one step's (dotted: placebo)", xlabel="hours", ylabel="CRPS, mean of 4 intervals"
    )
    errors.set_ylim(bottom=0)
    for interval, colour in (("hr_bpm", "C3"), ("pr_ms", "C2"), ("qrs_ms", "C4"), ("qtcf_ms", "C0")):
        short = interval.rsplit("_", 1)[0]
        drift.plot(hours, column("placebo", interval, "change_rollout"), color=colour, label=short)
        drift.plot(hours, column("placebo", interval, "change_truth"), "--", color=colour)
        if interval != "qrs_ms":
            washout.plot(hours, column("washout", interval, "effect_model"), color=colour, label=short)
            washout.plot(hours, column("washout", interval, "effect_truth"), "--", color=colour)
    drift.set(title="untreated: change from the start (dashed: truth)", xlabel="hours", ylabel="1/min or ms")
    washout.set(
        title="after one dose: effect, by its true direction (dashed: truth)", xlabel="hours", ylabel="1/min or ms"
    )
    for of, line in (("rollout", "-"), ("truth", "--")):
        twins.plot(hours, column("washout", "qtcf_ms", f"twins_apart_{of}"), "k" + line, label=of)
    kappa = result["metrics"]["kappa"]["value"]
    twins.set(
        title=f"twins, one dosed: distance (kappa of a step {cell(kappa)})", xlabel="hours", ylabel="SDs between people"
    )
    twins.set_ylim(bottom=0)
    for axes in (errors, drift, washout, twins):
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    samples.tight_layout()
    plt.close(samples)
    return samples
