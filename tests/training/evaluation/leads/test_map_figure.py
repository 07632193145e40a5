"""The maps of the figure are of the protocol that no fit has seen, the truth first."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.tissue import FitOptions, Spec, fit, hearts
from training.evaluation.leads import map_figure


def test_maps_are_of_the_held_out_protocol() -> None:
    (data,) = hearts("ms", [1003])
    one = fit([Spec("ms")], [data], FitOptions(effort=0.05))[0][0]
    maps, errors = map_figure.maps_of(data, {"discovered": one})
    truth, title = maps
    assert truth == "truth"
    assert title.startswith("discovered: ms/")
    assert f"u by {errors['discovered']['mae']:.3f}" in title
    assert maps["truth"].shape == maps[title].shape == (len(data.graph),)
    assert np.isfinite(maps["truth"]).mean() > 0.9
    assert np.nanmin(maps["truth"]) >= 0


def test_a_heart_that_the_table_does_not_know_is_refused() -> None:
    (data,) = hearts("ms", [999_999])
    with pytest.raises(ValueError, match="the table has no heart"):
        map_figure.discovered(data, FitOptions(effort=0.05))
