"""``synthesise``: one strip of one heart under one modulation, with its truth; a batch of one of ``plan_strips``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ecg_gym.pharmacology.exposure import reference_electrolytes
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient.atrial_beats import p_wave_marks
from ecg_gym.virtual_patient.beat_intervals import ShownIntervals, measured_beats
from ecg_gym.virtual_patient.beat_spectra import KINDS, Shapes
from ecg_gym.virtual_patient.beat_trains import TORSADE
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.heart_arrays import HeartArrays, stacked
from ecg_gym.virtual_patient.strip_drawing import draw_strips
from ecg_gym.virtual_patient.strip_plan import StripPlan, inside, plan_strips, true_intervals
from ecg_gym.virtual_patient.true_findings import true_findings
from ecg_gym.virtual_patient.truth import Truth, hazards

RATE_HZ = 512.0  # five times the model grid
_BEAT, _P = ("qrs_onset", "r_peak", "qrs_end", "t_peak", "t_end"), ("p_onset", "p_peak", "p_end")
_MOVES_WITH_APD = (0, 0, 0, 1, 1)  # a longer action potential moves the T peak and end, one to one
INTERVALS = (
    "hr_bpm",
    "rr_ms",
    "pr_ms",
    "qrs_ms",
    "qt_ms",
    "qtcf_ms",
    "qtcb_ms",
    "jtpeak_ms",
    "jtpeakc_ms",
    "tpeak_tend_ms",
)


def synthesise(
    heart: Heart,
    change: Modulation = REST,
    rng: np.random.Generator | None = None,
    rate_hz: float = RATE_HZ,
    seconds: float = 10.0,
    potassium: float | None = None,
) -> tuple[np.ndarray, Truth]:
    """The strip ``(12, T)`` float32 [mV] and its truth. Without ``rng`` the strip is the same every time.

    ``rng`` is drawn from once: the key of the strip. ``potassium`` [mmol/L] is for the hazards of the truth; by default
    the patient's.
    """
    key = np.random.default_rng(0).integers(2**63) if rng is None else rng.integers(2**63)
    strips, truths = synthesise_batch([heart], [change], np.array([key], np.uint64), rate_hz, seconds, [potassium])
    return strips[0], truths[0]


def synthesise_batch(
    hearts: Sequence[Heart],
    changes: Sequence[Modulation],
    keys: np.ndarray,  # (B,) uint64
    rate_hz: float = RATE_HZ,
    seconds: float = 10.0,
    potassium: Sequence[float | None] = (),
) -> tuple[np.ndarray, list[Truth]]:
    """Strips ``(B, 12, T)`` float32 [mV] and their truths, each what :func:`synthesise` makes of its row and key."""
    plan = plan_strips(HeartArrays.of(hearts), stacked(changes), keys, seconds, False)
    serum = potassium or [None] * len(hearts)
    return draw_strips(plan, rate_hz), truths_of(plan, hearts, changes, serum, at_r_peak=False)


def truths_of(
    plan: StripPlan,
    hearts: Sequence[Heart],
    changes: Sequence[Modulation],
    potassium: Sequence[float | None],
    at_r_peak: bool = True,
) -> list[Truth]:
    """The truth of every row of a plan, which was made of these hearts under these modulations."""
    intervals = true_intervals(plan)
    values, findings = intervals.by_name(), true_findings(plan, intervals)
    truths = []
    for i, (heart, change, serum) in enumerate(zip(hearts, changes, potassium)):
        beats, p = inside(plan, i)
        start = plan.start_s[i]
        own = {name: float(values[name][i]) for name in INTERVALS}
        if serum is None:
            serum = heart.patient.potassium or reference_electrolytes()["potassium"]
        truths.append(
            Truth(
                heart.rhythm,
                plan.trains.qrs_s[i, beats] - start,
                tuple("torsade" if code == TORSADE else KINDS[code] for code in plan.trains.kind[i, beats]),
                plan.trains.p_s[i, : plan.trains.p_waves[i]][p] - start,
                own,
                findings[i],
                hazards(heart, change, own, serum),
                Marks(heart, change, int(plan.keys[i]), plan.seconds, at_r_peak),
            )
        )
    return truths


class Marks(Mapping[str, np.ndarray]):
    """Where each wave of each beat of a strip begins, peaks and ends [s]; worked out when somebody looks."""

    def __init__(self, heart: Heart, change: Modulation, key: int, seconds: float, at_r_peak: bool) -> None:
        self._of = (heart, change, key, seconds, at_r_peak)
        self._by_name: dict[str, np.ndarray] | None = None

    def _marks(self) -> dict[str, np.ndarray]:
        if self._by_name is None:
            heart, change, key, seconds, at_r_peak = self._of
            keys = np.array([key], np.uint64)
            self._by_name = marks_of(
                plan_strips(HeartArrays.of([heart]), stacked([change]), keys, seconds, at_r_peak), row=0
            )
        return self._by_name

    def __getitem__(self, name: str) -> np.ndarray:
        return self._marks()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._marks())

    def __len__(self) -> int:
        return len(self._marks())

    def __repr__(self) -> str:
        return f"Marks({', '.join(self)})"

    def __getstate__(self) -> dict:
        return {"_of": self._of, "_by_name": None}


def marks_of(plan: StripPlan, row: int) -> dict[str, np.ndarray]:
    """The marks of one row by name, ``(M,)`` a beat or ``(P,)`` a P wave [s] from the beginning of the strip.

    By the definitions of ``beat_intervals``, measured on the beats of this heart.
    """
    trains, (beats, p) = plan.trains, inside(plan, row)
    qrs, kind, fusion = trains.qrs_s[row, beats], trains.kind[row, beats], trains.fusion_ms[row, beats]
    mean_ms = trains.mean_ms[row, beats]
    rows = np.full((len(qrs), len(_BEAT)), np.nan)
    rows[kind == TORSADE, 0] = qrs[kind == TORSADE]
    for code, late in sorted({(int(k), float(f)) for k, f in zip(kind, fusion) if k != TORSADE}):
        alike = (kind == code) & (fusion == late)
        middle = float(np.median(mean_ms[alike]))
        beat = beat_of(plan, row, code, late, middle)
        offsets = [0.0, beat.r_peak_ms[0], beat.qrs_ms[0], beat.qrs_ms[0] + beat.jtpeak_ms[0], beat.qt_ms[0]]
        at = beat.onset_ms[0] + np.array(offsets) + np.outer(mean_ms[alike] - middle, _MOVES_WITH_APD)
        rows[alike] = qrs[alike, None] + at / 1000
    marks = dict(zip(_BEAT, rows.T - plan.start_s[row])) if len(qrs) else {}
    if len(qrs) and p.any():
        visible = p_wave_marks(plan.hearts.pose[[row]], plan.atrial_conduction[[row]])[0]
        p_s = trains.p_s[row, : trains.p_waves[row]][p] - plan.start_s[row]
        marks |= {name: p_s + ms / 1000 for name, ms in zip(_P, visible)}
    return marks


def beat_of(plan: StripPlan, row: int, kind: int, fusion_ms: float, mean_ms: float) -> ShownIntervals:
    """What a beat of one row's heart shows, measured on it; arrays ``(1,)``."""
    hearts, targets = plan.hearts, plan.targets
    one = [row]
    shapes = Shapes(
        hearts.pose[one], hearts.scar[one], hearts.injury[one], np.array([kind]), np.array([fusion_ms]),
        targets.slowness[one], targets.phase3_ms[one], targets.dispersion[one],
    )  # fmt: skip
    return measured_beats(shapes, np.array([mean_ms]))
