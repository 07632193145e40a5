"""Do rollouts hold? Eight steps that feed on themselves, beside single steps that are told the truth before each.

Three arms of the same held-out people with the same noise: *treated* (a treatment at the first step and again at the
fifth), *washout* (once, then watching), *placebo*. Each has a future that happened, in the virtual patient.

    excess_error_H = mean over rate, PR, QRS, QTcF of  CRPS(rollout, H) / CRPS(told the truth at H - 1, H)  - 1

CRPS of intervals, because a rollout is a distribution: the error of its mean would notice neither samples that all
agree nor ones that scatter, and latents mostly count the phase of every beat. The virtual patient has an excess of its
own (it, too, knows less from further away), which stands beside the model's.

    kappa = E |G(s, a, w) - G(s', a, w)|^2 / E |s - s'|^2

is the contraction of one step (Eq. 36) with the noise w shared: s and s' are two samples of one patient at one hour,
measured in intervals, each in SDs between people. 0 forgets, 1 keeps, above 1 diverges. Eq. 36 taken literally, as a
slope of squared errors against the truth within patient and step, is `kappa_eq36`, its intercept `delta_sys`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import WATCH, State, World
from ecg_gym.datasets.trials import TrialDesign, draw_treatment
from ecg_gym.virtual_patient import VirtualPatient
from training.studies.document import Size, cell, document, estimate, mean_of, metric
from training.studies.harness import (
    HELD_OUT,
    INTERVALS,
    PURPOSES,
    SHORT,
    fair_crps,
    held_out_patients,
    mean_known,
    seen_by,
)
from training.studies.trajectories import (
    Progress,
    Schedule,
    Trajectories,
    advance,
    draws,
    follow,
    latent_of,
    measured_of,
    single_steps,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=40, samples=8), Size(patients=5, samples=4)
STEPS = 8
AGAIN = 4  # the treated are given the same again after so many steps
ARMS = ("treated", "washout", "placebo")
JUDGED = ("treated", "placebo")  # arms that the excess is measured in
SCORED = INTERVALS[:4]  # rate, PR, QRS, QTcF
PAIRED = 1000  # added to the step in the noise of pairs
_S = slice(0, len(SCORED))


@dataclass(frozen=True)
class Arm:
    """One arm of one trial, seen from everywhere; patients along axis 1 of samples, axis 0 of single values."""

    real: np.ndarray  # (N, H + 1, 6) what happened in the virtual patient
    truth: np.ndarray  # (K, N, H + 1, 6) what else could have happened there
    truth_told: np.ndarray  # (K, N, H + 1, 6) the same, each step begun at what happened
    rollout: np.ndarray  # (K, N, H + 1, 6) the world's rollouts
    told: np.ndarray  # (K, N, H + 1, 6) the world, each step begun at what happened
    pharmacology: np.ndarray  # (N, H + 1, 6) the first strip, moved by what the population would do
    latent_errors: np.ndarray  # (N, H + 1, 2) mean squared error of a sample: rollout, told; NaN without latents


@dataclass(frozen=True)
class Pairs:
    """Squared distances of pairs of hearts before and after a step with common noise."""

    patient: np.ndarray  # (P,)
    before: np.ndarray  # (P, 2) in intervals, in latents
    after: np.ndarray  # (P, 2)


def rows_of(size: Size, steps: int = STEPS) -> int:
    """How many rows the study asks of the world, for the progress bar."""
    each = (len(ARMS) + len(JUDGED)) * steps + len(_pair_steps(steps))
    return each * size.patients * size.samples * len(size.seeds)


def study(
    world: World,
    size: Size = USUAL,
    truth: World | None = None,
    steps: int = STEPS,
    progress: Progress = lambda rows: None,
) -> dict[str, Any]:
    """The study's document; ``truth`` is where the patients live, by default the virtual patient."""
    home = truth or VirtualPatient(dt_hours=world.dt_hours)
    trials = [_trial(world, home, size, seed, steps, progress) for seed in size.seeds]
    arms = {arm: _together([arms[arm] for arms, *_ in trials]) for arm in ARMS}
    pairs = _paired([own for _, own, _ in trials], size.patients)
    true_pairs = _paired([true for _, _, true in trials], size.patients)
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


