"""What pharmacology says to average people of B rows: serum and modulation at an hour, hazards since another.

The array side of ``conditioning``: the kernel of ``ecg_gym.pharmacology`` with the typical person's sensitivity.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from ecg_gym.columns import WORDS, Doses, Patients
from ecg_gym.compiled import compiled_exact
from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology.catalogue import clearances, known_doses, medication_columns, own_serum, weights_kg
from ecg_gym.pharmacology.hazards import _COARSE, HAZARDS
from ecg_gym.pharmacology.kernel import AF_ENDS, REENTRY_ENDS, TORSADE_ENDS, VT_ENDS, course, looks_of, scratch
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.sensitivity import TYPICAL
from ecg_gym.pharmacology.tables import pharmacology
from ecg_gym.virtual_patient import kernel
from ecg_gym.virtual_patient.kernel import doses_of

N_EXPOSURE = 3 + len(Modulation.__dataclass_fields__)
_ENDS = np.array([REENTRY_ENDS, AF_ENDS, VT_ENDS, TORSADE_ENDS])  # in the order of HAZARDS


def follow(
    histories: Sequence[Sequence[Administration]], patients: Sequence[Patient], start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Serum [mmol/L] and modulation at ``end (B,)`` [h] ``(B, 27)`` float32, and the integrals ``(B, 4)`` of HAZARDS
    from ``start (B,)`` on, of average people with these doses. Rows that agree are worked out once.
    """
    people, doses = Patients.of(patients), Doses.of(histories)
    clock = np.stack([np.asarray(start, float), np.asarray(end, float)], axis=1)
    first, place = _different(people, doses, clock)
    some, group, span = people.take(first), doses.take(first), clock[first]
    exposure, ended = np.zeros((len(first), N_EXPOSURE)), np.zeros((len(first), len(HAZARDS)))
    own = kernel.People(
        weights_kg(some), clearances(some), own_serum(some, pharmacology().reference), medication_columns(len(WORDS)),
        some.group,
    )  # fmt: skip
    _follow(
        pharmacology(), own, kernel.Doses(group.hours, group.code, *known_doses(group)), span[:, 0].copy(),
        span[:, 1].copy(), _typical(), _ENDS, exposure, ended,
    )  # fmt: skip
    return exposure[place].astype(np.float32), ended[place].astype(np.float32)


def _different(people: Patients, doses: Doses, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of each set of equal rows, and every row's place among them."""
    table = np.concatenate([people.numbers, people.group[:, None], doses.hours, doses.code, clock], axis=1)
    table = np.ascontiguousarray(np.where(np.isnan(table), -1e300, table) + 0.0)  # -0.0 and NaN have several bits
    rows = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).ravel()
    _, first, place = np.unique(rows, return_index=True, return_inverse=True)
    return first, place


@cache
def _typical() -> np.ndarray:
    return TYPICAL.as_array()


@compiled_exact
def _follow(tables, people, doses, start, end, sensitivity, ends, exposure, ended):
    q = max(doses.code.shape[1], 1)
    at, drug, route = np.empty(q), np.empty(q, np.int64), np.empty(q, np.int64)
    mg, duration = np.empty(q), np.empty(q)
    longest = 0.0
    for b in range(len(start)):
        longest = max(longest, end[b] - start[b])
    most = int(np.ceil(longest / _COARSE)) + 4 + q * len(tables.drugs.after_dose)
    room = scratch(tables.drugs, q, most)
    looks, serum, change = room.looks, room.serum, room.change
    for b in range(len(start)):
        n = doses_of(doses, b, people.weight[b], at, drug, route, mg, duration)
        count = 1
        looks[0] = end[b]
        if n > 0 and end[b] > start[b]:
            count = looks_of(start[b], end[b], at, route, n, tables.drugs.after_dose, _COARSE, looks)
        course(tables, at, drug, route, mg, duration, n, people.weight[b], people.creatinine_clearance[b],
               people.medication[people.group[b]], people.serum[b], sensitivity, count, True, room)  # fmt: skip
        exposure[b, :3] = serum[count - 1]
        exposure[b, 3:] = change[count - 1]
        for i in range(1, count):
            half = (looks[i] - looks[i - 1]) / 2
            for k in range(len(ends)):
                ended[b, k] += half * (change[i, ends[k]] + change[i - 1, ends[k]])
