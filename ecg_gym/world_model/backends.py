"""How the denoiser is computed: plainly, in bfloat16, compiled, or by OpenVINO. What it computes stays the same.

    eager     PyTorch as it is, float32. The default; needs nothing.
    bf16      autocast to bfloat16. Worth it on processors with AMX or avx512_bf16: 3 x there.
    compile   ``torch.compile`` and bfloat16: 4 x. Needs a C++ compiler, and one to two minutes before the first answer.
    openvino  OpenVINO in bfloat16 where the processor has it. Needs the package ``openvino`` and some seconds.

:func:`accelerated` wraps a forecaster's denoiser and nothing else, so every sampler and the student work with each.
"""

from __future__ import annotations

import copy
import importlib.util
import shutil
import sys
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

BACKENDS = ("eager", "bf16", "compile", "openvino")
TOLERANCE = {"eager": 0.0, "bf16": 0.02, "compile": 0.02, "openvino": 0.03}
"""Largest relative error (root mean square over that of the eager answer) that the tests allow."""
OPENVINO = "2026.4"  # the version the tests were run with
ROWS = 64  # a compiled network takes batches of one size only; smaller ones are filled up
FEW = 8  # rows: fewer are faster uncompiled, by plain bf16

Forecaster = TypeVar("Forecaster", bound=nn.Module)
_variants: WeakKeyDictionary[nn.Module, dict[str, nn.Module]] = WeakKeyDictionary()


def accelerated(forecaster: Forecaster, backend: str) -> Forecaster:
    """``forecaster`` with its denoiser computed by ``backend``; the same object for ``"eager"``.

    The other parts are shared, not copied, and the result is kept, so it costs nothing to ask again. The network is
    compiled at its first call. Raises ValueError for an unknown name, RuntimeError where the machine lacks what it
    needs.
    """
    check_backend(backend)
    if backend == "eager":
        return forecaster
    variants = _variants.setdefault(forecaster, {})
    if backend not in variants:
        other = copy.copy(forecaster)
        other._modules = {**forecaster._modules, "denoiser": _WRAPPERS[backend](forecaster.denoiser)}  # type: ignore[arg-type]
        variants[backend] = other
    return variants[backend]  # type: ignore[return-value]


def check_backend(backend: str) -> None:
    """Raises ValueError for an unknown backend, RuntimeError for one that this machine cannot run."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {BACKENDS}; check the spelling")
    if backend == "compile" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise RuntimeError(
            "backend 'compile' found no C++ compiler; expected g++ or clang++ on the PATH, which torch.compile calls; "
            "install one, or use backend='bf16'"
        )
    if backend == "openvino" and not _there("openvino"):
        raise RuntimeError(
            f"backend 'openvino' found no package of that name; expected openvino {OPENVINO} or later; "
            f"pip install 'openvino>={OPENVINO}', or use backend='bf16'"
        )


class _Wrapped(nn.Module):
    """A denoiser under another way of computing it; asked like the denoiser, answers in float32."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.config, self.schedule = denoiser.config, denoiser.schedule


class _BFloat16(_Wrapped):
    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            return self.denoiser(*inputs).float()


class _Compiled(_Wrapped):
    """One size of batch, so that one compilation serves all; PyTorch keeps it on disk for the next process."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__(denoiser)
        self.few = _BFloat16(denoiser)
        self.run: Callable[..., Tensor] = torch.compile(denoiser, dynamic=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.few(*inputs) if len(inputs[0]) < FEW else _in_blocks(self._block, inputs)

    def _block(self, *inputs: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(inputs[0].device.type, torch.bfloat16):
            return self.run(*inputs).float()


class _OpenVINO(_Wrapped):
    """Converted at the first call, whose shapes it needs to see."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__(denoiser)
        self.few = _BFloat16(denoiser)
        self.run: Any = None

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.few(*inputs) if len(inputs[0]) < FEW else _in_blocks(self._block, inputs)

    def _block(self, *inputs: Tensor) -> Tensor:
        if self.run is None:
            self.run = _converted(self.denoiser, inputs)
        (answer,) = self.run([t.numpy() for t in inputs]).values()
        return torch.from_numpy(np.asarray(answer, dtype=np.float32).copy())


_WRAPPERS: dict[str, type[_Wrapped]] = {"bf16": _BFloat16, "compile": _Compiled, "openvino": _OpenVINO}


def _converted(denoiser: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """The denoiser as an OpenVINO network for inputs of these shapes, on as many threads as PyTorch uses."""
    openvino = importlib.import_module("openvino")
    with torch.inference_mode(False), torch.no_grad():  # export cannot follow tensors of inference mode
        network = openvino.convert_model(torch.export.export(denoiser, tuple(t.clone() for t in inputs)))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return openvino.Core().compile_model(network, "CPU", settings)


def _in_blocks(run: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    """``run`` on blocks of ``ROWS`` rows; the last is filled up with copies of its last row, which are dropped."""
    parts = []
    for start in range(0, len(inputs[0]), ROWS):
        block = [t[start : start + ROWS] for t in inputs]
        short = ROWS - len(block[0])
        if short:
            block = [torch.cat([t, t[-1:].expand(short, *t.shape[1:])]) for t in block]
        parts.append(run(*[t.contiguous() for t in block])[: ROWS - short])
    return torch.cat(parts)


def _there(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None
