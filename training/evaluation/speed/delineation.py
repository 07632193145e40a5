"""How much faster a batch of strips is delineated than NeuroKit2's ``dwt`` does it, in one run, CPU time of one core.

    python -m training.evaluation.speed.delineation [--json]

Ours measures all leads of 64 strips (12 leads, 10 s, 500 Hz) in one call, filters and R peaks included; NeuroKit2 gets
lead II alone, cleaned by itself, with our R peaks for free, strip by strip. Rounds alternate, and the ratio of a round
is that of its times per strip.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import numpy as np

from ecg_gym.core import ECG, LEADS
from ecg_gym.virtual_patient import draw_heart, synthesise
from ecg_gym.waveform import find_r_peaks, measure

ROUNDS, BATCH, PEERS = 5, 64, 8
RATE_HZ = 500.0


def ratio() -> dict[str, Any]:
    """Milliseconds per strip of both, and how many times faster ours is: median and range of rounds."""
    signal = _strips()
    ecg = ECG(signal, RATE_HZ)
    peaks = find_r_peaks(ecg)
    some = [i for i in range(BATCH) if len(peaks[i]) >= 3][:PEERS]
    measure(ecg)
    _peer(signal[some[0]], peaks[some[0]])
    ours, theirs = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        measure(ecg)
        ours.append(1000 * (time.process_time() - start) / BATCH)
        start = time.process_time()
        for i in some:
            _peer(signal[i], peaks[i])
        theirs.append(1000 * (time.process_time() - start) / len(some))
    times = np.array(theirs) / ours
    return {
        "benchmark": "delineation",
        "batch": BATCH,
        "peer": 'neurokit2.ecg_delineate(method="dwt"), lead II only',
        "ms": round(float(np.median(ours)), 3),
        "peer_ms": round(float(np.median(theirs)), 2),
        "times_faster": round(float(np.median(times)), 1),
        "lowest": round(float(times.min()), 1),
        "highest": round(float(times.max()), 1),
    }


def _strips() -> np.ndarray:
    """``(BATCH, 12, 5000)`` [mV] of virtual people, any rhythm that has beats."""
    rng = np.random.default_rng(0)
    return np.stack([synthesise(draw_heart(rng), rng=rng, rate_hz=RATE_HZ)[0] for _ in range(BATCH)])


def _peer(signal: np.ndarray, peaks: np.ndarray) -> None:
    """NeuroKit2 on lead II of one strip ``(12, T)``; what it cannot do still took its time."""
    import neurokit2

    lead = signal[LEADS.index("II")].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clean = neurokit2.ecg_clean(lead, sampling_rate=int(RATE_HZ))
            neurokit2.ecg_delineate(clean, peaks, sampling_rate=int(RATE_HZ), method="dwt")
        except Exception:  # it raises whatever it stumbles over
            return


if __name__ == "__main__":
    document = ratio()
    if "--json" in sys.argv[1:]:
        print(json.dumps(document, indent=2))
    else:
        line = "{ms:.2f} ms a strip in a batch of {batch}, NeuroKit2's dwt {peer_ms:.1f} ms on lead II alone: "
        print((line + "{times_faster} times [{lowest}, {highest}]").format(**document))
