"""``Dense``: ``nn.Linear`` that, where nothing is learned, asks oneDNN with its weights packed once.

The BLAS that PyTorch calls for float32 is not everywhere the quickest: on some processors oneDNN does the same products
in less than half the time, once the weights lie as it likes them. The sums are those of float32 either way.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

_Packed = tuple[tuple[int, int], Tensor]  # where the weights lie and how often they were written; packed
_packed: WeakKeyDictionary[nn.Module, _Packed] = WeakKeyDictionary()


class Dense(nn.Linear):
    """``(..., in)`` -> ``(..., out)``; the same parameters, names and answers as ``nn.Linear``."""

    def forward(self, x: Tensor) -> Tensor:
        """``x W^T + b``, with packed weights where that is faster."""
        return self._through(x, "none") if self._quick(x) else functional.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """``gelu(linear(x))``, in one pass where it is quick."""
        return self._through(x, "gelu") if self._quick(x) else functional.gelu(super().forward(x))

    def _quick(self, x: Tensor) -> bool:
        return _quick(x) and not self.weight.is_inference()  # such weights do not say when they are written

    def _through(self, x: Tensor, then: str) -> Tensor:
        written = (self.weight.data_ptr(), self.weight._version)
        entry = _packed.get(self)
        if entry is None or entry[0] != written:
            entry = written, torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), None)
            _packed[self] = entry
        algorithm = "none" if then == "gelu" else ""  # of GELU: the exact one
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), entry[1], self.bias, then, [], algorithm)


def _quick(x: Tensor) -> bool:
    """Float32 on a processor with oneDNN, and nobody learns, mixes precisions, compiles or exports."""
    return (
        _THERE
        and not torch.is_grad_enabled()
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _there() -> bool:
    try:
        with torch.no_grad():
            x, weight = torch.ones(1, 2), torch.eye(2)
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            return bool((torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "") == x).all())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


_THERE = _there()
