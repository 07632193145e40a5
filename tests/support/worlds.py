"""A small world whose truth is known in closed form, and a risk that reads it back: the ground planners are tested on.

The ECG is a sum of Gaussians per beat. Heart rate and QTcF respond to a dose at once, in proportion, and wear off
exponentially, so every expected number in a test can be written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np

from ecg_gym.core import (
    ECG,
    INDEPENDENT_LEADS,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    R_PEAK_OFFSET_S,
    Administration,
    Patient,
    Randomness,
    State,
    Treatment,
    limb_from_independent,
    row_generators,
)
from ecg_gym.waveform.intervals import Intervals

SEEN = ("hr_bpm", "qtcf_ms")  # the intervals an analytic strip has; the others are not measured
QRS_ONSET_S, T_TAIL_S = 0.045, 0.09  # QT = QRS onset .. T peak + two widths of the T wave
WAVES = {  # wave: (centre after R [s], width [s], amplitude [mV] in I, II, V1..V6)
    "P": (-0.16, 0.020, (0.08, 0.12, 0.04, 0.06, 0.06, 0.06, 0.06, 0.06)),
    "Q": (-0.028, 0.009, (-0.04, -0.08, 0.0, 0.0, 0.0, -0.05, -0.08, -0.08)),
    "R": (0.0, 0.012, (0.6, 1.1, 0.2, 0.4, 0.8, 1.3, 1.3, 1.0)),
    "S": (0.028, 0.010, (-0.1, -0.2, -0.8, -1.2, -0.7, -0.4, -0.2, -0.1)),
    "T": (np.nan, 0.045, (0.2, 0.3, -0.05, 0.4, 0.45, 0.4, 0.35, 0.3)),  # its centre follows QT
}


@dataclass(frozen=True)
class Response:
    """What one unit of a drug adds at the moment it is given."""

    hr_bpm: float = 0.0
    qtcf_ms: float = 0.0


RESPONSES = {
    "dofetilide": Response(qtcf_ms=80.0),  # per mg
    "moxifloxacin": Response(qtcf_ms=0.03),  # per mg
    "metoprolol": Response(hr_bpm=-0.2),  # per mg
    "verapamil": Response(hr_bpm=-0.1),  # per mg
    "atropine": Response(hr_bpm=20.0),  # per mg
}


def gaussian_ecg(hr_bpm: float, qtcf_ms: float) -> np.ndarray:
    """A noiseless strip (12, 1024) [mV] on the model grid with exactly this rate [bpm] and QTcF [ms]."""
    rr = 60 / hr_bpm
    t_peak = qtcf_ms / 1000 * np.cbrt(rr) - QRS_ONSET_S - T_TAIL_S
    time = np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ
    beats = R_PEAK_OFFSET_S + rr * np.arange(-2, int(10 / rr) + 3)
    strip = np.zeros((len(INDEPENDENT_LEADS), MODEL_SAMPLES))
    for centre, width, amplitudes in WAVES.values():
        centre = t_peak if np.isnan(centre) else centre
        shape = np.exp(-0.5 * ((time - beats[:, None] - centre) / width) ** 2).sum(axis=0)
        strip += np.asarray(amplitudes)[:, None] * shape
    return limb_from_independent(strip).astype(np.float32)


def read_back(signal: np.ndarray) -> tuple[float, float]:
    """Rate [bpm] and QTcF [ms] of one ``gaussian_ecg`` strip (12, 1024) [mV], by its R and T peaks in lead II."""
    lead = signal[1].astype(float)
    inside = lead[1:-1]
    peaks = np.flatnonzero((inside > 0.6) & (lead[:-2] <= inside) & (inside > lead[2:])) + 1
    rr = np.mean(np.diff(peaks)) / MODEL_RATE_HZ if len(peaks) > 1 else np.nan
    start, stop = peaks[0] + int(0.14 * MODEL_RATE_HZ), peaks[0] + int((rr - 0.22) * MODEL_RATE_HZ)
    top = start + int(np.argmax(lead[start:stop]))
    below, at, above = lead[top - 1 : top + 2]
    vertex = top + 0.5 * (below - above) / (below - 2 * at + above)  # parabola through the peak: better than 10 ms
    qt = (vertex - peaks[0]) / MODEL_RATE_HZ + QRS_ONSET_S + T_TAIL_S
    return 60 / rr, 1000 * qt / np.cbrt(rr)


@dataclass(frozen=True)
class AnalyticWorld:
    """Hearts whose rate and QTcF answer the doses by ``RESPONSES``; ``lethal`` drugs kill, ``broken`` ones give NaN."""

    dt_hours: float = 1.0
    half_life_hours: float = 4.0
    noise_mv: float = 0.005
    lethal: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    sha256: str = "analytic"
    responses: Mapping[str, Response] = field(default_factory=lambda: RESPONSES)

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` adults; ``who`` may fix ``hr_bpm``, ``qtcf_ms``, ``patient``, ``doses``; the rest says nothing."""
        generators = row_generators(rng, n)
        rest = np.array(
            [[who.get("hr_bpm", g.normal(70, 5)), who.get("qtcf_ms", g.normal(410, 8))] for g in generators]
        )
        person = who.get("patient", Patient(age_years=50.0, sex="F", weight_kg=70.0))
        state = State(
            ecg=np.zeros((n, 12, MODEL_SAMPLES), np.float32),
            patients=tuple(person) if isinstance(person, list) else (person,) * n,
            doses=(tuple(who.get("doses", ())),) * n,
            hours=np.zeros(n),
            alive=np.ones(n, bool),
            inner={"rest": rest},
        )
        return replace(state, ecg=self._record(state, generators))

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """A batch of one whose resting rate and QTcF are what the strip shows, less what ``given`` still adds."""
        signal = np.asarray(ecg.signal, np.float32).reshape(-1, 12, ecg.signal.shape[-1])[:1]
        state = State(
            ecg=signal.copy(),
            patients=(patient,),
            doses=(tuple(given),),
            hours=np.zeros(1),
            alive=np.ones(1, bool),
            inner={"rest": np.zeros((1, 2))},
        )
        return replace(state, inner={"rest": np.array([read_back(signal[0])]) - self.added(state)})

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """``dt_hours`` later."""
        if len(treatments) != len(state):
            raise ValueError(f"{len(treatments)} treatments for {len(state)} rows; expected one per row; use WATCH")
        given = tuple(
            (*taken, *(Administration(float(hours), dose) for dose in treatment.doses))
            for taken, hours, treatment in zip(state.doses, state.hours, treatments)
        )
        later = replace(state, doses=given, hours=state.hours + self.dt_hours)
        dies = np.array([any(dose.drug in self.lethal for dose in treatment.doses) for treatment in treatments])
        later = replace(later, ecg=self._record(later, row_generators(rng, len(state))), alive=~dies)
        return later.where(state.alive, state)

    def added(self, state: State) -> np.ndarray:
        """What the doses taken add to rate [bpm] and QTcF [ms], (B, 2)."""
        out = np.zeros((len(state), 2))
        for row, (taken, hours) in enumerate(zip(state.doses, state.hours)):
            for when, dose in ((a.hours, a.dose) for a in taken):
                answer = self.responses.get(dose.drug, Response())
                left = dose.amount * 0.5 ** (max(0.0, hours - when - self.dt_hours) / self.half_life_hours)
                out[row] += left * np.array([answer.hr_bpm, answer.qtcf_ms])
        return out

    def _record(self, state: State, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Strips (B, 12, 1024) [mV] with beat-to-beat person noise (1 bpm, 3 ms) and white noise."""
        strips = []
        for (hr, qtcf), taken, rng in zip(state.inner["rest"] + self.added(state), state.doses, generators):
            jitter, noise = rng.normal(0, (1.0, 3.0)), rng.normal(0, self.noise_mv, (8, MODEL_SAMPLES))
            strip = gaussian_ecg(hr + jitter[0], qtcf + jitter[1]) + limb_from_independent(noise)
            broken = any(administration.dose.drug in self.broken for administration in taken)
            strips.append(np.full_like(strip, np.nan) if broken else strip)
        return np.stack(strips).astype(np.float32)


@dataclass(frozen=True)
class AnalyticRiskResult:
    """The fields of ``ecg_gym.risk.Risk`` that planners and the env read."""

    total: np.ndarray
    cost: np.ndarray
    terms: dict[str, np.ndarray]
    intervals: Intervals
    probabilities: np.ndarray
    finite: np.ndarray


@dataclass(frozen=True)
class AnalyticRisk:
    """Risk rises with QTcF above 400 ms (1 at 600) and with distance of the rate from 60 bpm (1 at 60 away)."""

    sha256: str = "analytic-risk"

    def __call__(
        self, before: np.ndarray, after: np.ndarray, patients: Sequence[Patient], alive: np.ndarray | None = None
    ) -> AnalyticRiskResult:
        """Risk of (B, 12, 1024) [mV] strips; the dead and the non-finite are 1."""
        finite = np.isfinite(after).all(axis=(1, 2))
        seen = np.array([read_back(x) if ok else (np.nan, np.nan) for x, ok in zip(after, finite)]).reshape(-1, 2)
        qtc = np.clip((seen[:, 1] - 400) / 200, 0, 1)
        rate = np.clip(abs(seen[:, 0] - 60) / 60, 0, 1)
        bad = ~finite if alive is None else ~finite | ~np.asarray(alive)
        total = np.where(bad, 1.0, 1 - (1 - qtc) * (1 - rate))
        return AnalyticRiskResult(
            total=total,
            cost=np.where(bad, 1.0, qtc),
            terms={"qtc": np.where(bad, 1.0, qtc), "rate": np.where(bad, 1.0, rate)},
            intervals=Intervals.from_rows([dict(zip(SEEN, row)) for row in seen], [""] * len(seen)),
            probabilities=np.full((len(after), 17), np.nan),
            finite=finite,
        )


@dataclass(frozen=True)
class LatentWorld(AnalyticWorld):
    """The same hearts with a latent beside the strip, as a world model has: lead II in 4 rows of 128 means."""

    latent_shape: tuple[int, int] = (4, 128)

    def latents(self, state: State) -> np.ndarray:
        """What the state holds."""
        return state.inner["latent"]

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """As the analytic world, with a latent."""
        return _with_latent(super().initial(n, rng, **who))

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """As the analytic world, with a latent."""
        return _with_latent(super().step(state, treatments, rng))


def _with_latent(state: State) -> State:
    latent = state.ecg[:, 1].reshape(len(state), 4, 128, 2).mean(axis=-1)
    return replace(state, inner={**state.inner, "latent": latent})


# --- a world small enough to be solved by hand ------------------------------------------------------------------------

START, BAITED, READY, CURED, DOOMED = range(5)
RATES = {START: 90.0, BAITED: 75.0, READY: 110.0, CURED: 60.0, DOOMED: 62.0}  # [bpm] what each place looks like
STUCK = 5  # looks like START, and nothing helps any more: only the history tells
RATES[STUCK] = 90.0


LOCKED = Patient(  # whom the rules allow magnesium and ibutilide
    50.0, "F", 70.0, magnesium=0.9, potassium=4.4, conditions=frozenset({"atrial_fibrillation"})
)


def moved(place: int, drug: str) -> int:
    """Where a drug ("" for watching) leads from a place; -1 is death.

    Placebo is bait: better for an hour, then stuck for good. Magnesium makes it worse, and magnesium once more cures.
    Ibutilide looks like the cure, and kills in the hour after.
    """
    if place == DOOMED:
        return -1
    if place in (CURED, STUCK):
        return place
    if place == BAITED:
        return STUCK
    if drug == "ibutilide":
        return DOOMED
    if drug == "magnesium":
        return CURED if place == READY else READY
    return BAITED if drug == "placebo" and place == START else START


@dataclass(frozen=True)
class LockWorld:
    """Six places, deterministic steps, a little noise on the strip: value iteration gives the truth."""

    dt_hours: float = 1.0
    sha256: str = "lock"

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` hearts at ``place`` (default START)."""
        place = np.full(n, int(who.get("place", START)))
        return self._state(place, np.zeros(n), np.ones(n, bool), ((),) * n, LOCKED, rng)

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """The place that looks most like the strip; of those that look alike, the one not stuck."""
        rate = read_back(np.asarray(ecg.signal).reshape(12, -1))[0]
        place = np.array([min(RATES, key=lambda p: (abs(RATES[p] - rate), p))])
        state = self._state(place, np.zeros(1), np.ones(1, bool), (tuple(given),), patient, np.random.default_rng(0))
        return replace(state, ecg=np.asarray(ecg.signal, np.float32).reshape(1, 12, -1).copy())

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """``dt_hours`` later; the first drug of a treatment acts."""
        if len(treatments) != len(state):
            raise ValueError(f"{len(treatments)} treatments for {len(state)} rows; expected one per row; use WATCH")
        drugs = [t.doses[0].drug if t else "" for t in treatments]
        place = np.array([moved(int(p), drug) for p, drug in zip(state.inner["place"], drugs)])
        taken = tuple(
            (*past, *(Administration(float(h), dose) for dose in t.doses))
            for past, h, t in zip(state.doses, state.hours, treatments)
        )
        hours = state.hours + self.dt_hours
        later = self._state(np.maximum(place, 0), hours, place >= 0, taken, state.patients[0], rng)
        return later.where(state.alive, state)

    def _state(self, place, hours, alive, taken, patient, rng) -> State:
        rates = [RATES[int(p)] + g.normal(0, 0.3) for p, g in zip(place, row_generators(rng, len(place)))]
        ecg = np.stack([gaussian_ecg(rate, 395.0) for rate in rates])
        return State(ecg, (patient,) * len(place), taken, hours, alive, {"place": place})


@dataclass(frozen=True)
class ResponderWorld(AnalyticWorld):
    """Hearts of which half do not answer any dose, and nobody can tell which before a dose was given.

    ``observe`` leaves it open (trait 0); the first step draws it (+1 answers doubly, -1 not at all) and keeps it.
    """

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """As the analytic world; ``trait`` says who answers."""
        state = super().initial(n, rng, **who)
        return replace(state, inner={**state.inner, "trait": np.full(n, float(who.get("trait", 0.0)))})

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """As the analytic world, not knowing who answers."""
        state = super().observe(ecg, patient, given)
        return replace(state, inner={**state.inner, "trait": np.zeros(1)})

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """As the analytic world, with each row's own answer."""
        generators = row_generators(rng, len(state))
        samples = np.array([1.0 if g.random() < 0.5 else -1.0 for g in generators])
        trait = np.where(state.inner["trait"] == 0, samples, state.inner["trait"])
        state = replace(state, inner={**state.inner, "trait": trait})
        return super().step(state, treatments, generators)

    def added(self, state: State) -> np.ndarray:
        """What the doses add: twice, or nothing."""
        return super().added(state) * (1 + state.inner.get("trait", np.zeros(len(state))))[:, None]


def make_lock(**kwargs) -> gym.Env:
    named = {"world": LockWorld(), "risk": AnalyticRisk(), "drugs": ["placebo", "magnesium"],
             "scenario": "healthy_volunteer"}  # fmt: skip
    return gym.make("ecg_gym:ECGIntervention-v0", **{**named, **kwargs})
