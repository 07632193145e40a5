"""``WorldModel``: ECG-WM as a World. It starts from a real strip and says what an hour and a treatment make of it.

    observe:  strip -> intervals, findings; its latent and McSharry's model of this patient when they are needed
    step:     doses, exposure, earlier looks -> the next intervals and findings, or death
    ecg:      intervals -> EPK anchor -> diffusion in latent space -> codec -> strip, when somebody looks

What is carried from step to step is what a look would say; every strip is drawn from the first one, so that drawing
errors do not add up, and shows what was said. Deaths are learned from virtual trials in which they were rare: ask the
virtual patient for hazards, and the risk model for a judgement. Research only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg_gym import checkpoint
from ecg_gym import look as reading
from ecg_gym.columns import NONE, Doses, Patients, different, dose_codes
from ecg_gym.core import (
    ECG,
    INDEPENDENT_LEADS,
    LEADS,
    MODEL_SAMPLES,
    Administration,
    Patient,
    Randomness,
    State,
    Treatment,
    independent_from_leads,
    limb_from_independent,
    row_streams,
)
from ecg_gym.look import READ
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.physiology import epk_traces
from ecg_gym.risk.classifier import PACKAGED as RISK
from ecg_gym.risk.classifier import Findings
from ecg_gym.risk.classifier import reader as classifier
from ecg_gym.streams import Streams
from ecg_gym.virtual_patient.world import pressure_of, rr_sd_of
from ecg_gym.waveform import to_model_grid
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model import average_people
from ecg_gym.world_model.backends import check_backend
from ecg_gym.world_model.codecs import Codec, load_codec
from ecg_gym.world_model.conditioning import (
    OBSERVED,
    Look,
    can_end,
    complete,
    feature_names,
    modulations_of,
    observe_strips,
    people,
    raw_features,
    render_features,
    render_names,
    unread,
)
from ecg_gym.world_model.diffusion import SAMPLERS
from ecg_gym.world_model.drawing import WAYS, Drawing, as_rows, chunks
from ecg_gym.world_model.first_strip import FirstStrip
from ecg_gym.world_model.forecaster import KIND, DenoiserInputs, Forecaster
from ecg_gym.world_model.interval_model import Chance, Emission, base_of
from ecg_gym.world_model.memory import nothing, remembered
from ecg_gym.world_model.student import WEIGHTS as STUDENT
from ecg_gym.world_model.student import Student, load_student

WEIGHTS, CODEC = "world_model.safetensors", "vae.safetensors"
CHUNK = 1024  # rows of intervals said at once
REFERENCES = ("first", "last")
FIDELITIES = ("vitals", "strip")
TRAINED_HOURS = (1.0, 4.0)  # of weights that do not say [h]
STRIP_S = 10.0
KEY_SHIFT = np.uint64(11)  # a key is 53 bits, which any tool reads
EVERY_LEAD = np.zeros(len(INDEPENDENT_LEADS), bool)  # none is missing
Believed = Callable[[np.ndarray, np.ndarray], np.ndarray]  # exposures (B, D) before and after -> the one to be told


@dataclass(frozen=True)
class WorldModel:
    """A World over trained weights; make one with :meth:`load`. Its knobs are fields: ``replace`` turns them."""

    vae: Codec
    forecaster: Forecaster
    sha256: str = ""  # of the world model's weights
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what the checkpoint says about itself
    student: Student | None = None  # the few-step sampler distilled from these weights, for sampler="student"
    reader: Findings | None = None  # reads the findings of strips that are recorded; None knows of none
    dt_hours: float = 1.0  # clinical time of one step [h]; trained on 1, 2 and 4
    sampler: str = "dpm++"
    steps: int | None = None  # of the sampler; None is its own choice
    epk_scale: float = 1.0  # strength of the EPK anchor: 0 switches it off, 1 is as trained
    guidance_scale: float = 0.0  # gamma of Eq. 8; the paper samples without
    reference: str = "first"  # the strip that is redrawn: the patient's "first", or the "last" as in the paper
    believed: Believed | None = None  # changes what pharmacology says, to see what a wrong prior does
    backend: str = "eager"  # or "bf16", "compile", "openvino"; see ecg_gym.world_model.backends
    deterministic: str | None = None  # "batch": a row's bits do not depend on its batch (slower for few rows)
    fidelity: str = "vitals"  # what is judged: what is said of a strip, or read off it ("strip", the paper)
    draws: str = "warp"  # how strips are drawn: the patient's own beats, moved; or "diffusion", as in the paper
    corrections: int = 1  # times a strip that does not show what was said is drawn again

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, object, tuple[object, ...]], ...] = (
            ("sampler", self.sampler, (*SAMPLERS, "student")),
            ("reference", self.reference, REFERENCES),
            ("deterministic", self.deterministic, (None, "batch")),
            ("fidelity", self.fidelity, FIDELITIES),
            ("draws", self.draws, WAYS),
        )
        for what, value, names in choices:
            if value not in names:
                raise ValueError(f"{what} is {value!r}; expected one of {names}; check the spelling")
        check_backend(self.backend)
        shortest, longest = self.trained_hours
        if self.dt_hours > 0 and not shortest <= self.dt_hours <= longest:
            warnings.warn(
                f"dt_hours is {self.dt_hours:g}; these weights were trained on steps of {shortest:.2g} to {longest:g} "
                "h and answer beyond that without having learned it; pass dt_hours=1, or use the virtual patient "
                "(world='oracle')",
                stacklevel=3,
            )
        if self.sampler == "student":
            if self.student is None:
                raise ValueError(
                    f"sampler is 'student', but these weights ({self.sha256[:12]}) have none beside them; expected a "
                    f"file {STUDENT}; make it with `ecg-gym train student`, or use sampler='dpm++'"
                )
            self.student.levels(self.steps)
            if self.guidance_scale:
                raise ValueError(
                    f"guidance_scale is {self.guidance_scale} with the student; expected 0: its answers are strides, "
                    "not estimates to be tilted; use sampler='dpm++'"
                )
        if not self.dt_hours > 0 or not 0 <= self.epk_scale <= 1 or self.guidance_scale < 0:
            raise ValueError(
                f"dt_hours, epk_scale, guidance_scale are {self.dt_hours}, {self.epk_scale}, {self.guidance_scale}; "
                "expected > 0, within [0, 1], and >= 0; leave out what you do not want to turn"
            )

    @property
    def trained_hours(self) -> tuple[float, float]:
        """Shortest and longest step of the trials that the weights learned from [h], by what they say of themselves."""
        steps = self._trials.get("dt_hours") or TRAINED_HOURS
        return float(min(steps)), float(max(steps))

    @property
    def shortest_step_hours(self) -> float:
        """The shortest step that the weights learned [h]; shorter steps of an env become this long."""
        return self.trained_hours[0]

    @property
    def _trials(self) -> Mapping[str, Any]:
        """The design of the trials that the weights learned from; empty where they do not say."""
        return (self.metadata.get("training") or {}).get("design") or {}

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Channels and columns of :meth:`latents`."""
        return self.vae.latent_shape

    @cached_property
    def drawing(self) -> Drawing:
        """What draws the strips of this world's states."""
        return Drawing(
            self.vae, self.forecaster, self.student, self.sampler, self.steps, self.epk_scale, self.guidance_scale,
            self.reference, self.backend, self.deterministic, self.draws, self.corrections,
        )  # fmt: skip

    @property
    def emits(self) -> bool:
        """Whether futures are judged by what a step says: not in the paper's form, and not with fidelity="strip"."""
        return self.forecaster.prognosis is not None and self.fidelity == "vitals"

    @classmethod
    def load(cls, path: str | Path | None = None, **knobs: Any) -> WorldModel:
        """The world of the packaged weights, of a folder of weights, or of one file with its codec beside it.

        ``knobs`` are fields of this class; ``None`` leaves a default. Raises ValueError if weights are absent, damaged,
        or were trained in the latent space of another codec.
        """
        weights, codec = _locate(path)
        stored = checkpoint.load(weights, KIND, checkpoint.manifest().get(WEIGHTS) if path is None else None)
        if stored.metadata.get("vae_sha256") != checkpoint.sha256(codec):
            raise ValueError(
                f"{weights} was trained with the codec {str(stored.metadata.get('vae_sha256'))[:12]}...; expected "
                f"{codec}, {checkpoint.sha256(codec)[:12]}...; keep both files together, or retrain with "
                "`ecg-gym train world-model`"
            )
        forecaster = checkpoint.build(Forecaster.from_config, stored)
        checkpoint.restore(forecaster, stored)
        turned = {name: value for name, value in knobs.items() if value is not None}
        beside = weights.with_name(STUDENT)
        student = None
        if beside.is_file():
            try:
                student = load_student(beside, forecaster, stored.sha256)
            except ValueError:  # it learned from other weights: no reason to refuse these
                if turned.get("sampler") == "student":
                    raise
        if forecaster.prognosis is None:  # the paper's kind: nothing is said of a strip before it is drawn
            turned = {"fidelity": "strip", "draws": "diffusion", **turned}
        own = weights.with_name(RISK)
        reader = classifier(str(own) if path is not None and own.is_file() else "")
        return cls(load_codec(codec), forecaster, stored.sha256, stored.metadata, student, reader, **turned)

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` virtual people, seen through the codec. ``who`` narrows the population as in the virtual patient."""
        from ecg_gym.virtual_patient import VirtualPatient

        return self._begin_unseen(VirtualPatient(dt_hours=self.dt_hours).initial(n, rng, **who))

    def begin(self, people: Patients, words: Sequence[Mapping[str, Any]], streams: Streams) -> State:
        """These virtual people, each with the words of ``initial`` that hold for them."""
        from ecg_gym.virtual_patient import VirtualPatient

        return self._begin_unseen(VirtualPatient(dt_hours=self.dt_hours).begin(people, words, streams))

    def observe(self, ecg: ECG, patient: Patient, doses: Sequence[Administration] = ()) -> State:
        """A batch of one from a strip (at any rate; the best 10 s are taken) and the doses already taken.

        Leads that are ``ecg.missing`` are not read: intervals are measured in those that were recorded, and the codec
        fills in the others for the findings and for drawing. The strip of the state has been through the codec, so that
        it can be compared with those that are drawn later.
        """
        strip = to_model_grid(ecg).signal.reshape(1, len(LEADS), MODEL_SAMPLES)
        missing = np.array([[lead in ecg.missing for lead in INDEPENDENT_LEADS]])
        return self._begin(strip, (patient,), (tuple(doses),), np.zeros(1), np.ones(1, bool), missing)

    def start_from(self, state: State) -> State:
        """The same people at the same hour, out of the strips of another world's state, each seen through the codec."""
        missing = np.zeros((len(state), len(INDEPENDENT_LEADS)), bool)
        return self._begin(
            state.ecg, state.patients, state.doses, state.hours, state.alive, missing, pressure_of(state)
        )

    def assimilate(self, state: State, ecg: ECG, map_mmhg: np.ndarray | None = None) -> State:
        """The same people at the same hour, last seen on these strips; what was seen before stays known.

        ``ecg`` has one strip per row, or one for all. A state may have been stepped here (then what the step said gives
        way to what was seen), or its ``hours`` and ``taken`` may have been moved on to those of the strip (then the
        look before joins what is remembered). Leads that are ``ecg.missing`` are not read; ``map_mmhg (B,)`` is the
        mean arterial pressure by a cuff, if one was taken. Rows that are not alive stay as they are.
        """
        strips = np.asarray(to_model_grid(ecg).signal, np.float32).reshape(-1, len(LEADS), MODEL_SAMPLES)
        if len(strips) not in (1, len(state)):
            raise ValueError(f"{len(strips)} strips for {len(state)} rows; expected one each, or one for all")
        strips = np.broadcast_to(strips, (len(state), *strips.shape[1:]))
        missing = np.tile([lead in ecg.missing for lead in INDEPENDENT_LEADS], (len(state), 1))
        view = self._read(strips, missing, state.patients, state.doses, np.asarray(state.hours, float), map_mmhg)
        now, last = _look(view), _last(state)
        earlier = last.hours < now.hours
        memory = remembered(state.inner["memory"], _baseline(state), last, now)
        inner = {**state.inner, **view, "memory": np.where(earlier[:, None], memory, state.inner["memory"])}
        return state.replaced(ecg=self.drawing, inner=inner).where(state.alive, state)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """A sample of each row ``dt_hours`` later, or each row's own. All of a row's noise comes from its own stream,
        equally much whatever is given, so that common random numbers compare treatments.
        """
        if len(treatments) != len(state):
            raise ValueError(
                f"{len(treatments)} treatments for {len(state)} rows; expected one per row; pass WATCH to wait"
            )
        if unknown := [str(treatment) for treatment in different(treatments) if not self.knows(treatment)]:
            raise ValueError(
                f"{unknown[0]} is a procedure; expected drugs: these weights learned of no procedure; offer what the "
                "world's knows() allows, train weights with this version, or use the virtual patient (world='oracle')"
            )
        streams, patients, codes = row_streams(rng, len(state)), Patients.of(state.patients), dose_codes(treatments)
        doses = Doses.of(state.doses).after(state.hours, np.where(state.alive[:, None], codes, NONE))
        dt = np.full(len(state), self.dt_hours) if state.dt_hours is None else state.dt_hours
        hours = np.where(state.alive, state.hours + dt, state.hours)
        inner = {name: value.copy() for name, value in state.inner.items()}
        alive, living = state.alive.copy(), np.flatnonzero(state.alive)
        if len(living):
            before = state[living]
            later = self._next(before, doses.take(living), hours[living], streams.take(living))
            for name, values in later.inner.items():
                inner[name][living] = values
            alive[living] = later.alive
        strips: Any = self.drawing  # drawn when somebody looks
        return State(strips, patients, doses, hours, alive, inner, state.dt_hours)

    def knows(self, treatment: Treatment) -> bool:
        """Whether the weights learned from trials of its kind: all drugs, and procedures if the trials had any."""
        return self._trials.get("procedures", 0) > 0 or all(
            dose.drug in FORMULARY.medicines for dose in treatment.doses
        )

    def pressure(self, state: State) -> np.ndarray:
        """The mean arterial pressure ``(B,)`` [mmHg] that was measured or said; NaN where the weights know of none."""
        return np.asarray(state.inner["pressure"], float)

    def vitals(
        self, state: State, recording: tuple[Any, Sequence[tuple[str, ...]]] | None = None, findings: bool = True
    ) -> reading.Look:
        """What a measurement of each row's strip would say, without drawing it.

        ``recording`` is a tier that spoils what is seen, and the leads that are off in each row: errors that such views
        add to a clean reading of the virtual patient. Without ``findings`` nobody judges them. Weights whose interval
        model has no head for findings say those of the strip that was recorded last.
        """
        look = _look_of(state.inner["observed"], state.inner["findings"] if findings else None, state.inner["pressure"])
        if recording is None or recording[0].clear:
            return look
        from ecg_gym.virtual_patient.blur import blur
        from ecg_gym.virtual_patient.readings import views_of

        return blur(look, views_of(*recording), state.inner["key"])

    def first_look(self, state: State) -> reading.Look:
        """What was read off each person's first strip."""
        return _look_of(
            state.inner["baseline_observed"], state.inner["baseline_findings"], state.inner["baseline_pressure"]
        )

    def latents(self, state: State) -> np.ndarray:
        """The latents ``(B, C, 128)`` of the strips of a state."""
        return self.drawing.latents(state)

    def _next(self, before: State, doses: Doses, hours: np.ndarray, streams: Streams) -> State:
        """The living rows of a step, with the inner values that change."""
        exposure, ending = average_people.follow(doses, before.patients, before.hours, hours)
        last, chance = _last(before), Chance.of(streams)
        believed = exposure if self.believed is None else self.believed(last.exposure, exposure)
        later = before.replaced(ecg=self.drawing, doses=doses, hours=hours)
        inner = {**later.inner, "exposure": exposure, "hours": hours, "key": chance.key}
        inner["record"] = np.full(len(hours), None, object)
        if self.forecaster.prognosis is not None:
            forecast = self._foretell(before, believed, hours, ending * can_end(last.observed), chance)
            inner["observed"] = np.where(forecast.survives[:, None], forecast.observed, np.nan).astype(np.float32)
            inner["findings"] = np.where(forecast.survives[:, None], forecast.findings, np.nan).astype(np.float32)
            inner["pressure"] = np.where(forecast.survives, forecast.pressure, np.nan)
            later = later.replaced(alive=forecast.survives, inner=inner)
            if self.reference == "last":
                later = self._chained(before, later)
        else:
            later = self._papers(before, later.replaced(inner=inner), believed)
        now = _look(later.inner)
        return later.replaced(
            inner={**later.inner, "memory": remembered(before.inner["memory"], _baseline(before), last, now)}
        )

    def _foretell(
        self, before: State, exposure: np.ndarray, hours: np.ndarray, ending: np.ndarray, chance: Chance
    ) -> Emission:
        """What the next look says, one draw per row."""
        assert self.forecaster.prognosis is not None
        assert self.forecaster.outlook is not None
        last = _last(before)
        raw = raw_features(
            people(before.patients), _baseline(before), last, before.inner["memory"], exposure, hours, ending
        )  # fmt: skip
        raw, names = complete(raw, feature_names())
        condition = torch.from_numpy(self.forecaster.outlook(raw, names))
        base = torch.from_numpy(base_of(raw, names).astype(np.float32))
        cuff = raw[:, names.index("expected_from_before.map_mmhg")]
        parts = [
            self.forecaster.prognosis.draw(condition[rows], base[rows], chance[rows], last.findings[rows], cuff[rows])
            for rows in chunks(len(raw), CHUNK, self.deterministic)
        ]
        columns = ([getattr(part, f.name) for part in parts] for f in fields(Emission))
        return Emission(*(np.concatenate(column)[: len(raw)] for column in columns))

    def _chained(self, before: State, later: State) -> State:
        """A step whose strips are drawn from the last ones, and so at once."""
        drawing, last = self.drawing, before.inner["record"]
        strips = drawing.whole(last)
        observed = observe_strips(strips)
        inner = {
            **later.inner, "baseline": last, "baseline_observed": observed, "baseline_hours": before.inner["hours"],
            "baseline_exposure": before.inner["exposure"],
        }  # fmt: skip
        beats = np.flatnonzero(later.alive)
        if len(beats):
            picture = drawing.complete(drawing.once(later.replaced(inner=inner)[beats], inner["observed"][beats]))
            later.inner["record"][beats] = _records(picture.strips, picture.latents)
        return later

    @torch.inference_mode()
    def _papers(self, before: State, later: State, exposure: np.ndarray) -> State:
        """A step of the paper's form: a strip is drawn, and what it says is read off it."""
        drawing, records, n = self.drawing, before.inner["record"], len(before)
        look = _last(before)
        reference, strips = (drawing.encode_records(records), drawing.reconstruct(records))
        missing = np.stack([record.missing for record in records])
        baseline = _baseline(before)
        if self.reference == "first":
            first = before.inner["baseline"]
            look, reference, missing = (
                baseline,
                drawing.encode_records(first),
                np.stack([r.missing for r in first]),
            )
        epk = epk_traces(
            strips, as_rows(_last(before).observed), modulations_of(before.inner["exposure"]), modulations_of(exposure)
        )
        strength = (self.epk_scale * ~epk.abstained).astype(np.float32)
        raw = render_features(people(before.patients), look, exposure, later.hours, missing, strength, None)
        condition = self.forecaster.features(raw, render_names(has_targets=False))
        columns = (reference, condition, epk.trace_mv, strength)
        inputs = DenoiserInputs(*(torch.from_numpy(np.asarray(c, dtype=np.float32)) for c in columns))
        latent = drawing.sample(inputs, [np.random.default_rng(int(key)) for key in later.inner["key"]])
        decoded = drawing.decode(latent)
        inner = dict(later.inner)
        inner["record"] = _records(decoded, latent.numpy())
        inner["observed"], inner["findings"] = observe_strips(decoded).astype(np.float32), self._findings(decoded)
        inner["pressure"] = np.full(n, np.nan)
        return later.replaced(inner=inner, alive=np.ones(n, bool))

    def _findings(self, strips: np.ndarray) -> np.ndarray:
        """Probabilities ``(B, 17)`` float32 of the findings of strips ``(B, 12, 1024)`` [mV]; NaN without a reader."""
        if self.reader is None:
            return unread(len(strips))
        return self.reader.probabilities(strips, self.deterministic).astype(np.float32)

    def _read(
        self, strips: np.ndarray, missing: np.ndarray, patients: Sequence[Patient],
        histories: Sequence[tuple[Administration, ...]], hours: np.ndarray, pressure: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """What is kept of strips that were recorded, ``(B, 12, 1024)`` [mV] with ``missing (B, 8)`` leads."""
        records = np.empty(len(strips), object)
        for i, (strip, lacking) in enumerate(zip(np.asarray(strips, np.float32), missing)):
            records[i] = FirstStrip(strip, np.asarray(lacking))
        whole = self.drawing.whole(records) if len(records) else strips
        recorded = _recorded(np.asarray(strips, np.float32), missing)
        words = [np.frombuffer(strip.tobytes()[:4096], np.uint64) for strip in recorded]
        return {
            "observed": observe_strips(recorded).astype(np.float32),
            "findings": self._findings(whole),
            "exposure": average_people.follow(histories, patients, hours, hours)[0],
            "hours": np.array(hours, dtype=float),
            "pressure": np.full(len(strips), np.nan) if pressure is None else np.array(pressure, float),
            "key": np.array([np.bitwise_xor.reduce(word) for word in words], np.uint64) >> KEY_SHIFT,
            "record": records,
        }

    def _begin_unseen(self, virtual: State) -> State:
        """Virtual people as :meth:`start_from` has them, from what a look at their first strips would say: nothing is
        drawn before somebody looks. Where strips are judged, they are drawn and measured.
        """
        from ecg_gym.virtual_patient import VirtualPatient

        if not self.emits:
            return self.start_from(virtual)
        n, hours = len(virtual), np.asarray(virtual.hours, float)
        look = VirtualPatient().vitals(virtual, findings=self.reader is not None)
        records = np.empty(n, object)
        records[:] = [FirstStrip(None, EVERY_LEAD, origin=(virtual, row)) for row in range(n)]
        level = {name: look[name] for name in READ}
        level["rr_sd_ms"] = np.where(np.isfinite(look["hr_bpm"]), rr_sd_of(virtual), np.nan)
        level["jtpeak_ms"] = look["jtpeakc_ms"] * (60 / look["hr_bpm"]) ** JTPEAK_EXPONENT
        observed = np.stack([level[name] for name in OBSERVED], axis=1).astype(np.float32)
        view = {
            "observed": observed,
            "findings": unread(n) if self.reader is None else look.probabilities.T.astype(np.float32),
            "exposure": average_people.follow(virtual.doses, virtual.patients, hours, hours)[0],
            "hours": hours.copy(),
            "pressure": look["map_mmhg"].copy(),
            "key": virtual.inner["strip"] >> KEY_SHIFT,
            "record": records,
        }
        return self._first(virtual, view)

    def _begin(
        self,
        strips: np.ndarray,  # (B, 12, 1024) [mV]
        patients: Sequence[Patient],
        histories: Sequence[tuple[Administration, ...]],
        hours: np.ndarray,
        alive: np.ndarray,
        missing: np.ndarray,  # (B, 8) bool
        pressure: np.ndarray | None = None,  # (B,) [mmHg]
    ) -> State:
        """People first seen on these strips: measured as they are, shown through the codec when somebody looks."""
        view = self._read(strips, missing, patients, histories, np.asarray(hours, float), pressure)
        who = State(strips, Patients.of(patients), Doses.of(histories), view["hours"], np.array(alive, bool), {})
        return self._first(who, view)

    def _first(self, who: State, view: Mapping[str, np.ndarray]) -> State:
        """The state of people who have been seen once."""
        baseline = {
            f"baseline_{name}": view[name].copy() for name in ("observed", "findings", "exposure", "hours", "pressure")
        }
        inner = {**view, **baseline, "baseline": view["record"].copy(), "memory": nothing(len(who))}
        draw: Any = self.drawing
        return State(
            draw, Patients.of(who.patients), Doses.of(who.doses), view["hours"].copy(), np.array(who.alive, bool),
            inner, who.dt_hours,
        )  # fmt: skip


def _recorded(strips: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Strips ``(B, 12, 1024)`` [mV] with those of the eight leads flat that are ``missing (B, 8)``: what a lead filled
    in by a network shows is no measurement.
    """
    lacking = missing.any(axis=1)
    if not lacking.any():
        return strips
    leads = np.where(missing[lacking][:, :, None], 0.0, independent_from_leads(np.asarray(strips)[lacking]))
    strips = np.array(strips)
    strips[lacking] = limb_from_independent(leads)
    return strips


def _look(inner: Mapping[str, np.ndarray], of: str = "") -> Look:
    return Look(*(inner[f"{of}{name}"] for name in ("observed", "exposure", "hours", "findings", "pressure")))


def _baseline(state: State) -> Look:
    return _look(state.inner, "baseline_")


def _last(state: State) -> Look:
    return _look(state.inner)


def _records(strips: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """Drawn strips as such that later ones begin at ``(B,)``."""
    records = np.empty(len(strips), object)
    for i, (strip, latent) in enumerate(zip(strips, latents)):
        records[i] = FirstStrip(strip, np.zeros(len(INDEPENDENT_LEADS), bool), np.asarray(latent, np.float32))
        records[i].view = strip
    return records


def _look_of(observed: np.ndarray, findings: np.ndarray | None, pressure: np.ndarray) -> reading.Look:
    """Measurements ``(B, len(OBSERVED))``, findings ``(B, 17)`` and pressure ``(B,)`` [mmHg] as a reading."""
    look = reading.Look.empty(len(observed))
    for i, name in enumerate(READ):
        if name in OBSERVED:
            look.intervals[i] = observed[:, OBSERVED.index(name)]
    look.intervals[READ.index("map_mmhg")] = pressure
    hr = look["hr_bpm"]
    beats = np.isfinite(hr)
    look.intervals[READ.index("n_beats")] = np.where(beats, np.maximum(np.rint(np.nan_to_num(hr) * STRIP_S / 60), 2), 0)
    for name in ("p_present", "regular"):
        look.intervals[READ.index(name)] = np.nan_to_num(look[name])
    if findings is not None:
        look.probabilities[:] = np.asarray(findings, float).T
    return look


def save(
    path: str | Path, forecaster: Forecaster, vae_sha256: str, *,
    data: Mapping[str, Any], metrics: Mapping[str, Any], **more: Any,
) -> str:  # fmt: skip
    """Write a forecaster as a checkpoint that remembers its codec; returns the SHA-256 of the file."""
    tensors = forecaster.state_dict()
    described = forecaster.describe()
    return checkpoint.save(path, KIND, tensors, described, data=data, metrics=metrics, vae_sha256=vae_sha256, **more)


def _locate(path: str | Path | None) -> tuple[Path, Path]:
    """The files of the world model and of its codec."""
    packaged = checkpoint.ASSETS / CODEC
    if path is None:
        weights, codec = checkpoint.ASSETS / WEIGHTS, packaged
    else:
        path = Path(path)
        weights = path / WEIGHTS if path.is_dir() else path
        codec = weights.with_name(CODEC) if weights.with_name(CODEC).is_file() else packaged
    for file, name in ((weights, "world-model"), (codec, "vae")):
        if not file.is_file():
            raise ValueError(
                f"no weights at {file}; expected a trained {name.replace('-', ' ')}; make them with "
                f"`ecg-gym train {name}` or pass the folder that holds them"
            )
    return weights, codec
