"""Intervals of strips that come again: the first strip of an episode is asked for at every step, measured once."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from threading import Lock

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ
from ecg_gym.waveform import measure
from ecg_gym.waveform.intervals import Intervals

MOST = 4096  # strips remembered; one takes about a kilobyte

Row = tuple[dict[str, float], str]  # the numbers of a strip and what could not be measured


class MeasuredStrips:
    """``measure`` with a memory: every different strip is measured once, and the ``most`` used last are kept.

    Strips are told apart by a digest of their samples. What is kept never changes an answer, so copies and pickles
    begin empty. Threads may share one.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, strips: np.ndarray) -> Intervals:
        """Intervals of strips ``(B, 12, 1024)`` [mV] on the model grid, as ``measure`` says them."""
        keys = [_digest(strip) for strip in strips]
        result = self._recalled(keys)
        first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in result}
        if first:
            fresh = measure(ECG(strips[list(first.values())], MODEL_RATE_HZ))
            result |= {key: (fresh.row(i), fresh.reason[i]) for i, key in enumerate(first)}
            self._remember({key: result[key] for key in first})
        return Intervals.from_rows([result[key][0] for key in keys], [result[key][1] for key in keys])

    def _recalled(self, keys: list[bytes]) -> dict[bytes, Row]:
        with self._lock:
            rows = {key: self._rows[key] for key in keys if key in self._rows}
            for key in rows:
                self._rows.move_to_end(key)
        return rows

    def _remember(self, rows: dict[bytes, Row]) -> None:
        with self._lock:
            self._rows.update(rows)
            while len(self._rows) > self.most:
                self._rows.popitem(last=False)

    def __reduce__(self) -> tuple[type[MeasuredStrips], tuple[int]]:
        return MeasuredStrips, (self.most,)


def _digest(strip: np.ndarray) -> bytes:
    return blake2b(np.ascontiguousarray(strip).data, digest_size=16, person=strip.dtype.str.encode()).digest()
