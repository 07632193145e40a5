"""The coefficients of ``laws.yaml`` as frozen data, each checked for its unit once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

from ecg_gym.pharmacology.constants import Block, read_table

_UNITS = {
    "repolarisation": {
        "apd": "ms",
        "dispersion": "ms",
        "ical_peak": "ms",
        "inal_potency": "1",
        "least_notch": "1",
        "potassium_exponent": "1",
        "potassium_low": "mmol/L",
        "potassium_high": "mmol/L",
        "calcium_jtpeak": "ms L/mmol",
        "magnesium_share": "L/mmol",
        "t_amplitude_potassium": "L/mmol",
        "t_amplitude_low": "1",
        "t_amplitude_high": "1",
    },
    "conduction": {
        "ina": "1",
        "potassium_onset": "mmol/L",
        "potassium_scale": "mmol/L",
        "potassium_scale_atrial": "mmol/L",
        "potassium_pr": "ms L/mmol",
        "calcium_protection": "1",
    },
    "automaticity": {"ectopy_potassium": "L/mmol", "ectopy_magnesium": "L/mmol"},
    "limits": {
        "sinus_rate_low": "1",
        "sinus_rate_high": "1",
        "av_rate_low": "1",
        "av_rate_high": "1",
        "pr_low": "ms",
        "escape_rate_low": "1",
        "escape_rate_high": "1",
        "pathway_rate_low": "1",
        "pathway_rate_high": "1",
        "contractility_low": "1",
        "contractility_high": "1",
        "resistance_low": "1",
        "resistance_high": "1",
    },
}


@dataclass(frozen=True)
class Coefficients:
    """All of them, by the names of the table; its comments say what each does."""

    apd: float
    dispersion: float
    ical_peak: float
    inal_potency: float
    least_notch: float
    potassium_exponent: float
    potassium_low: float
    potassium_high: float
    calcium_jtpeak: float
    magnesium_share: float
    t_amplitude_potassium: float
    t_amplitude_low: float
    t_amplitude_high: float
    ina: float
    potassium_onset: float
    potassium_scale: float
    potassium_scale_atrial: float
    potassium_pr: float
    calcium_protection: float
    ectopy_potassium: float
    ectopy_magnesium: float
    sinus_rate_low: float
    sinus_rate_high: float
    av_rate_low: float
    av_rate_high: float
    pr_low: float
    escape_rate_low: float
    escape_rate_high: float
    pathway_rate_low: float
    pathway_rate_high: float
    contractility_low: float
    contractility_high: float
    resistance_low: float
    resistance_high: float


@cache
def coefficients() -> Coefficients:
    """The shipped table."""
    table = Block.of("laws", read_table("laws.yaml"))
    values: dict[str, float] = {}
    for section, units in _UNITS.items():
        block = table.block(section)
        block.expect(set(units))
        values |= {name: block.number(name, unit) for name, unit in units.items()}
    assert set(values) == {f.name for f in fields(Coefficients)}
    return Coefficients(**values)
