"""Several processes train one module through Lightning Fabric; the first of them shows and writes, the others help.

Each process draws its own batch and gradients are averaged, so N processes train as one would with batches N times
as large. Nothing here is imported by a run on one device.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor


def is_first() -> bool:
    """Whether this process is the one that shows and writes (by the rank its launcher gave it; alone, it is)."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) == 0


def launch(device: str, devices: int) -> Any:
    """A launched ``lightning_fabric.Fabric`` of ``devices`` processes: GPUs under ``cuda``, gloo on the CPU otherwise.

    The command starts itself again for every further process. ValueError when Fabric or the GPUs are not there.
    """
    kind = torch.device(device)
    if kind.index is not None or kind.type not in ("cpu", "cuda"):
        raise ValueError(
            f"--device is {device!r} with --devices {devices}; expected 'cuda' or 'cpu' for several processes; leave "
            "the number of the device out"
        )
    if kind.type == "cuda" and torch.cuda.device_count() < devices:
        raise ValueError(
            f"--devices is {devices}; expected at most the {torch.cuda.device_count()} GPUs of this machine; ask for "
            "fewer, or pass --device cpu"
        )
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError:
        raise ValueError(
            f"--devices is {devices} and lightning-fabric is not installed; expected it for more than one process; "
            "run `pip install 'ecg-gym[train]'`, or leave --devices out"
        ) from None
    backend = "gloo" if kind.type == "cpu" else "nccl"
    strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    fabric = Fabric(accelerator=kind.type, devices=devices, strategy=strategy)
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
