"""Several processes train one module through Lightning Fabric; the first of them shows and writes, the others help.

Each process draws its own batch and gradients are averaged, so N processes train as one would with batches N times
as large. Nothing here is imported by a run on one device.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


class WorkerDone(Exception):
    """A process that is not the first has done its part: the command ends here, without a message."""


def is_first() -> bool:
    """Whether this process is the one that shows and writes (by the rank its launcher gave it; alone, it is)."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) == 0


def check(device: str, devices: int = 1) -> None:
    """Raises ValueError unless this machine can train on ``devices`` devices of that name."""
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ValueError(f"--device is {device!r}; expected cpu, cuda, cuda:1 or mps; correct the spelling") from None
    gpus = torch.cuda.device_count()
    if devices < 1:
        raise ValueError(f"--devices is {devices}; expected at least 1; leave it out for one")
    if kind.type == "cuda" and (kind.index or 0) >= gpus:
        raise ValueError(
            f"--device is {device!r}, and this machine has {gpus} GPUs that torch can use; expected one of them; "
            "pass --device cpu (a preset of a GPU's size takes very long there)"
        )
    if devices == 1:
        return
    if kind.index is not None or kind.type not in ("cpu", "cuda"):
        raise ValueError(
            f"--device is {device!r} with --devices {devices}; expected 'cuda' or 'cpu' for several processes; leave "
            "the number of the device out"
        )
    if kind.type == "cuda" and devices > gpus:
        raise ValueError(
            f"--devices is {devices}; expected at most the {gpus} GPUs of this machine; ask for fewer, or pass "
            "--device cpu"
        )
    if find_spec("lightning_fabric") is None:
        raise ValueError(
            f"--devices is {devices} and lightning-fabric is not installed; expected it for more than one process; "
            "run `pip install 'ecg-gym[train]'`, or leave --devices out"
        )


def launch(device: str, devices: int) -> Any:
    """A launched ``lightning_fabric.Fabric`` of ``devices`` processes: GPUs under ``cuda``, gloo on the CPU otherwise.

    The command starts itself again for every further process. ValueError when Fabric or the GPUs are not there.
    """
    check(device, devices)
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    kind = torch.device(device).type
    backend = "gloo" if kind == "cpu" else "nccl"
    strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    fabric = Fabric(accelerator=kind, devices=devices, strategy=strategy)
    fabric.launch()
    return fabric


def wrap(fabric: Any, component: torch.nn.Module) -> Any:
    """``component`` behind Fabric: its ``loss`` then runs in this process and its gradients are those of all."""
    wrapped = fabric.setup_module(component)
    wrapped.mark_forward_method("loss")
    return wrapped


def mean(fabric: Any, values: Tensor) -> Tensor:
    """The mean over processes of a tensor that all of them have."""
    return fabric.all_reduce(values, reduce_op="mean")


def part(fabric: Any) -> None:
    """Wait for the others and dissolve the group; nothing to do for one process."""
    if fabric is not None and torch.distributed.is_initialized():
        fabric.barrier()
        torch.distributed.destroy_process_group()
