"""``VirtualPatient``: a World of mechanism. No learning, no torch; the truth that learned worlds are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ecg_gym.columns import NONE, WORDS, Doses, Patients, dose_codes
from ecg_gym.core import (
    ECG,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    Administration,
    Patient,
    Randomness,
    State,
    Treatment,
    row_streams,
)
from ecg_gym.look import Look
from ecg_gym.pharmacology import FORMULARY, Exposure, Sensitivity
from ecg_gym.pharmacology.catalogue import clearances, known_doses, medication_columns, own_serum, weights_kg
from ecg_gym.pharmacology.exposure import exposures
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.tables import pharmacology
from ecg_gym.streams import FIRST, Streams
from ecg_gym.virtual_patient import kernel
from ecg_gym.virtual_patient.circulation import cuff
from ecg_gym.virtual_patient.columns import (
    CODES,
    FIRST_OFFSET,
    FIRST_SENSITIVITY,
    FIRST_SERUM,
    FIRST_SHOWN,
    N_NOW,
    NUMBERS,
    POSE,
    RHYTHM,
    SHOWN,
    as_paced,
    heart_of,
    heart_row,
    modulation_row,
)
from ecg_gym.virtual_patient.columns import words as known_words
from ecg_gym.virtual_patient.defining_intervals import decide
from ecg_gym.virtual_patient.draw import DRAW, draw_hearts
from ecg_gym.virtual_patient.excitation import EIKONAL, Excitation, slot_of
from ecg_gym.virtual_patient.heart import Heart, draw_heart, poses
from ecg_gym.virtual_patient.heart_arrays import HeartArrays
from ecg_gym.virtual_patient.population import population, within
from ecg_gym.virtual_patient.readings import errors, read_cuff, read_vitals, views_of
from ecg_gym.virtual_patient.strip import truths_of as truths_of_plan
from ecg_gym.virtual_patient.strip_drawing import draw_strips
from ecg_gym.virtual_patient.strip_plan import StripPlan, plan_strips
from ecg_gym.virtual_patient.truth import Truth
from ecg_gym.virtual_patient.vitals import show

_SECONDS = MODEL_SAMPLES / MODEL_RATE_HZ


class VirtualPatient:
    """A population of mechanistic hearts behind the World interface.

    Hour 0 of every patient is the start of a trial day: hearts drift with meals and the time of day after it. A state
    knows what each heart shows (``shown_intervals``); its strips are drawn when somebody looks.
    """

    tissue: Excitation = EIKONAL  # of the hearts it makes
    shortest_step_hours = 1 / 60  # [h]; strips are of ten seconds, and effects of a drug set in over minutes

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
        doses: Sequence[Administration] = (),
        healthy: bool = False,
        rhythm: str | None = None,
        conduction: str | None = None,
        scar: str | None = None,
        typical: bool = False,
        noise: float | None = None,
        **facts: Any,
    ) -> State:
        """``n`` people drawn from the population; what is told is kept (``age_years=70``, ``rhythm="af_rapid"``).

        ``facts`` are fields of Patient; ``typical`` people all answer drugs as the average adult does; ``noise`` is the
        level of their recordings' electrode noise instead of the one drawn. Raises ValueError for an unknown rhythm,
        conduction or scar, TypeError for an unknown field.
        """
        people = [patient] * n if patient is None or isinstance(patient, Patient) else list(patient)
        words = {"healthy": healthy, "rhythm": rhythm, "conduction": conduction, "scar": scar, "typical": typical,
                "noise": noise, "doses": tuple(sorted(doses))}  # fmt: skip
        who = Patients.of([replace(person or Patient(), **facts) for person in people])
        return self.begin(who, [words] * n, row_streams(rng, n))

    def begin(self, people: Patients, words: Sequence[Mapping[str, Any]], streams: Streams) -> State:
        """States of B people, each with the words of ``initial`` that hold for them; what is unknown is drawn."""
        n, kinds = len(people), list({id(each): each for each in words}.values())
        number = {id(each): i for i, each in enumerate(kinds)}
        kind = np.array([number[id(each)] for each in words], int)
        codes = np.array([_codes(each) for each in kinds], float)[kind].reshape(n, 6)
        patients, hearts = draw_hearts(
            streams, people, rhythm=codes[:, 0], conduction=codes[:, 1], scar=codes[:, 2], healthy=codes[:, 3] > 0,
            typical=codes[:, 4] > 0, noise=codes[:, 5],
        )  # fmt: skip
        doses = Doses.of([each.get("doses", ()) for each in kinds]).take(kind)
        return _settle(patients, doses, hearts, np.zeros(n), streams.at(FIRST), self.tissue)

    def observe(self, ecg: ECG, patient: Patient, doses: Sequence[Administration] = ()) -> State:
        """A coarse twin of a real record: rate, rhythm class, PR, QRS, QT and T width are those measured, the rest is
        an average adult; its strips will not look like the record's. For comparisons, not for care.

        Raises ValueError if no beats can be found.
        """
        from ecg_gym.waveform import measure, to_model_grid

        strip = to_model_grid(ecg)
        reading = measure(strip).row(0)
        heart = self._personal(_twin(reading, patient), reading)
        streams = Streams.start(np.zeros((1, 2), np.uint64))
        row = heart_row(replace(heart, tissue=EIKONAL))[None]
        state = _settle(Patients.of([heart.patient]), Doses.of([tuple(sorted(doses))]), row, np.zeros(1), streams,
                         heart.tissue)  # fmt: skip
        return state.replaced(ecg=strip.signal.reshape(1, 12, MODEL_SAMPLES))

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """``dt_hours`` later, or each row's own. Each row depends on its own stream only and draws equally often
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
        doses = Doses.of(state.doses).after(state.hours, np.where(state.alive[:, None], codes, NONE))
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
            show(seated(inner), inner["now"], living)
        hours = np.where(state.alive, state.hours + dt, state.hours)
        strips: Any = draw_state  # drawn when somebody looks
        return State(strips, patients, doses, hours, alive, inner, state.dt_hours)

    def shown_intervals(self, state: State) -> dict[str, np.ndarray]:
        """The intervals ``(B,)`` that each heart shows in this minute, free of noise; NaN where it has none."""
        return {name: state.inner["now"][:, FIRST_SHOWN + i] for i, name in enumerate(SHOWN)}

    def vitals(
        self, state: State, recording: tuple[Any, Sequence[tuple[str, ...]]] | None = None, findings: bool = True
    ) -> Look:
        """What a measurement of each row's strip would say, without drawing it; see ``readings``.

        ``recording`` is a tier that spoils what is seen, and the leads that are off in each row; None reads the true
        strips. Without ``findings`` nobody judges them.
        """
        n, look = len(state), Look.empty(len(state))
        view = np.zeros(n, np.int64) if recording is None else views_of(*recording)
        hearts = as_paced(seated(state.inner), state.inner["now"])
        read_vitals(
            errors(), cuff(), hearts, state.inner["now"], state.inner["strip"], state.alive, view, findings,
            look.intervals, look.probabilities,
        )  # fmt: skip
        if findings:
            decide(look)
        return look

    def pressure(self, state: State) -> np.ndarray:
        """What a cuff says of the mean arterial pressure ``(B,)`` [mmHg], the same as in ``vitals``."""
        out, hearts = np.empty(len(state)), as_paced(seated(state.inner), state.inner["now"])
        read_cuff(cuff(), hearts, state.inner["now"], state.inner["strip"], out)
        return out

    def _personal(self, heart: Heart, reading: Mapping[str, float]) -> Heart:
        """The twin of a record, once it is made from the usual measures; a world with other tissue fits it here."""
        return heart

    def truth(self, state: State) -> list[Truth]:
        """The truth of every row's strip; for oracles, studies and tests, never for an agent."""
        return _drawn_truths(state)


