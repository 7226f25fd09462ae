"""Networks from the user's own files: ONNX graphs and TorchScript modules, on one thread of the processor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError, UsageError
from schemas.files import sha256_file

Run = Callable[..., NDArray[Any]]
"""Input arrays in their order -> the first output, which of a tuple is its first member."""


@dataclass(frozen=True)
class NetworkFile:
    """A file that a setting names. All methods raise TalksetError missing_model where it does not exist."""

    path: Path
    setting: str
    """What errors call it, such as `speaker.weights_path`."""
    guide: str
    """Where it is written what the network takes and gives, such as `docs/segmentation.md`."""

    def fingerprint(self, digits: int = 16) -> str:
        """The first hexadecimal digits of the file's SHA-256."""
        return _sha256(self._existing(), self.path.stat().st_mtime_ns)[:digits]

    def load(self, inputs: Sequence[str]) -> Run:
        """The network as a function of its inputs, of which an ONNX graph has these names; a single one may have any.

        Raises TalksetError corrupt_data for a file that cannot be read, UsageError for another kind of file.
        """
        return self._graph(inputs) if self.is_graph() else self._called(self.module())

    def is_graph(self) -> bool:
        """Whether it is an ONNX graph, not a TorchScript module. Raises UsageError for a file that is neither."""
        suffix = self._existing().suffix
        if suffix not in (".onnx", ".pt", ".pth"):
            message = f"{self.setting}={self.path} is neither TorchScript nor ONNX"
            raise UsageError(message, "Give a .pt, .pth or .onnx file")
        return suffix == ".onnx"

    @functools.cached_property
    def session(self) -> Any:
        """The onnxruntime session of the graph, opened once. Raises TalksetError corrupt_data."""
        path = self._existing()
        try:
            return one_thread_session(path)
        except Exception as error:  # onnxruntime's own classes have no common base but this
            raise self.unreadable(str(error)) from error

    def module(self) -> Any:
        """The TorchScript module, ready to be called. Raises TalksetError corrupt_data."""
        import torch

        path = self._existing()
        try:
            return torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise self.unreadable(str(error)) from error

    def unreadable(self, why: str) -> TalksetError:
        """The error that says what is wrong with the file."""
        message = f"{self.setting}={self.path} cannot be loaded ({(why.splitlines() or ['no reason given'])[0]})"
        return TalksetError("corrupt_data", message, f"Export the network as {self.guide} says")

    def _existing(self) -> Path:
        if not self.path.is_file():
            message = f"{self.setting}={self.path} does not exist"
            raise TalksetError("missing_model", message, f"Check the path; {self.guide} says what the file must hold")
        return self.path

    def _graph(self, inputs: Sequence[str]) -> Run:
        session = self.session
        found = {given.name: given.type for given in session.get_inputs()}
        names = list(found) if len(found) == len(inputs) == 1 else list(inputs)
        if set(names) != set(found):
            raise self.unreadable(f"its inputs are {', '.join(sorted(found))}, not {', '.join(inputs)}")
        kinds = [np.float32 if found[name] == "tensor(float)" else None for name in names]

        def run(*arrays: NDArray[Any]) -> NDArray[Any]:
            given = {
                name: array if kind is None else array.astype(kind, copy=False)
                for name, kind, array in zip(names, kinds, arrays, strict=True)
            }
            return np.asarray(session.run(None, given)[0])

        return run

    @staticmethod
    def _called(module: Any) -> Run:
        import torch

        def run(*arrays: NDArray[Any]) -> NDArray[Any]:
            with torch.inference_mode():
                output = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
            first = output[0] if isinstance(output, tuple | list) else output
            return np.asarray(first.cpu().numpy())

        return run


def one_thread_session(path: Path) -> Any:
    """An onnxruntime session on one thread: the pipeline's workers share the cores. Raises onnxruntime's errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, mtime_ns: int) -> str:
    del mtime_ns  # a file that is written again is read again
    return sha256_file(path)
