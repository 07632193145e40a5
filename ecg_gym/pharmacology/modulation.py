"""What drugs, electrolytes and the hour of the day do to a heart: the only words pharmacology may say to a heart.

The virtual patient and the McSharry prior both listen to a ``Modulation``; neither knows a drug by name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Modulation:
    """Changes relative to the same heart with nothing on board, K+ 4.2 mmol/L, at rest. The default changes nothing."""

    # rate
    sinus_rate: float = 1.0  # factor on the sinus rate
    av_rate: float = 1.0  # factor on the ventricular rate the AV node lets through in AF or flutter
    pr_ms: float = 0.0  # added AV delay [ms]
    av_block: float = 0.0  # 0 none .. 1 complete: probability-like strength of AV-nodal block (adenosine, overdose)
    # depolarisation
    conduction: float = 1.0  # factor on ventricular conduction velocity (sodium block, hyperkalaemia)
    atrial_conduction: float = 1.0  # factor on atrial conduction velocity and P amplitude
    # repolarisation
    jtpeak_ms: float = 0.0  # change of J-Tpeak at fixed rate [ms]
    tpeak_tend_ms: float = 0.0  # change of Tpeak-Tend [ms]
    t_amplitude: float = 1.0  # factor on T amplitude beyond what the two intervals imply (potassium)
    # ectopy and automaticity
    ectopy: float = 1.0  # factor on the rate of ventricular ectopic beats and runs
    reentry_termination_per_hour: float = 0.0  # hazard of ending an AV-node-dependent tachycardia [1/h]
    af_conversion_per_hour: float = 0.0  # hazard of converting AF to sinus rhythm [1/h]
    vt_termination_per_hour: float = 0.0  # hazard of ending a run of VT [1/h]
    # the state of the channels, for the hazard of torsade
    ikr_block: float = 0.0  # 0..1, after potassium
    ical_block: float = 0.0  # 0..1
    inal_block: float = 0.0  # 0..1
    ina_block: float = 0.0  # 0..1
    # rhythms that need words of their own
    escape_rate: float = 1.0  # factor on the rate of a focus that takes over when nothing is conducted
    pathway_rate: float = 1.0  # factor on the ventricular rate an accessory pathway lets through in AF
    torsade_termination_per_hour: float = 0.0  # hazard of ending a bout of torsade [1/h]
    # the circulation, which no strip shows, and what is done to a heart from outside
    contractility: float = 1.0  # factor on the strength of the ventricle
    resistance: float = 1.0  # factor on the resistance of the vessels
    pacing_bpm: float = 0.0  # a pacemaker on demand fires at this rate [1/min]; 0 is none
    shock: float = 0.0  # 0..1: a shock was delivered within this minute


CIRCULATION = ("contractility", "resistance", "pacing_bpm", "shock")  # fields that the McSharry prior has no use for
REST = Modulation()