def _trial(
    world: World, home: World, size: Size, seed: int, steps: int, progress: Progress
) -> tuple[dict[str, Arm], Pairs, Pairs]:
    people = held_out_patients(home, size.patients, seed)
    seen = seen_by(world, people)
    rng = np.random.default_rng([HELD_OUT, PURPOSES["test"], seed, 2])
    given = [draw_treatment(person, rng, TrialDesign(watch=(0.0,)), "test")[0] for person in people.patients]
    watch = [WATCH] * len(people)
    schedules: dict[str, Schedule] = {
        "treated": [given if step % AGAIN == 0 else watch for step in range(steps)],
        "washout": [given if step == 0 else watch for step in range(steps)],
        "placebo": [watch] * steps,
    }
    spread = between_people(measured_of(people))
    arms: dict[str, Arm] = {}
    pairs = []
    for name, schedule in schedules.items():
        keep = _pair_steps(steps) if name == "treated" else ()
        every = range(1, steps + 1)
        happened = follow(home, people, schedule, 1, ("true", seed), keep=range(steps + 1))
        before = [happened.states[step] for step in range(steps)]
        could = follow(home, people, schedule, size.samples, ("again", seed), keep)
        drawn = follow(world, seen, schedule, size.samples, ("model", seed), keep, progress)
        if name in JUDGED:
            sights = [seen, *(seen_by(world, state) for state in before[1:])]
            told = single_steps(world, sights, schedule, size.samples, ("model", seed), every, progress)
            last = seen_by(world, happened.states[steps])
            told_true = single_steps(home, before, schedule, size.samples, ("again", seed), every)
            latents = _latent_errors(drawn, told, [*sights, last])
            arms[name] = _arm(happened, could, told_true, drawn, told, people, latents)
        else:
            arms[name] = _arm(happened, could, could, drawn, drawn, people, None)
        for place, followed in ((world, drawn), (home, could)):
            if keep:
                pairs.append(_pairs(place, followed, schedule, size.samples, len(people), spread, seed, progress))
    return arms, pairs[0], pairs[1]


def _arm(
    happened: Trajectories,
    could: Trajectories,
    told_true: Trajectories,
    drawn: Trajectories,
    told: Trajectories,
    people: State,
    latents: np.ndarray | None,
) -> Arm:
    real = happened.intervals[0]
    return Arm(
        real,
        could.intervals,
        told_true.intervals,
        drawn.intervals,
        told.intervals,
        population_forecast(people, [happened.states[step] for step in range(real.shape[1])]),
        np.full((*real.shape[:2], 2), np.nan) if latents is None else latents,
    )


def population_forecast(people: State, states: Sequence[State]) -> np.ndarray:
    """The first strip's intervals ``(N, H + 1, 6)``, moved by what doses and clock do to an average heart."""
    from ecg_gym.world_model import conditioning

    measured = conditioning.observe_strips(people.ecg)
    tables = []
    for state in states:
        expected = conditioning.population_forecast(
            measured, people.patients, people.taken, state.taken, people.hours, state.hours
        )
        tables.append(np.stack([expected[name] for name in INTERVALS], axis=1))
    return np.stack(tables, axis=1)


def _latent_errors(drawn: Trajectories, told: Trajectories, sights: Sequence[State]) -> np.ndarray | None:
    if drawn.latents is None or told.latents is None:
        return None
    real = np.stack([np.asarray(latent_of(state)) for state in sights], axis=1)
    errors = [((latents - real) ** 2).mean(axis=(0, -1)) for latents in (drawn.latents, told.latents)]
    return np.stack(errors, axis=-1)


