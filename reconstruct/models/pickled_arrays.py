"""What the pickles of model files may contain, and the plain NumPy arrays that come out of it.

NumPy arrays, dtypes and scalars, SciPy's sparse matrices, chumpy's `Ch` and torch tensors are built here from checked
numbers. Neither chumpy nor torch is imported, and no array is allocated that the file does not hold the bytes of.
"""

from __future__ import annotations

import io
import math
import re
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.pickle_machine import BadPickleError, Global, Machine, Node, RefusedError

MAX_COPIED: Final = 1 << 30
"""Bytes of arrays that are not views of the file."""
MAX_DENSE: Final = 1 << 26
"""Elements that a sparse matrix may have when it is written out."""
MAX_DIMENSIONS: Final = 32

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_BUILTINS = ("builtins", "__builtin__")
_TORCH_DTYPES: Final = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SPARSE = ("csc", "csr", "coo")

GLOBALS: Final[dict[tuple[str, str], str]] = {
    **{(module, "_reconstruct"): "array" for module in _MULTIARRAY},
    **{(module, "scalar"): "scalar" for module in _MULTIARRAY},
    **{(module, "_frombuffer"): "buffer" for module in _NUMERIC},
    ("numpy", "ndarray"): "type",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "dict",
    **{(module, "set"): "set" for module in _BUILTINS},
    **{(module, "frozenset"): "set" for module in _BUILTINS},
    **{(module, "object"): "type" for module in _BUILTINS},
    **{(module, name): "bytearray" for module in _BUILTINS for name in ("bytes", "bytearray")},
    ("copy_reg", "_reconstructor"): "plain",
    ("copyreg", "_reconstructor"): "plain",
    **{
        (f"scipy.sparse.{prefix}{kind}", f"{kind}_{form}"): kind
        for kind in _SPARSE
        for prefix in ("", "_")
        for form in ("matrix", "array")
    },
    ("chumpy.ch", "Ch"): "chumpy",
    ("chumpy", "Ch"): "chumpy",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch.storage", "_load_from_bytes"): "storage",
    **{("torch", name): "storage_type" for name in _TORCH_DTYPES},
}
"""Every (module, name) that a file may mention, and what the machine makes of it; all others are refused by name."""

_OBJECTS: Final = frozenset({"chumpy", *_SPARSE})
_PLAIN_DTYPE: Final = re.compile(r"[|<>=]?(?:[fiu](?:1|2|4|8)|b1|\?|O8?)")
_TORCH_MAGIC: Final = 0x1950A86A20F9469CFC6C


def read_object(stream: io.BytesIO) -> Any:
    """The object of the pickle at the stream's position; every array in it is a NumPy array, most are read-only.

    Raises RefusedError naming what a model file does not need, other errors for a broken pickle.
    """
    arrays = _Arrays()
    return arrays.finish(Machine(stream, GLOBALS, arrays.make).run())


def filled(data: bytes, dtype: np.dtype[Any], shape: Any, fortran: bool) -> NDArray[Any]:
    """An array of exactly these bytes; the shape cannot ask for more memory than the file has bytes."""
    size = size_of(shape)
    if size * dtype.itemsize != len(data):
        raise BadPickleError(
            f"an array of shape {shape} and type {dtype} needs {size * dtype.itemsize} bytes, not {len(data)}"
        )
    array = np.frombuffer(data, dtype=dtype, count=size)  # a view: repeating it costs a file nothing, and us neither
    return array.reshape(shape, order="F" if fortran else "C")


def size_of(shape: Any) -> int:
    """Elements of an array. Raises BadPickleError for anything but a short tuple of whole numbers from 0 on."""
    if not isinstance(shape, (tuple, list)) or len(shape) > MAX_DIMENSIONS:
        raise BadPickleError(f"an array has the shape {str(shape)[:80]}")
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise BadPickleError(f"an array has the shape {str(tuple(shape))[:80]}")
    return math.prod(shape)


def _shown(arguments: tuple[Any, ...]) -> str:
    return ", ".join(type(argument).__name__ for argument in arguments[:6]) or "none"


def _dtype(node: Any) -> np.dtype[Any]:
    if type(node) is not Node or node.made_by.kind != "dtype":
        raise BadPickleError(f"the type of an array is of type {type(node).__name__}")
    code: str = node.arguments[0]
    order: Any = "|"
    if node.state is not None:
        if type(node.state) is not tuple or len(node.state) < 3 or any(part is not None for part in node.state[2:5]):
            raise BadPickleError(f"the array type {code!r} has fields, which no model file has")
        order = node.state[1]
    if order not in ("<", ">", "=", "|") or not _PLAIN_DTYPE.fullmatch(code):
        raise BadPickleError(f"the array type {str(code)[:40]!r} is not one of real numbers")
    return np.dtype(object) if "O" in code else np.dtype(code).newbyteorder(order)


def _integers(values: Any) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise BadPickleError(f"the indices of a sparse matrix have the type {array.dtype} and shape {array.shape}")
    return array.astype(np.int64)


