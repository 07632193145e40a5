"""``modulate``: what is on board -> what it does to the heart.

Concentration -> channel block (Hill, combined over drugs by Bliss) -> repolarisation reserve (a tabulated cell, see
``repolarisation``) and conduction; beside it saturable laws on sinus node, AV node and ectopy, the serum electrolytes,
and the hour of the day. Coefficients are in ``laws.yaml``.

Over arrays of N looks, with B_c the blocked share of channel c and s the person's factors:

    K     = 1 - (1 - B_Kr) ([K]o / 4.2)^0.5, less where magnesium is high:  K (1 + share ([Mg] - 0.85)) where K > 0
    a, d  = repolarisation(K, B_NaL, B_CaL, B_Ks)                      1 and 1 without block
    dQT   = apd (a - 1)
    D     = s_dispersion dispersion (d - 1)
    dTpTe = D + ical_peak B_CaL + max(s_notch max(dQT, 0), -least_notch max(D, 0))
    dJTp  = dQT - dTpTe + calcium ([Ca] - 2.35)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np

from ecg_gym.core import Patient
from ecg_gym.pharmacology.circadian import drifts
from ecg_gym.pharmacology.drugs import CHANNELS, LAW_UNITS, ChannelBlock
from ecg_gym.pharmacology.exposure import Exposure, reference_electrolytes, saturations
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.laws import coefficients
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.repolarisation import repolarisation
from ecg_gym.pharmacology.sensitivity import TYPICAL, Sensitivity

MODULATION = tuple(f.name for f in fields(Modulation))
RESTING_RATE = 60.0  # [bpm] at which use dependence is neutral
_FACTORS = (
    "sinus_rate",
    "av_rate",
    "conduction",
    "atrial_conduction",
    "t_amplitude",
    "ectopy",
    "escape_rate",
    "pathway_rate",
    "contractility",
    "resistance",
)
_SENSITIVITY_OF = {
    "sinus_rate": "sinus_node",
    "pr_ms": "av_node",
    "av_rate": "av_node",
    "av_block": "av_node",
    "reentry_termination_per_hour": "av_node",
}
_CHANNEL_SENSITIVITY = {"IKr": "ikr", "ICaL": "ical", "INaL": "inal", "INa": "ina", "IKs": "iks"}


def modulate(
    exposure: Exposure,
    patient: Patient,
    sensitivity: Sensitivity = TYPICAL,
    clock_hours: float | None = None,
    heart_rate_bpm: float = RESTING_RATE,
) -> Modulation:
    """The ``Modulation`` of one heart. Nothing on board and reference electrolytes give exactly ``Modulation()``.

    ``clock_hours`` (see ``daytime``) adds the drift of the day, ``None`` leaves it out. ``heart_rate_bpm`` matters to
    sodium-channel blockers that bind in use. The patient's own electrolytes are already in ``exposure``.
    """
    clock = None if clock_hours is None else np.array([clock_hours])
    return modulation_of(modulate_many(_as_many(exposure), sensitivity, clock, heart_rate_bpm), 0)


def modulate_many(
    exposure: Exposure,
    sensitivity: Sensitivity = TYPICAL,
    clock_hours: np.ndarray | None = None,
    heart_rate_bpm: float = RESTING_RATE,
) -> Modulation:
    """``modulate`` at N looks: a ``Modulation`` with an array ``(N,)`` in every field, from an ``Exposure`` of N looks.

    ``sensitivity`` is one person's, or has an array ``(N,)`` in every field. No number of a look depends on the others.
    """
    block = _blocks(exposure, sensitivity, heart_rate_bpm)
    law = _laws_now(exposure, sensitivity)
    today: dict[str, Any] = {} if clock_hours is None else drifts(clock_hours)
    today = {name: sensitivity.day * change for name, change in today.items()}
    c = coefficients()
    excess = _potassium_excess(exposure)
    ikr, jtpeak, tpeak_tend = _repolarise(block, exposure, sensitivity)
    slowed = 1 + c.ina * block["INa"]
    columns = {
        "sinus_rate": _clip(
            law["sinus_rate"] * (1 + today.get("sinus_rate", 0.0)), c.sinus_rate_low, c.sinus_rate_high
        ),
        "av_rate": _clip(law["av_rate"], c.av_rate_low, c.av_rate_high),
        "pr_ms": np.maximum(law["pr_ms"] + c.potassium_pr * excess + today.get("pr_ms", 0.0), c.pr_low),
        "av_block": law["av_block"],
        "conduction": law["conduction"]
        / slowed
        / (1 + (excess / c.potassium_scale) ** 2)
        * (1 + today.get("conduction", 0.0)),
        "atrial_conduction": law["atrial_conduction"] / slowed / (1 + (excess / c.potassium_scale_atrial) ** 2),
        "jtpeak_ms": jtpeak + law["jtpeak_ms"] + today.get("jtpeak_ms", 0.0),
        "tpeak_tend_ms": tpeak_tend + law["tpeak_tend_ms"] + today.get("tpeak_tend_ms", 0.0),
        "t_amplitude": law["t_amplitude"] * _t_amplitude(exposure),
        "ectopy": law["ectopy"] * _automaticity(exposure),
        "reentry_termination_per_hour": law["reentry_termination_per_hour"],
        "af_conversion_per_hour": law["af_conversion_per_hour"],
        "vt_termination_per_hour": law["vt_termination_per_hour"],
        "ikr_block": _clip(ikr, 0.0, 1.0),
        "ical_block": block["ICaL"],
        "inal_block": block["INaL"],
        "ina_block": block["INa"],
        "escape_rate": _clip(law["escape_rate"], c.escape_rate_low, c.escape_rate_high),
        "pathway_rate": _clip(law["pathway_rate"], c.pathway_rate_low, c.pathway_rate_high),
        "torsade_termination_per_hour": law["torsade_termination_per_hour"],
        "contractility": _clip(law["contractility"], c.contractility_low, c.contractility_high),
        "resistance": _clip(law["resistance"], c.resistance_low, c.resistance_high),
        "pacing_bpm": law["pacing_bpm"],
        "shock": law["shock"],
    }
    return Modulation(**columns)


def modulation_of(many: Modulation, look: int) -> Modulation:
    """One look out of a ``Modulation`` of many."""
    return Modulation(*(float(getattr(many, name)[look]) for name in MODULATION))


def channel_block(
    exposure: Exposure, sensitivity: Sensitivity = TYPICAL, heart_rate_bpm: float = RESTING_RATE
) -> dict[str, float]:
    """Blocked share of each of CHANNELS, 0 to 1: drugs and metabolites combined as independent (Bliss)."""
    return {c: float(share[0]) for c, share in _blocks(_as_many(exposure), sensitivity, heart_rate_bpm).items()}


def _as_many(exposure: Exposure) -> Exposure:
    return Exposure(*(np.asarray(getattr(exposure, f.name))[None] for f in fields(Exposure)))  # type: ignore[arg-type]


def _blocks(exposure: Exposure, sensitivity: Sensitivity, heart_rate_bpm: float) -> dict[str, np.ndarray]:
    """``channel_block`` of each look ``(N,)``."""
    open_share = {channel: np.ones(len(exposure.effect)) for channel in CHANNELS}
    present = {site: set(np.flatnonzero(getattr(exposure, site).any(axis=0))) for site in ("effect", "metabolite")}
    for binder in _binders():
        site_of = "metabolite" if binder.metabolite else "effect"
        if binder.index not in present[site_of]:
            continue
        free_nm = binder.nanomolar * getattr(exposure, site_of)[:, binder.index]
        for channel, site in binder.channels:
            potency = site.potency * getattr(sensitivity, _CHANNEL_SENSITIVITY[channel])
            potency = potency * (heart_rate_bpm / RESTING_RATE) ** site.use_dependence
            open_share[channel] *= 1 - saturations(free_nm * potency, site.ic50_nm, site.hill)
    return {channel: 1 - share for channel, share in open_share.items()}


@dataclass(frozen=True)
class _Binder:
    index: int  # of the drug in the formulary
    metabolite: bool
    nanomolar: float  # free nM per total ng/mL
    channels: tuple[tuple[str, ChannelBlock], ...]


@cache
def _binders() -> tuple[_Binder, ...]:
    """Every molecule that blocks a channel, ``inal_potency`` times as potent at INaL in people as in vitro."""
    binders = []
    for i, drug in enumerate(FORMULARY.values()):
        if drug.channels:
            binders.append(_Binder(i, False, drug.unbound * 1e3 / drug.molar_mass, _in_people(drug.channels)))
        if drug.metabolite and drug.metabolite.channels:
            m = drug.metabolite
            binders.append(_Binder(i, True, m.unbound * 1e3 / m.molar_mass, _in_people(m.channels)))
    return tuple(binders)


def _in_people(channels: Mapping[str, ChannelBlock]) -> tuple[tuple[str, ChannelBlock], ...]:
    factor = {"INaL": coefficients().inal_potency}
    return tuple((name, replace(site, potency=site.potency * factor.get(name, 1.0))) for name, site in channels.items())


def _laws_now(exposure: Exposure, sensitivity: Sensitivity) -> dict[str, np.ndarray]:
    """All laws at these looks ``(N,)``: factors multiplied, hazards and milliseconds added, block combined."""
    n = len(exposure.plasma)
    value = {name: np.full(n, 1.0 if name in _FACTORS else 0.0) for name in LAW_UNITS}
    for i in np.flatnonzero((exposure.plasma + exposure.effect + exposure.metabolite).any(axis=0)):
        for law in FORMULARY[FORMULARY.names[i]].laws:
            level = getattr(exposure, law.site)[:, i]
            scale = getattr(sensitivity, _SENSITIVITY_OF[law.target]) if law.target in _SENSITIVITY_OF else 1.0
            effect = law.emax * scale * saturations(level, law.ec50, law.hill)
            if law.target in _FACTORS:
                value[law.target] = value[law.target] * np.maximum(1 + effect, 0.05)
            elif law.target == "av_block":
                value[law.target] = 1 - (1 - value[law.target]) * (1 - np.minimum(effect, 1.0))
            else:
                value[law.target] = value[law.target] + effect
    return value


def _repolarise(
    block: dict[str, np.ndarray], exposure: Exposure, sensitivity: Sensitivity
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IKr block after potassium (negative when potassium opens more than drugs close), dJTpeak and dTpeak-Tend [ms]."""
    c, reference = coefficients(), reference_electrolytes()
    potassium = _clip(exposure.potassium, c.potassium_low, c.potassium_high)
    ikr = 1 - (1 - block["IKr"]) * (potassium / reference["potassium"]) ** c.potassium_exponent
    shorter = np.maximum(1 + c.magnesium_share * (exposure.magnesium - reference["magnesium"]), 0.0)
    acting = np.where(ikr > 0, ikr * shorter, ikr)  # magnesium shortens only what is long
    apd, dispersion = repolarisation(acting, block["INaL"], block["ICaL"], block["IKs"])
    longer = c.apd * (apd - 1)
    apart = sensitivity.dispersion * c.dispersion * (dispersion - 1)
    notched = np.maximum(sensitivity.notch * np.maximum(longer, 0.0), -c.least_notch * np.maximum(apart, 0.0))
    tpeak_tend = apart + notched + c.ical_peak * block["ICaL"]
    calcium = c.calcium_jtpeak * (exposure.calcium - reference["calcium"])
    return ikr, longer - tpeak_tend + calcium, tpeak_tend


def _potassium_excess(exposure: Exposure) -> np.ndarray:
    """Potassium above the onset of slow conduction [mmol/L], less what calcium makes up for."""
    c = coefficients()
    protection = c.calcium_protection * np.maximum(exposure.calcium - reference_electrolytes()["calcium"], 0.0)
    return np.maximum(exposure.potassium - c.potassium_onset - protection, 0.0)


def _t_amplitude(exposure: Exposure) -> np.ndarray:
    c = coefficients()
    factor = np.exp(c.t_amplitude_potassium * (exposure.potassium - reference_electrolytes()["potassium"]))
    return _clip(factor, c.t_amplitude_low, c.t_amplitude_high)


def _automaticity(exposure: Exposure) -> np.ndarray:
    """Factor on ectopy from low potassium and from magnesium either way."""
    c, reference = coefficients(), reference_electrolytes()
    lack = np.minimum(exposure.potassium - reference["potassium"], 0.0)
    return np.exp(c.ectopy_potassium * lack + c.ectopy_magnesium * (exposure.magnesium - reference["magnesium"]))


def _clip(value: Any, low: float, high: float) -> np.ndarray:
    return np.minimum(np.maximum(value, low), high)
