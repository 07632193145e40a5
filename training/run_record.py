"""What a training run was: ``run.json`` beside its weights, written when it begins, has its data, and ends.

    with record_run(folder, "vae", "tiny", preset, data=folder / "strips*.npz") as done:
        done(vae.run(preset, data, folder))

It says which command, settings, code, data, machine and seeds made the weights, when, and what came out. A folder
belongs to one run: another kind, other settings, other weights to begin with or other data are refused.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ecg_gym import checkpoint
from ecg_gym.io import write_text
from training import distributed, loop
from training.loop import AnotherRun
from training.revision import git_revision

FILE = "run.json"
FORMAT = 1
PACKAGES = ("ecg-gym", "torch", "numpy", "scipy", "safetensors", "neurokit2", "lightning-fabric")
OF_A_RUN = (
    FILE,
    loop.STATE,
    loop.LOSSES,
    "events.out.tfevents.*",
    "best_*.safetensors",
)  # and its weights; data caches are not among these


@contextmanager
def record_run(
    folder: Path,
    kind: str,
    preset_name: str,
    preset: Any,
    *,
    data: Path,
    inputs: Mapping[str, Path] | None = None,
    resume: bool = True,
) -> Iterator[Callable[[Path], None]]:
    """Keeps ``folder/run.json`` while a run is made inside; call what it yields with the path of the finished weights.

    ``preset`` is a dataclass with a ``loop``; ``data`` is the pattern of the files that are learned from (they may come
    to be only later); ``inputs`` are weights the run begins with. ``resume`` goes on with a run that was stopped;
    without it, an earlier run in the folder is moved to ``earlier-1``, ``earlier-2`` ... inside, its data stay.
    Raises AnotherRun when the folder belongs to another run. Of several processes only the first writes.
    """
    if not distributed.is_first():
        yield lambda path: None
        return
    path = folder / FILE
    if not resume:
        _move_aside(folder, kind)
    now = _beginning(kind, preset_name, preset, data, inputs or {})
    before: dict[str, Any] = read(folder) if path.is_file() else {}
    if before:
        _check_same_run(before, now, folder)
        sessions = [*before["sessions"], *now["sessions"]]
        now = {**now, "started": before["started"], "data": before["data"], "sessions": sessions}
    _write(path, now)
    began = git_revision()

    def finished(weights: Path) -> None:
        stamp(weights, folder)
        _end(folder, "finished", began, {"metrics": metrics_of(weights), "weights": _weights_by_name(weights)})

    try:
        yield finished
    except AnotherRun:
        if before:
            _write(path, before)
        raise
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        _end(folder, "stopped" if stopped else "failed", began, {"error": f"{type(error).__name__}: {error}"})
        raise


def data_hash(pattern: Path) -> dict[str, Any]:
    """Content hash, number and size of the files that match; the hash does not depend on where they are."""
    files = sorted(pattern.parent.glob(pattern.name))
    lines = [f"{checkpoint.sha256(file)}  {file.name}\n" for file in files]
    return {
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "sha256_of": "the lines '<SHA-256 of the content>  <name>' of all files, by name",
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
    }


def record_data_hash(folder: str | Path) -> None:
    """Enter the hash of the data into ``folder/run.json``, if there is one; AnotherRun when it was another before.

    Called when training begins: everything that is learned from has been made by then.
    """
    path = Path(folder) / FILE
    if not distributed.is_first() or not path.is_file():
        return
    document = read(folder)
    result, before = data_hash(Path(document["data"]["files_like"])), document["data"]
    if before.get("sha256", result["sha256"]) != result["sha256"]:
        raise AnotherRun(
            f"{folder} was trained on {before['files']} files with SHA-256 {before['sha256'][:12]}... and now finds "
            f"{result['files']} with {result['sha256'][:12]}...; expected the same data for the same losses; put them "
            "back, pass another --out, or begin anew with --no-resume"
        )
    _write(path, {**document, "data": {**before, **result}, "status": "training"})


def resume(component: torch.nn.Module, config: loop.LoopConfig, folder: str | Path) -> loop.TrainState:
    """``loop.resume`` of a recorded run, after :func:`record_data_hash`; AnotherRun when the data have changed."""
    record_data_hash(folder)
    return loop.resume(component, config, folder)


def read(folder: str | Path) -> dict[str, Any]:
    """The record of a run; ValueError when there is none or another version wrote it."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {FILE}; expected the folder of a run; make one with `ecg-gym train`")
    document = json.loads(path.read_text())
    if document.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {document.get('format')!r}; expected {FORMAT}; begin anew in another folder"
        )
    return document


