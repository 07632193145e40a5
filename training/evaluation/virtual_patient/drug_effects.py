"""Does the virtual trial land where the real one landed? SCR-002, measured from waveforms by our own delineator.

The shipped protocol ``ecgrdvq`` is run with the trial's people (their sex, age and weight), doses and hours, and then
both tables go through the same arithmetic: effects at the nominal peaks, time courses, concentrations, the drift of the
placebo arm, and how much people and repeated ECGs scatter. The pharmacology was calibrated on this trial's means, so
this tests the chain (kinetics, block, waveform, delineation), not the pharmacology's foresight. Real effects:
Johannesen 2014, doi:10.1038/clpt.2014.155.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.clinical_trial import ENDPOINTS, Protocol, load_protocol, run_trial
from ecg_gym.clinical_trial.effects import cells, changes, endpoint_values, interval, mean_known, number
from ecg_gym.core import Patient
from ecg_gym.io import atomic_write
from training.evaluation.virtual_patient import exposure_response

Row = dict[str, Any]
SHOWN = ("HR", "PR", "QRS", "QTcF", "JTpeakc", "TpTe")
TABLE, EFFECTS, FOLDER = "SCR-002.Clinical.Data.csv", "reference_effects.csv", "ecgrdvq"
PEAK_HOURS = {"dofetilide": 2.5, "quinidine": 2.0, "ranolazine": 4.0, "verapamil": 1.0}  # nominal, of reference_effects
GOAL = 0.30  # how far an SD may be from the real one, as a share
PEOPLE = 22  # of the trial
_ROOT = Path(__file__).resolve().parents[3]
_TINY = 1e-9  # [ms] instead of no scatter at all
_WRAP = 2.0**32  # two PR values of the table wrapped around


@dataclass(frozen=True)
class Study:
    """The document, and the protocol that was run."""

    document: dict[str, Any]
    protocol: Protocol


def default_data() -> Path:
    """Where the tables may lie: $ECG_GYM_DATA, ``data`` or ``../shared/data`` here or beside the repository."""
    folder = os.environ.get("ECG_GYM_DATA")
    around = [base / part for base in (Path.cwd(), _ROOT) for part in ("data", "../shared/data")]
    folders = [*([Path(folder)] if folder else []), *around]
    result = [folder / FOLDER for folder in folders if (folder / FOLDER).is_dir()]
    return result[0].resolve() if result else Path("data") / FOLDER


def study(data: Path, seeds: int = 3, progress: Callable[[], None] = lambda: None) -> Study:
    """The study of ``seeds`` cohorts; ``data`` holds ``reference_effects.csv`` and ``SCR-002.Clinical.Data.csv``.

    Every seed draws the trial's 22 people anew, with other hearts and sensitivities; a pair is inside if the mean over
    all virtual people lies in the real 95 % interval. ``progress()`` is called after each person. ValueError if the
    tables are not there.
    """
    protocol = replace(load_protocol("ecgrdvq"), endpoints=SHOWN)
    effects, real = real_effects(data), real_rows(data, protocol)
    people = real_people(real)
    cohorts = [
        run_trial(protocol, seed=seed, people=people, progress=lambda *_: progress()).rows for seed in range(seeds)
    ]
    courses = time_courses(protocol, real, cohorts)
    pairs = list(_pairs(protocol, cohorts, effects))
    levels, drift = concentrations(protocol, real, cohorts), placebo_drift(protocol, real, cohorts)
    spread = spreads(protocol, real, cohorts)
    lines_of = exposure_response.slopes(protocol, real, cohorts)
    shared = exposure_response.correlations(protocol, real, cohorts)
    document = {
        "study": "drug-effects",
        "world": "virtual",
        "n_patients": len(people) * seeds,
        "seeds": list(range(seeds)),
        "calibrated_on_these": True,
        "pairs": pairs,
        "inside_count": sum(pair["inside"] for pair in pairs),
        "no_effect_inside_count": sum(pair["no_effect_inside"] for pair in pairs),
        "of": len(pairs),
        "concentrations": levels,
        "concentrations_inside": sum(row["inside"] for row in levels),
        "concentrations_of": len(levels),
        "placebo_drift": drift,
        "spread": spread,
        "spread_inside": sum(row["inside"] for row in spread),
        "spread_of": len(spread),
        "effect_spread_inside": sum(pair["sd_inside"] for pair in pairs),
        "slopes": lines_of,
        "slopes_inside": sum(row["inside"] for row in lines_of),
        "slopes_of": len(lines_of),
        "correlations": shared,
        "correlations_inside": sum(row["inside"] for row in shared),
        "correlations_of": len(shared),
        "time_courses": courses,
        "time_courses_inside": sum(row["inside"] for row in courses),
        "time_courses_of": len(courses),
    }
    return Study(document, protocol)


def _pairs(protocol: Protocol, cohorts: Sequence[Sequence[Row]], real: dict[tuple[str, str], Row]) -> Iterator[Row]:
    own = corrected(protocol, cohorts)
    names = [arm.name for arm in protocol.arms]
    for drug, hour in PEAK_HOURS.items():
        arm = names.index(drug)
        for e, endpoint in enumerate(SHOWN):
            row, ours = real[protocol.arms[arm].label, endpoint], interval(own[:, arm, protocol.hours.index(hour), e])
            yield {
                "drug": drug,
                "endpoint": endpoint,
                "unit": ENDPOINTS[endpoint].unit,
                "real_mean": row["mean"],
                "real_ci": [row["low"], row["high"]],
                "real_sd": row["sd"],
                "virtual_mean": _short(ours["mean"]),
                "virtual_ci": [_short(ours["ci_low"]), _short(ours["ci_high"])],
                "virtual_sd": _short(ours["sd"]),
                "sd_inside": bool(abs(ours["sd"] - row["sd"]) <= GOAL * row["sd"]),
                "n": ours["n"],
                "inside": bool(row["low"] <= ours["mean"] <= row["high"]),
                "no_effect_inside": bool(row["low"] <= 0 <= row["high"]),
            }


def corrected(protocol: Protocol, cohorts: Sequence[Sequence[Row]]) -> np.ndarray:
    """``(people, arms, hours, endpoints)`` placebo-corrected changes of all cohorts together."""
    change = np.concatenate([changes(cells(protocol, rows)) for rows in cohorts])
    placebo = [arm.name for arm in protocol.arms].index(protocol.placebo)
    return change - change[:, placebo : placebo + 1]


def time_courses(protocol: Protocol, real: Sequence[Row], cohorts: Sequence[Sequence[Row]]) -> list[Row]:
    """Placebo-corrected effects at every hour, real and virtual; ``inside`` as for the pairs."""
    theirs, ours = corrected(protocol, [real]), corrected(protocol, cohorts)
    result = []
    for a, arm in enumerate(protocol.arms):
        for e, endpoint in enumerate(SHOWN):
            for h, hour in enumerate(protocol.hours if arm.name != protocol.placebo else ()):
                row, own = interval(theirs[:, a, h, e]), interval(ours[:, a, h, e])
                result.append(
                    {"drug": arm.name, "endpoint": endpoint, "hour": hour, **_prefixed("real_", row),
                     **_prefixed("virtual_", own), "inside": bool(row["ci_low"] <= own["mean"] <= row["ci_high"])}
                )  # fmt: skip
    return result


def concentrations(protocol: Protocol, real: Sequence[Row], cohorts: Sequence[Sequence[Row]]) -> list[Row]:
    """Plasma levels at every hour; ``inside`` if the means differ by less than the real between-subject SD."""
    result = []
    for arm in protocol.arms:
        for hour in protocol.hours if arm.doses else ():
            theirs, ours = (
                np.array(list({row["RANDID"]: number(row["PCSTRESN"]) for row in rows if (row["ARM"], row["TPT"]) ==
                               (arm.name, hour)}.values()))
                for rows in (real, [{**row, "RANDID": (i, row["RANDID"])} for i, c in enumerate(cohorts) for row in c])
            )  # fmt: skip
            theirs, ours = theirs[np.isfinite(theirs)], ours[np.isfinite(ours)]
            if len(theirs) < 2:
                continue
            mean, sd, own = theirs.mean(), theirs.std(ddof=1), ours.mean()
            result.append(
                {"drug": arm.name, "hour": hour, "unit": protocol.units.get(arm.drugs[0], "ng/mL"), "n": len(theirs),
                 "real_mean": _short(mean), "real_sd": _short(sd), "virtual_mean": _short(own),
                 "virtual_sd": _short(ours.std(ddof=1)), "inside": bool(abs(own - mean) < sd)}
            )  # fmt: skip
    return result


def placebo_drift(protocol: Protocol, real: Sequence[Row], cohorts: Sequence[Sequence[Row]]) -> list[Row]:
    """Per endpoint the placebo arm's mean change from baseline over the day, and RMSE beside that of a flat line."""
    placebo = [arm.name for arm in protocol.arms].index(protocol.placebo)
    theirs, ours = (
        mean_known(np.concatenate([changes(cells(protocol, rows))[:, placebo] for rows in several]))
        for several in ([real], cohorts)
    )
    spread = changes(cells(protocol, real))[:, placebo]
    sampling = np.sqrt(mean_known((spread - mean_known(spread)) ** 2) / (len(spread) - 1))
    return [
        {
            "endpoint": endpoint,
            "unit": ENDPOINTS[endpoint].unit,
            "hours": list(protocol.hours),
            "real": _list(theirs[:, e]),
            "virtual": _list(ours[:, e]),
            "rmse": _rms(ours[:, e] - theirs[:, e]),
            "rmse_flat": _rms(theirs[:, e]),
            "real_standard_error": _rms(sampling[:, e]),
        }
        for e, endpoint in enumerate(SHOWN)
    ]