class _Storages:
    """Storages of torch's stream format (`torch.save` before 1.6, and every storage pickled on its own)."""

    def __init__(self) -> None:
        self._declared: dict[str, tuple[np.dtype[Any], int]] = {}
        self._nodes: dict[str, NDArray[Any]] = {}

    def declare(self, key: Any) -> str:
        """Note ("storage", type, key, device, elements, view); returns the key."""
        if type(key) is not tuple or len(key) < 5 or key[0] != "storage" or not isinstance(key[1], Global):
            raise RefusedError(f"refers to the outside by the persistent id {str(key)[:80]!r}")
        if key[1].kind != "storage_type" or not isinstance(key[2], str) or type(key[4]) is not int:
            raise RefusedError(f"has a tensor storage of type {key[1]}")
        self._declared[key[2]] = (np.dtype(_TORCH_DTYPES[key[1].name]), key[4])
        return key[2]

    def fill(self, stream: io.BytesIO, names: Any) -> None:
        """Read the numbers that follow the pickles, in the order of `names`."""
        for name in names:
            dtype, count = self._declared[name]
            stored = struct.unpack("<q", stream.read(8))[0]
            if stored != count or count < 0:
                raise BadPickleError(f"a tensor storage declares {count} elements and has {stored}")
            self._nodes[name] = filled(stream.read(count * dtype.itemsize), dtype, (count,), False)

    def values(self, name: str) -> NDArray[Any]:
        """(n,) elements."""
        return self._nodes[name]


