"""``VirtualPatient``: a World of mechanism. No learning, no torch; the truth that learned worlds are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from scipy.fft import irfft, rfft

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
    limb_from_independent,
    row_generators,
)
from ecg_gym.pharmacology import FORMULARY, Exposure, Sensitivity
from ecg_gym.pharmacology.effects import modulate_many, modulation_of
from ecg_gym.pharmacology.exposure import exposures
from ecg_gym.pharmacology.hazards import courses
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.excitation import EIKONAL, Excitation
from ecg_gym.virtual_patient.heart import Heart, draw_heart
from ecg_gym.virtual_patient.population import population, within
from ecg_gym.virtual_patient.strip import RATE_HZ, Marks, synthesise
from ecg_gym.virtual_patient.survival import fates
from ecg_gym.virtual_patient.truth import Truth

_SECONDS = MODEL_SAMPLES / MODEL_RATE_HZ
_SPARE_S = 3.0  # simulated on top, so that a beat to begin with can be found
_STRIDE = round(RATE_HZ / MODEL_RATE_HZ)
_WINDOW = 1600  # model samples that are filtered at once: a quick length
_AROUND = _STRIDE * (_WINDOW - MODEL_SAMPLES) // 2  # of them before the first that is kept, and behind the last


class VirtualPatient:
    """A population of mechanistic hearts behind the World interface.

    Hour 0 of every patient is the start of a trial day: hearts drift with meals and the time of day after it.
    """

    tissue: Excitation = EIKONAL  # of the hearts it makes

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
            value = replace(person or Patient(), **known)
            heart = draw_heart(generator, value, rhythm, conduction, scar, healthy)
            heart = replace(heart, sensitivity=Sensitivity.typical()) if typical else heart
            heart = replace(heart, tissue=self.tissue)
            hearts.append(heart if noise is None else replace(heart, noise=float(noise)))
        state = _blank(hearts, tuple(sorted(given)))
        return _observed(state, hearts, generators, range(n), _acting(state, range(n)))

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """A coarse twin of a real record: rate, rhythm class, PR, QRS, QT and T width are those measured, the rest is
        an average adult; its strips will not look like the record's. For comparisons, not for care.

        Raises ValueError if no beats can be found.
        """
        from ecg_gym.waveform import measure, to_model_grid

        strip = to_model_grid(ecg)
        measured = measure(strip).row(0)
        heart = self._personal(_twin(measured, patient), measured)
        generator = np.random.default_rng(0)
        state = _blank([heart], tuple(sorted(given)))
        state = _observed(state, [heart], [generator], [0], _acting(state, [0]))
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
        living = list(map(int, np.flatnonzero(state.alive)))
        hearts, alive = list(state.inner["heart"]), state.alive.copy()
        mine = [hearts[i] for i in living]
        spans = courses(
            [taken[i] for i in living], [state.patients[i] for i in living], state.hours[living], hours[living],
            [heart.sensitivity for heart in mine], day=True,
        )  # fmt: skip
        then = [change for change, _ in _acting(state, living)]
        seen = [state.inner["truth"][i] for i in living]
        for i, (heart, lives) in zip(living, fates(mine, then, seen, spans, [generators[i] for i in living])):
            hearts[i], alive[i] = heart, lives
        later = replace(state, hours=hours, taken=taken, alive=alive)
        now = [(modulation_of(span.change, -1), span.exposure[-1]) for span in spans]
        return _observed(later, hearts, generators, living, now)

    def _personal(self, heart: Heart, measured: Mapping[str, float]) -> Heart:
        """The twin of a record, once it is made from the usual measures; a world with other tissue fits it here."""
        return heart

    def truth(self, state: State) -> list[Truth]:
        """The truth of every row; for oracles, studies and tests, never for an agent."""
        return list(state.inner["truth"])


def _observed(
    state: State,
    hearts: list[Heart],
    generators: Sequence[np.random.Generator],
    rows: Sequence[int],
    acting: Sequence[tuple[Modulation, Exposure]],
) -> State:
    """The state with new strips and truths in ``rows``, where ``acting`` acts on each."""
    ecg, truth = state.ecg.copy(), state.inner["truth"].copy()
    for i, (change, now) in zip(rows, acting):
        own = np.random.default_rng(generators[i].integers(2**63))  # a strip's draws depend on its rhythm
        ecg[i], seen = model_strip(hearts[i], change, own, float(now.potassium))
        truth[i] = replace(seen, concentrations=_on_board(now))
    return replace(state, ecg=ecg, inner={"heart": _objects(hearts), "truth": truth})


def _acting(state: State, rows: Sequence[int]) -> list[tuple[Modulation, Exposure]]:
    """What acts on the hearts in ``rows`` at this hour."""
    if not len(rows):
        return []
    people = [heart.sensitivity for heart in state.inner["heart"][rows]]
    taken, patients = [state.taken[i] for i in rows], [state.patients[i] for i in rows]
    clock = np.asarray(state.hours, dtype=float)[rows]
    now = exposures(taken, patients, list(clock[:, None]), people)
    many = modulate_many(now, Sensitivity.of_many(people, np.arange(len(rows))), clock)
    return [(modulation_of(many, look), now[look]) for look in range(len(rows))]


def model_strip(
    heart: Heart, change: Modulation, rng: np.random.Generator, potassium: float | None = None
) -> tuple[np.ndarray, Truth]:
    """A strip on the model grid, ``(12, 1024)`` float32 [mV], R_PEAK_OFFSET_S before an R peak, and its truth."""
    signal, truth = synthesise(heart, change, rng, RATE_HZ, _SECONDS + _SPARE_S, potassium)
    first = _first_r(signal, truth)
    start = first - round(R_PEAK_OFFSET_S * RATE_HZ)
    strip = limb_from_independent(_decimated(independent_from_leads(signal), start))
    shift = start / RATE_HZ
    assert isinstance(truth.fiducials, Marks)
    marks = truth.fiducials.moved(-shift)
    return strip, replace(truth, qrs_s=truth.qrs_s - shift, p_s=truth.p_s - shift, fiducials=marks)


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


def _decimated(signal: np.ndarray, start: int) -> np.ndarray:
    """``(8, 1024)`` float32: every fifth sample of ``signal (8, T)`` from ``start`` on, without what lies above 0.5 of
    the model rate.

    The strip is continued around its ends, and the window that is filtered fades far outside the part that is kept.
    """
    columns = np.arange(start - _AROUND, start - _AROUND + _STRIDE * _WINDOW) % signal.shape[1]
    spectrum = rfft(signal[:, columns] * _fade(), axis=1)[:, : _WINDOW // 2 + 1]
    kept = irfft(spectrum * _low_pass(), _WINDOW, axis=1)
    return kept[:, _AROUND // _STRIDE : _AROUND // _STRIDE + MODEL_SAMPLES]


@cache
def _low_pass() -> np.ndarray:
    hz = np.arange(_WINDOW // 2 + 1) * (MODEL_RATE_HZ / _WINDOW)
    low, high = 0.42 * MODEL_RATE_HZ, 0.5 * MODEL_RATE_HZ
    return (0.5 * (1 + np.cos(np.pi * np.clip((hz - low) / (high - low), 0, 1))) / _STRIDE).astype(np.float32)


@cache
def _fade() -> np.ndarray:
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_AROUND // 4) + 0.5) / (_AROUND // 4))
    return np.concatenate([edge, np.ones(_STRIDE * _WINDOW - 2 * len(edge)), edge[::-1]]).astype(np.float32)


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
