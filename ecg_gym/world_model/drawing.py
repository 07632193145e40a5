"""``Drawing``: the strips of a world model's states, drawn when somebody looks, so that they show what was said.

A state says what a look would read. Its strip is drawn from the patient's first one: McSharry's model of that strip
moved to these intervals, as a strip (``"warp"``, where there is a beat to move) or as the anchor of latent diffusion
(``"diffusion"``, the paper's way). The loop is closed: what was drawn is measured; where it shows another rhythm it is
drawn with other noise, a few times at most; it is asked for again less its own error with the same noise, and the
better of the two is kept. All noise of a strip comes from its key, so that it looks the same whenever it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecg_gym.core import (
    INDEPENDENT_LEADS,
    LEADS,
    MODEL_SAMPLES,
    State,
    independent_from_leads,
    limb_from_independent,
)
from ecg_gym.physiology import (
    TARGET_INTERVALS,
    Ectopy,
    LeadFit,
    anchor_traces,
    draw_beats,
    find_ectopy,
    fit_leads,
    overlay,
    with_episodes,
)
from ecg_gym.physiology.multilead import fresh_noise, join
from ecg_gym.risk.aggregate import FINDINGS
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.world_model.backends import accelerated
from ecg_gym.world_model.codecs import Codec
from ecg_gym.world_model.conditioning import (
    EXPOSURE,
    LEVELS,
    OBSERVED,
    SIGNS,
    Look,
    observe_strips,
    people,
    render_features,
    render_names,
)
from ecg_gym.world_model.diffusion import Noise
from ecg_gym.world_model.first_strip import MOST_STRETCH, Records, record, stretch, unfinished
from ecg_gym.world_model.forecaster import DenoiserInputs, Forecaster
from ecg_gym.world_model.student import Student

CHUNK = 64  # rows at once: larger ones fall out of the cache
MICRO_BATCH = 8  # rows at once with deterministic="batch"
WAYS = ("diffusion", "warp")
DRAWING = 7  # first word of the seed of a strip's noise
NEAR_MS = 3.0  # a strip whose misses of PR, QRS, QTcF, J-Tpeak-c and Tpeak-Tend add up to less is not drawn again
MOST_MS = 25.0  # by which one correction moves what is asked
DRAWS = 4  # of a strip at most, while P waves or regularity come or go against what was said
TURNED_MS = 1000.0  # what a strip counts that shows another rhythm than was said
LOST_MS = 60.0  # what an interval counts that is asked for and cannot be measured, or the other way round
CORRECTED = ("pr_ms", "qrs_ms", "jtpeak_ms", "tpeak_tend_ms")
_AT = {name: i for i, name in enumerate(OBSERVED)}
_ECTOPY = EXPOSURE.index("modulation.ectopy")
_PVC = FINDINGS.index("Premature ventricular contraction")


@dataclass(frozen=True)
class Frequency:
    """How often ectopic beats come in the strips that are drawn."""

    often: np.ndarray  # (B,) over how often they came in the first strip
    least: np.ndarray  # (B,) episodes that there are at least

    @classmethod
    def of(cls, state: State) -> Frequency:
        """By what is on board now and was at the first strip, and whether they are among the findings that are said."""
        inner = state.inner
        now, baseline = (np.asarray(inner[name], float)[:, _ECTOPY] for name in ("exposure", "baseline_exposure"))
        likely, first = (np.asarray(inner[name], float)[:, _PVC] for name in ("findings", "baseline_findings"))
        ended = (likely < 0.5) & (first >= 0.5)
        return cls(np.where(ended, 0.0, now / np.maximum(baseline, 1e-6)), (likely >= 0.5).astype(int))


@dataclass(frozen=True)
class Picture:
    """Strips of B rows and the latents behind them; those of strips that no network drew are encoded when asked for."""

    strips: np.ndarray  # (B, 12, 1024) float32 [mV]
    latents: np.ndarray  # (B, C, 128) float32
    lacking: np.ndarray  # (B,) bool: the latent is still to be encoded

    @classmethod
    def empty(cls, n: int, latent_shape: tuple[int, int]) -> Picture:
        """Nothing in ``n`` rows."""
        strips = np.zeros((n, len(LEADS), MODEL_SAMPLES), np.float32)
        return cls(strips, np.zeros((n, *latent_shape), np.float32), np.zeros(n, bool))

    def put(self, rows: np.ndarray, other: Picture) -> None:
        """Those of another at these rows."""
        self.strips[rows], self.latents[rows], self.lacking[rows] = other.strips, other.latents, other.lacking

    def take(self, rows: np.ndarray) -> Picture:
        """Some of the rows."""
        return Picture(self.strips[rows], self.latents[rows], self.lacking[rows])


@dataclass(frozen=True)
class Drawing:
    """What draws strips: networks, and how they are used. Called with a state it returns ``(B, 12, 1024)`` [mV]."""

    vae: Codec
    forecaster: Forecaster
    student: Student | None
    sampler: str
    steps: int | None
    epk_scale: float
    guidance_scale: float
    reference: str
    backend: str
    deterministic: str | None
    way: str
    corrections: int

    def __call__(self, state: State) -> np.ndarray:
        """The strips of a state; zero in rows of hearts that have stopped."""
        return self._picture(state).strips

    def __deepcopy__(self, memo: dict[int, Any]) -> Drawing:
        return self  # nothing in it changes; a copied state need not carry its own networks

    def latents(self, state: State) -> np.ndarray:
        """The latents ``(B, C, 128)`` behind the strips of a state; zero in rows of hearts that have stopped."""
        return self.complete(self._picture(state)).latents

    def complete(self, picture: Picture) -> Picture:
        """The same, with the latents of strips that no network drew."""
        rows = np.flatnonzero(picture.lacking)
        if len(rows):
            present = np.ones((len(rows), len(INDEPENDENT_LEADS)), bool)
            picture.latents[rows] = self.encode(picture.strips[rows], present).numpy()
            picture.lacking[rows] = False
        return picture

    def _picture(self, state: State) -> Picture:
        """Strips and latents; kept with the state, because whoever asks for one may ask for the other."""
        cache = state.__dict__.get("_picture")
        if cache is not None:
            return cache
        picture = Picture.empty(len(state), self.vae.latent_shape)
        recorded = np.array([one is not None for one in state.inner["record"]], bool)
        beats = np.isfinite(state.inner["observed"][:, _AT["hr_bpm"]])
        records, others = np.flatnonzero(recorded), np.flatnonzero(~recorded & beats)
        if len(records):
            there = state.inner["record"][records]
            picture.latents[records], picture.strips[records] = self.encode_records(there), self.reconstruct(there)
        if len(others):
            picture.put(others, self._closed_loop(state[others]))
        state.__dict__["_picture"] = picture
        return picture

    def encode_records(self, records: Records) -> np.ndarray:
        """The latents ``(B, C, 128)`` of recorded strips; each is encoded once."""
        if todo := unfinished(records, "latent"):
            record(todo)
            present = ~np.stack([one.missing for one in todo])
            for one, latent in zip(todo, self.encode(np.stack([one.strip for one in todo]), present).numpy()):
                one.latent = latent.astype(np.float32)
        return np.stack([one.latent for one in records])  # type: ignore[misc]

    def reconstruct(self, records: Records) -> np.ndarray:
        """Recorded strips as the codec sees them ``(B, 12, 1024)`` [mV], so that they compare with those drawn."""
        if todo := unfinished(records, "view"):
            for one, strip in zip(todo, self.decode(torch.from_numpy(self.encode_records(todo)))):
                one.view = strip
        return np.stack([one.view for one in records])  # type: ignore[misc]

    def fits(self, records: Records, observed: np.ndarray) -> LeadFit:
        """McSharry's model of each strip as it was recorded, or as the codec sees it where leads are missing."""
        if unfinished(records, "fit"):
            place = {id(one): i for i, one in enumerate(records)}
            todo = unfinished(records, "fit")
            fit = fit_leads(self.whole(todo), as_rows(observed[[place[id(one)] for one in todo]]))
            for i, one in enumerate(todo):
                one.fit = fit[i]
        first, again = _unique([id(one) for one in records])
        return join([records[i].fit for i in first])[np.asarray(again)]  # type: ignore[misc]

    def ectopy(self, records: Records) -> list[Ectopy]:
        """The ectopic beats of recorded strips; found once."""
        if todo := unfinished(records, "ectopy"):
            for one, ectopy in zip(todo, find_ectopy(self.whole(todo))):
                one.ectopy = ectopy
        return [one.ectopy for one in records]  # type: ignore[misc]

    def whole(self, records: Records) -> np.ndarray:
        """Strips with all leads ``(B, 12, 1024)`` [mV]: those that are missing filled in by the codec, the others as
        they were recorded.
        """
        record(records)
        strips = np.stack([one.strip for one in records])
        lacking = [i for i, one in enumerate(records) if one.missing.any()]
        if lacking:
            missing = np.stack([records[i].missing for i in lacking])[:, :, None]
            views = independent_from_leads(self.reconstruct([records[i] for i in lacking]))
            strips[lacking] = limb_from_independent(np.where(missing, views, independent_from_leads(strips[lacking])))
        return strips

    def _closed_loop(self, state: State) -> Picture:
        """Strips that show what the state says."""
        goal = np.asarray(state.inner["observed"], float)
        picture, draw = self.once(state, goal), np.zeros(len(state), int)
        if not self.corrections:
            return picture
        read = observe_strips(picture.strips)
        miss = missed(goal, read)
        for number in range(1, DRAWS):
            turned = np.flatnonzero(miss >= TURNED_MS)
            if not len(turned):
                break
            better = self._put_better(picture, miss, read, turned, goal, self.once(state[turned], goal[turned], number))
            draw[better] = number
        for _ in range(self.corrections):
            far = np.flatnonzero(miss > NEAR_MS)
            if not len(far):
                break
            again = self.once(state[far], less_its_error(goal[far], read[far]), draw[far])
            self._put_better(picture, miss, read, far, goal, again)
        return picture

    @staticmethod
    def _put_better(
        picture: Picture, miss: np.ndarray, read: np.ndarray, rows: np.ndarray, goal: np.ndarray, again: Picture
    ) -> np.ndarray:
        """Takes over those of ``again``, strips of ``rows``, that show better what is asked; which rows they are."""
        reading = observe_strips(again.strips)
        closer = missed(goal[rows], reading)
        better = np.flatnonzero(closer < miss[rows])
        picture.put(rows[better], again.take(better))
        miss[rows[better]], read[rows[better]] = closer[better], reading[better]
        return rows[better]

    def once(self, state: State, target: np.ndarray, number: int | np.ndarray = 0) -> Picture:
        """Strips drawn once for ``target (B, len(OBSERVED))``, whatever they come out to show; each ``number (B,)`` is
        another draw of the same state.
        """
        keys, numbers = state.inner["key"], np.broadcast_to(number, len(state))
        generators = [np.random.default_rng([DRAWING, int(key), *([int(n)] if n else [])])
                      for key, n in zip(keys, numbers)]  # fmt: skip
        warped = self.warp(state, target, generators) if self.way == "warp" else self.stretch(state, target)
        picture = Picture.empty(len(state), self.vae.latent_shape)
        rows = np.array(sorted(warped), int)
        if len(rows):
            picture.strips[rows] = np.stack([warped[i] for i in rows])
            picture.lacking[rows] = True
        rest = np.setdiff1d(np.arange(len(state)), rows)
        if len(rest):
            mine = [generators[i] for i in rest]
            sampled = self.sample(self.knowledge(state[rest], target[rest], mine), mine)
            picture.latents[rest], picture.strips[rest] = sampled.numpy(), self.decode(sampled)
        return picture

    def warp(
        self, state: State, target: np.ndarray, generators: Sequence[np.random.Generator]
    ) -> dict[int, np.ndarray]:
        """Strips ``(12, 1024)`` [mV] by row without a network: own beats moved, or the own strip stretched. Rows that
        have no beat to move and whose rhythm changes are not among them.
        """
        records, observed = state.inner["baseline"], state.inner["baseline_observed"]
        traces, there = self.traces(records, observed, target, generators, Frequency.of(state))
        rows = np.flatnonzero(there)
        for i, noise in enumerate(self.fits(records, observed)[rows].noise_mv):
            traces[i] += fresh_noise(noise, generators[rows[i]])
        pairs = zip(np.flatnonzero(there).tolist(), limb_from_independent(traces))
        return {**self.stretch(state, target), **dict(pairs)}

    def stretch(self, state: State, target: np.ndarray) -> dict[int, np.ndarray]:
        """The strips ``(12, 1024)`` [mV] of rhythms without a typical beat that go on: the first one, in the rate that
        is asked for and from another moment on. By row.

        No beat can be moved in torsade or pre-excited fibrillation; a network that has seen few of them draws others.
        """
        baseline, observed = state.inner["baseline"], np.asarray(state.inner["baseline_observed"], float)
        signs = [_AT[name] for name in SIGNS]
        goes_on = ((observed[:, signs] > 0.5) == (target[:, signs] > 0.5)).all(axis=1)
        beats = np.isfinite(target[:, 0]) & np.isfinite(observed[:, 0])
        rows = np.flatnonzero(goes_on & beats & ~np.asarray(self.fits(baseline, observed).drawable, bool))
        if not len(rows):
            return {}
        faster = np.clip(target[rows, 0] / observed[rows, 0], 1 / MOST_STRETCH, MOST_STRETCH)
        parts = zip(self.whole(baseline[rows]), faster, state.inner["key"][rows])
        return {int(i): stretch(strip, float(by), int(key)) for i, (strip, by, key) in zip(rows, parts)}

    def knowledge(self, state: State, target: np.ndarray, generators: Sequence[np.random.Generator]) -> DenoiserInputs:
        """What the denoiser is told of each row: the first strip (or the last), what is on board, what to draw."""
        inner = state.inner
        records, missing = inner["baseline"], np.stack([one.missing for one in inner["baseline"]])
        look = Look(
            inner["baseline_observed"], inner["baseline_exposure"], inner["baseline_hours"], inner["baseline_findings"]
        )
        prior, strength = self.prior(records, look.observed, target, generators, Frequency.of(state))
        raw = render_features(
            people(state.patients), look, inner["exposure"], np.asarray(state.hours, float), missing, strength, target
        )
        condition = self.forecaster.features(raw, render_names())
        columns = (self.encode_records(records), condition, prior, strength)
        return DenoiserInputs(*(torch.from_numpy(np.asarray(c, dtype=np.float32)) for c in columns))

    def prior(
        self, records: Records, observed: np.ndarray, target: np.ndarray,
        generators: Sequence[np.random.Generator], ectopic: Frequency,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """EPK in latent space ``(B, C, 128)`` for what is asked, and its strength ``(B,)``, 0 where it abstains."""
        prior = np.zeros((len(records), *self.vae.latent_shape), np.float32)
        strength = np.zeros(len(records), np.float32)
        if self.epk_scale > 0:
            traces, there = self.traces(records, observed, target, generators, ectopic)
            if there.any():
                prior[there] = self.encode(traces, np.ones((len(traces), len(INDEPENDENT_LEADS)), bool)).numpy()
            strength[there] = self.epk_scale
        return prior, strength

    def traces(
        self, records: Records, observed: np.ndarray, target: np.ndarray,
        generators: Sequence[np.random.Generator], ectopic: Frequency,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Each patient's own beats, moved to the asked intervals, at beats drawn at the asked rate ``(M, 8, 1024)``
        [mV]; and which rows have them ``(B,)`` bool. P waves are left out where none are asked for; ectopic beats stand
        among them as they were recorded.
        """
        fits = self.fits(records, observed)
        column = {name: target[:, i] for i, name in enumerate(OBSERVED)}
        there = np.asarray(fits.drawable) & np.isfinite(column["hr_bpm"])
        rows = np.flatnonzero(there)
        if not len(rows):
            return np.zeros((0, len(INDEPENDENT_LEADS), MODEL_SAMPLES), np.float32), there
        targets = np.stack([column[name][rows] for name in TARGET_INTERVALS], axis=1)
        p, regular = (column[name][rows] > 0 for name in ("p_present", "regular"))
        mine = [generators[int(i)] for i in rows]
        beats = draw_beats(mine, targets[:, 0], column["rr_sd_ms"][rows], regular)
        fit, own = fits[rows], self.ectopy([records[int(i)] for i in rows])
        columns = (mine, beats, fit.first_s, own, ectopic.often[rows], ectopic.least[rows])
        series = [with_episodes(*row) for row in zip(*columns)]
        traces = anchor_traces(fit, targets, np.stack([row for row, _ in series]), p_present=p, abstain=False)
        for i, (_, places) in enumerate(series):
            if places:
                traces[i] = overlay(traces[i], places, fit.baseline_mv[i])
        return traces, there

    @torch.inference_mode()
    def sample(self, inputs: DenoiserInputs, generators: Sequence[np.random.Generator]) -> Tensor:
        """Latents ``(B, C, 128)`` out of each row's own noise, in chunks."""
        draw, parts, shape = self._sampler(), [], self.vae.latent_shape
        for rows in self._chunks(len(inputs)):
            mine = [generators[i] for i in np.unique(rows)]

            def fresh(mine: list[np.random.Generator] = mine, row: np.ndarray = rows - rows[0]) -> Tensor:
                return torch.from_numpy(np.stack([g.standard_normal(shape, dtype=np.float32) for g in mine])[row])

            parts.append(draw(inputs[rows], fresh(), fresh))
        return torch.cat(parts)[: len(inputs)].float()

    def _sampler(self) -> Callable[[DenoiserInputs, Tensor, Noise], Tensor]:
        """The sampler as the knobs are turned: what is known, the noise to begin with, more noise -> latents."""
        if self.student is not None and self.sampler == "student":
            pupil: Any = accelerated(self.student.forecaster, self.backend)
            return partial(
                _draw, pupil, sampler="ddim", taus=self.student.levels(self.steps), gamma=self.guidance_scale
            )
        forecaster = accelerated(self.forecaster, self.backend)
        return partial(_draw, forecaster, sampler=self.sampler, steps=self.steps, gamma=self.guidance_scale)

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> np.ndarray:
        """Strips ``(B, 12, 1024)`` [mV] of latents ``(B, C, 128)``."""
        parts = [self.vae.decode(latent[rows]) for rows in self._chunks(len(latent))]
        return torch.cat(parts)[: len(latent)].float().numpy()

    @torch.inference_mode()
    def encode(self, strips: np.ndarray, present: np.ndarray) -> Tensor:
        """Latents ``(B, C, 128)`` of strips ``(B, 12 or 8, 1024)`` [mV] with the leads that are ``present (B, 8)``."""
        signal, there = torch.from_numpy(np.ascontiguousarray(strips, dtype=np.float32)), torch.from_numpy(present)
        parts = [self.vae.encode(signal[rows], there[rows]) for rows in self._chunks(len(strips))]
        return torch.cat(parts)[: len(strips)].float()

    def _chunks(self, n: int) -> Iterator[np.ndarray]:
        return chunks(n, CHUNK, self.deterministic)


def chunks(n: int, size: int, deterministic: str | None) -> Iterator[np.ndarray]:
    """Row numbers, a chunk at a time; ``deterministic="batch"`` pads each chunk to one size by its last row."""
    size = size if deterministic is None else MICRO_BATCH
    for start in range(0, n, size):
        stop = start + size if deterministic else min(start + size, n)
        yield np.minimum(np.arange(start, stop), n - 1)


def missed(goal: np.ndarray, read: np.ndarray) -> np.ndarray:
    """By how many ms or 1/min the levels of strips miss what was asked, added up ``(B,)``; rows as ``OBSERVED``.

    A strip that shows another rhythm counts ``TURNED_MS`` more.
    """
    signs = [_AT[name] for name in SIGNS]
    total = TURNED_MS * ((goal[:, signs] > 0.5) != (read[:, signs] > 0.5)).any(axis=1)
    for name in LEVELS:
        target, there = goal[:, _AT[name]], read[:, _AT[name]]
        finite = np.isfinite(target) & np.isfinite(there)
        off = np.minimum(np.abs(np.where(finite, target - there, 0.0)), LOST_MS)
        total += np.where(np.isfinite(target) == np.isfinite(there), off, LOST_MS)
    return total


def less_its_error(goal: np.ndarray, read: np.ndarray) -> np.ndarray:
    """What to ask for ``(B, len(OBSERVED))`` so that what came out as ``read`` would have come out as ``goal``."""
    target = np.array(goal, float)
    for name in CORRECTED:
        i = _AT[name]
        target[:, i] += np.clip(np.nan_to_num(goal[:, i] - read[:, i]), -MOST_MS, MOST_MS)
    rr_s = 60 / target[:, _AT["hr_bpm"]]
    qt = sum(target[:, _AT[name]] for name in ("qrs_ms", "jtpeak_ms", "tpeak_tend_ms"))
    target[:, _AT["qt_ms"]], target[:, _AT["qtcf_ms"]] = qt, qt / rr_s ** (1 / 3)
    target[:, _AT["jtpeakc_ms"]] = target[:, _AT["jtpeak_ms"]] / rr_s**JTPEAK_EXPONENT
    return target


def as_rows(observed: np.ndarray) -> list[dict[str, float]]:
    """Measurements ``(B, len(OBSERVED))`` with what the prior needs and the intervals lack filled in."""
    return [{**dict(zip(OBSERVED, map(float, row))), "rr_ms": 60000 / float(row[0])} for row in observed]


def _unique(keys: Sequence[Any]) -> tuple[list[int], list[int]]:
    """The first row of each different key, and for every row the place of its key among them."""
    place: dict[Any, int] = {}
    first: list[int] = []
    for row, key in enumerate(keys):
        if key not in place:
            place[key] = len(first)
            first.append(row)
    return first, [place[key] for key in keys]


def _draw(
    forecaster: Forecaster, inputs: DenoiserInputs, noise: Tensor, fresh: Noise, *, gamma: float, **how: Any
) -> Tensor:
    return forecaster.draw(inputs, noise, fresh=fresh, guidance_scale=gamma, **how)
