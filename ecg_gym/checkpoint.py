"""Trained weights on disk: one safetensors file that says what it is, and refuses to be mistaken for another.

A checkpoint holds tensors and one JSON document (kind, config, leads, rate, data and licence, revision, metrics).
Nothing here can run code while it is read: no pickle, ever. The hashes of the files that ship with the package
stand in ``assets/manifest.json``, so that a changed or half-copied file is refused before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ecg_gym.core import INDEPENDENT_LEADS, MODEL_RATE_HZ, MODEL_SAMPLES
from ecg_gym.io import atomic_write, write_json

if hasattr(os, "register_at_fork"):
    # A forked worker (gymnasium's AsyncVectorEnv) has none of the parent's threads and would wait for them for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

FORMAT = 1  # raise it when a reader of the old form would misread the new one
ASSETS = Path(__file__).parent / "assets"
REQUIRED = ("format", "kind", "config", "leads", "rate_hz", "samples", "data", "metrics")
Network = TypeVar("Network", bound=torch.nn.Module)
CHECKSUM = "tensors_sha256"  # entry of the document; files from before it was written carry none
_KEY = "ecg_gym"  # one metadata entry only: safetensors does not keep the order of several, and hashes would differ


@dataclass(frozen=True)
class Checkpoint:
    """What a file held: tensors in the precision of the file, the JSON document, and the hash of the bytes."""

    path: Path
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, Any]
    sha256: str

    @property
    def config(self) -> dict[str, Any]:
        """The configuration the network was built with, for ``Config(**checkpoint.config)``."""
        return dict(self.metadata["config"])


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(
    path: str | Path,
    kind: str,
    tensors: Mapping[str, torch.Tensor],
    config: Any,
    *,
    data: Mapping[str, Any],
    metrics: Mapping[str, Any],
    half: bool = True,
    **more: Any,
) -> str:
    """Write a checkpoint aside, rename it into place, and return its SHA-256.

    ``config`` is a dataclass or a mapping; ``data`` names the training data with their licences; ``more`` is any
    further JSON (revision, version, seeds). ``half`` stores floating-point tensors as float16: half the size, and a
    relative rounding of 5e-4, far below what training leaves undecided.
    """
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config),
        "leads": list(INDEPENDENT_LEADS),
        "rate_hz": MODEL_RATE_HZ,
        "samples": MODEL_SAMPLES,
        "data": dict(data),
        "metrics": dict(metrics),
        **more,
    }
    stored = {name: _to_disk(tensor, half) for name, tensor in sorted(tensors.items())}
    metadata[CHECKSUM] = tensors_sha256(stored)
    path = Path(path)
    with atomic_write(path) as aside:
        save_file(stored, aside, {_KEY: json.dumps(metadata, sort_keys=True, allow_nan=False)})
        aside.chmod(0o644)  # the library writes 0600, which an installed package's other users could not read
    return sha256(path)


def load(path: str | Path, kind: str, expected_sha256: str | None = None) -> Checkpoint:
    """The checkpoint at ``path``, after checking its bytes, its document and its kind; raises ValueError otherwise."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"no file at {path}; expected {kind} weights; train them with `ecg-gym train` or mend the path"
        )
    digest = sha256(path)
    if expected_sha256 is not None and digest != expected_sha256:
        raise ValueError(
            f"{path} has SHA-256 {digest[:12]}...; expected {expected_sha256[:12]}...; the file was changed or copied "
            "in part: fetch it again, or pass your own file by its path"
        )
    try:
        with safe_open(path, framework="pt") as file:
            document = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}); expected {kind} weights; the file is damaged or of "
            "another format: fetch it again"
        ) from None
    metadata = _checked(document, kind, path)
    if expected_sha256 is None and digest not in manifest().values():  # a copy of the package's own needs no more
        _check_tensors(tensors, metadata, path)
    return Checkpoint(path, tensors, metadata, digest)


def metadata(path: str | Path) -> dict[str, Any]:
    """The JSON document inside a file of weights, whatever its kind; ValueError for a file that is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return _parsed((file.metadata() or {}).get(_KEY))
    except SafetensorError as error:
        raise ValueError(f"{path} is no file of weights ({error}); expected *.safetensors; mend the path") from None


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """One SHA-256 over names, kinds, shapes and values of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_tensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any], path: Path) -> None:
    """Raises ValueError for tensors that are not the ones that were written; warns where nobody can tell."""
    written = metadata.get(CHECKSUM)
    if written is None:
        warnings.warn(
            f"{path} carries no checksum of its tensors (it was written by an earlier version), so damage would not be "
            "noticed",
            stacklevel=3,
        )
    elif written != (now := tensors_sha256(tensors)):
        raise ValueError(
            f"the tensors of {path} have the checksum {now[:12]}...; expected {str(written)[:12]}..., as they were "
            "written; the file is damaged: copy it again from its source"
        )