def pressure_of(state: State) -> np.ndarray:
    """What a cuff says of the people of a state of the virtual patient ``(B,)`` [mmHg]; NaN in another world's."""
    is_virtual = {"heart", "now", "strip"} <= state.inner.keys()
    return VirtualPatient().pressure(state) if is_virtual else np.full(len(state), np.nan)


def rr_sd_of(state: State) -> np.ndarray:
    """SD of the RR intervals of each row's strip ``(B,)`` [ms], which is planned and not drawn; NaN below two beats."""
    plan, out = _plan(state), np.full(len(state), np.nan)
    at, number = plan.trains.qrs_s, np.arange(plan.trains.qrs_s.shape[1])
    begin = plan.start_s[:, None]
    within = (number < plan.trains.beats[:, None]) & (at >= begin) & (at < begin + plan.seconds)
    for row in np.flatnonzero(within.sum(axis=1) >= 2):
        out[row] = 1000 * np.diff(at[row, within[row]]).std()
    return out


def hearts_of(state: State) -> list[Heart]:
    """The hearts behind a state of the virtual patient; for studies and tests."""
    return [heart_of(row, patient) for row, patient in zip(seated(state.inner), state.patients)]


def truths_of(state: State) -> list[Truth]:
    """The truth of the strips of a state of the virtual patient; for studies and tests."""
    return _drawn_truths(state)


