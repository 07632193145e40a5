"""``VirtualPatient``: a World of mechanism. No learning, no torch; the truth that learned worlds are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from scipy.fft import irfft, rfft

from ecg_gym.columns import NONE, WORDS, Doses, Patients, dose_codes
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
    row_streams,
)
from ecg_gym.pharmacology import FORMULARY, Exposure, Sensitivity
from ecg_gym.pharmacology.catalogue import clearances, known_doses, medication_columns, own_serum, weights_kg
from ecg_gym.pharmacology.exposure import exposures
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.tables import pharmacology
from ecg_gym.streams import FIRST, Streams
from ecg_gym.virtual_patient import kernel
from ecg_gym.virtual_patient.columns import (
    FIRST_OFFSET,
    FIRST_SENSITIVITY,
    FIRST_SERUM,
    FIRST_SHOWN,
    N_NOW,
    SHOWN,
    heart_of,
    heart_row,
    modulation_row,
)
from ecg_gym.virtual_patient.columns import words as known_words
from ecg_gym.virtual_patient.draw import DRAW, draw_hearts
from ecg_gym.virtual_patient.heart import Heart, draw_heart
from ecg_gym.virtual_patient.population import population, within
from ecg_gym.virtual_patient.strip import RATE_HZ, Marks, synthesise
from ecg_gym.virtual_patient.truth import Truth
from ecg_gym.virtual_patient.vitals import show

_SECONDS = MODEL_SAMPLES / MODEL_RATE_HZ
_SPARE_S = 3.0  # simulated on top, so that a beat to begin with can be found
_STRIDE = round(RATE_HZ / MODEL_RATE_HZ)
_WINDOW = 1600  # model samples that are filtered at once: a quick length
_AROUND = _STRIDE * (_WINDOW - MODEL_SAMPLES) // 2  # of them before the first that is kept, and behind the last


class VirtualPatient:
    """A population of mechanistic hearts behind the World interface.

    Hour 0 of every patient is the start of a trial day: hearts drift with meals and the time of day after it. A state
    knows what each heart shows (``shown``); its strips are drawn when somebody looks.
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
        people = [patient] * n if patient is None or isinstance(patient, Patient) else list(patient)
        words = {"healthy": healthy, "rhythm": rhythm, "conduction": conduction, "scar": scar, "typical": typical,
                "noise": noise, "given": tuple(sorted(given))}  # fmt: skip
        who = Patients.of([replace(person or Patient(), **known) for person in people])
        return self.begin(who, [words] * n, row_streams(rng, n))

    def begin(self, people: Patients, words: Sequence[Mapping[str, Any]], streams: Streams) -> State:
        """States of B people, each with the words of ``initial`` that hold for them; what is unknown is drawn."""
        n = len(people)
        places = {id(each): _codes(each) for each in words}
        codes = np.array([places[id(each)] for each in words], float).reshape(n, 6)
        patients, hearts = draw_hearts(
            streams, people, rhythm=codes[:, 0], conduction=codes[:, 1], scar=codes[:, 2], healthy=codes[:, 3] > 0,
            typical=codes[:, 4] > 0, noise=codes[:, 5],
        )  # fmt: skip
        doses = Doses.of([each.get("given", ()) for each in words])
        return _settled(patients, doses, hearts, np.zeros(n), streams.at(FIRST))

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """A coarse twin of a real record: rate, rhythm class, PR, QRS, QT and T width are those measured, the rest is
        an average adult; its strips will not look like the record's. For comparisons, not for care.

        Raises ValueError if no beats can be found.
        """
        from ecg_gym.waveform import measure, to_model_grid

        strip = to_model_grid(ecg)
        heart = _twin(measure(strip).row(0), patient)
        streams = Streams.start(np.zeros((1, 2), np.uint64))
        state = _settled(Patients.of([heart.patient]), Doses.of([tuple(sorted(given))]), heart_row(heart)[None],
                         np.zeros(1), streams)  # fmt: skip
        return state.replaced(ecg=strip.signal.reshape(1, 12, MODEL_SAMPLES))

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """``dt_hours`` later, or each row's own. Each row depends on its own stream only and draws from it equally often
        whatever the treatment, so that common random numbers compare treatments.

        Whether a rhythm ends, and whether a lethal one begins, is drawn from hazards integrated over the step, so that
        a minute of adenosine counts. Between two strips the intervals that the hazards ask for are those shown before,
        moved by what the ``Modulation`` has changed since; after a conversion they are the heart's own at rest.
        """
        if len(treatments) != len(state):
            raise ValueError(
                f"{len(treatments)} treatments for {len(state)} patients; expected one each; repeat or index the state"
            )
        streams, patients = row_streams(rng, len(state)), Patients.of(state.patients)
        codes = dose_codes(treatments)
        doses = Doses.of(state.taken).given(state.hours, np.where(state.alive[:, None], codes, NONE))
        dt = np.full(len(state), self.dt_hours) if state.dt_hours is None else state.dt_hours
        inner = {name: value.copy() for name, value in state.inner.items()}
        alive = state.alive.copy()
        kernel.step(
            pharmacology(), kernel.hazard_figures(), kernel.rhythm_table(), _people(patients), inner["heart"],
            kernel.Doses(doses.hours, doses.code, *known_doses(doses)), state.hours, dt, alive, streams.key,
            streams.counter, inner["now"], inner["strip"],
        )  # fmt: skip
        living = np.flatnonzero(state.alive)
        if len(living):
            show(inner["heart"], inner["now"], living)
        hours = np.where(state.alive, state.hours + dt, state.hours)
        return State(draw_state, patients, doses, hours, alive, inner, state.dt_hours)

    def shown(self, state: State) -> dict[str, np.ndarray]:
        """The intervals ``(B,)`` that each heart shows in this minute, free of noise; NaN where it has none."""
        return {name: state.inner["now"][:, FIRST_SHOWN + i] for i, name in enumerate(SHOWN)}

    def truth(self, state: State) -> list[Truth]:
        """The truth of every row's strip; for oracles, studies and tests, never for an agent."""
        return _drawn(state)[1]


