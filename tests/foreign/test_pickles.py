"""A checkpoint is read as data: nothing in it is imported, called or believed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym.foreign.pickles import Archive, Inert, Stored, values


def saved(path: Path, tree: object) -> Path:
    torch.save(tree, path)
    return path


def rewritten(source: Path, path: Path, **records: bytes | None) -> Path:
    """The same zip with other records (by the end of their name); None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            replacement = records.get(name.rpartition("/")[2].replace(".", "_"), b"")
            if replacement is not None:
                new.writestr(name, replacement or old.read(name))
    return path


class Writes:
    """Unpickling it in the usual way writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


class Config:
    """Stands for a configuration object of a library that is not installed."""

    def __init__(self) -> None:
        self.depth = 3


def test_tensors_come_back_as_torch_reads_them_whatever_their_kind_and_strides(tmp_path) -> None:
    x = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tree = {
        "state": OrderedDict(
            a=x, transposed=x.transpose(0, 2), part=x[1, :, 1:3], half=x.half(), brain=x.bfloat16(), whole=x.long(),
            yes=x > 3, number=torch.tensor(7), none=torch.zeros(0, 3), parameter=torch.nn.Parameter(x + 1),
        ),
        "epoch": 4, "names": ["a", ("b", None, True)], "rate": 0.5,
    }  # fmt: skip
    archive = Archive(saved(tmp_path / "x.pt", tree))
    held = archive.root["state"]
    assert {key: type(value) for key, value in held.items()} == dict.fromkeys(tree["state"], Stored)
    for key, tensor in tree["state"].items():
        np.testing.assert_array_equal(archive.array(held[key]), tensor.detach().float().numpy(), err_msg=key)
    assert {key: archive.root[key] for key in ("epoch", "names", "rate")} == {
        "epoch": 4, "names": ["a", ("b", None, True)], "rate": 0.5
    }  # fmt: skip


def test_a_pickle_that_would_write_a_file_writes_none(tmp_path) -> None:
    victim = tmp_path / "victim"
    path = saved(tmp_path / "x.pt", {"state_dict": {"a": torch.ones(2)}, "evil": Writes(victim)})
    archive = Archive(path)
    assert isinstance(archive.root["evil"], Inert)
    assert not victim.exists()
    np.testing.assert_array_equal(archive.array(archive.root["state_dict"]["a"]), [1, 1])
    torch.load(path, weights_only=False)
    assert victim.exists(), "the same file does harm when it is unpickled"


def test_unknown_classes_are_inert_and_what_stands_beside_them_is_read(tmp_path) -> None:
    archive = Archive(saved(tmp_path / "x.pt", {"cfg": Config(), "model": {"w": torch.full((2,), 3.0)}}))
    assert isinstance(archive.root["cfg"], Inert)
    assert not hasattr(archive.root["cfg"], "depth")
    np.testing.assert_array_equal(archive.array(archive.root["model"]["w"]), [3, 3])


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle_is_understood(protocol: int) -> None:
    tree = {"a": [1, -2, 10**12, 1.5], "b": ("x", None, True, False), "c": {"d": b"y" * 300}, "e": {1, 2}}
    if protocol < 4:
        del tree["e"]  # a set is a call of a class there, and stays inert
    if protocol < 3:
        del tree["c"]  # so are bytes
    assert values(pickle.dumps(tree, protocol)) == tree


def test_a_file_that_is_cut_off_is_refused_wherever_the_cut_is(tmp_path) -> None:
    whole = saved(tmp_path / "x.pt", {"state_dict": {"a": torch.ones(500)}}).read_bytes()
    for part in (0, 10, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / "cut.pt"
        cut.write_bytes(whole[:part])
        with pytest.raises(ValueError, match=r"cannot be read as a torch zip checkpoint .*expected .*fetch it again"):
            Archive(cut)


def test_a_storage_that_is_absent_changed_or_too_short_is_refused(tmp_path) -> None:
    source = saved(tmp_path / "x.pt", {"a": torch.ones(500)})
    for content, words in ((None, "no record"), (b"\0" * 40, "reaches beyond its storage of 10 numbers")):
        archive = Archive(rewritten(source, tmp_path / "y.pt", **{"0": content}))
        with pytest.raises(ValueError, match=words):
            archive.array(archive.root["a"])
    damaged = bytearray(source.read_bytes())
    damaged[damaged.find(np.ones(3, "<f4").tobytes()) + 3] ^= 1
    (tmp_path / "z.pt").write_bytes(damaged)
    archive = Archive(tmp_path / "z.pt")
    with pytest.raises(ValueError, match="CRC"):
        archive.array(archive.root["a"])


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"\x80\x02}q\x00", id="no end"),
        pytest.param(b"\x80\x02.", id="empty stack"),
        pytest.param(b"\x80\x02h\x05.", id="nothing in the memo"),
        pytest.param(b"\x80\x02\x82\x01.", id="extension registry"),
        pytest.param(b"\x80\x02(ios\nsystem\n.", id="old way to call a class"),
        pytest.param(b"\x80\x02}]q\x00K\x01s.", id="a list as a key"),
        pytest.param(b"\x80\x02X\x05\x00\x00\x00storageQ.", id="a storage that is none"),
        pytest.param(b"\x8e" + b"\xff" * 7 + b"\x7f", id="more bytes than there are"),
        pytest.param(b"\x96" + b"\xff" * 7 + b"\x7f", id="an array of more bytes than there are"),
        pytest.param(b"garbage", id="no pickle"),
    ],
)
def test_programs_that_no_checkpoint_has_are_refused(program: bytes, tmp_path) -> None:
    with pytest.raises(ValueError):
        values(program)
    path = rewritten(saved(tmp_path / "x.pt", {}), tmp_path / "y.pt", data_pkl=program)
    with pytest.raises(ValueError, match="expected one that holds tensors"):
        Archive(path)


def test_a_far_place_in_the_memo_takes_no_memory() -> None:
    assert values(b"\x80\x02]r\xff\xff\xff\xff.") == []


def test_compressed_records_and_other_files_are_refused(tmp_path) -> None:
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", b"\0" * 10**6)
    with pytest.raises(ValueError, match="compressed records"):
        Archive(bomb)
    plain = tmp_path / "plain.zip"
    with zipfile.ZipFile(plain, "w") as file:
        file.writestr("readme", b"hello")
    with pytest.raises(ValueError, match=r"0 records data\.pkl"):
        Archive(plain)
    with pytest.raises(ValueError, match="no file at"):
        Archive(tmp_path / "nowhere")
    stream = io.BytesIO()
    torch.save({"a": torch.ones(1)}, stream, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"PyTorch 1\.6 or later"):
        Archive(tmp_path / "old.pt")
