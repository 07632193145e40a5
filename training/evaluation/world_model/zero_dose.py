"""What the learned world does to real strips when nobody is given anything: nothing, if it were perfect.

Each real record is observed, an hour passes without a dose, and the strips drawn are measured against the strip before
(both through the codec). The world has learned from virtual trials only, so what moves here is the gap between virtual
and real hearts. Beside it, virtual people under the same question; the trivial baseline, copying the strip, scores 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, WATCH, State, World, concatenate
from ecg_gym.datasets import read_record
from ecg_gym.powers import weights_hash
from ecg_gym.waveform import measure

INTERVALS = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms")


def study(
    world: World,
    records: Path,
    limit: int = 60,
    k: int = 4,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The study's document: change per interval over one step of watching, real strips and virtual people."""
    real, refused = _observe_records(world, records, limit, np.random.default_rng(seed))
    virtual = world.initial(len(real), np.random.default_rng(seed + 1))
    rows = []
    for name, state in (("real", real), ("virtual", virtual)):
        rows += [{"strips": name, **row} for row in _changes(world, state, k, seed, progress)]
    return {
        "study": "zero-dose",
        "model_sha256": weights_hash(world),
        "n_patients": len(real),
        "n_refused": refused,
        "seeds": [seed],
        "data": [records.name],
        "rows": rows,
    }


def _observe_records(world: World, records: Path, limit: int, rng: np.random.Generator) -> tuple[State, int]:
    headers = sorted(records.rglob("*.hea"))
    if not headers:
        raise ValueError(f"{records} holds no WFDB headers; expected a folder of records; check the path")
    states, refused = [], 0
    for header in (headers[i] for i in rng.permutation(len(headers))):
        try:
            record = read_record(header)
            states.append(world.observe(record.ecg, record.patient))
        except ValueError:
            refused += 1
        if len(states) == limit:
            break
    if not states:
        raise ValueError(
            f"none of {refused} records in {records} could be read; expected 12-lead ECGs; try plan on one"
        )
    return concatenate(states), refused


def _changes(world: World, state: State, k: int, seed: int, progress: Callable[[], None]) -> Iterator[dict[str, Any]]:
    before = np.asarray(measure(ECG(state.ecg, MODEL_RATE_HZ)).as_array(INTERVALS)).reshape(len(state), -1)
    samples = []
    for sample in range(k):
        later = world.step(state, [WATCH] * len(state), np.random.default_rng([seed, sample]))
        samples.append(np.asarray(measure(ECG(later.ecg, MODEL_RATE_HZ)).as_array(INTERVALS)).reshape(len(state), -1))
        progress()
    change = np.stack(samples) - before  # (K, N, intervals)
    rng = np.random.default_rng(seed)
    for column, name in enumerate(INTERVALS):
        finite = np.isfinite(change[..., column])
        person = np.array([c[m].mean() for c, m in zip(change[..., column].T, finite.T) if m.any()])
        spread = [c[m].std(ddof=1) for c, m in zip(change[..., column].T, finite.T) if m.sum() > 1]
        if not len(person):  # nobody's could be measured: there is no mean to speak of
            yield {"interval": name, "n": 0, "unmeasured": 1.0}
            continue
        means = person[rng.integers(len(person), size=(2000, len(person)))].mean(axis=1)
        yield {
            "interval": name,
            "n": len(person),
            "mean": round(float(person.mean()), 1),
            "ci95": [round(float(x), 1) for x in np.quantile(means, [0.025, 0.975])],
            "median_absolute": round(float(np.median(np.abs(person))), 1),
            "sd_within_person": round(float(np.mean(spread)), 1) if spread else None,
            "unmeasured": round(float(1 - finite.mean()), 3),
        }  # fmt: skip