class _Arrays:
    """Makes the arrays of one file. What is copied is counted, so that a small file cannot fill the memory."""

    def __init__(self) -> None:
        self._left = MAX_COPIED
        self._done: dict[int, Any] = {}

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BadPickleError(f"its arrays need more than {MAX_COPIED >> 20} MiB")

    def make(self, function: Global, arguments: tuple[Any, ...]) -> Any:
        """What calling the global with these arguments stands for; a global is no argument but where a type belongs."""
        kind = function.kind
        for argument in arguments:
            if isinstance(argument, Global) and not (
                (kind == "array" and argument.name == "ndarray")
                or (kind == "plain" and (argument.kind in _OBJECTS or argument.name == "object"))
            ):
                raise RefusedError(f"calls {function} with {argument} as an argument")
        if kind == "array" and len(arguments) == 3 and isinstance(arguments[0], Global):
            return Node(function)
        if kind == "plain" and len(arguments) == 3 and isinstance(arguments[0], Global):
            if arguments[0].kind in _OBJECTS and arguments[2] is None:
                return Node(arguments[0])
        elif kind in _OBJECTS and not arguments:
            return Node(function)
        elif kind == "dtype" and arguments and isinstance(arguments[0], str):
            return Node(function, (arguments[0],))
        elif kind == "scalar" and len(arguments) == 2:
            return filled(self._as_bytes(arguments[1]), _dtype(arguments[0]), (), False)[()]
        elif kind == "buffer" and len(arguments) == 4 and arguments[3] in ("C", "F"):
            return filled(self._as_bytes(arguments[0]), _dtype(arguments[1]), arguments[2], arguments[3] == "F")
        elif kind in ("encode", "bytearray") and len(arguments) == 2 and isinstance(arguments[0], str):
            if arguments[1] in ("latin1", "latin-1"):
                return self._as_bytes(arguments[0])
        elif kind == "bytearray" and len(arguments) == 1 and isinstance(arguments[0], bytes):
            return arguments[0]
        elif kind == "bytearray" and not arguments:
            return b""
        elif kind == "set" and len(arguments) <= 1:
            return arguments[0] if arguments and type(arguments[0]) is list else []
        elif kind == "dict" and not arguments:
            return {}
        elif kind == "storage" and len(arguments) == 1 and isinstance(arguments[0], bytes):
            return self._torch_storage(arguments[0])
        elif kind == "tensor" and len(arguments) >= 4:
            return self._tensor(*arguments[:4])
        raise RefusedError(f"calls {function} with arguments that no model file has ({_shown(arguments)})")

    def _as_bytes(self, value: Any) -> bytes:
        """Raw bytes, which Python 2 wrote as text."""
        if isinstance(value, str):
            self._spend(len(value))
            return value.encode("latin-1")
        if isinstance(value, (bytes, bytearray)):
            return bytes(value)
        raise BadPickleError(f"the data of an array is of type {type(value).__name__}")

    def finish(self, value: Any) -> Any:
        """Nodes to arrays, through containers; a value that occurs twice is made once."""
        if type(value) in (dict, list, tuple, Node):
            if id(value) not in self._done:
                self._done[id(value)] = self._finished(value)
            return self._done[id(value)]
        if isinstance(value, Global):
            raise BadPickleError(f"it holds {value} as a value")
        return value

    def _finished(self, value: Any) -> Any:
        if type(value) is dict:
            return {key: self.finish(item) for key, item in value.items()}
        if type(value) is list:
            return [self.finish(item) for item in value]
        if type(value) is tuple:
            return tuple(self.finish(item) for item in value)
        kind, state = value.made_by.kind, value.state
        if kind == "dtype":
            return _dtype(value)
        if kind == "array":
            return self._array(state)
        if type(state) is not dict:
            raise BadPickleError(f"a {value.made_by} has no state")
        if kind == "chumpy":
            return self._unwrap_chumpy(state)
        return self._dense(kind, {name: self.finish(item) for name, item in state.items()})

    def _array(self, state: Any) -> NDArray[Any]:
        if type(state) is not tuple or len(state) != 5:
            raise BadPickleError("an array has no state of five parts")
        _, shape, kind, fortran, data = state
        dtype = _dtype(kind)
        if dtype != np.dtype(object):
            return filled(self._as_bytes(data), dtype, shape, bool(fortran))
        if type(data) is not list or len(data) != size_of(shape):
            raise BadPickleError(f"an array of objects of shape {shape} has other than so many objects")
        array = np.empty(len(data), dtype=object)
        for place, item in enumerate(data):
            array[place] = self.finish(item)
        return array.reshape(shape, order="F" if fortran else "C")

    def _unwrap_chumpy(self, state: dict[str, Any]) -> NDArray[Any]:
        """The values of a chumpy leaf: its input `x`, or the result `r` that was stored with it."""
        for name in ("x", "r"):
            if name in state:
                values = np.asarray(self.finish(state[name]))
                if values.dtype.kind not in "fiub":
                    raise BadPickleError(f"a chumpy.ch.Ch holds values of type {values.dtype}")
                return values
        raise BadPickleError(f"a chumpy.ch.Ch has neither x nor r, only {', '.join(sorted(state)) or 'nothing'}")

    def _dense(self, kind: str, state: dict[str, Any]) -> NDArray[Any]:
        """The matrix that a SciPy sparse matrix stands for, every index checked."""
        shape: Any = state.get("_shape", state.get("shape"))
        if len(shape) != 2 or size_of(shape) > MAX_DENSE:
            raise BadPickleError(f"a sparse matrix declares the shape {shape}")
        if kind == "coo":
            row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
        else:
            pointer, minor = _integers(state["indptr"]), _integers(state["indices"])
            if len(pointer) != shape[kind == "csc"] + 1 or pointer[0] != 0 or pointer[-1] != len(minor):
                raise BadPickleError(f"the indptr of a {kind}_matrix of shape {shape} has another length")
            steps = np.diff(pointer)  # cannot overflow: the values are checked first
            if pointer.min() < 0 or pointer.max() > len(minor) or (steps < 0).any():
                raise BadPickleError(f"the indptr of a {kind}_matrix of shape {shape} is not one")
            major = np.repeat(np.arange(len(steps)), steps)
            row, column = (minor, major) if kind == "csc" else (major, minor)
        values, row, column = np.asarray(state["data"]), _integers(row), _integers(column)
        for index, size in ((row, shape[0]), (column, shape[1])):
            if index.shape != values.shape or (len(index) and (index.min() < 0 or index.max() >= size)):
                raise BadPickleError(f"the indices of a {kind}_matrix of shape {shape} lie outside of it")
        self._spend(8 * size_of(shape))
        result = np.zeros(shape, dtype=np.float64)
        np.add.at(result, (row, column), values.astype(np.float64))
        return result

    def _torch_storage(self, data: bytes) -> NDArray[Any]:
        """(n,) elements of the bytes that torch pickles a storage as: four pickles, a list of names, raw numbers."""
        stream = io.BytesIO(data)
        if Machine(stream, GLOBALS, self.make).run() != _TORCH_MAGIC:
            raise BadPickleError("a tensor storage is not in torch's stream format")
        Machine(stream, GLOBALS, self.make).run()  # the version of the format
        system = Machine(stream, GLOBALS, self.make).run()
        if type(system) is not dict or system.get("little_endian") is not True:
            raise BadPickleError("a tensor storage was not written on a little-endian machine")
        storages = _Storages()
        name = Machine(stream, GLOBALS, self.make, storages.declare).run()
        storages.fill(stream, Machine(stream, GLOBALS, self.make).run())
        return storages.values(name)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> NDArray[Any]:
        """The values of a tensor: a strided view of its storage, checked against its ends."""
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or type(offset) is not int or offset < 0:
            raise BadPickleError("a tensor has no storage")
        count = size_of(size)
        if size_of(stride) < 0 or len(stride) != len(size):
            raise BadPickleError(f"a tensor has the shape {size} and the stride {stride}")
        last = offset + sum((axis - 1) * step for axis, step in zip(size, stride, strict=True))
        if count and last >= len(storage):
            raise BadPickleError(f"a tensor of shape {size} reaches beyond its storage of {len(storage)} elements")
        if not count:
            return np.zeros(size, dtype=storage.dtype)
        self._spend(count * storage.itemsize)
        steps = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False).copy()
