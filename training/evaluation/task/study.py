"""Is the task worth learning? In each scenario: nothing, chance, everything, the book, constants, and a search.

A scenario in which one treatment repeated, or one dose and then watching, does nearly as well as a closed-loop search
is a bandit; one in which any treatment will do asks for nothing. Patients are private to this study, the virtual
patient is the truth, readings come without strips. All policies meet the same patients under the same random numbers,
and constants are chosen in hindsight on those very numbers, which flatters them: they know the dice that the search
does not. So the best constant of each patient is also *foreseen*, on other dice of the same patient.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.envs.scenarios import load_scenarios
from ecg_gym.io import write_bytes
from training.evaluation import result
from training.evaluation.benchmark import policy_training
from training.evaluation.benchmark.hashes import canonical, tables_sha256
from training.evaluation.task import learner
from training.evaluation.task.play import POLICIES, Constant, Course, constants, patients_of, play, setup_of
from training.evaluation.task.search import Search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecg_gym.envs.config import EnvSetup

MOST_CONSTANT, MOST_ONE_DOSE = 0.8, 0.6  # shares of the gap beyond which a scenario is a bandit
LEAST_GAP = 0.02  # of risk a step: a search that gains less over watching leaves nothing to share out
SEARCH, LEARNER = "search in the truth", "MaskablePPO"
POLICY_SEED = 7


@dataclass(frozen=True)
class Size:
    """How much is played."""

    patients: int = 200  # of each scenario
    ppo_steps: int = 200_000  # 0 leaves the learner out
    lucks: int = 4  # other dice on which the best constant of each patient is foreseen
    risk: str = "adverse"
    search: Search = field(default_factory=Search)


USUAL, SMALL = Size(), Size(patients=12, ppo_steps=0, lucks=1, risk="limits", search=Search(2, 1, 1, 2))


def study(
    size: Size, folder: Path, names: tuple[str, ...] = (), progress: Callable[[str], None] = lambda words: None
) -> dict[str, Any]:
    """The document; what was played before with the same tables and the same size is read from ``folder``."""
    scenarios = names or tuple(load_scenarios())
    played = {name: _scenario(name, size, folder, progress) for name in scenarios}
    curve: list[list[float]] = []
    if size.ppo_steps:
        curve = _learner(size, folder, played, progress)
    rows = [row for name, courses in played.items() for row in _rows(name, courses)]
    metrics = {
        f"{name}.{key}": value for name, courses in played.items() for key, value in _metrics(name, courses).items()
    }
    metrics |= _overall(played)
    return {
        "study": "task",
        "preset": "VirtualPatient",
        "model_sha256": "",
        "n_patients": size.patients * len(scenarios),
        "seeds": [0],
        "settings": {"patients": size.patients, "ppo_steps": size.ppo_steps, "risk": size.risk,
                     "search": vars(size.search), "tables_sha256": tables_sha256(), "scenarios": list(scenarios),
                     "constants": {name: courses["constant"]["words"] for name, courses in played.items()}},
        "metrics": metrics,
        "rows": rows,
        "curve": curve,
    }  # fmt: skip


def _scenario(name: str, size: Size, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """The courses of every policy in one scenario, by the names of rows."""
    setup, streams = setup_of(name, size.risk), patients_of(name, size.patients)

    def load_or_play(what: str, make: Callable[[], Any]) -> Any:
        return _load_or_play(folder, name, what, size, make, progress)

    courses: dict[str, Any] = {
        what: load_or_play(what, lambda policy=policy: play(setup, streams, policy, POLICY_SEED).to_json_dict())  # type: ignore[misc]
        for what, policy in POLICIES.items()
    }
    courses["constant"] = load_or_play("constant", lambda: _constants(setup, size, False, name))
    courses["one dose"] = load_or_play("one dose", lambda: _constants(setup, size, True, name))
    courses[SEARCH] = load_or_play(SEARCH, lambda: play(setup, streams, size.search, POLICY_SEED).to_json_dict())
    return courses


def _constants(setup: EnvSetup, size: Size, once: bool, name: str) -> dict[str, Any]:
    """The best fixed entry on these patients and the best of each, in hindsight or on other dice, as courses."""
    streams, menu, n = patients_of(name, size.patients), setup.task.menu, size.patients
    quick = setup_of(name, size.risk, cost=False)
    table = constants(quick, streams, once)
    fixed, own = int(table.mean(axis=1).argmax()), table.argmax(axis=0)
    elsewhere = [constants(quick, streams, once, luck) for luck in range(1, size.lucks + 1)]
    foreseen = np.sum(elsewhere, axis=0).argmax(axis=0)

    def returns_of(entries: np.ndarray) -> dict[str, list[float]]:
        return play(setup, streams, Constant(entries, once)).to_json_dict()

    means = {str(menu[i]): float(table[i].mean()) for i in np.argsort(-table.mean(axis=1))}
    courses = {"fixed": returns_of(np.full(n, fixed)), "own": returns_of(own), "foreseen": returns_of(foreseen)}
    return {**courses, "words": str(menu[fixed]), "means": means}


def _learner(size: Size, folder: Path, played: dict[str, Any], progress: Callable[[str], None]) -> list[list[float]]:
    """MaskablePPO's curve; its courses join those that were played."""
    part = folder / "parts" / f"ppo-{_digest(size, 'ppo')[:12]}"
    done = 0

    def more(steps: int) -> None:
        nonlocal done
        done += steps
        progress(f"MaskablePPO {done}")

    model, curve = learner.train(part, size.ppo_steps, size.risk, more)
    policy = learner.LearnedPolicy(model, size.risk)
    for name in played:
        setup, streams = setup_of(name, size.risk, "formulary"), patients_of(name, size.patients)
        played[name][LEARNER] = _load_or_play(
            folder, name, LEARNER, size, lambda s=setup, t=streams: play(s, t, policy).to_json_dict(), progress  # type: ignore[misc]
        )  # fmt: skip
    return curve