def _pair_steps(steps: int) -> tuple[int, ...]:
    """After which steps pairs of hearts are sent on together: early, before the second treatment, late."""
    return tuple(sorted({1, min(AGAIN, steps - 1), steps - 1} - {0}))


def _pairs(
    world: World,
    followed: Trajectories,
    schedule: Schedule,
    k: int,
    n: int,
    spread: np.ndarray,
    seed: int,
    progress: Progress = lambda rows: None,
) -> Pairs:
    """Samples 0 and 1, 2 and 3, ... of each patient, sent one step on with the noise of the pair."""
    half = k // 2
    found: dict[str, list[np.ndarray]] = {"before": [], "after": []}
    for step, crowd in followed.states.items():
        now = crowd[: 2 * half * n]
        noise = draws(("model", seed), n, 2 * half, PAIRED + step, shared=2)
        later = advance(world, now, [*schedule[step]] * (2 * half), noise, progress)
        apart = [_apart(measured_of(state)[:, _S] / spread[_S], half, n) for state in (now, later)]
        known = np.isfinite(apart[0]) & np.isfinite(apart[1])
        latents = [latent_of(state) for state in (now, later)]
        for name, squares, latent in zip(found, apart, latents):
            far = np.full((half, n), np.nan) if latent is None else _apart(latent, half, n).mean(axis=-1)
            found[name].append(np.stack([np.where(known, squares, 0).sum(axis=-1), far], axis=-1).reshape(-1, 2))
    patient = np.tile(np.arange(n), half * len(followed.states))
    return Pairs(patient, np.concatenate(found["before"]), np.concatenate(found["after"]))


def between_people(values: np.ndarray) -> np.ndarray:
    """SD ``(I,)`` of each interval over people ``(N, I)``; NaN where fewer than two are known or all are alike."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
    variance = (np.where(known, values - mean, 0) ** 2).sum(axis=0) / np.maximum(count, 1)
    return np.where((count > 1) & (variance > 0), np.sqrt(variance), np.nan)


def _apart(values: np.ndarray, half: int, n: int) -> np.ndarray:
    """Squared differences ``(pairs, N, ...)`` of rows that stand sample by sample."""
    rows = values.reshape(half, 2, n, -1)
    return (rows[:, 0] - rows[:, 1]) ** 2


def _together(parts: Sequence[Arm]) -> Arm:
    """The patients of several trials in one."""
    joined = {}
    for f in fields(Arm):
        values = [getattr(part, f.name) for part in parts]
        joined[f.name] = np.concatenate(values, axis=1 if values[0].ndim == 4 else 0)
    return Arm(**joined)


def _paired(parts: Sequence[Pairs], patients: int) -> Pairs:
    return Pairs(
        np.concatenate([part.patient + patients * i for i, part in enumerate(parts)]),
        np.concatenate([part.before for part in parts]),
        np.concatenate([part.after for part in parts]),
    )


# ---- what it comes to


def crps(samples: np.ndarray, real: np.ndarray) -> np.ndarray:
    """CRPS ``(N, H + 1, I)`` of samples ``(K, N, H + 1, I)``; NaN where half of them cannot be measured."""
    return fair_crps(samples.reshape(len(samples), -1), real.reshape(-1)).reshape(real.shape)


def excess(far: np.ndarray, near: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean over columns of mean(far) / mean(near) - 1 over rows ``(R, I)`` where both are known, as a statistic."""
    known = np.isfinite(far) & np.isfinite(near)
    far, near = np.where(known, far, 0), np.where(known, near, 0)

    def statistic(rows: np.ndarray) -> float:
        top, bottom = far[rows].sum(axis=0), near[rows].sum(axis=0)
        asked = bottom > 0
        return float((top[asked] / bottom[asked]).mean() - 1) if asked.any() else np.nan

    return statistic


