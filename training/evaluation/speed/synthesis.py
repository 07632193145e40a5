"""How much faster the virtual patient draws an ECG than NeuroKit2 does, side by side in one run, CPU time of one core.

    python -m training.evaluation.speed.synthesis [--json]

Ours is 12 leads that obey Einthoven, with noise and the truth of every beat; NeuroKit2's ``method="multileads"`` is
twelve independent McSharry sums without truth. Both 10 s at 500 Hz. Rounds alternate, and the ratio of a round is that
of its medians.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ecg_gym.virtual_patient import draw_heart, synthesise

ROUNDS, PEOPLE, REPLICATES, PEERS = 5, 40, 5, 3
RATE_HZ, SECONDS = 500.0, 10.0


def ratios() -> dict[str, Any]:
    """Milliseconds per strip of each way, and how many times faster than NeuroKit2: median and range of rounds."""
    import neurokit2

    rng = np.random.default_rng(0)
    for _ in range(60 * PEOPLE):  # poses and their tables are made once per process
        synthesise(draw_heart(rng, healthy=True), rng=rng, rate_hz=RATE_HZ)

    def peer() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            neurokit2.ecg_simulate(duration=SECONDS, sampling_rate=int(RATE_HZ), method="multileads")

    def healthy() -> None:
        synthesise(draw_heart(rng, healthy=True), rng=rng, rate_hz=RATE_HZ, seconds=SECONDS)

    def anybody() -> None:
        synthesise(draw_heart(rng), rng=rng, rate_hz=RATE_HZ, seconds=SECONDS)

    person = draw_heart(rng, healthy=True)

    def replicate() -> None:
        synthesise(person, rng=rng, rate_hz=RATE_HZ, seconds=SECONDS)

    peer()
    ways = {"a strip more of one person": replicate, "a new volunteer": healthy, "anybody, any rhythm": anybody}
    ours: dict[str, list[float]] = {name: [] for name in ways}
    theirs = []
    for _ in range(ROUNDS):
        theirs.append(_ms(peer, PEERS))
        for name, way in ways.items():
            ours[name].append(_ms(way, PEOPLE * REPLICATES))
    rows = []
    for name, seconds in ours.items():
        times = np.array(theirs) / seconds
        rows.append({
            "what": name, "ms": round(float(np.median(seconds)), 3), "peer_ms": round(float(np.median(theirs)), 1),
            "times_faster": round(float(np.median(times))), "lowest": round(float(times.min())),
            "highest": round(float(times.max())),
        })  # fmt: skip
    return {"benchmark": "synthesis", "peer": 'neurokit2.ecg_simulate(method="multileads")', "rows": rows}


def _ms(work: Callable[[], None], times: int) -> float:
    """Median CPU milliseconds of one call."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return 1000 * float(np.median(seconds))


if __name__ == "__main__":
    document = ratios()
    if "--json" in sys.argv[1:]:
        print(json.dumps(document, indent=2))
    else:
        line = "{what:28s} {ms:7.2f} ms, NeuroKit2 {peer_ms:6.0f} ms: {times_faster} times [{lowest}, {highest}]"
        for row in document["rows"]:
            print(line.format(**row))