def _load_or_play(
    folder: Path, name: str, what: str, size: Size, make: Callable[[], Any], progress: Callable[[str], None]
) -> Any:
    """What was played before under the same tables, or is played now and written."""
    path = folder / "parts" / f"{name}-{what.replace(' ', '-')}-{_digest(size, what)[:12]}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(make()).encode())
    progress(f"{name}: {what}")
    return json.loads(path.read_text())


def _digest(size: Size, what: str) -> str:
    """Of all that a part depends on: the tables, whom it is played on, and its own settings."""
    taught = [size.ppo_steps, policy_training.SETTINGS[learner.ALGORITHM]]
    constant = dict.fromkeys(("constant", "one dose"), size.lucks)
    own: dict[str, Any] = {SEARCH: vars(size.search), LEARNER: taught, "ppo": taught, **constant}
    inputs = {"tables": tables_sha256(), "patients": size.patients, "risk": size.risk, "own": own.get(what)}
    return hashlib.sha256(canonical(inputs).encode()).hexdigest()


def courses_of(courses: Mapping[str, Any]) -> dict[str, Course]:
    """Every row of a scenario as a course."""
    flat = {key: value for key, value in courses.items() if key not in ("constant", "one dose")}
    for what in ("constant", "one dose"):
        names = {"fixed": "", "own": " of each patient", "foreseen": " of each patient, foreseen"}
        flat |= {f"best {what}{rest}": courses[what][key] for key, rest in names.items()}
    return {key: Course.from_json_dict(value) for key, value in flat.items()}