def spreads(protocol: Protocol, real: Sequence[Row], cohorts: Sequence[Sequence[Row]]) -> list[Row]:
    """SD between subjects (of each one's mean baseline), between one's visits, and within drug-free triplicates.

    Pooled over cohorts by their variances; ``inside`` if the virtual SD is within 30 % of the real one.
    """
    theirs = scatter(protocol, real)
    ours = {name: np.sqrt(np.mean([scatter(protocol, rows)[name] ** 2 for rows in cohorts], axis=0)) for name in theirs}
    means = [mean_known(cells(protocol, rows)[:, :, 0], (0, 1)) for rows in (real, [r for c in cohorts for r in c])]
    return [
        {"endpoint": endpoint, "unit": ENDPOINTS[endpoint].unit, "kind": kind, "real_sd": round(float(sd[e]), 2),
         "virtual_sd": round(float(ours[kind][e]), 2), "ratio": round(float(ours[kind][e] / max(sd[e], _TINY)), 3),
         "real_mean": round(float(means[0][e]), 1), "virtual_mean": round(float(means[1][e]), 1),
         "inside": bool(abs(ours[kind][e] - sd[e]) <= GOAL * sd[e])}
        for kind, sd in theirs.items() if kind != "between_visits"
        for e, endpoint in enumerate(SHOWN)
    ]  # fmt: skip


