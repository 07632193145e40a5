"""``modulate``: what is on board -> what it does to the heart.

Concentration -> channel block (Hill, combined over drugs by Bliss) -> repolarisation and conduction; beside it
saturable laws on sinus node, AV node and ectopy, the serum electrolytes, and the hour of the day. Coefficients are in
``laws.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp

import numpy as np

from ecg_gym.core import Patient
from ecg_gym.pharmacology.daytime import drift
from ecg_gym.pharmacology.drugs import CHANNELS, LAW_UNITS, ChannelBlock
from ecg_gym.pharmacology.exposure import Exposure, reference_electrolytes, saturation
from ecg_gym.pharmacology.formulary import FORMULARY
from ecg_gym.pharmacology.laws import coefficients
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.pharmacology.sensitivity import TYPICAL, Sensitivity

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
)
_SENSITIVITY_OF = {
    "sinus_rate": "sinus_node",
    "pr_ms": "av_node",
    "av_rate": "av_node",
    "av_block": "av_node",
    "reentry_termination_per_hour": "av_node",
}
_CHANNEL_SENSITIVITY = {"IKr": "ikr", "ICaL": "ical", "INaL": "inal", "INa": "ina"}


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
    block = channel_block(exposure, sensitivity, heart_rate_bpm)
    law = _laws_now(exposure, sensitivity)
    today = {name: sensitivity.day * change for name, change in _today(clock_hours).items()}
    c = coefficients()
    excess = _potassium_excess(exposure)
    ikr, jtpeak, tpeak_tend = _repolarise(block, exposure, sensitivity)
    return Modulation(
        sinus_rate=_clip(law["sinus_rate"] * (1 + today.get("sinus_rate", 0.0)), c.sinus_rate_low, c.sinus_rate_high),
        av_rate=_clip(law["av_rate"], c.av_rate_low, c.av_rate_high),
        pr_ms=max(law["pr_ms"] + c.potassium_pr * excess + today.get("pr_ms", 0.0), c.pr_low),
        av_block=law["av_block"],
        conduction=law["conduction"]
        / (1 + c.ina * block["INa"])
        / (1 + (excess / c.potassium_scale) ** 2)
        * (1 + today.get("conduction", 0.0)),
        atrial_conduction=law["atrial_conduction"]
        / (1 + c.ina * block["INa"])
        / (1 + (excess / c.potassium_scale_atrial) ** 2),
        jtpeak_ms=jtpeak + law["jtpeak_ms"] + today.get("jtpeak_ms", 0.0),
        tpeak_tend_ms=tpeak_tend + law["tpeak_tend_ms"] + today.get("tpeak_tend_ms", 0.0),
        t_amplitude=law["t_amplitude"] * _t_amplitude(exposure),
        ectopy=law["ectopy"] * _automaticity(exposure),
        reentry_termination_per_hour=law["reentry_termination_per_hour"],
        af_conversion_per_hour=law["af_conversion_per_hour"],
        vt_termination_per_hour=law["vt_termination_per_hour"],
        ikr_block=_clip(ikr, 0.0, 1.0),
        ical_block=block["ICaL"],
        inal_block=block["INaL"],
        ina_block=block["INa"],
        escape_rate=_clip(law["escape_rate"], c.escape_rate_low, c.escape_rate_high),
        pathway_rate=_clip(law["pathway_rate"], c.pathway_rate_low, c.pathway_rate_high),
        torsade_termination_per_hour=law["torsade_termination_per_hour"],
    )


def channel_block(
    exposure: Exposure, sensitivity: Sensitivity = TYPICAL, heart_rate_bpm: float = RESTING_RATE
) -> dict[str, float]:
    """Blocked share of IKr, ICaL, INaL and INa, 0 to 1: drugs and metabolites combined as independent (Bliss)."""
    open_share = dict.fromkeys(CHANNELS, 1.0)
    for binder in _binders():
        level = float((exposure.metabolite if binder.metabolite else exposure.effect)[binder.index])
        if level <= 0:
            continue
        free_nm = binder.nanomolar * level
        for channel, site in binder.channels:
            potency = site.potency * getattr(sensitivity, _CHANNEL_SENSITIVITY[channel])
            potency *= (heart_rate_bpm / RESTING_RATE) ** site.use_dependence
            open_share[channel] *= 1 - saturation(free_nm * potency, site.ic50_nm, site.hill)
    return {channel: 1 - share for channel, share in open_share.items()}


@dataclass(frozen=True)
class _Binder:
    index: int  # of the drug in the formulary
    metabolite: bool
    nanomolar: float  # free nM per total ng/mL
    channels: tuple[tuple[str, ChannelBlock], ...]


@cache
def _binders() -> tuple[_Binder, ...]:
    """Every molecule that blocks a channel."""
    binders = []
    for i, drug in enumerate(FORMULARY.values()):
        if drug.channels:
            binders.append(_Binder(i, False, drug.unbound * 1e3 / drug.molar_mass, tuple(drug.channels.items())))
        if drug.metabolite and drug.metabolite.channels:
            m = drug.metabolite
            binders.append(_Binder(i, True, m.unbound * 1e3 / m.molar_mass, tuple(m.channels.items())))
    return tuple(binders)


def _laws_now(exposure: Exposure, sensitivity: Sensitivity) -> dict[str, float]:
    """All laws at these concentrations: factors multiplied, hazards and milliseconds added, block combined."""
    value = {name: 1.0 if name in _FACTORS else 0.0 for name in LAW_UNITS}
    for i in np.flatnonzero(exposure.plasma + exposure.effect + exposure.metabolite):
        for law in FORMULARY[FORMULARY.names[i]].laws:
            level = float(getattr(exposure, law.site)[i])
            scale = getattr(sensitivity, _SENSITIVITY_OF[law.target]) if law.target in _SENSITIVITY_OF else 1.0
            effect = law.emax * scale * saturation(level, law.ec50, law.hill)
            if law.target in _FACTORS:
                value[law.target] *= max(1 + effect, 0.05)
            elif law.target == "av_block":
                value[law.target] = 1 - (1 - value[law.target]) * (1 - min(effect, 1.0))
            else:
                value[law.target] += effect
    return value


def _repolarise(block: dict[str, float], exposure: Exposure, sensitivity: Sensitivity) -> tuple[float, float, float]:
    """IKr block after potassium (negative when potassium opens more than drugs close), dJTpeak and dTpeak-Tend [ms].

    K = 1 - (1 - B_IKr) sqrt([K]o / 4.2), f(K) = K / (1 - 0.76 K).
    """
    c, reference = coefficients(), reference_electrolytes()
    potassium = _clip(exposure.potassium, c.potassium_low, c.potassium_high)
    ikr = 1 - (1 - block["IKr"]) * (potassium / reference["potassium"]) ** c.potassium_exponent
    strength = ikr / (1 - c.saturation * ikr)
    if strength > 0:  # magnesium shortens only what is long
        strength *= max(1 + c.magnesium_share * (exposure.magnesium - reference["magnesium"]), 0.0)
    moved = sensitivity.notch * (c.ikr_jtpeak + c.ikr_tpeak_tend) * strength
    jtpeak = c.ikr_jtpeak * strength - moved + c.ical_jtpeak * block["ICaL"] + c.inal_jtpeak * block["INaL"]
    jtpeak += c.calcium_jtpeak * (exposure.calcium - reference["calcium"])
    return ikr, jtpeak, c.ikr_tpeak_tend * strength + moved + c.ical_tpeak_tend * block["ICaL"]


def _potassium_excess(exposure: Exposure) -> float:
    """Potassium above the onset of slow conduction [mmol/L], less what calcium makes up for."""
    c = coefficients()
    protection = c.calcium_protection * max(exposure.calcium - reference_electrolytes()["calcium"], 0.0)
    return max(exposure.potassium - c.potassium_onset - protection, 0.0)


def _t_amplitude(exposure: Exposure) -> float:
    c = coefficients()
    factor = exp(c.t_amplitude_potassium * (exposure.potassium - reference_electrolytes()["potassium"]))
    return _clip(factor, c.t_amplitude_low, c.t_amplitude_high)


def _automaticity(exposure: Exposure) -> float:
    """Factor on ectopy from low potassium and from magnesium either way."""
    c, reference = coefficients(), reference_electrolytes()
    lack = min(exposure.potassium - reference["potassium"], 0.0)
    return exp(c.ectopy_potassium * lack + c.ectopy_magnesium * (exposure.magnesium - reference["magnesium"]))


def _today(clock_hours: float | None) -> dict[str, float]:
    return {} if clock_hours is None else drift(clock_hours)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