def _excess(arms: Mapping[str, Arm], patient: np.ndarray, steps: int) -> dict[str, Any]:
    both = [arms[arm] for arm in JUDGED]
    who = np.tile(patient, len(both))

    def last(values: Callable[[Arm], np.ndarray]) -> np.ndarray:
        return np.concatenate([values(arm)[:, steps, _S] for arm in both])

    errors = {
        "rollout": last(lambda a: crps(a.rollout, a.real)),
        "told": last(lambda a: crps(a.told, a.real)),
        "virtual patient": last(lambda a: crps(a.truth, a.real)),
        "virtual patient told": last(lambda a: crps(a.truth_told, a.real)),
        "copy": last(lambda a: np.abs(a.real[:, :1] - a.real)),
        "last strip": np.concatenate([np.abs(a.real[:, steps - 1, _S] - a.real[:, steps, _S]) for a in both]),
        "pharmacology": last(lambda a: np.abs(a.pharmacology - a.real)),
    }
    beside = {
        name: estimate(excess(errors[name], errors["told"]), who) for name in ("copy", "last strip", "pharmacology")
    }
    own = estimate(excess(errors["virtual patient"], errors["virtual patient told"]), who)
    found = {
        f"excess_error_{steps}": metric(
            estimate(excess(errors["rollout"], errors["told"]), who), baselines={"virtual patient": own, **beside}
        )
    }
    half = len(patient)
    for i, arm in enumerate(JUDGED):
        part = slice(i * half, (i + 1) * half)
        truths = estimate(excess(errors["virtual patient"][part], errors["virtual patient told"][part]), patient)
        value = estimate(excess(errors["rollout"][part], errors["told"][part]), patient)
        found[f"excess_error_{steps}_{arm}"] = metric(value, baselines={"virtual patient": truths})
    for i, name in enumerate(SCORED):
        pair = (errors["rollout"][:, i : i + 1], errors["told"][:, i : i + 1])
        alike = [errors[n][:, i : i + 1] for n in ("virtual patient", "virtual patient told")]
        beside = {"virtual patient": estimate(excess(*alike), who)}
        found[f"excess_error_{steps}_{SHORT[name]}"] = metric(estimate(excess(*pair), who), baselines=beside)
    latents = np.concatenate([arm.latent_errors[:, steps] for arm in both])
    found[f"excess_latent_mse_{steps}"] = metric(estimate(excess(latents[:, :1], latents[:, 1:]), who))
    lost = {
        name: np.concatenate([_lost(getattr(arm, name), arm.real)[:, steps, 1] for arm in both])
        for name in ("rollout", "told", "truth")
    }
    found[f"unmeasured_pr_{steps}"] = metric(
        estimate(mean_of(lost["rollout"]), who),
        baselines={
            "told the truth": estimate(mean_of(lost["told"]), who),
            "virtual patient": estimate(mean_of(lost["truth"]), who),
        },
    )
    return found


