"""Checkpoints: what is written comes back, and whatever is wrong with a file is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ecg_gym import checkpoint


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def written(path: Path, tensors: dict[str, torch.Tensor] | None = None, kind: str = "toy") -> str:
    tensors = dict(module().state_dict()) if tensors is None else tensors
    return checkpoint.save(
        path, kind, tensors, {"width": 3}, data={"sources": ["made up, CC0"]}, metrics={"mae_mv": 1.0}
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.safetensors"


def test_what_is_written_comes_back_in_half_precision_with_its_story(path: Path) -> None:
    digest = written(path)
    stored = checkpoint.load(path, "toy", digest)
    assert stored.sha256 == digest == checkpoint.sha256(path)
    assert stored.config == {"width": 3}
    assert stored.metadata["data"] == {"sources": ["made up, CC0"]}
    assert stored.tensors["weight"].dtype == torch.float16
    restored = checkpoint.restore(torch.nn.Linear(3, 2), stored)
    torch.testing.assert_close(restored.weight, module().weight.half().float(), rtol=0, atol=0)
    assert not restored.training


def test_the_same_content_is_the_same_bytes_and_nothing_is_left_aside(path: Path, tmp_path: Path) -> None:
    assert written(path) == written(tmp_path / "again.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "toy.safetensors"]


def test_a_missing_file_is_said(path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file at .*; expected toy weights; train them"):
        checkpoint.load(path, "toy")


def test_a_wrong_hash_is_said(path: Path) -> None:
    written(path)
    with pytest.raises(ValueError, match=r"has SHA-256 .*; expected 00000.*; the file was changed"):
        checkpoint.load(path, "toy", "0" * 64)


def test_twenty_flipped_bytes_are_refused(path: Path) -> None:
    weights = {"weight": torch.linspace(-1, 1, 4096).reshape(64, 64)}
    written(path, weights)
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 2000, len(content) - 1980):
        content[place] ^= 0x10
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"checksum .*; expected .*; the file is damaged"):
        checkpoint.load(path, "toy")


def test_a_file_without_a_checksum_is_read_with_a_warning(path: Path) -> None:
    written(path)
    stored = checkpoint.load(path, "toy")
    document = {name: value for name, value in stored.metadata.items() if name != checkpoint.CHECKSUM}
    save_file(stored.tensors, path, {"ecg_gym": json.dumps(document)})
    with pytest.warns(UserWarning, match="no checksum"):
        checkpoint.load(path, "toy")


def test_a_truncated_file_is_said(path: Path) -> None:
    written(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(
        ValueError, match=r"cannot be read as safetensors .*; expected toy weights; the file is damaged"
    ):
        checkpoint.load(path, "toy")


def test_a_pickle_is_not_opened(path: Path) -> None:
    torch.save(module().state_dict(), path)
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        checkpoint.load(path, "toy")


def test_a_file_of_someone_else_is_said(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(
        ValueError, match=r"says nothing about \['format', 'kind'.*; expected a checkpoint of this package"
    ):
        checkpoint.load(path, "toy")


def test_another_kind_is_said(path: Path) -> None:
    written(path, kind="denoiser")
    with pytest.raises(ValueError, match=r"has kind 'denoiser'; expected 'toy'"):
        checkpoint.load(path, "toy")


def test_another_order_of_leads_is_said(path: Path) -> None:
    checkpoint.save(path, "toy", module().state_dict(), {}, data={}, metrics={}, leads=["II", "I"])
    with pytest.raises(ValueError, match=r"has leads \['II', 'I'\]; expected \['I', 'II', 'V1'"):
        checkpoint.load(path, "toy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("bias"), r"lacks bias; expected the 2 tensors of Linear"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), r"also holds extra; expected only the 2 tensors"),
        (lambda tensors: tensors.update(weight=torch.zeros(2, 4)), r"weight .* has shape \(2, 4\); expected \(2, 3\)"),
        (lambda tensors: tensors.update(bias=torch.tensor([1.0, float("nan")])), r"bias .* not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(path: Path, change, message: str) -> None:
    tensors = dict(module().state_dict())
    change(tensors)
    written(path, tensors)
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(module(), checkpoint.load(path, "toy"))


def test_packaged_weights_are_checked_against_the_manifest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "ASSETS", path.parent)
    digest = written(path)
    with pytest.raises(ValueError, match=r"toy.safetensors is not in .*manifest.json"):
        checkpoint.load_packaged("toy.safetensors", "toy")
    assert checkpoint.add_to_manifest(path) == digest
    assert json.loads((path.parent / "manifest.json").read_text()) == {"toy.safetensors": digest}
    assert checkpoint.load_packaged("toy.safetensors", "toy").sha256 == digest
    written(path, {"weight": torch.ones(2, 3)})
    with pytest.raises(ValueError, match="the file was changed"):
        checkpoint.load_packaged("toy.safetensors", "toy")


def test_every_file_of_the_manifest_is_what_it_says() -> None:
    for name, digest in checkpoint.manifest().items():
        assert checkpoint.sha256(checkpoint.ASSETS / name) == digest, name
