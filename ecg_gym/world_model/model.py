"""``WorldModel``: ECG-WM as a World. It starts from a real strip and draws what an hour and a treatment make of it.

    observe:  strip -> codec -> latent, intervals, McSharry's model of this patient
    step:     doses, exposure, intervals -> prognosis: the next intervals, or death
              prognosis -> EPK anchor with those intervals -> diffusion in latent space -> codec -> strip

What is carried from step to step is a page of intervals; every strip is drawn anew from the first one, so that drawing
errors do not add up. Deaths are learned from virtual trials in which they were rare: ask the virtual patient for
hazards, and the risk model for a judgement. Research only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

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
    row_generators,
)
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.physiology import TARGET_INTERVALS, LeadFit, anchor_traces, draw_beats, epk_traces, fit_leads
from ecg_gym.physiology.multilead import join
from ecg_gym.waveform import to_model_grid
from ecg_gym.world_model import checkpoint
from ecg_gym.world_model.backends import accelerated, check_backend
from ecg_gym.world_model.codecs import Codec, load_codec
from ecg_gym.world_model.conditioning import (
    OBSERVED,
    Look,
    boards,
    can_end,
    complete,
    endings,
    feature_names,
    modulations_of,
    observe_strips,
    people,
    raw_features,
    render_features,
    render_names,
)
from ecg_gym.world_model.diffusion import SAMPLERS, Noise
from ecg_gym.world_model.forecaster import KIND, Forecaster, Known
from ecg_gym.world_model.interval_model import Chance, base_of
from ecg_gym.world_model.student import WEIGHTS as STUDENT
from ecg_gym.world_model.student import Student, load_student

WEIGHTS, CODEC = "world_model.safetensors", "vae.safetensors"
CHUNK = 64  # rows at once: larger ones fall out of the cache
MICRO_BATCH = 8  # rows at once with deterministic="batch"
REFERENCES = ("first", "last")
TRAINED_HOURS = (1.0, 4.0)  # shortest and longest step of the trials that the weights learned from [h]
Believed = Callable[[np.ndarray, np.ndarray], np.ndarray]  # boards (B, D) before and after -> the one to be told


@dataclass(frozen=True)
class WorldModel:
    """A World over trained weights; make one with :meth:`load`. Its knobs are fields: ``replace`` turns them."""

    vae: Codec
    forecaster: Forecaster
    sha256: str = ""  # of the world model's weights
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what the checkpoint says about itself
    student: Student | None = None  # the few-step sampler distilled from these weights, for sampler="student"
    dt_hours: float = 1.0  # clinical time of one step [h]; trained on 1, 2 and 4
    sampler: str = "dpm++"
    steps: int | None = None  # of the sampler; None is its own choice
    epk_scale: float = 1.0  # strength of the EPK anchor: 0 switches it off, 1 is as trained
    guidance_scale: float = 0.0  # gamma of Eq. 8; the paper samples without
    reference: str = "first"  # the strip that is redrawn: the patient's "first", or the "last" as in the paper
    believed: Believed | None = None  # changes what pharmacology says, to see what a wrong prior does
    backend: str = "eager"  # or "bf16", "compile", "openvino"; see ecg_gym.world_model.backends
    deterministic: str | None = None  # "batch": a row's bits do not depend on its batch (slower for few rows)
    shortest_step_hours: ClassVar[float] = TRAINED_HOURS[0]  # [h]; shorter steps of an env become this long

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, object, tuple[object, ...]], ...] = (
            ("sampler", self.sampler, (*SAMPLERS, "student")),
            ("reference", self.reference, REFERENCES),
            ("deterministic", self.deterministic, (None, "batch")),
        )
        for what, value, known in choices:
            if value not in known:
                raise ValueError(f"{what} is {value!r}; expected one of {known}; check the spelling")
        check_backend(self.backend)
        if self.dt_hours > 0 and not TRAINED_HOURS[0] <= self.dt_hours <= TRAINED_HOURS[1]:
            warnings.warn(
                f"dt_hours is {self.dt_hours:g}; these weights were trained on steps of {TRAINED_HOURS[0]:g} to "
                f"{TRAINED_HOURS[1]:g} h and answer beyond that without having learned it; pass dt_hours=1, or use the "
                "virtual patient (world='oracle')",
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
    def latent_shape(self) -> tuple[int, int]:
        """Channels and columns of ``state.inner["latent"]``."""
        return self.vae.latent_shape

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
        return cls(load_codec(codec), forecaster, stored.sha256, stored.metadata, student, **turned)

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` virtual people, seen through the codec. ``who`` narrows the population as in the virtual patient."""
        from ecg_gym.virtual_patient import VirtualPatient

        return self.start_from(VirtualPatient(dt_hours=self.dt_hours).initial(n, rng, **who))

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """A batch of one from a strip (at any rate; the best 10 s are taken) and the doses already taken.

        Leads that are ``ecg.missing`` are not read; the codec fills them in from the others. The strip of the state has
        been through the codec, so that it can be compared with those that ``step`` draws.
        """
        strip = to_model_grid(ecg).signal.reshape(1, len(LEADS), MODEL_SAMPLES)
        missing = np.array([[lead in ecg.missing for lead in INDEPENDENT_LEADS]])
        return self._begin(strip, (patient,), (tuple(given),), np.zeros(1), np.ones(1, bool), missing)

    def start_from(self, state: State) -> State:
        """The same people at the same hour, out of the strips of another world's state, each seen through the codec."""
        missing = np.zeros((len(state), len(INDEPENDENT_LEADS)), bool)
        return self._begin(state.ecg, state.patients, state.taken, state.hours, state.alive, missing)

    def assimilate(self, state: State, ecg: ECG) -> State:
        """The same people at the same hour, last seen on these strips; what was seen first stays as it is.

        ``ecg`` has one strip per row, or one for all. The prognosis reads the first strip and the last: with this, the
        last may be a real one instead of the model's own drawing. Leads that are ``ecg.missing`` are not read. Rows
        that are not alive stay as they are.
        """
        strips = np.asarray(to_model_grid(ecg).signal, np.float32).reshape(-1, len(LEADS), MODEL_SAMPLES)
        if len(strips) not in (1, len(state)):
            raise ValueError(f"{len(strips)} strips for {len(state)} rows; expected one each, or one for all")
        strips = np.broadcast_to(strips, (len(state), *strips.shape[1:]))
        missing = np.tile([lead in ecg.missing for lead in INDEPENDENT_LEADS], (len(state), 1))
        latent = self._encode(strips, ~missing)
        seen = self._decode(latent)
        observed = observe_strips(seen if missing.any() else strips)  # leads that are missing cannot be measured
        inner = {**state.inner, "latent": latent.numpy().astype(np.float32), "observed": observed}
        return replace(state, ecg=seen, inner=inner).where(state.alive, state)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """A sample of each row ``dt_hours`` later. All of a row's noise comes from its own generator."""
        if len(treatments) != len(state):
            raise ValueError(
                f"{len(treatments)} treatments for {len(state)} rows; expected one per row; pass WATCH to wait"
            )
        if unknown := [str(treatment) for treatment in dict.fromkeys(treatments) if not self.knows(treatment)]:
            raise ValueError(
                f"{unknown[0]} is a procedure; expected drugs, of which the learned world learned; offer what its "
                "knows() allows, or use the virtual patient (world='oracle')"
            )
        generators = row_generators(rng, len(state))
        taken = tuple(
            (*past, *(Administration(float(hours), dose) for dose in treatment.doses)) if alive else past
            for past, hours, treatment, alive in zip(state.taken, state.hours, treatments, state.alive)
        )
        later = replace(
            state,
            ecg=state.ecg.copy(),
            taken=taken,
            hours=np.where(state.alive, state.hours + self._paces(state), state.hours),
            alive=state.alive.copy(),
            inner={name: value.copy() for name, value in state.inner.items()},
        )
        living = np.flatnonzero(state.alive)
        if len(living) == 0:
            return later
        mine = [generators[i] for i in living]
        inputs = self.step_inputs(state[living], later[living], mine)
        latent = self._draw(inputs.known, mine)
        strips = self._decode(latent)
        observed = observe_strips(strips) if inputs.target_intervals is None else inputs.target_intervals
        later.inner["latent"][living] = latent.numpy()
        later.inner["observed"][living] = np.where(inputs.survives[:, None], observed, np.nan)
        later.ecg[living] = strips * inputs.survives[:, None, None]  # nobody's heart beats after death
        later.alive[living] = inputs.survives
        return later

    def knows(self, treatment: Treatment) -> bool:
        """Whether it is made of drugs: procedures (a shock, a pacemaker, dialysis) are not in what was learned from."""
        return all(dose.drug in FORMULARY.medicines for dose in treatment.doses)

    def _paces(self, state: State) -> float | np.ndarray:
        """Hours of each row's step."""
        return self.dt_hours if state.dt_hours is None else state.dt_hours

    @torch.inference_mode()
    def step_inputs(self, before: State, after: State, generators: Sequence[np.random.Generator]) -> StepInputs:
        """What the networks are told of each row of a step: ``after`` has the doses and the hour, not yet the strip.

        Here the next intervals are drawn, and who survives; each row draws as often from its generator whatever is
        given, so that common random numbers compare treatments.
        """
        person = people(before.patients)
        last = self._look(before)
        exposure, ending = self._pharmacology(before, after)
        ending = ending * can_end(last.observed)
        if self.believed is not None:
            exposure = self.believed(last.board, exposure)
        home = Look(*(before.inner[name] for name in ("home_observed", "home_board", "home_hours")))
        reference = home
        latent, missing, fits = (before.inner[name] for name in ("reference", "missing", "fit"))
        if self.reference == "last":
            latent, missing = before.inner["latent"], missing & (before.hours == home.hours)[:, None]
            reference, fits = self._again(before, last)
        chance, own = Chance.of(generators), [np.random.default_rng(g.integers(2**63)) for g in generators]
        if self.forecaster.prognosis is None:
            target_intervals, survives = None, np.ones(len(before), bool)
            prior, strength = self._paper_prior(before, last, exposure)
        else:
            target_intervals, survives = self._foretell(person, home, last, exposure, after.hours, ending, chance)
            prior, strength = self._prior(fits, target_intervals, own)
        raw = render_features(person, reference, exposure, after.hours, missing, strength, target_intervals)
        condition = self.forecaster.features(raw, render_names(target_intervals is not None))
        columns = (latent, condition, prior, strength)
        known = Known(*(torch.from_numpy(np.asarray(c, dtype=np.float32)) for c in columns))
        return StepInputs(known, target_intervals, survives)

    def _foretell(
        self, person: np.ndarray, home: Look, last: Look, exposure: np.ndarray, hours: np.ndarray, ending: np.ndarray,
        chance: Chance,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """The next measurements ``(B, len(OBSERVED))``, one draw per row, and who lives to see them ``(B,)``."""
        assert self.forecaster.prognosis is not None
        assert self.forecaster.outlook is not None
        raw, names = complete(raw_features(person, home, last, exposure, hours, ending), feature_names())
        condition = torch.from_numpy(self.forecaster.outlook(raw, names))
        base = torch.from_numpy(base_of(raw, names).astype(np.float32))
        parts = [self.forecaster.prognosis.draw(condition[c], base[c], chance[c]) for c in self._chunks(len(raw))]
        target_intervals, survives = (np.concatenate(column)[: len(raw)] for column in zip(*parts))
        return target_intervals, survives

    def _prior(
        self, fits: np.ndarray, target_intervals: np.ndarray, generators: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """EPK in latent space ``(B, C, 128)`` for what is asked, and its strength ``(B,)``, 0 where it abstains.

        McSharry's model of each patient runs over beats drawn at the asked rate, without its P wave where none is asked
        for; the codec carries it into latent space.
        """
        prior = np.zeros((len(target_intervals), *self.latent_shape), np.float32)
        column = {name: target_intervals[:, i] for i, name in enumerate(OBSERVED)}
        drawable = np.array([bool(fit.drawable[0]) for fit in fits])
        rows = np.flatnonzero(drawable & np.isfinite(column["hr_bpm"]) & (self.epk_scale > 0))
        if len(rows):
            targets = np.stack([column[name][rows] for name in TARGET_INTERVALS], axis=1)
            p, regular = (column[name][rows] > 0 for name in ("p_present", "regular"))
            beats = draw_beats([generators[int(i)] for i in rows], targets[:, 0], column["rr_sd_ms"][rows], regular)
            strips = anchor_traces(_joined(fits[rows]), targets, beats, p_present=p, abstain=False)
            prior[rows] = self._encode(strips, np.ones((len(rows), len(INDEPENDENT_LEADS)), bool)).numpy()
        strength = np.zeros(len(target_intervals), np.float32)
        strength[rows] = self.epk_scale
        return prior, strength

    def _paper_prior(self, before: State, last: Look, exposure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The paper's EPK: traces of lead II ``(B, 1024)`` [mV] at even beats, as pharmacology expects them."""
        epk = epk_traces(before.ecg, _rows(last.observed), modulations_of(last.board), modulations_of(exposure))
        return epk.trace_mv, (self.epk_scale * ~epk.abstained).astype(np.float32)

    def _look(self, state: State) -> Look:
        first, place = _unique(list(zip(state.taken, state.patients, state.hours)))
        there = state[first]
        exposure = boards(there.taken, there.patients, there.hours)[place]
        return Look(state.inner["observed"], exposure, np.asarray(state.hours, dtype=float))

    def _pharmacology(self, before: State, after: State) -> tuple[np.ndarray, np.ndarray]:
        """What will be on board, and which rhythms may end on the way; rows that agree are worked out once."""
        first, place = _unique(list(zip(after.taken, after.patients, before.hours, after.hours)))
        then, now = before[first], after[first]
        exposure = boards(now.taken, now.patients, now.hours)
        return exposure[place], endings(now.taken, now.patients, then.hours, now.hours)[place]

    def _again(self, before: State, last: Look) -> tuple[Look, np.ndarray]:
        """Measurements and fits of the last strips, for a model that redraws those."""
        first, place = _unique([row.tobytes() for row in before.inner["latent"]])
        observed = observe_strips(before.ecg[first])
        return Look(observed[place], last.board, last.hours), _fits(before.ecg[first], observed)[place]

    @torch.inference_mode()
    def _draw(self, known: Known, generators: Sequence[np.random.Generator]) -> Tensor:
        """Next latents ``(B, C, 128)``, in chunks."""
        draw, parts = self._drawer(), []
        for rows in self._chunks(len(known)):
            mine = [generators[i] for i in np.unique(rows)]

            def fresh(mine: list[np.random.Generator] = mine, row: np.ndarray = rows - rows[0]) -> Tensor:
                return torch.from_numpy(
                    np.stack([g.standard_normal(self.latent_shape, dtype=np.float32) for g in mine])[row]
                )

            parts.append(draw(known[rows], fresh(), fresh))
        return torch.cat(parts)[: len(known)].float()

    def _drawer(self) -> Callable[[Known, Tensor, Noise], Tensor]:
        """The sampler as the knobs are turned: what is known, the noise to begin with, more noise -> latents."""
        if self.student is not None and self.sampler == "student":
            pupil: Any = accelerated(self.student.forecaster, self.backend)
            return partial(
                _draw, pupil, sampler="ddim", taus=self.student.levels(self.steps), gamma=self.guidance_scale
            )
        forecaster = accelerated(self.forecaster, self.backend)
        return partial(_draw, forecaster, sampler=self.sampler, steps=self.steps, gamma=self.guidance_scale)

    @torch.inference_mode()
    def _decode(self, latent: Tensor) -> np.ndarray:
        """Strips ``(B, 12, 1024)`` [mV] of latents ``(B, C, 128)``."""
        parts = [self.vae.decode(latent[rows]) for rows in self._chunks(len(latent))]
        return torch.cat(parts)[: len(latent)].float().numpy()

    @torch.inference_mode()
    def _encode(self, strips: np.ndarray, present: np.ndarray) -> Tensor:
        """Latents ``(B, C, 128)`` of strips ``(B, 12 or 8, 1024)`` [mV] with the leads that are ``present (B, 8)``."""
        signal, there = torch.from_numpy(np.ascontiguousarray(strips, dtype=np.float32)), torch.from_numpy(present)
        parts = [self.vae.encode(signal[rows], there[rows]) for rows in self._chunks(len(strips))]
        return torch.cat(parts)[: len(strips)].float()

    def _chunks(self, n: int) -> Iterator[np.ndarray]:
        """Row numbers, a chunk at a time; ``deterministic="batch"`` pads each chunk to one size by its last row."""
        size = CHUNK if self.deterministic is None else MICRO_BATCH
        for start in range(0, n, size):
            stop = start + size if self.deterministic else min(start + size, n)
            yield np.minimum(np.arange(start, stop), n - 1)

    def _begin(
        self,
        strips: np.ndarray,  # (B, 12, 1024) [mV]
        patients: Sequence[Patient],
        taken: Sequence[tuple[Administration, ...]],
        hours: np.ndarray,
        alive: np.ndarray,
        missing: np.ndarray,  # (B, 8) bool
    ) -> State:
        """Strips seen through the codec: encoded, shown as decoded; measured and fitted as they are."""
        hours = np.array(hours, dtype=float)
        latent = self._encode(strips, ~missing)
        seen = self._decode(latent)
        lacking = np.asarray(missing.any(axis=1))[:, None, None]
        whole = np.where(lacking, seen, strips)  # leads that are missing cannot be measured
        observed = observe_strips(whole)
        inner = {
            "latent": latent.numpy().astype(np.float32),
            "observed": observed,
            "reference": latent.numpy().astype(np.float32),
            "missing": missing,
            "fit": _fits(whole, observed),
            "home_observed": observed.copy(),
            "home_board": boards(taken, patients, hours),
            "home_hours": hours.copy(),
        }
        return State(seen, tuple(patients), tuple(taken), hours, np.array(alive, dtype=bool), inner)


@dataclass(frozen=True)
class StepInputs:
    """What is settled about each row of a step before its strip is drawn."""

    known: Known  # what the denoiser is told
    target_intervals: np.ndarray | None  # (B, len(OBSERVED)) the intervals that were drawn; None without a prognosis
    survives: np.ndarray  # (B,) bool


def _draw(forecaster: Forecaster, known: Known, noise: Tensor, fresh: Noise, *, gamma: float, **how: Any) -> Tensor:
    return forecaster.draw(known, noise, fresh=fresh, guidance_scale=gamma, **how)


def _fits(strips: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """McSharry's model of each strip ``(B, 12, 1024)`` [mV]: an object array ``(B,)`` of fits of one."""
    fit = fit_leads(strips, _rows(observed))
    alone = np.empty(len(strips), object)
    for i in range(len(strips)):
        alone[i] = fit[i]
    return alone


def _joined(fits: np.ndarray) -> LeadFit:
    """One batch of fits ``(B,)`` of one each; those of one patient are joined once."""
    first, place = _unique([id(fit) for fit in fits])
    return join([fits[i] for i in first])[np.asarray(place)]


def _rows(observed: np.ndarray) -> list[dict[str, float]]:
    """Measurements ``(B, len(OBSERVED))`` with what the prior needs and the intervals lack filled in."""
    return [{**dict(zip(OBSERVED, map(float, row))), "rr_ms": 60000 / float(row[0])} for row in observed]


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


def _unique(keys: Sequence[Any]) -> tuple[list[int], list[int]]:
    """The first row of each different key, and for every row the place of its key among them."""
    place: dict[Any, int] = {}
    first: list[int] = []
    for row, key in enumerate(keys):
        if key not in place:
            place[key] = len(first)
            first.append(row)
    return first, [place[key] for key in keys]