def with_sensitivities(state: State, people: Sequence[Sensitivity]) -> State:
    """The same hearts with other sensitivities, as they are at this hour."""
    hearts = state.inner["heart"].copy()
    hearts[:, FIRST_SENSITIVITY:FIRST_OFFSET] = [person.as_array() for person in people]
    return state.replaced(inner={**state.inner, "heart": hearts})


def draw_state(state: State) -> np.ndarray:
    """The strips of a state ``(B, 12, 1024)`` float32 [mV], each out of its row's own key."""
    return draw_strips(_plan(state), MODEL_RATE_HZ)


def _plan(state: State) -> StripPlan:
    """The strips of a state, planned and not yet drawn."""
    hearts, now = as_paced(seated(state.inner), state.inner["now"]), state.inner["now"]
    codes = hearts[:, RHYTHM : POSE + 1].astype(np.int64)
    numbers = {name: np.ascontiguousarray(hearts[:, i]) for i, name in enumerate(NUMBERS) if name != "sinus_rate_bpm"}
    arrays = HeartArrays(**{name: codes[:, i] for i, name in enumerate(CODES)}, **numbers)
    change = Modulation(*np.ascontiguousarray(now[:, :FIRST_SERUM].T))
    return plan_strips(arrays, change, state.inner["strip"], _SECONDS)


def _drawn_truths(state: State) -> list[Truth]:
    """The truths of the strips; kept with the state, because whoever asks once often asks again."""
    cache = state.__dict__.get("_truths")
    if cache is None:
        hearts, now = hearts_of(state), state.inner["now"]
        on_board = exposures(state.doses, state.patients, list(np.asarray(state.hours, float)[:, None]),
                             [heart.sensitivity for heart in hearts])  # fmt: skip
        changes, serum = [modulation_row(row) for row in now], now[:, FIRST_SERUM].tolist()
        truths = truths_of_plan(_plan(state), hearts, changes, serum)
        cache = [replace(truth, concentrations=_on_board(on_board[i])) for i, truth in enumerate(truths)]
        state.__dict__["_truths"] = cache
    return cache


TISSUE = "tissue"  # of ``State.inner``: that of each heart, where it is not the eikonal's


def seated(inner: Mapping[str, np.ndarray]) -> np.ndarray:
    """The hearts ``(B, N_HEART)`` with the seats of their poses in this process; see ``Heart.seat``."""
    hearts = inner["heart"]
    if TISSUE not in inner:
        return hearts
    hearts = hearts.copy()
    hearts[:, POSE] += [len(poses()) * slot_of(tissue) for tissue in inner[TISSUE]]
    return hearts


