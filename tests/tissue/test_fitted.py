"""The fitted tissue: its maps, its knob, its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg_gym.tissue.default import default_tissue, fit_default
from ecg_gym.tissue.fitted import FittedTissue, beat_maps, simulate_beat
from ecg_gym.virtual_patient.activation import ventricular_map
from ecg_gym.virtual_patient.excitation import EIKONAL


def test_the_packaged_tissue_is_the_one_that_the_code_makes() -> None:
    assert fit_default().key == default_tissue().key


def test_its_normal_beat_is_close_to_the_maps_it_was_fitted_to() -> None:
    tissue, fire = default_tissue(), ventricular_map("normal")
    own = tissue.activation_ms("normal", 1.0)
    assert float(np.corrcoef(own, fire)[0, 1]) > 0.97
    assert float(np.ptp(own)) == pytest.approx(float(np.ptp(fire)), rel=0.03)
    assert float(np.abs(tissue.longer_ms() - EIKONAL.longer_ms()).mean()) < 2.0


def test_beats_it_was_not_fitted_to_travel_like_the_eikonal_models() -> None:
    tissue = default_tissue()
    for kind in ("lbbb", "rbbb", "paced", "ectopic_rvot"):
        assert float(np.corrcoef(tissue.activation_ms(kind, 1.0), ventricular_map(kind))[0, 1]) > 0.9


@pytest.mark.parametrize("slowness", [0.8, 1.25, 1.6, 4.0])
def test_slowness_is_what_it_says(slowness: float) -> None:
    tissue = default_tissue()
    spans = [float(np.ptp(tissue.activation_ms("normal", s))) for s in (1.0, slowness)]
    assert spans[1] / spans[0] == pytest.approx(slowness, rel=0.02)


def test_a_pre_excited_beat_is_a_race() -> None:
    tissue = default_tissue()
    late, early = (np.ptp(tissue.activation_ms("preexcited", 1.0, f)) for f in (200.0, 0.0))
    assert early < late


@pytest.mark.parametrize("change", [-30.0, 40.0])
def test_the_knob_changes_every_action_potential_as_asked(change: float) -> None:
    tissue = default_tissue()
    (fire,), (before,) = simulate_beat(tissue, "normal", (1.0,))
    (later,), (after,) = simulate_beat(tissue.with_apd(change), "normal", (1.0,))
    np.testing.assert_allclose(later - later.min(), fire - fire.min(), atol=0.5)
    assert float((after - before).mean()) == pytest.approx(change, abs=2.0)
    assert float((after - before).std()) < 3.0


def test_a_file_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "tissue.safetensors"
    default_tissue().save(path)
    again = FittedTissue.load(path)
    assert again == default_tissue()
    assert hash(again) == hash(default_tissue())
    np.testing.assert_array_equal(beat_maps(again, "normal")[1], beat_maps(default_tissue(), "normal")[1])


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tissue.safetensors"
    path.write_bytes(b"no tissue at all, but more than eight bytes")
    with pytest.raises(ValueError, match="expected one written by"):
        FittedTissue.load(path)


def test_what_does_not_fit_the_graph_is_refused() -> None:
    tissue = default_tissue()
    with pytest.raises(ValueError, match="nodes and edges"):
        FittedTissue("ms", tissue.values, tissue.knob[:5], tissue.conductance)
    with pytest.raises(ValueError, match="not positive"):
        FittedTissue("ms", tissue.values, -tissue.knob, tissue.conductance)
    with pytest.raises(ValueError, match="reaction"):
        FittedTissue("neural", {}, tissue.knob, tissue.conductance)
