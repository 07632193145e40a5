"""``RivalWorld``: any rival as a World. Hours, doses, first strips and memory are our world's, strips the rival's.

Alone, a rival sees the first strip, the doses and the person, and nobody dies: it draws strips and says nothing else.
With our forecast it also knows which intervals our interval model says, and who lives; it is judged by its strips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg_gym import checkpoint
from ecg_gym.core import (
    ECG,
    LEADS,
    MODEL_SAMPLES,
    Administration,
    Patient,
    Randomness,
    State,
    Treatment,
)
from ecg_gym.world_model.conditioning import FeatureScale, Look, people
from ecg_gym.world_model.model import WorldModel
from training.rivals.adversary import Rival
from training.rivals.catalogue import network
from training.rivals.condition import Condition, condition_of, fact_names, hashed, raw_facts, sentence
from training.rivals.layers import Shape
from training.rivals.typical_beats import Beats

KIND, WEIGHTS = "baseline", "baseline.safetensors"
NOISE = 11  # first word of the seed of a strip's noise
CHUNK = 64


@dataclass(frozen=True)
class RivalWorld:
    """A World whose strips a rival draws; make one with :meth:`load`."""

    rival: Rival
    scale: FeatureScale
    base: WorldModel  # keeps hours, doses and first strips, and says the intervals with ``with_forecast``
    with_forecast: bool = False
    dt_hours: float = 1.0  # clinical time of one step [h]
    sha256: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, base: WorldModel | None = None, with_forecast: bool = False) -> RivalWorld:
        """The world of the weights at ``path``, a file or its folder; ValueError where they draw no beats."""
        file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
        stored = checkpoint.load(file, KIND)
        shape = Shape(**stored.config["shape"])
        if shape.form != Beats.latent_shape:
            raise ValueError(
                f"{file} draws {shape.form}; expected beats, {Beats.latent_shape}; train it again with "
                "`ecg-gym train baseline`"
            )
        rival = network(stored.config["name"], shape)
        checkpoint.restore(rival, stored)
        features = stored.config["features"]
        scale = FeatureScale(tuple(features["names"]), np.array(features["offset"]), np.array(features["scale"]))
        return cls(
            rival, scale, base or WorldModel.load(), with_forecast, sha256=stored.sha256, metadata=stored.metadata
        )

    def initial(self, n: int, rng: Randomness, **who: Any) -> State:
        """``n`` virtual people, seen through their beats."""
        return self._with_strips(self._paced.initial(n, rng, **who))

    def observe(self, ecg: ECG, patient: Patient, doses: Sequence[Administration] = ()) -> State:
        """A batch of one from a strip and the doses already taken."""
        return self._with_strips(self._paced.observe(ecg, patient, doses))

    def start_from(self, state: State) -> State:
        """The same people at the same hour, out of the strips of another world's state."""
        return self._with_strips(self._paced.start_from(state))

    def assimilate(self, state: State, ecg: ECG, map_mmhg: np.ndarray | None = None) -> State:
        """The same people at the same hour, last seen on these strips."""
        return self._with_strips(self._paced.assimilate(state, ecg, map_mmhg))

    def knows(self, treatment: Treatment) -> bool:
        """Whether our world learned from trials of its kind, and so did the rival."""
        return self.base.knows(treatment)

    def step(self, state: State, treatments: Sequence[Treatment], rng: Randomness) -> State:
        """A sample of each row ``dt_hours`` later; all of a row's noise comes from its own stream."""
        later = self._paced.step(state, treatments, rng)
        return self._with_strips(later if self.with_forecast else later.replaced(alive=state.alive.copy()))

    def __call__(self, state: State) -> np.ndarray:
        """The strips ``(B, 12, 1024)`` [mV] of a state: recorded ones as their beats, the others by the rival."""
        strips = np.zeros((len(state), len(LEADS), MODEL_SAMPLES), np.float32)
        recorded = np.array([record is not None for record in state.inner["record"]], bool)
        records, rows = np.flatnonzero(recorded), np.flatnonzero(~recorded & self._beats(state))
        if len(records):
            strips[records] = Beats().decode(self._encode(state.inner["record"][records])).numpy()
        for some in (rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)):
            strips[some] = self.draw(state[some])
        return strips

    def __deepcopy__(self, memo: dict[int, Any]) -> RivalWorld:
        return self  # nothing in it changes; a copied state need not carry its own networks

    @torch.inference_mode()
    def draw(self, state: State) -> np.ndarray:
        """A strip for every row ``(B, 12, 1024)`` [mV], out of the noise of its key."""
        noise = [
            np.random.default_rng([NOISE, int(key)]).standard_normal(self.rival.noise_size, dtype=np.float32)
            for key in state.inner["key"]
        ]
        return Beats().decode(self.rival.draw(self.condition(state), torch.from_numpy(np.stack(noise)))).numpy()

    def condition(self, state: State) -> Condition:
        """What the rival knows of each row."""
        inner = state.inner
        who, hours = people(state.patients), np.asarray(state.hours, float)
        baseline = Look(
            inner["baseline_observed"], inner["baseline_exposure"], inner["baseline_hours"], inner["baseline_findings"]
        )
        targets = np.asarray(inner["observed"], float) if self.with_forecast else None
        facts = self.scale(raw_facts(who, baseline, inner["exposure"], hours, targets), fact_names())
        since = [
            [str(administration.dose) for administration in row if administration.hours >= start]
            for row, start in zip(state.doses, baseline.hours)
        ]
        text = np.stack([hashed(sentence(person, doses)) for person, doses in zip(who, since)])
        return condition_of(self._encode(inner["baseline"]).numpy(), facts, text)

    def _encode(self, records: Any) -> torch.Tensor:
        """The typical beat of recorded strips."""
        return Beats().encode(torch.from_numpy(np.ascontiguousarray(self.base.drawing.whole(records), np.float32)))

    @property
    def _paced(self) -> WorldModel:
        return self.base if self.base.dt_hours == self.dt_hours else replace(self.base, dt_hours=self.dt_hours)

    def _with_strips(self, state: State) -> State:
        drawer: Any = self  # drawn when somebody looks
        return state.replaced(ecg=drawer)

    def _beats(self, state: State) -> np.ndarray:
        if not self.with_forecast:
            return np.ones(len(state), bool)
        return np.asarray(state.alive, bool)
