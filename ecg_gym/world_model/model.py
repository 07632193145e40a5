"""``WorldModel``: ECG-WM as a World. It starts from a real strip and draws what an hour and a treatment make of it.

    observe:  strip -> codec -> latent
    step:     doses, exposure, intervals, EPK -> condition -> diffusion in latent space -> codec -> strip

A learned world that never saw a death: ``alive`` stays true whatever is given, so lethal doses look survivable here.
Ask the virtual patient for hazards, and the risk model for a judgement. Research only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from ecg_gym.physiology import epk_traces
from ecg_gym.waveform import Intervals, to_model_grid
from ecg_gym.world_model import checkpoint
from ecg_gym.world_model.conditioning import Step, feature_names, measure_strips, population_modulations, raw_features
from ecg_gym.world_model.diffusion import SAMPLERS
from ecg_gym.world_model.forecaster import KIND, Forecaster, Known
from ecg_gym.world_model.vae import LATENT_CHANNELS, LATENT_LENGTH, VAE

WEIGHTS, CODEC = "world_model.safetensors", "vae.safetensors"
CHUNK = 64  # rows at once: larger ones fall out of the cache
MICRO_BATCH = 8  # rows at once with deterministic="batch"
BACKENDS = ("eager", "bf16")


@dataclass(frozen=True)
class WorldModel:
    """A World over trained weights; make one with :meth:`load`. Its knobs are fields: ``replace`` turns them."""

    vae: VAE
    forecaster: Forecaster
    sha256: str = ""  # of the world model's weights
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what the checkpoint says about itself
    dt_hours: float = 1.0  # clinical time of one step [h]; trained on 1, 2 and 4
    sampler: str = "dpm++"
    steps: int | None = None  # of the sampler; None is its own choice
    epk_scale: float = 1.0  # strength of the EPK anchor: 0 switches it off, 1 is as trained
    guidance_scale: float = 0.0  # gamma of Eq. 8; the paper samples without
    backend: str = "eager"  # or "bf16": autocast, about twice as fast on CPUs that have it, 0.5 % off
    deterministic: str | None = None  # "batch": a row's bits do not depend on its batch (slower for few rows)

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, object, tuple[object, ...]], ...] = (
            ("sampler", self.sampler, tuple(SAMPLERS)),
            ("backend", self.backend, BACKENDS),
            ("deterministic", self.deterministic, (None, "batch")),
        )
        for what, value, known in choices:
            if value not in known:
                raise ValueError(f"{what} is {value!r}; expected one of {known}; check the spelling")
        if not self.dt_hours > 0 or not 0 <= self.epk_scale <= 1 or self.guidance_scale < 0:
            raise ValueError(
                f"dt_hours, epk_scale, guidance_scale are {self.dt_hours}, {self.epk_scale}, {self.guidance_scale}; "
                "expected > 0, within [0, 1], and >= 0; leave out what you do not want to turn"
            )

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Channels and columns of ``state.inner["latent"]``."""
        return LATENT_CHANNELS, LATENT_LENGTH

    @classmethod
    def load(cls, path: str | Path | None = None, **knobs: Any) -> WorldModel:
        """The world of the packaged weights, of a folder of weights, or of one file with its codec beside it.

        ``knobs`` are fields of this class; ``None`` leaves a default. Raises ValueError if weights are absent, damaged,
        or were trained in the latent space of another codec.
        """
        weights, codec = _locate(path)
        found = checkpoint.load(weights, KIND, checkpoint.manifest().get(WEIGHTS) if path is None else None)
        if found.metadata.get("vae_sha256") != checkpoint.sha256(codec):
            raise ValueError(
                f"{weights} was trained with the codec {str(found.metadata.get('vae_sha256'))[:12]}...; expected "
                f"{codec}, {checkpoint.sha256(codec)[:12]}...; keep both files together, or retrain with "
                "`ecg-gym train world-model`"
            )
        forecaster = Forecaster.from_config(found.config)
        checkpoint.restore(forecaster, found)
        turned = {name: value for name, value in knobs.items() if value is not None}
        return cls(VAE.load(codec), forecaster, found.sha256, found.metadata, **turned)

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` virtual people, seen through the codec. ``who`` narrows the population as in the virtual patient."""
        from ecg_gym.virtual_patient import VirtualPatient

        start = VirtualPatient(dt_hours=self.dt_hours).initial(n, rng, **who)
        return self._state(
            start.ecg, start.patients, start.taken, start.hours, np.zeros((n, len(INDEPENDENT_LEADS)), bool)
        )

    def observe(self, ecg: ECG, patient: Patient, given: Sequence[Administration] = ()) -> State:
        """A batch of one from a strip (at any rate; the best 10 s are taken) and the doses already taken.

        Leads that are ``ecg.missing`` are not read; the codec fills them in from the others. The strip of the state has
        been through the codec, so that it can be compared with those that ``step`` draws.
        """
        strip = to_model_grid(ecg).signal.reshape(1, len(LEADS), MODEL_SAMPLES)
        missing = np.array([[lead in ecg.missing for lead in INDEPENDENT_LEADS]])
        return self._state(strip, (patient,), (tuple(given),), np.zeros(1), missing)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """A sample of each row ``dt_hours`` later. All of a row's noise comes from its own generator."""
        if len(treatments) != len(state):
            raise ValueError(
                f"{len(treatments)} treatments for {len(state)} rows; expected one per row; pass WATCH to wait"
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
            hours=np.where(state.alive, state.hours + self.dt_hours, state.hours),
            alive=state.alive.copy(),
            inner={name: value.copy() for name, value in state.inner.items()},
        )
        living = np.flatnonzero(state.alive)
        if len(living) == 0:
            return later
        latent = self._draw(self.known(state[living], later[living]), [generators[i] for i in living])
        later.inner["latent"][living] = latent.numpy()
        later.inner["missing"][living] = False  # what the model draws has all its leads
        later.ecg[living] = self._decode(latent)
        return later

    def known(self, before: State, after: State) -> Known:
        """What the network is told about each row of a step: ``after`` has the doses and the hour, not yet the strip.

        Rows that agree (the K samples of a candidate) are worked out once.
        """
        strips, strip_of = _unique([row.tobytes() for row in before.inner["latent"]])
        histories = zip(strip_of, before.patients, before.taken, after.taken, before.hours, after.hours)
        rows, row_of = _unique(list(histories))
        measured = measure_strips(before.ecg[strips])
        intervals = Intervals.from_rows(
            [measured.row(strip_of[i]) for i in rows], [measured.reason[strip_of[i]] for i in rows]
        )
        there, then = before[rows], after[rows]
        step = Step(there.patients, there.taken, then.taken, there.hours, then.hours)
        now, soon = population_modulations(step)
        epk = epk_traces(there.ecg, [intervals.row(i) for i in range(len(rows))], now, soon)
        strength = self.epk_scale * ~epk.abstained
        raw = raw_features(step, intervals, there.inner["missing"], strength)
        condition = self.forecaster.features(raw, feature_names())
        columns = (there.inner["latent"], condition, epk.trace_mv, strength)
        return Known(*(torch.from_numpy(np.asarray(c, dtype=np.float32)) for c in columns))[np.asarray(row_of)]

    @torch.inference_mode()
    def _draw(self, known: Known, generators: Sequence[np.random.Generator]) -> Tensor:
        """Next latents ``(B, 4, 128)``, in chunks."""
        parts = []
        for rows in self._chunks(len(known)):
            mine = [generators[i] for i in np.unique(rows)]

            def fresh(mine: list[np.random.Generator] = mine, row: np.ndarray = rows - rows[0]) -> Tensor:
                size = (LATENT_CHANNELS, LATENT_LENGTH)
                return torch.from_numpy(np.stack([g.standard_normal(size, dtype=np.float32) for g in mine])[row])

            drawn = self.forecaster.draw(
                known[rows], fresh(), self.sampler, self.steps,
                fresh=fresh, guidance_scale=self.guidance_scale, bf16=self.backend == "bf16",
            )  # fmt: skip
            parts.append(drawn)
        return torch.cat(parts)[: len(known)].float()

    @torch.inference_mode()
    def _decode(self, latent: Tensor) -> np.ndarray:
        """Strips ``(B, 12, 1024)`` [mV] of latents ``(B, 4, 128)``."""
        parts = [self.vae.decode(latent[rows]) for rows in self._chunks(len(latent))]
        return torch.cat(parts)[: len(latent)].float().numpy()

    def _chunks(self, n: int) -> Iterator[np.ndarray]:
        """Row numbers, a chunk at a time; ``deterministic="batch"`` pads each chunk to one size by its last row."""
        size = CHUNK if self.deterministic is None else MICRO_BATCH
        for start in range(0, n, size):
            stop = start + size if self.deterministic else min(start + size, n)
            yield np.minimum(np.arange(start, stop), n - 1)

    @torch.inference_mode()
    def _state(
        self,
        strips: np.ndarray,  # (B, 12, 1024) [mV]
        patients: tuple[Patient, ...],
        taken: tuple[tuple[Administration, ...], ...],
        hours: np.ndarray,
        missing: np.ndarray,  # (B, 8) bool
    ) -> State:
        """Strips seen through the codec: encoded, and shown as decoded."""
        signal, present = torch.from_numpy(np.ascontiguousarray(strips)), torch.from_numpy(~missing)
        parts = [self.vae.encode(signal[rows], present[rows]) for rows in self._chunks(len(strips))]
        latent = torch.cat(parts)[: len(strips)]
        inner = {"latent": latent.numpy().astype(np.float32), "missing": missing}
        alive = np.ones(len(strips), dtype=bool)
        return State(self._decode(latent), patients, taken, np.asarray(hours, dtype=float), alive, inner)


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