def hearts_of(state: State) -> list[Heart]:
    """The hearts behind a state of the virtual patient; for studies and tests."""
    return [heart_of(row, patient) for row, patient in zip(state.inner["heart"], state.patients)]


def truths_of(state: State) -> list[Truth]:
    """The truth of the strips of a state of the virtual patient; for studies and tests."""
    return _drawn(state)[1]


def with_sensitivities(state: State, people: Sequence[Sensitivity]) -> State:
    """The same hearts with other sensitivities, as they are at this hour."""
    hearts = state.inner["heart"].copy()
    hearts[:, FIRST_SENSITIVITY:FIRST_OFFSET] = [person.as_array() for person in people]
    return state.replaced(inner={**state.inner, "heart": hearts})


def draw_state(state: State) -> np.ndarray:
    """The strips of a state ``(B, 12, 1024)`` float32 [mV], each out of its row's own key."""
    return _drawn(state)[0]


def _drawn(state: State) -> tuple[np.ndarray, list[Truth]]:
    """Strips and their truths; kept with the state, because whoever asks for one often asks for the other."""
    kept = state.__dict__.get("_drawn")
    if kept is None:
        ecg, truths = np.empty((len(state), 12, MODEL_SAMPLES), np.float32), []
        on_board = exposures(state.taken, state.patients, list(np.asarray(state.hours, float)[:, None]),
                             [heart.sensitivity for heart in hearts_of(state)])  # fmt: skip
        for i, heart in enumerate(hearts_of(state)):
            rng = np.random.default_rng(state.inner["strip"][i])
            now = state.inner["now"][i]
            ecg[i], truth = model_strip(heart, modulation_row(now), rng, float(now[FIRST_SERUM]))
            truths.append(replace(truth, concentrations=_on_board(on_board[i])))
        kept = state.__dict__["_drawn"] = ecg, truths
    return kept


def _settled(patients: Patients, doses: Doses, hearts: np.ndarray, hours: np.ndarray, streams: Streams) -> State:
    """A state of these hearts at these hours, with a fresh minute each."""
    n = len(patients)
    now, strip = np.full((n, N_NOW), np.nan), np.zeros(n, np.uint64)
    kernel.settle(
        pharmacology(), kernel.rhythm_table(), _people(patients), hearts,
        kernel.Doses(doses.hours, doses.code, *known_doses(doses)), hours, streams.key, streams.counter, np.arange(n),
        now, strip,
    )  # fmt: skip
    if n:
        show(hearts, now, np.arange(n))
    return State(draw_state, patients, doses, hours, np.ones(n, bool), {"heart": hearts, "now": now, "strip": strip})


def _people(patients: Patients) -> kernel.People:
    """What the kernel asks of the people; worked out once for each batch."""
    kept = patients.__dict__.get("_people")
    if kept is None:
        serum = own_serum(patients, pharmacology().reference)
        kept = kernel.People(weights_kg(patients), clearances(patients), serum, np.empty((0, 0), bool), patients.group)
        patients.__dict__["_people"] = kept
    return kept._replace(medication=medication_columns(len(WORDS)))


def _codes(words: Mapping[str, Any]) -> tuple[float, ...]:
    """What is told of a heart as numbers: rhythm, conduction, scar, healthy, typical, noise."""
    known = known_words()
    for name in ("rhythm", "conduction", "scar"):
        value = words.get(name)
        if value is not None and value not in known[name]:
            kinds = tuple(word for word in known[name] if word)
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(kinds)}; choose one of them")
    places = [DRAW if (value := words.get(name)) is None else known[name].index(value)
              for name in ("rhythm", "conduction", "scar")]  # fmt: skip
    noise = np.nan if words.get("noise") is None else float(words["noise"])
    return (*places, bool(words.get("healthy")), bool(words.get("typical")), noise)


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