def _lost(samples: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Share of samples that could not be measured ``(N, H + 1, I)`` where what happened could; NaN elsewhere."""
    return np.where(np.isfinite(real), (~np.isfinite(samples)).mean(axis=0), np.nan)


def _contraction(arms: Mapping[str, Arm], pairs: Pairs, true_pairs: Pairs) -> dict[str, Any]:
    def ratio(of: Pairs, column: int) -> dict[str, Any]:
        before, after = of.before[:, column], of.after[:, column]

        def statistic(rows: np.ndarray) -> float:
            bottom = before[rows].sum()
            return float(after[rows].sum() / bottom) if bottom > 0 else np.nan

        return estimate(statistic, of.patient)

    ends: dict[str, Any] = {"forgets everything": 0.0, "keeps everything": 1.0}
    found = {
        "kappa": metric(ratio(pairs, 0), baselines={"virtual patient": ratio(true_pairs, 0), **ends}),
        "kappa_latent": metric(ratio(pairs, 1), baselines=ends),
    }
    slope, rest = literal([arms[arm] for arm in JUDGED])
    return found | {"kappa_eq36": metric(slope), "delta_sys": metric(rest)}


def literal(arms: Sequence[Arm]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Eq. 36 as a straight line: squared error after a step against that before it, both from what happened.

    The slope is taken within patient and step (a worse sample of the same patient at the same hour), so that patients
    who are hard throughout do not pass for errors that are kept. Squared errors are in squared SDs between people,
    summed over rate, PR, QRS and QTcF. Estimates of slope and intercept.
    """
    x, y, who = [], [], []
    for arm in arms:
        spread = between_people(arm.real[:, 0, _S])
        squares = ((arm.rollout[..., _S] - arm.real[..., _S]) / spread) ** 2  # (K, N, H + 1, 4)
        before, after = squares[:, :, 1:-1], squares[:, :, 2:]
        known = np.isfinite(before) & np.isfinite(after)
        x.append(np.where(known, before, 0).sum(axis=-1).transpose(1, 2, 0))  # (N, H - 1, K)
        y.append(np.where(known, after, 0).sum(axis=-1).transpose(1, 2, 0))
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
    found = {}
    for i, name in enumerate(INTERVALS):
        true = mean_known(placebo.truth[:, :, steps, i]) - placebo.real[:, 0, i]
        model = mean_known(placebo.rollout[:, :, steps, i]) - placebo.rollout[0, :, 0, i]
        population = placebo.pharmacology[:, steps, i] - placebo.real[:, 0, i]
        unit = "bpm" if name.endswith("bpm") else "ms"
        found[f"placebo_drift_{SHORT[name]}_{unit}"] = metric(
            estimate(mean_of(model - true), patient),
            baselines={
                "copy": estimate(mean_of(-true), patient),
                "pharmacology": estimate(mean_of(population - true), patient),
            },
            truth_itself=estimate(mean_of(true), patient),
        )
    return found


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
    found: dict[str, Any] = {}
    for i, name in ((0, "hr_bpm"), (1, "pr_ms"), (3, "qtcf_ms")):
        short, unit = SHORT[name], name.rsplit("_", 1)[1]
        wrong = np.abs(model - true)[:, 1:, i].mean(axis=1)
        found[f"washout_error_{short}_{unit}"] = metric(
            estimate(mean_of(wrong), patient),
            baselines={
                "no effect": estimate(mean_of(np.abs(true)[:, 1:, i].mean(axis=1)), patient),
                "pharmacology": estimate(mean_of(np.abs(population - true)[:, 1:, i].mean(axis=1)), patient),
            },
        )
        course = {"model": model, "virtual patient": true, "pharmacology": population}
        left = {of: estimate(_left(_directed(e[..., i], true[..., i])), patient) for of, e in course.items()}
        found[f"washout_left_{short}"] = metric(
            left["model"], baselines={of: left[of] for of in ("virtual patient", "pharmacology")}
        )
    apart = {of: twin_distance(arms, of)[:, 1:].mean(axis=1) for of in ("rollout", "truth")}
    found["twin_divergence"] = metric(
        estimate(mean_of(apart["rollout"]), patient),
        baselines={"virtual patient": estimate(mean_of(apart["truth"]), patient), "copy": 0.0},
    )
    return found


def _left(course: np.ndarray) -> Callable[[np.ndarray], float]:
    """Share of the largest mean effect that is left at the last step, of directed effects ``(N, H + 1)``."""

    def statistic(rows: np.ndarray) -> float:
        chosen = course[rows]
        chosen = chosen[np.isfinite(chosen).all(axis=1)]
        if not len(chosen):
            return np.nan
        mean = chosen.mean(axis=0)
        return float(mean[-1] / mean[1:].max()) if mean[1:].max() > 0 else np.nan

    return statistic


def twin_distance(arms: Mapping[str, Arm], of: str) -> np.ndarray:
    """Mean distance ``(N, H + 1)`` of the twin who had the dose from the one who had not, noise alike.

    Root mean square over rate, PR, QRS and QTcF, each in SDs between people; NaN where none could be measured.
    """
    spread = between_people(arms["placebo"].real[:, 0, _S])
    apart = (getattr(arms["washout"], of)[..., _S] - getattr(arms["placebo"], of)[..., _S]) / spread
    known = np.isfinite(apart)
    square = np.where(known, apart, 0) ** 2
    return mean_known(
        np.sqrt(np.where(known.any(axis=-1), square.sum(axis=-1) / np.maximum(known.sum(axis=-1), 1), np.nan))
    )


def _rows(arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """One row per arm, step and interval."""
    rows = []
    model, true, population = _effects(arms)
    apart = {of: twin_distance(arms, of) for of in ("rollout", "truth")}
    for name, arm in arms.items():
        errors = {
            "crps_rollout": crps(arm.rollout, arm.real),
            "crps_told": crps(arm.told, arm.real),
            "crps_virtual_patient": crps(arm.truth, arm.real),
            "crps_copy": np.abs(arm.real[:, :1] - arm.real),
            "crps_last_strip": np.abs(np.concatenate([arm.real[:, :1], arm.real[:, :-1]], axis=1) - arm.real),
            "crps_pharmacology": np.abs(arm.pharmacology - arm.real),
        }
        changes = {
            "change_rollout": mean_known(arm.rollout) - arm.rollout[0, :, :1],
            "change_truth": mean_known(arm.truth) - arm.real[:, :1],
            "unmeasured_rollout": _lost(arm.rollout, arm.real),
            "unmeasured_told": _lost(arm.told, arm.real),
            "unmeasured_truth": _lost(arm.truth, arm.real),
        }
        if name not in JUDGED:
            errors = {key: value for key, value in errors.items() if key != "crps_told"}
        else:
            both = np.isfinite(errors["crps_rollout"]) & np.isfinite(errors["crps_told"])
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


def shown(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: CRPS over that of one step, mean of the scored intervals, by arm and step; QTcF's change."""
    scored, every = found["settings"]["scored"], found["rows"]
    told = {v: [r["crps_told"] for r in every if r["interval"] == v and r.get("crps_told")] for v in scored}
    unit = {v: float(np.mean(values)) if values else np.nan for v, values in told.items()}
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


def figure(found: Mapping[str, Any]) -> Figure:
    """Four pictures: errors over the steps, the placebo's drift, the washout, and twins who differ by one dose."""
    import matplotlib.pyplot as plt

    drawn, ((errors, drift), (washout, twins)) = plt.subplots(2, 2, figsize=(11, 7.5))
    steps = range(1, int(found["settings"]["steps"]) + 1)
    hours = [step * found["settings"]["dt_hours"] for step in steps]

    def column(arm: str, interval: str, name: str) -> np.ndarray:
        rows = [r for r in found["rows"] if r["arm"] == arm and r["interval"] == interval]
        return np.array([np.nan if r.get(name) is None else r[name] for r in rows], dtype=float)

    def relative(arm: str, name: str) -> np.ndarray:
        unit = {v: mean_of(column(arm, v, "crps_told"))(np.arange(len(hours))) for v in found["settings"]["scored"]}
        return mean_known(np.array([column(arm, v, name) / one for v, one in unit.items() if one > 0]), least=0.0)

    shown = {"rollout": "C0", "told": "C1", "virtual_patient": "k", "copy": "C7", "pharmacology": "C2"}
    words = {"told": "told the truth one step before", "virtual_patient": "virtual patient, rolled out"}
    for name, colour in shown.items():
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
    kappa = found["metrics"]["kappa"]["value"]
    twins.set(
        title=f"twins, one dosed: distance (kappa of a step {cell(kappa)})", xlabel="hours", ylabel="SDs between people"
    )
    twins.set_ylim(bottom=0)
    for axes in (errors, drift, washout, twins):
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.tight_layout()
    plt.close(drawn)
    return drawn