def scatter(protocol: Protocol, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """``(endpoints,)`` SDs of one cohort: ``between_subjects``, ``between_visits``, ``within_triplicates``."""
    baselines = cells(protocol, rows)[:, :, 0]
    groups = defaultdict(list)
    for row, values in zip(rows, endpoint_values(rows, SHOWN)):
        if row["TPT"] in protocol.baseline_hours or row["ARM"] == protocol.placebo:
            groups[row["RANDID"], row["ARM"], row["TPT"]].append(values)
    within = np.array([_variance(np.array(group)) for group in groups.values() if len(group) > 1])
    return {
        "between_subjects": np.sqrt(_variance(mean_known(baselines, 1))),
        "between_visits": np.sqrt(mean_known(np.array([_variance(own) for own in baselines]))),
        "within_triplicates": np.sqrt(mean_known(within)),
    }


def _variance(values: np.ndarray) -> np.ndarray:
    """Unbiased variance over rows ``(n, k)`` of what is known; NaN where fewer than two are."""
    count = np.isfinite(values).sum(axis=0)
    squares = np.nansum((values - mean_known(values)) ** 2, axis=0)
    return np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan)


def _prefixed(prefix: str, row: Row) -> Row:
    return {f"{prefix}{name}": None if row[name] is None else _short(row[name]) for name in
            ("mean", "sd", "ci_low", "ci_high", "n")}  # fmt: skip


def _short(value: float) -> float:
    return round(float(value), 2)


def _list(values: np.ndarray) -> list[float]:
    return [_short(value) for value in values]


def _rms(values: np.ndarray) -> float:
    return round(float(np.sqrt(np.mean(values**2))), 2)