def build(make: Callable[[dict[str, Any]], Network], stored: Checkpoint) -> Network:
    """The untrained network that a checkpoint's config describes; ``restore`` fills it. Draws nothing from torch's own
    generator, which belongs to the user. ValueError when the config describes no such network.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            return make(stored.config)
    except (TypeError, KeyError, AttributeError, RuntimeError, OverflowError, MemoryError, ValueError) as error:
        if "; expected" in str(error):
            raise
        raise ValueError(
            f"{stored.path} has a config that describes no network ({type(error).__name__}: {error}); expected the one "
            "it was trained with; the file was changed: fetch it again"
        ) from error


def restore(module: torch.nn.Module, checkpoint: Checkpoint) -> torch.nn.Module:
    """``module`` with the checkpoint's tensors in it, as float32 and in evaluation mode.

    Every name and shape must agree; ValueError names the first ones that do not.
    """
    targets, result = module.state_dict(), checkpoint.tensors
    if missing := sorted(targets.keys() - result.keys()):
        raise ValueError(
            f"{checkpoint.path} lacks {_some(missing)}; expected the {len(targets)} tensors of "
            f"{type(module).__name__}; the weights belong to another version: retrain or fetch matching ones"
        )
    if surplus := sorted(result.keys() - targets.keys()):
        raise ValueError(
            f"{checkpoint.path} also holds {_some(surplus)}; expected only the {len(targets)} tensors of "
            f"{type(module).__name__}; the weights belong to another version: retrain or fetch matching ones"
        )
    for name, tensor in targets.items():
        if result[name].shape != tensor.shape:
            raise ValueError(
                f"{name} in {checkpoint.path} has shape {tuple(result[name].shape)}; expected {tuple(tensor.shape)}; "
                "config and weights do not belong together: retrain or fetch matching ones"
            )
        if not torch.isfinite(result[name]).all():
            raise ValueError(
                f"{name} in {checkpoint.path} has values that are not finite; expected finite weights; "
                "the training diverged: take an earlier checkpoint"
            )
    module.load_state_dict({name: result[name].to(tensor.dtype) for name, tensor in targets.items()})
    return module.eval()


def load_packaged(name: str, kind: str) -> Checkpoint:
    """The checkpoint that ships as ``assets/<name>``, its bytes checked against ``assets/manifest.json``."""
    expected = manifest().get(name)
    if expected is None:
        raise ValueError(
            f"{name} is not in {ASSETS / 'manifest.json'}; expected one of {sorted(manifest())}; "
            "pass the path of your own weights instead"
        )
    return load(ASSETS / name, kind, expected)


def manifest() -> dict[str, str]:
    """File name to SHA-256 of everything trained that ships with the package; empty before the first is added."""
    path = ASSETS / "manifest.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def add_to_manifest(path: str | Path) -> str:
    """Enter a file of the assets folder, as it is now, into the manifest; returns its SHA-256."""
    path = Path(path)
    digest = sha256(path)
    target = path.parent / "manifest.json"
    entries = json.loads(target.read_text()) if target.is_file() else {}
    write_json(target, dict(sorted({**entries, path.name: digest}.items())))
    return digest


def _to_disk(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    return tensor.half() if half and tensor.is_floating_point() else tensor


def _checked(document: str | None, kind: str, path: Path) -> dict[str, Any]:
    """The JSON document, after checking that it is complete, of the right kind and made for this model grid."""
    metadata = _parsed(document)
    if absent := [key for key in REQUIRED if key not in metadata]:
        raise ValueError(
            f"{path} says nothing about {absent}; expected a checkpoint of this package with {list(REQUIRED)}; "
            "write it with ecg_gym.checkpoint.save"
        )
    grid = (FORMAT, kind, list(INDEPENDENT_LEADS), MODEL_RATE_HZ, MODEL_SAMPLES)
    for key, value in zip(("format", "kind", "leads", "rate_hz", "samples"), grid):
        if metadata[key] != value:
            raise ValueError(
                f"{path} has {key} {metadata[key]!r}; expected {value!r}; pass a file made for this use and version"
            )
    return metadata


def _parsed(document: str | None) -> dict[str, Any]:
    try:
        metadata = json.loads(document or "{}")
    except json.JSONDecodeError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
