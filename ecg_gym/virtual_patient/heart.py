"""``Heart``: everything that is constant in one person, hidden sensitivities included, and how people are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.core import Patient
from ecg_gym.pharmacology import Sensitivity, draw_sensitivities
from ecg_gym.virtual_patient.circulation import draw_circulation
from ecg_gym.virtual_patient.excitation import EIKONAL, MOST_TISSUES, Excitation, slot_of
from ecg_gym.virtual_patient.lead_field import Pose
from ecg_gym.virtual_patient.population import factor, kind, kinds, normal, population, within
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.transitions import arrhythmia_age, transition_yaml

N_POSES = 32  # electrode matrices are kept, so people share a library of poses


@dataclass(frozen=True)
class Heart:
    """One person's heart at rest, with nothing on board."""

    patient: Patient
    rhythm: str  # a row of rhythms.yaml
    rate_bpm: float  # in that rhythm [1/min]
    sinus_rate_bpm: float  # after conversion to sinus rhythm [1/min]
    pr_ms: float
    sdnn_ms: float
    qrs_ms: float  # of a normally conducted beat
    qtcf_ms: float  # at rest, a congenital long QT included; the truth of a strip is measured, not read here
    tpeak_tend_ms: float
    sensitivity: Sensitivity
    conduction: str = "normal"  # normal, lbbb, rbbb, bifascicular, preexcited
    scar: str = ""  # "", anterior, inferior, lateral: old infarction
    injury: str = ""  # the same territories: acute
    pose: int = 0  # index into the library of poses
    r_gain: float = 1.0  # factor on all potentials
    t_gain: float = 1.0  # factor on the dispersion of repolarisation, so on T
    p_gain: float = 1.0
    noise: float = 1.0  # factor on the electrode noise; above 3 a poor recording
    tissue: Excitation = EIKONAL  # says when each node fires, and for how long
    map_mmhg: float = 92.0  # mean arterial pressure at rest in sinus rhythm
    contractility: float = 1.0  # strength of the ventricle beside a sound one
    arrhythmia_bpm: float = 0.0  # rate of the arrhythmia that may come back
    since_hours: float = 0.0  # when the rhythm began, on the patient's clock
    returns: str = ""  # the arrhythmia that may come back; "" where there is none
    base: str = "sinus"  # the rhythm that an arrhythmia ends in

    @property
    def seat(self) -> int:
        """Which pose with which tissue: the index of the pose, plus the number of poses for every tissue before."""
        return self.pose + len(poses()) * slot_of(self.tissue)

    def converted(self) -> Heart:
        """The same heart back in sinus rhythm."""
        return replace(self, rhythm="sinus", rate_bpm=self.sinus_rate_bpm)


@cache
def poses() -> tuple[Pose, ...]:
    """The library: how hearts turn and shift between adults; the first is the default heart's own."""
    rng, table = np.random.default_rng(20), population()["pose"]
    turn, shift, left_out = table["turn"]["sd"], table["shift"]["sd"], table["left_out"]["value"]
    samples = [
        Pose(tuple(rng.normal(0, turn, 3)), tuple(rng.normal(0, shift)), factor(rng, table["scale"]))
        for _ in range(N_POSES + len(left_out) - 1)
    ]
    return (Pose(), *(pose for number, pose in enumerate(samples, 1) if number not in left_out))


def seats() -> int:
    """How many ``Heart.seat`` there can be: the length of tables by pose and tissue."""
    return len(poses()) * MOST_TISSUES


