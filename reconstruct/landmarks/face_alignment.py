"""The 68 points of face-alignment: heat maps of its FAN network on our crop, with the height of each peak."""

from __future__ import annotations

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct import quiet
from reconstruct.cache import cache_folder
from reconstruct.landmarks.crops import CropDetector, Finder, Float64, Found, UInt8, padded_square
from reconstruct.landmarks.fan import Fan
from reconstruct.landmarks.files import file_sha256
from reconstruct.landmarks.topology import IBUG_68
from schemas.config import LandmarkConfig
from schemas.errors import TalksetError, UsageError

LOGGER = logging.getLogger(__name__)
VERSION: Final = 1
"""Of the use made of the network: raise it when results change, for embeddings are cached by the detector's name."""
WEIGHTS: Final = "2DFAN4-11f355bf06.pth.tar"
"""State dictionary of face-alignment 1.5; its name carries the first digits of its sha256."""
SOURCE: Final = f"https://www.adrianbulat.com/downloads/python-fan/{WEIGHTS}"
RISE: Final = 0.12
"""Of the crop's centre above the box's, in box sizes: the framing that the network was trained with."""


class FaceAlignmentDetector(CropDetector):
    """68 points by face-alignment's 2D network (FAN); a context manager. Runs on CUDA where there is one.

    The weights are the published state dictionary, or a TorchScript archive of the same call: (1, 3, 256, 256) float32
    RGB 0..1 to (1, 68, h, w) heat maps, or to a list whose last element they are. Raises UsageError when there is none.
    """

    topology = IBUG_68
    settles = False
    measures_confidence = False

    def __init__(self, config: LandmarkConfig) -> None:
        super().__init__(config)
        self._path = weights_file(config)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network: torch.nn.Module | None = None
        self._faces: Any = None
        self.name = f"face-alignment-2dfan-{file_sha256(self._path)[:12]}+{VERSION}"

    def close(self) -> None:
        """Free the network."""
        self._network = None
        if self._faces is not None:
            self._faces.close()
            self._faces = None

    def _fresh(self, role: str) -> Finder:
        del role  # the network sees one picture at a time and remembers none
        if self._network is None:
            self._network = load_network(self._path, self._device)
        network = self._network

        def find(square: UInt8) -> Found:
            picture = torch.as_tensor(square, device=self._device).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                maps = network(picture)
            last = maps[-1] if isinstance(maps, (list, tuple)) else maps
            points, height = peaks(last[0].float().cpu().numpy())
            return Found(points, confidence=height)

        return find

    def _frame(self, centre: Float64, size: float) -> tuple[Float64, float]:
        return centre - np.array([0.0, RISE * size]), size * self._config.crop_scale

    def _anywhere(self, rgb: UInt8) -> tuple[Float64, float] | None:
        square = padded_square(rgb)
        module = quiet.solutions().face_detection
        with quiet.quiet():
            if self._faces is None:
                self._faces = module.FaceDetection(self._config.min_detection_confidence, model_selection=0)
            found = self._faces.process(square).detections
        if not found:
            return None
        boxes = [detection.location_data.relative_bounding_box for detection in found]
        box = max(boxes, key=lambda box: float(box.width * box.height))
        centre = np.array([box.xmin + box.width / 2, box.ymin + box.height / 2], np.float64) * len(square)
        return centre, float(np.sqrt(box.width * box.height)) * len(square)


def weights_file(config: LandmarkConfig) -> Path:
    """The weights that the configuration names, else those in the cache folder.

    Raises UsageError that says which file is needed and where it goes.
    """
    path = Path(config.weights_path) if config.weights_path else cache_folder() / "detectors" / WEIGHTS
    if path.is_file():
        return path
    raise UsageError(
        f"landmarks.backend=face-alignment needs the weights of its network, and {path} does not exist",
        f"Fetch {SOURCE} to that path, or set landmarks.weights_path",
    )


def load_network(path: Path, device: torch.device) -> torch.nn.Module:
    """The network of a weights file, ready to run. Raises TalksetError("corrupt_data") for any other file.

    Nothing in the file is run as Python: state dictionaries are read with torch's restricted unpickler.
    """
    bad = (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, pickle.UnpicklingError)
    try:
        if _is_script(path):
            script: torch.nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
            return script.eval()
        state = torch.load(path, map_location=device, weights_only=True)
        stacks = sum(name.startswith("conv_last") and name.endswith(".weight") for name in state)
        network = Fan(stacks).to(device)
        network.load_state_dict(state)
        return network.eval()
    except bad as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TalksetError(
            "corrupt_data", f"{path} holds no face-alignment network ({detail})", f"Fetch {SOURCE} again"
        ) from error


def _is_script(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def peaks(maps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Highest point (L, 2) of heat maps (L, H, W) in 0..1 of the picture, and its height (L,) clipped to 0..1.

    A cell's centre lies half a cell from its corner. Between cells the peak of the Gaussian through the three highest
    values of each axis is taken; face-alignment itself moves a quarter of a cell towards the higher neighbour.
    """
    count, height, width = maps.shape
    flat = maps.reshape(count, -1).argmax(axis=1)
    row, column = np.unravel_index(flat, (height, width))
    each = np.arange(count)
    logs = np.log(np.maximum(np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge"), 1e-6))
    middle = logs[each, row + 1, column + 1]
    offsets = []
    for before, after in (
        (logs[each, row + 1, column], logs[each, row + 1, column + 2]),
        (logs[each, row, column + 1], logs[each, row + 2, column + 1]),
    ):
        bend = np.maximum(2 * middle - before - after, 1e-9)
        offsets.append(np.clip((after - before) / (2 * bend), -0.5, 0.5))
    x, y = (column + 0.5 + offsets[0]) / width, (row + 0.5 + offsets[1]) / height
    top = np.clip(maps[each, row, column], 0, 1)
    return np.stack([x, y], axis=1).astype(np.float32), top.astype(np.float32)