def stamp(weights: Path, folder: Path) -> None:
    """Write into a file of weights which run made it: preset, hash of the data, device. Its tensors stay."""
    run, metadata = read(folder), checkpoint.metadata(weights)
    session = run["sessions"][-1]
    machine = session["environment"]
    stored = checkpoint.load(weights, metadata["kind"])
    rest = {key: value for key, value in metadata.items() if key not in checkpoint.REQUIRED}
    rest["run"] = {
        "preset": run["preset"],
        "data_sha256": run["data"].get("sha256", "unknown"),
        "device": machine.get("gpu", f"{machine['cpus']} CPU cores, {machine['cpu_capability']}"),
    }
    checkpoint.save(
        weights,
        metadata["kind"],
        stored.tensors,
        stored.config,
        data=metadata["data"],
        metrics=metadata["metrics"],
        half=False,
        **rest,
    )


def metrics_of(weights: Path) -> dict[str, Any]:
    """What a file of weights says was measured when it was made."""
    return checkpoint.metadata(weights).get("metrics", {})


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, as far as they can change the numbers."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "packages": versions,
    }
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        result |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "gpus": torch.cuda.device_count()}
    return result


def _beginning(kind: str, preset_name: str, preset: Any, data: Path, inputs: Mapping[str, Path]) -> dict[str, Any]:
    config = json.loads(json.dumps(asdict(preset)))
    bf16, remark = loop.precision(preset.loop)
    now = _now()
    session: dict[str, Any] = {
        "started": now,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "revision": git_revision(),
    }
    session |= {"environment": environment(preset.loop.device), "device": preset.loop.device}
    return {
        "format": FORMAT,
        "kind": kind,
        "preset": preset_name,
        "status": "preparing data",
        "started": now,
        "config": config,
        "seeds": _seeds(config),
        "precision": {"bf16": bf16, **({"remark": remark} if remark else {})},
        "inputs": {name: _weights_by_name(_weights_file(path)) for name, path in inputs.items()},
        "data": {"files_like": str(data)},
        "sessions": [session],
    }


def _end(folder: Path, status: str, began: str, more: dict[str, Any]) -> None:
    document = read(folder)
    rows = loop.losses(folder)
    if rows:
        more = {"steps": rows[-1]["step"], "last_losses": rows[-1], **more}
    session = {**document["sessions"][-1], "ended": _now(), "status": status}
    if (revision := git_revision()) != began:
        session["revision_at_end"] = revision
    sessions = [*document["sessions"][:-1], session]
    _write(folder / FILE, {**document, "status": status, "sessions": sessions, "ended": session["ended"], **more})


def _check_same_run(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    there, targets = (f"{run['kind']} --preset {run['preset']}" for run in (before, now))
    rest = "pass another --out, or begin anew with --no-resume"
    if before["kind"] != now["kind"]:
        raise AnotherRun(f"{folder} holds a run of {there}, begun {before['started']}; expected {targets}; {rest}")
    differing = []
    mine, theirs = _flat(now["config"]), _flat(before["config"])
    for key in mine.keys() & theirs.keys():
        free = key.split(".")[-1] in loop.FREE and key.split(".")[-2:-1] == ["loop"]
        if not free and mine[key] != theirs[key]:
            differing.append((key, theirs[key], mine[key]))
    for key in before["inputs"].keys() | now["inputs"].keys():
        theirs_, mine_ = (run["inputs"].get(key, {}).get("sha256", "none")[:12] for run in (before, now))
        if theirs_ != mine_:
            differing.append((key, theirs_, mine_))
    if differing:
        differing.sort()
        settings = [", ".join(f"{key} = {row[i]}" for key, *row in differing[:4]) for i in (0, 1)]
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise AnotherRun(
            f"{folder} holds a run of {there} with {settings[0]}{more}; expected {targets} with {settings[1]}; {rest}"
        )


def _move_aside(folder: Path, kind: str) -> None:
    """Everything that belongs to the run in ``folder`` into a new folder inside; nothing when there is no run.

    That is its record, state, losses, curves and weights, and folders of earlier stages; not other weights, not data.
    """
    was = read(folder)["kind"] if (folder / FILE).is_file() else kind
    patterns = (*OF_A_RUN, f"{was.replace('-', '_')}.safetensors")
    files = {file for pattern in patterns for file in folder.glob(pattern)}
    files |= {state.parent for state in folder.glob(f"*/{loop.STATE}") if not state.parent.name.startswith("earlier-")}
    if not files:
        return
    number = 1
    while (aside := folder / f"earlier-{number}").exists():
        number += 1
    aside.mkdir()
    for file in sorted(files):
        file.rename(aside / file.name)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, each in value.items()
        for name, leaf in _flat(each, f"{prefix}.{key}" if prefix else key).items()
    }


def _seeds(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _flat(config).items() if key.split(".")[-1] == "seed"}


def _weights_file(path: Path) -> Path:
    """The file of weights at ``path``, or the world model's in it."""
    return path / "world_model.safetensors" if path.is_dir() else path


def _weights_by_name(weights: Path) -> dict[str, str]:
    return {"file": weights.name, "sha256": checkpoint.sha256(weights)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(path: Path, document: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(document, indent=1) + "\n")
