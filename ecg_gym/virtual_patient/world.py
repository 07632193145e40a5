"""``VirtualPatient``: a World of mechanism. No learning, no torch; the truth that learned worlds are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ecg_gym.core import (
    ECG,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    R_PEAK_OFFSET_S,
    Administration,
    Patient,
    Randomness,
    State,
    Treatment,
    independent_from_leads,
    row_generators,
)
from ecg_gym.pharmacology import FORMULARY, Course, Exposure, Sensitivity, course, exposure, modulate
from ecg_gym.pharmacology.hazards import integral
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient.heart import Heart, draw_heart
from ecg_gym.virtual_patient.population import population, within
from ecg_gym.virtual_patient.rhythm import rhythms
from ecg_gym.virtual_patient.strip import RATE_HZ, synthesise
from ecg_gym.virtual_patient.truth import Truth, hazards

_SECONDS = MODEL_SAMPLES / MODEL_RATE_HZ
_SPARE_S = 3.0  # simulated on top, so that a beat to begin with can be found
_STRIDE = round(RATE_HZ / MODEL_RATE_HZ)
_ENDED_BY = {  # leader of a rhythm -> the hazard that ends it
    "reentry": "reentry_termination_per_hour",
    "ventricular": "vt_termination_per_hour",
    "torsade": "torsade_termination_per_hour",
    "atrial": "af_conversion_per_hour",
    "pathway": "af_conversion_per_hour",
}
_PACED_BY = {"sinus": "sinus_rate", "torsade": "sinus_rate", "atrial": "av_rate", "pathway": "pathway_rate"}


class VirtualPatient:
    """A population of mechanistic hearts behind the World interface.

    Hour 0 of every patient is the start of a trial day: hearts drift with meals and the time of day after it.
    """

    def __init__(self, dt_hours: float = 1.0) -> None:
        if not dt_hours > 0:
            raise ValueError(f"dt_hours is {dt_hours}; expected a positive time in hours; pass dt_hours=1.0")
        self.dt_hours = dt_hours

    def initial(
        self,
        n: int,
        rng: Randomness,
        *,
        patient: Patient | Sequence[Patient] | None = None,
        given: Sequence[Administration] = (),
        healthy: bool = False,
        rhythm: str | None = None,
        conduction: str | None = None,
        scar: str | None = None,
        typical: bool = False,
        noise: float | None = None,
        **known: Any,
    ) -> State:
        """``n`` people drawn from the population; what is told is kept (``age_years=70``, ``rhythm="af_rapid"``).

        ``known`` are fields of Patient; ``typical`` people all answer drugs as the average adult does; ``noise`` is the
        level of their recordings' electrode noise instead of the one drawn. Raises ValueError for an unknown rhythm,
        conduction or scar, TypeError for an unknown field.
        """
        generators = row_generators(rng, n)
        people = [None] * n if patient is None else [patient] * n if isinstance(patient, Patient) else list(patient)
        hearts = []
        for person, generator in zip(people, generators):
            told = replace(person or Patient(), **known)
            heart = draw_heart(generator, told, rhythm, conduction, scar, healthy)
            heart = replace(heart, sensitivity=Sensitivity.typical()) if typical else heart
            hearts.append(heart if noise is None else replace(heart, noise=float(noise)))
        state = _blank(hearts, tuple(sorted(given)))
        return self._observe_all(state, hearts, generators)

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """A coarse twin of a real record: rate, rhythm class, PR, QRS, QT and T width are those measured, the rest is
        an average adult; its strips will not look like the record's. For comparisons, not for care.

        Raises ValueError if no beats can be found.
        """
        from ecg_gym.waveform import measure, to_model_grid

        strip = to_model_grid(ecg)
        heart = _twin(measure(strip).row(0), patient)
        generator = np.random.default_rng(0)
        state = self._observe_all(_blank([heart], tuple(sorted(given))), [heart], [generator])
        return replace(state, ecg=strip.signal.reshape(1, 12, MODEL_SAMPLES))

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """``dt_hours`` later. Each row depends on its own generator only and draws from it equally often whatever the
        treatment, so that common random numbers compare treatments.

        Whether a rhythm ends, and whether a lethal one begins, is drawn from hazards integrated over the step, so that
        a minute of adenosine counts. Between two strips the intervals that the hazards ask for are those of the strip
        before, moved by what the ``Modulation`` has changed since; after a conversion they are the heart's own at rest.
        """
        if len(treatments) != len(state):
            raise ValueError(
                f"{len(treatments)} treatments for {len(state)} patients; expected one each; repeat or index the state"
            )
        generators = row_generators(rng, len(state))
        hours = np.where(state.alive, state.hours + self.dt_hours, state.hours)
        taken = tuple(
            before + tuple(Administration(float(now), dose) for dose in treatment.doses) if alive else before
            for before, treatment, now, alive in zip(state.taken, treatments, state.hours, state.alive)
        )
        later = replace(state, hours=hours, taken=taken)
        hearts, alive = list(state.inner["heart"]), state.alive.copy()
        for i in map(int, np.flatnonzero(state.alive)):
            heart, patient = hearts[i], state.patients[i]
            span = course(taken[i], patient, float(state.hours[i]), float(hours[i]), heart.sensitivity, day=True)
            hearts[i], at = _changed_rhythm(heart, span, generators[i])
            rates = _lethal_rates(heart, hearts[i], at, self._now(state, i)[0], state.inner["truth"][i], span)
            expected = {name: float(integral(rate, span.hours)[-1]) for name, rate in rates.items()}
            if fatal := _lethal(expected, generators[i]):
                hearts[i], alive[i] = replace(hearts[i], rhythm=fatal), False
        return self._observe_all(replace(later, alive=alive), hearts, generators, np.flatnonzero(state.alive))

    def truth(self, state: State) -> list[Truth]:
        """The truth of every row; for oracles, studies and tests, never for an agent."""
        return list(state.inner["truth"])

    def _observe_all(
        self,
        state: State,
        hearts: list[Heart],
        generators: Sequence[np.random.Generator],
        rows: Sequence[int] | np.ndarray | None = None,
    ) -> State:
        """The state with new strips and truths in ``rows`` (default all)."""
        ecg, truth = state.ecg.copy(), state.inner["truth"].copy()
        for i in range(len(state)) if rows is None else rows:
            change, now = self._now(state, int(i))
            own = np.random.default_rng(generators[i].integers(2**63))  # a strip's draws depend on its rhythm
            ecg[i], seen = model_strip(hearts[i], change, own, float(now.potassium))
            truth[i] = replace(seen, concentrations=_on_board(now))
        return replace(state, ecg=ecg, inner={"heart": _objects(hearts), "truth": truth})

    def _now(self, state: State, row: int) -> tuple[Modulation, Exposure]:
        """What acts on one heart at this hour."""
        patient, hours = state.patients[row], float(state.hours[row])
        sensitivity = state.inner["heart"][row].sensitivity
        now = exposure(state.taken[row], patient, hours, sensitivity)
        return modulate(now, patient, sensitivity, clock_hours=hours), now


def model_strip(
    heart: Heart, change: Modulation, rng: np.random.Generator, potassium: float | None = None
) -> tuple[np.ndarray, Truth]:
    """A strip on the model grid, ``(12, 1024)`` float32 [mV], R_PEAK_OFFSET_S before an R peak, and its truth."""
    signal, truth = synthesise(heart, change, rng, RATE_HZ, _SECONDS + _SPARE_S, potassium)
    first = _first_r(signal, truth)
    start = first - round(R_PEAK_OFFSET_S * RATE_HZ)
    grid = _decimate(signal)  # band-limited, at every phase: pick the columns that put R on its place
    columns = start + _STRIDE * np.arange(MODEL_SAMPLES)
    shift = start / RATE_HZ
    marks = {name: times - shift for name, times in truth.fiducials.items()}
    return grid[:, columns], replace(truth, qrs_s=truth.qrs_s - shift, p_s=truth.p_s - shift, fiducials=marks)


def _on_board(now: Exposure) -> dict[str, float]:
    """Plasma concentrations [ng/mL] of the drugs there are."""
    return {FORMULARY.names[i]: float(now.plasma[i]) for i in np.flatnonzero(now.plasma)}


def _first_r(signal: np.ndarray, truth: Truth) -> int:
    """Column of the first R peak that leaves room before it; without beats, a fixed place."""
    offset = R_PEAK_OFFSET_S + 0.05
    usable = truth.qrs_s[(truth.qrs_s > offset) & (truth.qrs_s < offset + _SPARE_S - 0.6)]
    if not len(usable):
        return round((offset + 0.1) * RATE_HZ)
    at = round(float(usable[0]) * RATE_HZ)
    window = independent_from_leads(signal[:, at : at + round(0.16 * RATE_HZ)])
    return at + int(np.argmax(np.linalg.norm(window, axis=0)))


def _decimate(signal: np.ndarray) -> np.ndarray:
    """The signal without anything above 0.45 of the model rate, at its own rate: ready to be subsampled by five."""
    spectrum = np.fft.rfft(signal, axis=1)
    hz = np.fft.rfftfreq(signal.shape[1], 1 / RATE_HZ)
    low, high = 0.42 * MODEL_RATE_HZ, 0.5 * MODEL_RATE_HZ
    keep = 0.5 * (1 + np.cos(np.pi * np.clip((hz - low) / (high - low), 0, 1)))
    return np.fft.irfft(spectrum * keep, signal.shape[1], axis=1).astype(np.float32)


def _blank(hearts: list[Heart], given: tuple[Administration, ...]) -> State:
    n = len(hearts)
    return State(
        ecg=np.zeros((n, 12, MODEL_SAMPLES), np.float32),
        patients=tuple(heart.patient for heart in hearts),
        taken=(given,) * n,
        hours=np.zeros(n),
        alive=np.ones(n, bool),
        inner={"heart": _objects(hearts), "truth": np.empty(n, object)},
    )


def _objects(items: Sequence[Any]) -> np.ndarray:
    out = np.empty(len(items), object)
    out[:] = items
    return out


def _changed_rhythm(heart: Heart, span: Course, rng: np.random.Generator) -> tuple[Heart, float]:
    """The heart after the span, and the hour at which its rhythm ended (inf if it did not)."""
    limit = -np.log1p(-rng.random())  # drawn whatever the rhythm
    hazard = _ENDED_BY.get(rhythms()[heart.rhythm]["leader"])
    passed = span.accumulated(hazard) if hazard else np.zeros(1)
    if passed[-1] <= limit:
        return heart, np.inf
    return heart.converted(), float(np.interp(limit, passed, span.hours))


def _lethal_rates(
    before: Heart, after: Heart, at: float, change: Modulation, truth: Truth, span: Course
) -> dict[str, np.ndarray]:
    """Hazards ``(T,)`` [1/h] of each lethal rhythm along a span that began with this strip, under this ``change``."""
    looks = []
    for hour, now, potassium in zip(span.hours, span.modulations, span.potassium):
        if hour < at:
            looks.append(hazards(before, now, _moved(truth.intervals, before, change, now), float(potassium)))
        else:
            rest = {**truth.intervals, "hr_bpm": after.rate_bpm, "qtcf_ms": after.qtcf_ms}
            looks.append(hazards(after, now, _moved(rest, after, REST, now), float(potassium)))
    return {name: np.array([look[name] for look in looks]) for name in looks[0]}


def _moved(intervals: Mapping[str, float], heart: Heart, then: Modulation, now: Modulation) -> dict[str, float]:
    """The intervals of a strip taken under ``then`` as they would be under ``now``: rate and QTcF."""
    wider_ms = heart.qrs_ms * (1 / now.conduction - 1 / then.conduction)
    longer_ms = now.jtpeak_ms - then.jtpeak_ms + now.tpeak_tend_ms - then.tpeak_tend_ms + wider_ms
    factor = _PACED_BY.get(rhythms()[heart.rhythm]["leader"])
    faster = getattr(now, factor) / getattr(then, factor) if factor else 1.0
    return {**intervals, "hr_bpm": intervals["hr_bpm"] * faster, "qtcf_ms": intervals["qtcf_ms"] + longer_ms}


def _lethal(expected: dict[str, float], rng: np.random.Generator) -> str:
    """ "", "vf" or "asystole": whether hazards that add up to ``expected`` struck; two draws, always."""
    total = sum(expected.values())
    struck, which = rng.random() < -np.expm1(-total), rng.random() * total
    return "" if not struck else "asystole" if which < expected["asystole"] else "vf"


def _twin(measured: dict[str, float], patient: Patient) -> Heart:
    """An average adult with the measured rate, rhythm class, PR, QRS, QT and T width."""
    if not np.isfinite(measured["hr_bpm"]):
        raise ValueError(
            f"no beats were found ({measured.get('reason', '')}); expected a strip with at least three; "
            "use another part of the record"
        )
    average = draw_heart(np.random.default_rng(0), patient, "sinus", "normal", "", healthy=True)

    table = population()["twin"]

    def known(name: str, measure: str = "") -> float:
        value = measured[measure or name]
        return within(table[name], value) if np.isfinite(value) else float(table[name]["otherwise"])

    rate = known("rate_bpm", "hr_bpm")
    irregular = not bool(measured.get("p_present", True)) and not bool(measured.get("regular", True))
    wide = measured["qrs_ms"] > table["qrs_ms"]["high"]  # NaN is not wide
    return replace(
        average,
        rhythm=("af_rapid" if rate > table["af_rapid_bpm"]["value"] else "af") if irregular else "sinus",
        rate_bpm=rate,
        pr_ms=known("pr_ms"),
        qrs_ms=float(table["qrs_ms"]["otherwise"]) if wide else known("qrs_ms"),
        conduction="lbbb" if wide else "normal",
        qtcf_ms=known("qtcf_ms") - (table["block_qtcf_ms"]["value"] if wide else 0.0),
        tpeak_tend_ms=known("tpeak_tend_ms"),
        sensitivity=Sensitivity.typical(),
        pose=0,
        r_gain=1.0,
        t_gain=1.0,
        p_gain=1.0,
        noise=table["noise"]["value"],
    )
