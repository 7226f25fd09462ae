"""Reads model files that are pickles without running anything in them.

The pickle is read by `pickle_machine`, which calls nothing; `pickled_arrays` has the closed table of what may occur.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from reconstruct.models.pickle_machine import BadPickleError, RefusedError
from reconstruct.models.pickled_arrays import filled, read_object
from schemas.errors import TalksetError

MAX_FILE_BYTES: Final = 1 << 30
"""Larger than any head or body model."""

_BROKEN: Final = (
    BadPickleError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What parsing damaged bytes can raise; nothing of the file is called, so it can be nothing else."""


def load_pickle(path: Path) -> Any:
    """Read a pickle of arrays, numbers, text and their containers; text of Python 2 is taken as Latin-1.

    Raises TalksetError: missing_file; unsafe_file naming the first global that is not in `GLOBALS` (nothing has been
    run); corrupt_data for a broken pickle or an array whose bytes do not fill its shape.
    """
    return loads(_read(path), str(path))


def loads(data: bytes, where: str) -> Any:
    """The same for bytes; `where` names them in errors."""
    with _named(where):
        return read_object(io.BytesIO(data))


def load_npz(path: Path) -> dict[str, Any]:
    """Arrays of an .npz file by name; object arrays inside are read as by `load_pickle`. Raises as `load_pickle`."""
    data = _read(path)
    with _named(str(path)):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                    raise BadPickleError(f"it unpacks to more than {MAX_FILE_BYTES >> 20} MiB")
                return {
                    name.removesuffix(".npy"): _array_file(archive.read(name), f"its member {name!r}")
                    for name in archive.namelist()
                }
        except zipfile.BadZipFile as error:
            raise BadPickleError(f"it is no .npz file ({error})") from error


def load_npy(path: Path) -> Any:
    """The array of an .npy file, or the object of a 0-dimensional object array. Raises as `load_pickle`."""
    with _named(str(path)):
        return _array_file(_read(path), "it")


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn everything that can go wrong with hostile bytes into a TalksetError that names the file."""
    try:
        yield
    except RefusedError as error:
        raise TalksetError(
            "unsafe_file",
            f"{where} {error}: refused, nothing of it was run",
            "Download the file again from its publisher; a model file needs nothing but arrays",
        ) from None
    except _BROKEN as error:
        what = str(error) if isinstance(error, BadPickleError) else f"it is broken ({type(error).__name__}: {error})"
        message = f"{where} is not readable as a model file: {what[:400]}"
        raise TalksetError("corrupt_data", message, "Download the file again from its publisher") from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise TalksetError("missing_file", f"{path} does not exist or is no file", "Give the path of a model file")
    if path.stat().st_size > MAX_FILE_BYTES:
        message = f"{path} has {path.stat().st_size >> 20} MiB, model files have less than {MAX_FILE_BYTES >> 20}"
        raise TalksetError("corrupt_data", message, "Give the path of a model file")
    return path.read_bytes()


def _array_file(data: bytes, what: str) -> Any:
    """Parse .npy bytes without allocating more than they hold."""
    stream = io.BytesIO(data)
    form: Any = np.lib.format
    version = form.read_magic(stream)
    reader = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}.get(version)
    if reader is None:
        raise BadPickleError(f"{what} has the .npy version {version}, known are 1.0 and 2.0")
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        if dtype != np.dtype(object):
            raise BadPickleError(f"{what} has the dtype {dtype}")
        value = read_object(stream)
        return value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    return filled(data[stream.tell() :], dtype, shape, fortran)
