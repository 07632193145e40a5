"""Importing: every name and shape is checked, only numbers come through, and the file says where they are from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign import pulse_train, random_tensors, save_torch

from ecg_gym import checkpoint
from ecg_gym.foreign import ecg_fm, ecgfounder
from ecg_gym.foreign.importing import FOREIGN, MEASURED, foreign_named, import_weights
from ecg_gym.world_model import diffusets_vae

FOUNDER = ecgfounder.FounderConfig(widths=(8, 12), blocks=(1, 2), group_width=4, tasks=150)
FM = ecg_fm.FMConfig(features=8, width=24, hidden=40, layers=1, heads=4, positions=16, groups=3)
CODEC = diffusets_vae.DiffuSETSConfig(widths=(8, 12, 16), groups=4)


class Unknown:
    """Stands for a configuration of a library that is not here."""


def founder_file(path: Path, **changes: np.ndarray | None) -> tuple[Path, ecgfounder.FounderNet]:
    network = ecgfounder.FounderNet(FOUNDER)
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()} | ecgfounder.unused_shapes(network)
    tensors = {**random_tensors(shapes, 1), **{k.replace("__", "."): v for k, v in changes.items()}}
    tensors = {k: v for k, v in tensors.items() if v is not None}
    return save_torch(path, {"step": 10, "state_dict": tensors, "optimizer": {"lr": 0.1}}), network


def fm_file(path: Path, spelling: tuple[str, str], **more: Any) -> Path:
    shapes = {k: tuple(v.shape) for k, v in ecg_fm.FMNet(FM).state_dict().items()}
    place = "encoder.conv_pos.pos_conv.0."
    whole = shapes.pop(place + "weight")
    numbers = random_tensors({**shapes, "g": (1, 1, whole[2]), "v": whole}, 2)
    numbers |= {place + spelling[0]: numbers.pop("g"), place + spelling[1]: numbers.pop("v"), **more}
    return save_torch(path, {"cfg": Unknown(), "model": numbers})


def test_a_founder_file_gives_the_network_with_its_numbers_and_says_where_they_are_from(tmp_path) -> None:
    path, network = founder_file(tmp_path / "f.pth")
    out = tmp_path / "weights" / "ecgfounder.safetensors"
    sha256 = import_weights(path, "ecgfounder", out, network=network)
    judge = ecgfounder.ECGFounder.load(out)
    assert judge.sha256 == sha256
    source = judge.metadata["data"]["sources"][0]
    assert (source["licence"], source["sha256"]) == ("MIT", checkpoint.sha256(path))
    assert "doi:10.1056" in judge.metadata["citation"]
    for key, value in torch.load(path)["state_dict"].items():
        if key in judge.network.state_dict():
            assert torch.equal(judge.network.state_dict()[key], value), key
    assert judge.probabilities(pulse_train(1)).shape == (1, 17)


def test_numbers_that_are_stored_and_not_used_change_nothing(tmp_path) -> None:
    rows = []
    for name, change in (("a", {}), ("b", {"first_bn__running_var": np.full(8, 99, np.float32)})):
        path, network = founder_file(tmp_path / f"{name}.pth", **change)
        import_weights(path, "ecgfounder", tmp_path / f"{name}.safetensors", network=network)
        stored = checkpoint.load(tmp_path / f"{name}.safetensors", "ecgfounder")
        assert not any("bn" in key for key in stored.tensors)
        rows.append(checkpoint.tensors_sha256(stored.tensors))
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dense__bias": None}, r"lacks dense\.bias; expected the \d+ tensors of ecgfounder"),
        ({"first_bn__weight": None}, r"lacks first_bn\.weight"),
        ({"extra": np.ones(2, np.float32)}, "also holds extra; expected"),
        ({"dense__weight": np.ones((149, 12), np.float32)}, r"dense\.weight .*shape \(149, 12\); expected \(150, 12\)"),
        ({"first_bn__bias": np.ones(9, np.float32)}, r"first_bn\.bias .*shape \(9,\); expected \(8,\)"),
        ({"dense__bias": np.full(150, np.nan, np.float32)}, "not finite"),
    ],
)
def test_a_tensor_absent_too_many_misshapen_or_not_finite_is_refused(tmp_path, changes, words) -> None:
    path, network = founder_file(tmp_path / "f.pth", **changes)
    with pytest.raises(ValueError, match=words):
        import_weights(path, "ecgfounder", tmp_path / "out.safetensors", network=network)
    assert not (tmp_path / "out.safetensors").exists()


def test_both_spellings_and_an_unknown_configuration_give_the_same_ecg_fm(tmp_path) -> None:
    rows = []
    for i, spelling in enumerate(ecg_fm.SPELLINGS):
        more = {"encoder.mask_emb": np.ones(24, np.float32), "encoder.quantizer.vars": np.ones(3, np.float32)}
        path = fm_file(tmp_path / f"{i}.pt", spelling, **(more if i else {}))
        import_weights(path, "ecg-fm", tmp_path / f"{i}.safetensors", network=ecg_fm.FMNet(FM))
        judge = ecg_fm.ECGFM.load(tmp_path / f"{i}.safetensors")
        rows.append(judge.probabilities(pulse_train(1)))
    np.testing.assert_array_equal(*rows)


def test_half_a_spelling_is_refused(tmp_path) -> None:
    path = fm_file(tmp_path / "x.pt", ("weight_g", "parametrizations.weight.original1"))
    with pytest.raises(ValueError, match="lacks"):
        import_weights(path, "ecg-fm", tmp_path / "x.safetensors", network=ecg_fm.FMNet(FM))


def test_a_codec_is_measured_and_needs_strips_for_it(tmp_path) -> None:
    network = diffusets_vae.DiffuSETSVAE(CODEC)
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items() if k not in MEASURED}
    numbers = random_tensors(shapes, 3)
    halves = {
        part: {k.removeprefix(part + "."): v for k, v in numbers.items() if k.startswith(part)}
        for part in ("encoder", "decoder")
    }
    path, out = save_torch(tmp_path / "v.pth", halves), tmp_path / "v.safetensors"
    with pytest.raises(ValueError, match="expected some to measure its latents"):
        import_weights(path, "diffusets-vae", out, network=network)
    import_weights(path, "diffusets-vae", out, strips=pulse_train(4), network=network)
    codec = diffusets_vae.DiffuSETSVAE.load(out)
    with torch.no_grad():
        np.testing.assert_allclose(codec.encode(torch.from_numpy(pulse_train(4))).std((0, 2)), 1, atol=1e-3)
    assert "none stated" in checkpoint.metadata(out)["data"]["sources"][0]["licence"]


def test_other_checkpoints_and_names_are_refused(tmp_path) -> None:
    path = save_torch(tmp_path / "x.pt", {"weights": {"a": np.ones(1, np.float32)}})
    small = {
        "ecgfounder": ecgfounder.FounderNet(FOUNDER),
        "ecg-fm": ecg_fm.FMNet(FM),
        "diffusets-vae": diffusets_vae.DiffuSETSVAE(CODEC),
    }
    assert set(small) == set(FOREIGN)
    for name, network in small.items():
        with pytest.raises(ValueError, match="expected a dictionary with"):
            import_weights(path, name, tmp_path / "out.safetensors", strips=pulse_train(1), network=network)
    with pytest.raises(ValueError, match="expected one of ecgfounder"):
        foreign_named("ecg-gpt")
    assert all(set(foreign.row) == {"title", "licence", "source"} for foreign in FOREIGN.values())


@pytest.mark.slow
def test_a_file_of_the_published_size_goes_all_the_way(tmp_path) -> None:
    with torch.device("meta"):
        network = ecgfounder.FounderNet()
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()} | ecgfounder.unused_shapes(network)
    path = save_torch(tmp_path / "f.pth", {"state_dict": random_tensors(shapes)})
    import_weights(path, "ecgfounder", tmp_path / "f.safetensors")
    p = ecgfounder.ECGFounder.load(tmp_path / "f.safetensors").probabilities(pulse_train(2))
    assert p.shape == (2, 17)
    assert np.isfinite(p).all()