def _settle(
    patients: Patients, doses: Doses, hearts: np.ndarray, hours: np.ndarray, streams: Streams, tissue: Excitation
) -> State:
    """A state of these hearts of one tissue at these hours, with a fresh minute each."""
    n = len(patients)
    now, strip = np.full((n, N_NOW), np.nan), np.zeros(n, np.uint64)
    kernel.settle(
        pharmacology(), kernel.rhythm_table(), _people(patients), hearts,
        kernel.Doses(doses.hours, doses.code, *known_doses(doses)), hours, streams.key, streams.counter, np.arange(n),
        now, strip,
    )  # fmt: skip
    inner = {"heart": hearts, "now": now, "strip": strip}
    if tissue != EIKONAL:
        inner[TISSUE] = np.full(n, tissue, object)
    if n:
        show(seated(inner), now, np.arange(n))
    strips: Any = draw_state  # drawn when somebody looks
    return State(strips, patients, doses, hours, np.ones(n, bool), inner)


def _people(patients: Patients) -> kernel.People:
    """What the kernel asks of the people; worked out once for each batch."""
    who = patients.__dict__.get("_people")
    if who is None:
        serum = own_serum(patients, pharmacology().reference)
        who = kernel.People(weights_kg(patients), clearances(patients), serum, np.empty((0, 0), bool), patients.group)
        patients.__dict__["_people"] = who
    return who._replace(medication=medication_columns(len(WORDS)))


def _codes(words: Mapping[str, Any]) -> tuple[float, ...]:
    """What is told of a heart as numbers: rhythm, conduction, scar, healthy, typical, noise."""
    options = known_words()
    for name in ("rhythm", "conduction", "scar"):
        value = words.get(name)
        if value is not None and value not in options[name]:
            kinds = tuple(word for word in options[name] if word)
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(kinds)}; choose one of them")
    places = [DRAW if (value := words.get(name)) is None else options[name].index(value)
              for name in ("rhythm", "conduction", "scar")]  # fmt: skip
    noise = np.nan if words.get("noise") is None else float(words["noise"])
    return (*places, bool(words.get("healthy")), bool(words.get("typical")), noise)


def _on_board(now: Exposure) -> dict[str, float]:
    """Plasma concentrations [ng/mL] of the drugs there are."""
    return {FORMULARY.names[i]: float(now.plasma[i]) for i in np.flatnonzero(now.plasma)}


def _twin(reading: dict[str, float], patient: Patient) -> Heart:
    """An average adult with the measured rate, rhythm class, PR, QRS, QT and T width."""
    if not np.isfinite(reading["hr_bpm"]):
        raise ValueError(
            f"no beats were found ({reading.get('reason', '')}); expected a strip with at least three; "
            "use another part of the record"
        )
    average = draw_heart(np.random.default_rng(0), patient, "sinus", "normal", "", healthy=True)

    table = population()["twin"]

    def value_of(name: str, measure: str = "") -> float:
        value = reading[measure or name]
        return within(table[name], value) if np.isfinite(value) else float(table[name]["otherwise"])

    rate = value_of("rate_bpm", "hr_bpm")
    irregular = not bool(reading.get("p_present", True)) and not bool(reading.get("regular", True))
    wide = reading["qrs_ms"] > table["qrs_ms"]["high"]  # NaN is not wide
    return replace(
        average,
        rhythm=("af_rapid" if rate > table["af_rapid_bpm"]["value"] else "af") if irregular else "sinus",
        rate_bpm=rate,
        pr_ms=value_of("pr_ms"),
        qrs_ms=float(table["qrs_ms"]["otherwise"]) if wide else value_of("qrs_ms"),
        conduction="lbbb" if wide else "normal",
        qtcf_ms=value_of("qtcf_ms") - (table["block_qtcf_ms"]["value"] if wide else 0.0),
        tpeak_tend_ms=value_of("tpeak_tend_ms"),
        sensitivity=Sensitivity.typical(),
        pose=0,
        r_gain=1.0,
        t_gain=1.0,
        p_gain=1.0,
        noise=table["noise"]["value"],
    )
