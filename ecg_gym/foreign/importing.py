"""``import_weights(file, name, out)``: a foreign checkpoint, checked name by name, as a file of this package.

Only tensors are read (:mod:`ecg_gym.foreign.pickles`), only those that the network needs are kept, and every name and
shape must be the published one. What is written is a usual checkpoint with the source's hash and licence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ecg_gym import checkpoint
from ecg_gym.foreign import ecg_fm, ecgfounder
from ecg_gym.foreign.pickles import Archive, Stored
from ecg_gym.world_model import diffusets_vae
from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("models.yaml")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Foreign:
    """A network of another group: how it is built, and what its file holds besides."""

    kind: str
    build: Callable[[], torch.nn.Module]
    parts: Mapping[str, str]  # where the tensors stand in the file -> what goes before their names here
    unused: Callable[[Any], Shapes] = lambda network: {}  # stored, checked and not kept
    optional: tuple[str, ...] = ()  # patterns of names that may be there and are not read
    fold: Callable[[dict[str, Any]], dict[str, Any]] = dict
    folded: Mapping[str, tuple[tuple[str, ...], ...]] | None = None  # our name -> the spellings of its parts in files

    @property
    def row(self) -> Mapping[str, Any]:
        """What ``models.yaml`` says of it: title, licence, source."""
        return _table()[self.kind]


FOREIGN: Mapping[str, Foreign] = {
    ecgfounder.KIND: Foreign(
        ecgfounder.KIND, ecgfounder.FounderNet, {"state_dict": ""}, unused=ecgfounder.unused_shapes
    ),
    ecg_fm.KIND: Foreign(
        ecg_fm.KIND,
        ecg_fm.FMNet,
        {"model": ""},
        optional=("encoder.mask_emb", "encoder.quantizer.*", "encoder.project_q.*", "encoder.final_proj.*"),
        fold=ecg_fm.folded,
        folded={
            "encoder.conv_pos.pos_conv.0.weight": tuple(
                tuple(f"encoder.conv_pos.pos_conv.0.{name}" for name in pair) for pair in ecg_fm.SPELLINGS
            )
        },
    ),
    diffusets_vae.KIND: Foreign(
        diffusets_vae.KIND, diffusets_vae.DiffuSETSVAE, {"encoder": "encoder.", "decoder": "decoder."}
    ),
}
MEASURED = ("latent_mean", "latent_std")  # not in the file: measured at import


def foreign_named(name: str) -> Foreign:
    """The network of that name; ValueError for an unknown one."""
    if name not in FOREIGN:
        raise ValueError(f"--as is {name!r}; expected one of {', '.join(FOREIGN)}; choose one")
    return FOREIGN[name]


def import_weights(
    file: str | Path,
    name: str,
    out: str | Path,
    *,
    strips: np.ndarray | None = None,
    network: torch.nn.Module | None = None,
) -> str:
    """Write the weights in the torch checkpoint ``file`` to ``out`` (safetensors) and return the SHA-256 of that.

    ``strips (B, 12, 1024)`` [mV] measure the latents of a codec, which needs them. ``network`` is one of another size,
    for tests. Raises ValueError for a file that cannot be read, lacks a tensor, has one too many or of another shape,
    or holds values that are not finite.
    """
    foreign = foreign_named(name)
    network = foreign.build() if network is None else network
    is_codec = isinstance(network, diffusets_vae.DiffuSETSVAE)
    if is_codec and (strips is None or not len(strips)):
        raise ValueError(
            f"{name} is a codec and there are no strips; expected some to measure its latents; pass strips"
        )
    archive = Archive(file)
    try:
        stored = _tensors(archive, foreign)
        _check(stored, _expected(foreign, network), foreign, archive.path)
        spare = {key for key in stored if _matches(key, foreign.optional)} | foreign.unused(network).keys()
        arrays = {key: archive.array(value) for key, value in stored.items() if key not in spare}
    finally:
        archive.close()
    tensors = {key: torch.from_numpy(np.array(value, np.float32)) for key, value in foreign.fold(arrays).items()}
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"{key} in {archive.path} has values that are not finite; expected finite weights; the file is "
                "damaged: fetch it again"
            )
    metrics: dict[str, Any] = {}
    if isinstance(network, diffusets_vae.DiffuSETSVAE) and strips is not None:
        with torch.no_grad():
            network.load_state_dict(tensors, strict=False)
            network.eval().measure_latents(torch.from_numpy(np.asarray(strips, np.float32)))
        tensors |= {key: network.state_dict()[key] for key in MEASURED}
        metrics = {"latent_sd": [float(x) for x in network.latent_std[:, 0]], "strips": len(strips)}
    row, config = foreign.row, asdict(cast(Any, network).config)
    source = {"source": row["title"], "licence": row["licence"], "sha256": checkpoint.sha256(file)}
    return checkpoint.save(
        out, foreign.kind, tensors, config, data={"sources": [source]}, metrics=metrics, half=False,
        citation=row["source"],
    )  # fmt: skip


def _tensors(archive: Archive, foreign: Foreign) -> dict[str, Stored]:
    """Name in our terms to the tensor in the file."""
    root = archive.root
    result: dict[str, Stored] = {}
    for part, prefix in foreign.parts.items():
        inner = root.get(part) if isinstance(root, dict) else None
        if not isinstance(inner, dict):
            keys = [key for key in root if isinstance(key, str)] if isinstance(root, dict) else type(root).__name__
            raise ValueError(
                f"{archive.path} holds {keys}; expected a dictionary with {list(foreign.parts)}; it is no checkpoint "
                f"of {foreign.kind}"
            )
        result |= {f"{prefix}{key}": value for key, value in inner.items() if isinstance(value, Stored)}
    return result


def _expected(foreign: Foreign, network: torch.nn.Module) -> list[Shapes]:
    """The complete lists of names and shapes that a file may have, one for each spelling."""
    own = {key: tuple(value.shape) for key, value in network.state_dict().items() if key not in MEASURED}
    own |= foreign.unused(network)
    lists: list[Shapes] = [own]
    for ours, spellings in (foreign.folded or {}).items():
        shape = own[ours]
        parts = ((1, 1, shape[2]), shape)  # length per tap, direction
        rest = {key: value for key, value in own.items() if key != ours}
        lists = [{**rest, **dict(zip(spelling, parts))} for spelling in spellings]
    return lists


def _check(stored: Mapping[str, Stored], lists: list[Shapes], foreign: Foreign, path: Path) -> None:
    """Raises ValueError for the first names that are missing, too many, or of another shape."""
    names = {key for key in stored if not _matches(key, foreign.optional)}
    expected = min(lists, key=lambda shapes: len(names ^ shapes.keys()))
    for what, odd in (("lacks", expected.keys() - names), ("also holds", names - expected.keys())):
        if odd:
            first = ", ".join(sorted(odd)[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
            raise ValueError(
                f"{path} {what} {first}; expected the {len(expected)} tensors of {foreign.kind}; it is another "
                "network or another version of it"
            )
    for key, shape in expected.items():
        if stored[key].shape != shape:
            raise ValueError(
                f"{key} in {path} has shape {stored[key].shape}; expected {shape}; it is another network or another "
                "version of it"
            )


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


@cache
def _table() -> Mapping[str, Any]:
    return read_yaml(TABLE)["models"]
