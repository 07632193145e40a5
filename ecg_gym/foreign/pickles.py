"""The tensors of a torch zip checkpoint, read without executing its pickle: no import, no call, no object of its own.

A pickle is a program for a stack machine. Here its instructions are walked with ``pickletools`` by a machine that knows
containers, numbers and text, and three references (``torch._utils._rebuild_tensor_v2``, ``_rebuild_parameter`` and
``collections.OrderedDict``), which it answers itself. Every other class or function becomes an :class:`Inert` object
that nothing can be done with. Format: Python's ``pickletools`` and PyTorch's serialization notes (zip with stored
records ``NAME/data.pkl`` and ``NAME/data/KEY``, since PyTorch 1.6).
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_PROGRAM = 64 * 2**20  # bytes of data.pkl; those of large networks have some hundred thousand
DTYPES: Mapping[str, str] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # the upper half of a float32, see _bfloat16
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


@dataclass(frozen=True)
class Reference:
    """A class or function that the pickle names; nothing is imported."""

    module: str
    name: str


class Inert:
    """What stands for an object of a class that is not known here."""


@dataclass(frozen=True)
class Stored:
    """A tensor that the checkpoint describes; :meth:`Archive.array` reads its numbers."""

    record: str  # key of its storage
    storage: str  # class of its storage, which says the kind of number
    numbers: int  # in the storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers


@dataclass(frozen=True)
class _Storage:
    record: str
    kind: str
    numbers: int


class Archive:
    """An opened checkpoint: ``root`` is its object, with a :class:`Stored` wherever a tensor was."""

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError for a file that is no torch zip, is damaged, or whose pickle does more than hold values."""
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"no file at {path}; expected a torch checkpoint; mend the path")
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError) as error:
            raise _damaged(self.path, str(error)) from None
        if packed := [entry.filename for entry in self._zip.infolist() if entry.compress_type != zipfile.ZIP_STORED]:
            raise ValueError(
                f"{self.path} holds compressed records ({packed[0]!r}); expected stored ones, as torch.save writes; "
                "fetch the original file"
            )
        programs = [name for name in self._zip.namelist() if name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise ValueError(
                f"{self.path} has {len(programs)} records data.pkl; expected one; it is no checkpoint of torch.save "
                "in its zip format (PyTorch 1.6 or later)"
            )
        self._folder = programs[0].removesuffix("data.pkl")
        program = self._record("data.pkl")
        if len(program) > LARGEST_PROGRAM:
            raise ValueError(
                f"data.pkl has {len(program)} bytes; expected at most {LARGEST_PROGRAM}; this is no usual checkpoint"
            )
        if "byteorder" in self._records() and self._record("byteorder").strip() != b"little":
            raise ValueError(f"{self.path} is not little-endian; expected that; save it again on a usual machine")
        try:
            self.root = values(program)
        except _ProgramError as error:
            raise ValueError(
                f"the pickle in {self.path} cannot be read ({error}); expected one that holds tensors, numbers, text "
                "and containers; fetch the original file"
            ) from None

    def array(self, tensor: Stored) -> np.ndarray:
        """The numbers of a tensor, ``tensor.shape``; ValueError where its storage is absent or too short."""
        dtype = np.dtype(DTYPES[tensor.storage])
        raw = self._record(f"data/{tensor.record}")
        count = min(len(raw) // dtype.itemsize, tensor.numbers)
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides))
        empty = 0 in tensor.shape
        if min((*tensor.shape, *tensor.strides, tensor.offset), default=0) < 0 or (not empty and last >= count):
            raise ValueError(
                f"a tensor {tensor.shape} of {self.path} reaches beyond its storage of {count} numbers; expected it "
                "inside; the file is damaged: fetch it again"
            )
        if empty:
            return np.zeros(tensor.shape, dtype)
        numbers = np.frombuffer(raw, dtype, count)
        steps = tuple(step * dtype.itemsize for step in tensor.strides)
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, steps, writeable=False)
        return _bfloat16(view) if tensor.storage == "BFloat16Storage" else view.copy()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _records(self) -> set[str]:
        return {name.removeprefix(self._folder) for name in self._zip.namelist()}

    def _record(self, name: str) -> bytes:
        try:
            return self._zip.read(self._folder + name)
        except KeyError:
            raise _damaged(self.path, f"no record {name!r}") from None
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise _damaged(self.path, str(error)) from None


