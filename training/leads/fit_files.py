"""One fit as one file: parameters as safetensors, everything else as JSON in its header. Written aside and renamed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ecg_gym.io import atomic_write
from ecg_gym.tissue import Fit, Spec

KEPT = ("train_error", "validation_error", "residual_share", "stable", "n_parameters", "iterations", "cpu_s")


def write_fit(fit: Fit, path: Path) -> None:
    """Write a fit; a reader never sees half of it."""
    head = {name: getattr(fit, name) for name in KEPT} | {
        "spec": asdict(fit.spec),
        "data_key": fit.data_key,
        "values": {name: float(value) for name, value in fit.values.items()},
        "diagnostics": {name: float(value) for name, value in fit.diagnostics.items()},
        "intervals": {name: [float(x) for x in pair] for name, pair in fit.intervals.items()},
    }
    arrays = {name: np.ascontiguousarray(value) for name, value in fit.parameters.items()}
    with atomic_write(path) as aside:
        save_file(arrays, aside, metadata={"fit": json.dumps(head)})


def read_fit(path: Path) -> Fit | None:
    """The fit of a file; None where there is no file. ``ValueError`` for a file of something else."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            head = json.loads(file.metadata()["fit"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        return Fit(
            spec=Spec(**head["spec"]), data_key=head["data_key"], parameters=arrays, values=head["values"],
            diagnostics=head["diagnostics"], intervals={k: (v[0], v[1]) for k, v in head["intervals"].items()},
            **{name: head[name] for name in KEPT},
        )  # fmt: skip
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{path.name} is no fit ({type(error).__name__}); expected a file of write_fit; delete it, and the "
            "fit is made anew"
        ) from None