def draw_heart(
    rng: np.random.Generator,
    patient: Patient | None = None,
    rhythm: str | None = None,
    conduction: str | None = None,
    scar: str | None = None,
    healthy: bool = False,
) -> Heart:
    """A person and a heart; what is given is kept, the rest is drawn from ``population.yaml``.

    Circulation and age of the rhythm are drawn from a stream far ahead of ``rng``.

    ``healthy`` draws a trial volunteer: sinus rhythm, no block, no scar, good recording. Raises ValueError for an
    unknown rhythm, conduction or scar.
    """
    patient = draw_patient(rng, patient)
    row, usual, sick, recording = rhythms(), *(population()[part] for part in ("heart", "disease", "recording"))
    if rhythm is None:
        names = [name for name, r in row.items() if r["share"] > 0]
        shares = np.array([row[name]["share"] for name in names])
        samples = str(rng.choice(names, p=shares / shares.sum()))
        rhythm = "sinus" if healthy else samples
    if rhythm not in row:
        raise ValueError(f"rhythm is {rhythm!r}; expected one of {', '.join(row)}; choose one of them")
    for name, value in (("conduction", conduction), ("scar", scar)):
        if value and value not in (options := kinds(sick[name])):
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(options)}; choose one of them")
    sex = patient.sex or "F"
    sinus_rate = within(usual["sinus_rate_bpm"], rng.normal(*row["sinus"]["rate_bpm"]))
    path, scars, injured = (kind(rng, sick[name]) for name in ("conduction", "scar", "injury"))
    poor = rng.random() < recording["poor"]["value"]
    long_qt = _long_qt_ms(rng, sick["long_qt"], patient, healthy)
    if long_qt:
        patient = replace(patient, conditions=patient.conditions | {"congenital_long_qt"})
    heart = Heart(
        patient=patient,
        rhythm=rhythm,
        rate_bpm=sinus_rate if rhythm == "sinus" else _rate(rng, *row[rhythm]["rate_bpm"]),
        sinus_rate_bpm=sinus_rate,
        pr_ms=_pr_ms(rng, row[rhythm], usual["pr_ms"]),
        sdnn_ms=normal(rng, usual["sdnn_ms"]),
        qrs_ms=normal(rng, usual["qrs_ms"], sex),
        qtcf_ms=_qtcf_ms(rng, row[rhythm], usual["qtcf_ms"], sex, long_qt),
        tpeak_tend_ms=normal(rng, usual["tpeak_tend_ms"]),
        sensitivity=draw_sensitivities((patient,), [rng])[0],
        conduction=row[rhythm].get("conduction") or conduction or ("normal" if healthy else path),
        scar=scar if scar is not None else ("" if healthy else scars),
        injury="" if healthy or scar or scars else injured,
        pose=int(rng.integers(N_POSES)),
        r_gain=factor(rng, usual["r_gain"]),
        t_gain=factor(rng, usual["t_gain"]),
        p_gain=factor(rng, usual["p_gain"]),
        noise=_noise(rng, recording, poor and not healthy),
    )
    ahead = np.random.Generator(rng.bit_generator.jumped())  # type: ignore[attr-defined]
    own_mmhg, contractility = draw_circulation(ahead, patient, heart.scar)
    old = "recent" in transition_yaml()["rhythms"].get(rhythm, {}).get("ends", {})
    since = -float(arrhythmia_age(ahead.standard_normal())) if old else 0.0
    return replace(
        heart, map_mmhg=own_mmhg, contractility=contractility, arrhythmia_bpm=heart.rate_bpm, since_hours=since
    )


def draw_patient(rng: np.random.Generator, facts: Patient | None = None) -> Patient:
    """A person whose unknown facts are drawn (adults, electrolytes mostly normal); known ones are kept."""
    table = population()["patient"]
    age = table["age_years"]
    sex = str(rng.choice(["F", "M"]))
    samples: dict[str, Any] = {
        "age_years": _rounded(rng.uniform(age["low"], age["high"]), 0),
        "sex": sex,
        "weight_kg": _rounded(normal(rng, table["weight_kg"], sex), 1),
        "height_cm": _rounded(normal(rng, table["height_cm"], sex), 0),
        **{name: _rounded(normal(rng, table[name]), 2) for name in ("potassium", "magnesium", "calcium")},
    }
    kidney = table["creatinine_clearance"]
    aged = kidney["mean"] + kidney["per_year"] * max(0, samples["age_years"] - kidney["from_years"])
    samples["creatinine_clearance"] = normal(rng, {**kidney, "mean": aged})
    if facts is None:
        return Patient(**samples)
    return replace(facts, **{name: value for name, value in samples.items() if getattr(facts, name) is None})


def _rounded(value: float, digits: int) -> float:
    return float(np.round(value, digits))


def _rate(rng: np.random.Generator, mean: float, sd: float) -> float:
    """A rate [1/min] in a rhythm of that mean and SD."""
    reach = population()["heart"]["rate_reach"]["value"] * sd
    return normal(rng, {"mean": mean, "sd": sd, "low": mean - reach, "high": mean + reach})


def _pr_ms(rng: np.random.Generator, rhythm: dict[str, Any], usual: dict[str, Any]) -> float:
    """A PR [ms]: the rhythm's own distribution where it has one, within everybody's limits."""
    mean, sd = rhythm.get("pr_ms", (usual["mean"], usual["sd"]))
    return within(usual, rng.normal(mean, sd))


def _qtcf_ms(
    rng: np.random.Generator, rhythm: dict[str, Any], usual: dict[str, Any], sex: str, longer_ms: float
) -> float:
    """A QTcF [ms]: the rhythm's own distribution where it has one, longer by what was inherited."""
    if "qtcf_ms" in rhythm:
        return float(rng.normal(*rhythm["qtcf_ms"]))
    return normal(rng, usual, sex) + longer_ms


def _long_qt_ms(rng: np.random.Generator, row: dict[str, Any], patient: Patient, healthy: bool) -> float:
    """How much longer [ms] a congenital long QT makes it: for those who are told to have one, and a share of others."""
    longer, by_chance = normal(rng, row), rng.random() < row["share"]
    value = "congenital_long_qt" in patient.conditions
    return longer if value or (by_chance and not healthy) else 0.0


def _noise(rng: np.random.Generator, recording: dict[str, Any], poor: bool) -> float:
    """A factor on the electrode noise."""
    level = recording["poor_level"]
    return float(rng.uniform(level["low"], level["high"])) if poor else factor(rng, recording["level"])