def real_effects(data: Path) -> dict[tuple[str, str], Row]:
    """Placebo-corrected effects at the nominal peaks by treatment and endpoint: mean, SD and 95 % interval."""
    result = {}
    for row in _table(data / EFFECTS):
        if row["effect"] == "placebo-corrected" and row["timepoint"].startswith("at nominal Tmax"):
            columns = {"mean": "mean", "sd": "sd", "low": "ci95_low", "high": "ci95_high"}
            result[row["treatment"], row["endpoint"]] = {key: float(row[name]) for key, name in columns.items()}
    return result


def real_rows(data: Path, protocol: Protocol) -> list[Row]:
    """The trial's table in the columns of ``ecgs.csv``: arm by our name, hours as numbers, wrapped PR mended."""
    arms = {arm.label: arm.name for arm in protocol.arms}
    return [
        {**row, "ARM": arms[row["EXTRT"]], "TPT": float(row["TPT"]), "PR": _unwrapped(number(row["PR"]))}
        for row in _table(data / TABLE)
    ]


def real_people(rows: Sequence[Row]) -> list[Patient]:
    """Who took part, by number."""
    last = {row["RANDID"]: row for row in rows}
    return [
        Patient(float(r["AGE"]), r["SEX"], float(r["WGHT"]), float(r["HGHT"]), potassium=4.2) for r in last.values()
    ]


def _unwrapped(pr_ms: float) -> float:
    return pr_ms + _WRAP if pr_ms < -_WRAP / 2 else pr_ms


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; expected the ECGRDVQ tables of the trial SCR-002; get them from PhysioNet "
            "(ecgrdvq 1.0.0, ODC-By) and pass their folder with --data"
        )
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tables(document: dict[str, Any]) -> dict[str, list[Row]]:
    """What the terminal shows, by title; the JSON holds more."""
    drift = [{key: row[key] for key in ("endpoint", "unit", "rmse", "rmse_flat", "real_standard_error")} for row in
             document["placebo_drift"]]  # fmt: skip
    return {
        "effects at the nominal peak, placebo-corrected": document["pairs"],
        "placebo over the day": drift,
        "how people and triplicates scatter": document["spread"],
        "effect per concentration, and how much higher it is behind the peak than before": document["slopes"],
        "one person's effect under one drug and another": document["correlations"],
    }


def lines(document: dict[str, Any]) -> list[str]:
    """The verdicts, a sentence each."""
    table = [
        f"effects inside the real interval: {document['inside_count']} of {document['of']}; "
        f"saying 'no effect' would be {document['no_effect_inside_count']}",
        f"concentrations within the real between-subject SD: {document['concentrations_inside']} of "
        f"{document['concentrations_of']}",
        f"SDs within 30 % of the real ones: {document['spread_inside']} of {document['spread_of']}",
        f"SDs of effects within 30 % of the real ones: {document['effect_spread_inside']} of {document['of']}",
        f"slopes and hysteresis inside the real interval: {document['slopes_inside']} of {document['slopes_of']}",
        f"correlations between drugs inside the real interval: {document['correlations_inside']} of "
        f"{document['correlations_of']}",
        f"time courses inside the real interval: {document['time_courses_inside']} of {document['time_courses_of']}",
    ]
    return table


def save_figure(done: Study, path: Path) -> Path:
    """``path`` with real and virtual time courses side by side, drugs down and endpoints across, as PNG."""
    from matplotlib.figure import Figure

    from ecg_gym.clinical_trial.figure import draw_course, finish

    courses, colours = done.document["time_courses"], {"real_": "#5b5b66", "virtual_": "#c8553d"}
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(len(PEAK_HOURS), len(SHOWN), sharex=True, sharey="col")
    for drug, row in zip(PEAK_HOURS, axes):
        for endpoint, ax in zip(SHOWN, row):
            rows = [r for r in courses if (r["drug"], r["endpoint"]) == (drug, endpoint)]
            for prefix, colour in colours.items():
                draw_course(ax, rows, colour, prefix.strip("_"), prefix, dashed=prefix == "virtual_")
            finish(
                ax,
                f"{ENDPOINTS[endpoint].title} [{ENDPOINTS[endpoint].unit}]" if drug == next(iter(PEAK_HOURS)) else "",
            )
        row[0].set_ylabel(done.protocol.arm(drug).label, fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel("hours after the dose", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    who = f"{PEOPLE} real people, {done.document['n_patients']} virtual ones"
    figure.suptitle(f"Placebo-corrected changes, mean and 95 % interval: {who}", fontsize=12)
    with atomic_write(path) as aside:
        figure.savefig(aside, dpi=80, format="png")
    return path
