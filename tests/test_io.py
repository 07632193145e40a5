"""Files are there as a whole or not at all."""

from __future__ import annotations

import errno
import json
import multiprocessing
from pathlib import Path

import pytest

from ecg_gym.io import atomic_write, write_json, write_text


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError), atomic_write(tmp_path / "a.txt") as aside:
        aside.write_text(None)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_the_path_beside_keeps_the_suffix_and_is_another_each_time(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "deep" / "a.npz") as one, atomic_write(tmp_path / "deep" / "a.npz") as two:
        assert one != two
        assert one.suffix == two.suffix == ".npz"
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert (tmp_path / "deep" / "a.npz").read_bytes() == b"1"  # the one that ended last


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    words = r"a\.txt could not be written: the disk is full; expected room for it; free"
    with pytest.raises(OSError, match=words), atomic_write(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def _many(path: Path, word: str) -> None:
    for _ in range(50):
        write_json(path, {"word": word * 1000})


def test_two_processes_that_write_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_many, args=(path, word)) for word in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert set(json.loads(path.read_text())["word"]) in ({"a"}, {"b"})
    assert len(list(tmp_path.iterdir())) == 1


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())
