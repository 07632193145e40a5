"""Is the pharmacology right outside the trial it was calibrated on? Published effects beside ours, without waveforms.

For the typical person; ``ecg_gym/pharmacology/checks.yaml`` holds what was reported and where. A check that a figure of
the formulary was set by is marked ``fitted``; only the others say something about foresight. Beside the count stands
what "no effect" would score.
"""

from __future__ import annotations

from typing import Any

from ecg_gym.pharmacology.published_effects import outcomes

SHOWN = ("id", "unit", "low", "high", "ours", "inside", "fitted", "confidence")  # columns of the printed table


def study() -> dict[str, Any]:
    """The study's document; ``rows`` has one entry per check, ``metrics`` how many lie inside."""
    result = outcomes()
    fresh = [o for o in result if not o.check.in_sample]
    return {
        "study": "pharmacology",
        "metrics": {
            "inside": sum(o.inside for o in result),
            "of": len(result),
            "inside_not_fitted": sum(o.inside for o in fresh),
            "of_not_fitted": len(fresh),
            "no_effect_inside": sum(o.check.low <= 0 <= o.check.high for o in result),
            "no_effect_inside_not_fitted": sum(o.check.low <= 0 <= o.check.high for o in fresh),
        },
        "rows": [o.as_row() for o in result],
    }
