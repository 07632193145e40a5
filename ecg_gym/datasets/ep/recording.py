"""``EPRecording``: where the sites lie, what they recorded, who was paced when. Checked when it is made, trusted after.

Kinds of recording:

* ``voltage``: membrane voltage or its optical surrogate, 0 at rest and about 1 at the plateau (unit ``1``)
* ``electrogram``: unipolar potentials on the tissue (unit ``mV``)
* ``electrodes``: potentials at a distance (torso, catheter), with a lead field to the nodes of the tissue (``mV``)
* ``times``: activation and repolarisation times only (unit ``ms``)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS = {"voltage": "1", "electrogram": "mV", "electrodes": "mV", "times": "ms"}  # kind -> unit
EXTENT_MM = (2.0, 600.0)  # [mm] from a culture dish of cells to a torso; outside, the unit of length is wrong
LARGEST_MV = 300.0  # [mV] no electrode in or on a body records more: larger values are uV that were called mV
LARGEST_RATE_HZ = 1e5


@dataclass(frozen=True)
class SitePacing:
    """The stimuli of one protocol: a set of sites and an onset for each."""

    sites: tuple[tuple[int, ...], ...]  # indices of nodes (of sites, where there are no separate nodes)
    onset_ms: tuple[float, ...]  # [ms] from the first sample


@dataclass(frozen=True, eq=False)
class EPRecording:
    """P protocols recorded at M sites. ``ValueError`` with what arrived, what was expected, and what to do."""

    kind: str  # one of KINDS
    position: np.ndarray  # (M, 3) float64 [mm]
    rate_hz: float  # [Hz]
    signal: np.ndarray | None = None  # (P, M, T) float32 [unit of the kind]; a site that was not recorded is NaN
    times: np.ndarray | None = None  # (P, M, beats, 2) [ms] activation and repolarisation; NaN where there is none
    pacing: tuple[SitePacing, ...] = ()  # one per protocol, or none
    triangles: np.ndarray | None = None  # (F, 3) int, corners among ``vertices`` or else ``position``
    vertices: np.ndarray | None = None  # (V, 3) float64 [mm] of a surface that is not made of the sites
    nodes: np.ndarray | None = None  # (N, 3) float64 [mm] of the tissue, where it is not the sites
    lead_field: np.ndarray | None = None  # (M, N) potential at a site per unit of u on a node
    surface: str = ""  # what was mapped: one word, "sock", "endocardium" ...

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {tuple(KINDS)}; correct meta.yaml")
        if not isinstance(self.rate_hz, int | float) or not 0 < self.rate_hz <= LARGEST_RATE_HZ:
            raise ValueError(
                f"rate_hz is {self.rate_hz!r}; expected samples per second, up to {LARGEST_RATE_HZ:g}; correct it"
            )
        _check_points("positions", self.position)
        for name in ("vertices", "nodes"):
            if (points := getattr(self, name)) is not None:
                _check_points(name, points)
        self._check_signal()
        self._check_times()
        self._check_pacing()
        self._check_geometry()

    @property
    def protocols(self) -> int:
        """P."""
        return len(self.signal if self.signal is not None else self.times)  # type: ignore[arg-type]

    @property
    def tissue_position(self) -> np.ndarray:
        """``(N, 3)`` [mm] nodes of the tissue: ``nodes`` if there are any, the sites otherwise."""
        return self.position if self.nodes is None else self.nodes

    @property
    def recorded(self) -> np.ndarray:
        """``(M,)`` bool: sites with a value in every protocol."""
        if self.signal is not None:
            return np.isfinite(self.signal).all(axis=(0, 2))
        assert self.times is not None
        return np.isfinite(self.times[..., 0, 0]).all(axis=0)

    def _check_signal(self) -> None:
        if (self.signal is None) != (self.kind == "times"):
            raise ValueError(
                f"kind is {self.kind!r} and signals are {'absent' if self.signal is None else 'given'}; "
                "expected signals "
                "for every kind but 'times'; add signals.npy or correct the kind"
            )
        if self.signal is None:
            return
        m = len(self.position)
        if self.signal.ndim != 3 or self.signal.shape[1] != m or self.signal.shape[2] < 2:
            hint = (
                "it looks transposed: swap its last two axes" if self.signal.shape[-1:] == (m,) else "check the sites"
            )
            raise ValueError(
                f"signals have shape {self.signal.shape}; expected ({m} sites, samples) or (protocols, {m}, "
                f"samples); {hint}"
            )
        partly = np.isfinite(self.signal).any(axis=2) & ~np.isfinite(self.signal).all(axis=2)
        if partly.any():
            raise ValueError(
                f"{int(partly.sum())} signals have single values that are not finite; expected whole sites or "
                "none; fill "
                "the gaps, or set the site to NaN throughout"
            )
        if not np.isfinite(self.signal).any():
            raise ValueError("no signal has a finite value; expected at least one site; check the file")
        if KINDS[self.kind] == "mV" and (top := float(np.nanmax(np.abs(self.signal)))) > LARGEST_MV:
            raise ValueError(
                f"potentials reach {top:.0f} mV; expected at most {LARGEST_MV:g} mV; they are probably in uV: say "
                "unit: uV"
            )
        if self.kind == "voltage" and (top := float(np.nanmax(np.abs(self.signal)))) > 2:
            raise ValueError(
                f"voltages reach {top:.3g}; expected about 0 at rest to 1 at the plateau; normalise them, or read them "
                "with convert_optical"
            )

    def _check_times(self) -> None:
        if self.times is None:
            if self.kind == "times":
                raise ValueError("kind is 'times' and there are no times; expected times.npy; add it")
            return
        m = len(self.position)
        if self.times.ndim != 4 or self.times.shape[1] != m or self.times.shape[3] != 2:
            raise ValueError(
                f"times have shape {self.times.shape}; expected (protocols, {m} sites, beats, 2: activation and "
                "repolarisation) in ms; add or move axes"
            )
        activation, repolarisation = self.times[..., 0], self.times[..., 1]
        if not np.isfinite(activation).any():
            raise ValueError("no time of activation is finite; expected at least one; check the file")
        with np.errstate(invalid="ignore"):
            wrong = int(np.sum(repolarisation <= activation))
        if wrong:
            raise ValueError(
                f"{wrong} sites repolarise before they activate; expected activation first; swap the last axis"
            )

    def _check_pacing(self) -> None:
        if not self.pacing:
            return
        if len(self.pacing) != self.protocols:
            raise ValueError(
                f"pacing has {len(self.pacing)} protocols and the recording {self.protocols}; expected one "
                "each; add or "
                "remove some"
            )
        n = len(self.tissue_position)
        for protocol in self.pacing:
            if len(protocol.sites) != len(protocol.onset_ms) or not protocol.sites:
                raise ValueError(
                    f"pacing has {len(protocol.sites)} sets of sites and {len(protocol.onset_ms)} onsets; expected one "
                    "onset for each set; correct meta.yaml"
                )
            if any(not sites or min(sites) < 0 or max(sites) >= n for sites in protocol.sites):
                raise ValueError(
                    f"pacing names sites outside 0..{n - 1} or none; expected indices of sites; correct it"
                )

    def _check_geometry(self) -> None:
        corners = len(self.position if self.vertices is None else self.vertices)
        if self.triangles is not None:
            shape = self.triangles.shape
            if len(shape) != 2 or shape[1] != 3 or self.triangles.min() < 0 or self.triangles.max() >= corners:
                raise ValueError(
                    f"triangles have shape {shape}; expected (F, 3) indices 0..{corners - 1}; subtract one if "
                    "they begin "
                    "with 1"
                )
        if self.kind == "electrodes":
            expected = (len(self.position), len(self.nodes)) if self.nodes is not None else None
            if self.lead_field is None or expected is None or self.lead_field.shape != expected:
                raise ValueError(
                    f"the lead field is {None if self.lead_field is None else self.lead_field.shape}; expected "
                    f"{expected or '(sites, nodes)'} with nodes.csv; potentials at a distance need both"
                )


def _check_points(name: str, points: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 3:
        raise ValueError(
            f"{name} have shape {points.shape}; expected at least 3 rows of x, y, z in mm; check the columns"
        )
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ValueError(
            f"row {row} of the {name} is not finite; expected x, y, z in mm; remove the row and its signal"
        )
    extent = float(np.linalg.norm(np.ptp(points, axis=0)))
    if not EXTENT_MM[0] <= extent <= EXTENT_MM[1]:
        raise ValueError(
            f"the {name} extend over {extent:.3g} mm; expected {EXTENT_MM[0]:g} to {EXTENT_MM[1]:g} mm; they "
            "are probably "
            "in another unit: say length_unit: cm (or m, um)"
        )
    if len(np.unique(points.round(6), axis=0)) < len(points):
        raise ValueError(f"two {name} are the same point; expected different ones; remove one and its signal")


def as_pacing(rows: Sequence[Sequence[tuple[Sequence[int], float]]]) -> tuple[SitePacing, ...]:
    """Pacing from ``[[(sites, onset_ms), ...], ...]``, one list of stimuli for each protocol."""
    return tuple(
        SitePacing(
            tuple(tuple(int(site) for site in sites) for sites, _ in row), tuple(float(onset) for _, onset in row)
        )
        for row in rows
    )