def _rows(name: str, courses: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for policy, course in courses_of(courses).items():
        n = np.arange(len(course.returns))
        mean = result.estimate_mean(course.returns, n)
        rows.append({
            "scenario": name, "policy": policy, "return": mean["value"], "return_ci95": mean["ci95"],
            "deaths_per_1000": 1000 * float(course.died.mean()), "harm": float(course.harm.mean()),
            "treatments": float(course.doses.mean()),
        })  # fmt: skip
    return rows


def _metrics(name: str, courses: Mapping[str, Any]) -> dict[str, Any]:
    """The four numbers of a scenario, with intervals that draw patients."""
    course, steps = courses_of(courses), load_scenarios()[name].clock.steps
    n = np.arange(len(course["watch"].returns))
    low, high = course["watch"].returns, course[SEARCH].returns
    gap = result.estimate_mean((high - low) / steps, n)
    shares = {}
    for key, row in (
        ("constant_share", "best constant of each patient"),
        ("one_dose_share", "best one dose of each patient"),
    ):
        share = result.estimate_ratio(course[row].returns - low, high - low, n)
        others = {"fixed": row.removesuffix(" of each patient"), "foreseen": f"{row}, foreseen"}
        beside = {word: result.estimate_ratio(course[other].returns - low, high - low, n)["value"]
                  for word, other in others.items()}  # fmt: skip
        sure = gap["value"] is not None and gap["value"] >= LEAST_GAP
        nothing = dict.fromkeys(beside)
        shares[key] = result.metric(share, None, beside) if sure else result.metric(
            {"value": None, "ci95": None}, None, nothing
        )  # fmt: skip
    sink = result.estimate_mean(course["kitchen sink"].returns - course["guideline"].returns, n)
    return {
        **shares,
        "kitchen_sink_below_guideline": result.metric(sink, below=bool(sink["ci95"] and sink["ci95"][1] < 0)),
        "deaths_per_1000": result.metric(
            1000 * float(course["guideline"].died.mean()), None,
            {key: 1000 * float(one.died.mean()) for key, one in course.items() if key != "guideline"},
        ),
        "gap_per_step": result.metric(gap),
    }  # fmt: skip


def _overall(played: Mapping[str, Any]) -> dict[str, Any]:
    """How many scenarios are no bandits and no free lunch, and whether the learner is ahead of the book."""
    each = {name: _metrics(name, courses) for name, courses in played.items()}

    def count(key: str, most: float) -> dict[str, Any]:
        values = [one[key]["value"] for one in each.values()]
        return result.metric(sum(value is not None and value <= most for value in values), None, {"of": len(values)})

    overall = {
        "scenarios_no_bandit": count("constant_share", MOST_CONSTANT),
        "scenarios_one_dose_not_enough": count("one_dose_share", MOST_ONE_DOSE),
        "scenarios_kitchen_sink_below_guideline": result.metric(
            sum(one["kitchen_sink_below_guideline"]["below"] for one in each.values()), None, {"of": len(each)}
        ),
    }
    if all(LEARNER in courses for courses in played.values()):
        ahead, patient = [], []
        for name, courses in played.items():
            course, steps = courses_of(courses), load_scenarios()[name].clock.steps
            ahead.append((course[LEARNER].returns - course["guideline"].returns) / steps)
            patient.append([f"{name} {i}" for i in range(len(ahead[-1]))])
        overall["learner_ahead_of_guideline_per_step"] = result.metric(
            result.estimate_mean(np.concatenate(ahead), np.concatenate(patient))
        )
    return overall


def summary(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per scenario and policy, for a screen."""
    return list(document["rows"])


def figure(document: Mapping[str, Any]) -> Figure:
    """Shares of the gap by scenario, and the learner's curve."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = picture.subplots(1, 2)
    names = document["settings"]["scenarios"]
    for place, (key, most, colour, words) in enumerate((
        ("constant_share", MOST_CONSTANT, "#1f5fa8", "best constant of each patient"),
        ("one_dose_share", MOST_ONE_DOSE, "#d08700", "best one dose of each patient"),
    )):  # fmt: skip
        rows = [document["metrics"][f"{name}.{key}"] for name in names]
        y = np.arange(len(names)) + 0.2 * (2 * place - 1)
        foreseen = [(row["baselines"] or {}).get("foreseen") for row in rows]
        left.plot([_number(row["value"]) for row in rows], y, "o", color=colour, label=f"{words}, in hindsight")
        left.plot([_number(one) for one in foreseen], y, "o", mfc="none", color=colour, label="the same, foreseen")
        for at, row in zip(y, rows):
            if row["ci95"]:
                left.plot(row["ci95"], [at, at], color=colour, lw=1)
        left.axvline(most, color=colour, ls="--", lw=0.8)
    left.set(
        yticks=range(len(names)), yticklabels=[name.replace("_", " ") for name in names], xlim=(0, 1.05),
        xlabel="share of the gap from watching to the search; dashed: goals",
    )  # fmt: skip
    left.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    curve = document["curve"]
    right.plot([steps / 1000 for steps, *_ in curve], [earned for _, earned, _ in curve], color="#1c1c24",
               label="MaskablePPO, while it explores")  # fmt: skip
    for policy, colour in (("guideline", "#2e7d32"), ("watch", "#888888")):
        earned = [row["return"] for row in document["rows"] if row["policy"] == policy]
        right.axhline(float(np.mean(earned)), color=colour, ls="--", lw=1, label=policy)
    right.set(xlabel="thousand steps on the default id", ylabel="mean return of an episode")
    right.legend(fontsize=8, loc="lower right")
    return picture


def _number(value: float | None) -> float:
    return np.nan if value is None else value