def values(program: bytes) -> Any:
    """What a pickle holds, with inert stand-ins for everything that is no value.

    ``ValueError`` for an instruction that no checkpoint needs, and for a program that is cut off.
    """
    machine = _Machine()
    stream = io.BytesIO(program)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.run(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _ProgramError(f"{type(error).__name__}: {error}") from None
    raise _ProgramError("it has no end")


class _ProgramError(ValueError):
    pass


_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8",
}  # fmt: skip
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_IDLE = {"PROTO", "FRAME"}


class _Machine:
    """The stack, the marks and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """One instruction; ValueError for one that is not known."""
        if name in _IDLE:
            return
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        else:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise ValueError(f"the instruction {name} is not known here")
            step(argument)

    def _items(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._items()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, number: int) -> None:
        self.stack.append(self.memo[number])

    _binget = _long_binget = _get

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._items()))

    def _list(self, _: Any) -> None:
        self.stack.append(self._items())

    def _dict(self, _: Any) -> None:
        items = self._items()
        self.stack.append(dict(zip(items[::2], items[1::2])))

    def _frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(self._items()))

    def _last(self, n: int) -> None:
        part = tuple(self.stack[-n:])
        if len(part) < n:
            raise IndexError("the stack is too short")
        del self.stack[-n:]
        self.stack.append(part)

    def _tuple1(self, _: Any) -> None:
        self._last(1)

    def _tuple2(self, _: Any) -> None:
        self._last(2)

    def _tuple3(self, _: Any) -> None:
        self._last(3)

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._items())

    def _extend(self, items: Iterable[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _additems(self, _: Any) -> None:
        items = self._items()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._items())

    def _update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(zip(items[::2], items[1::2]))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Reference(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Reference(str(module), str(name)))

    def _reduce(self, _: Any) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        self.stack.append(_answer(target, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()
        self._reduce(None)

    def _build(self, _: Any) -> None:
        self.stack.pop()  # the state of an object: its class is not known, and a container needs none

    def _binpersid(self, _: Any) -> None:
        self.stack.append(_storage(self.stack.pop()))


def _answer(target: Any, arguments: Any) -> Any:
    """What stands for the result of a call that the pickle describes."""
    if target == Reference("collections", "OrderedDict"):
        return dict(*arguments)
    if target == Reference("torch._utils", "_rebuild_tensor_v2"):
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise ValueError("a tensor without a storage, or with other strides than dimensions")
        if not all(isinstance(n, int) for n in (offset, *shape, *strides)) or math.prod(shape) > 2**40:
            raise ValueError("a tensor whose shape is no shape")
        return Stored(storage.record, storage.kind, storage.numbers, offset, tuple(shape), tuple(strides))
    if target == Reference("torch._utils", "_rebuild_parameter"):
        return arguments[0]
    return Inert()


def _storage(pointer: Any) -> _Storage:
    """The storage that a persistent id names: ``("storage", class, key, device, numbers)``."""
    tag, kind, record, _, numbers = pointer
    if tag != "storage" or not isinstance(kind, Reference) or kind.name not in DTYPES or kind.module != "torch":
        raise ValueError("a pointer to something that is no storage of numbers")
    if not isinstance(record, str) or not record.isalnum() or not isinstance(numbers, int):
        raise ValueError("a storage without a key")
    return _Storage(record, kind.name, numbers)


def _bfloat16(upper: np.ndarray) -> np.ndarray:
    return (upper.astype(np.uint32) << 16).view(np.float32)


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} cannot be read as a torch zip checkpoint ({why}); expected one written by torch.save in PyTorch 1.6 "
        "or later; the file is damaged or of another format: fetch it again"
    )
