"""A contact sheet of a data set for a first look: the worst clips first, each at its worst frame.

The pictures are frames of overlays/<clip_id>.mp4, which has the clip's frames in order.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import av
import av.error
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic

UInt8 = NDArray[np.uint8]

TILE_WIDTH: Final = 480
PICTURE_HEIGHT: Final = 270
CAPTION_HEIGHT: Final = 66
GAP: Final = 8
BACKGROUND_RGB: Final = (24, 24, 24)
TEXT_RGB: Final = (235, 235, 235)
DIM_RGB: Final = (170, 170, 170)
BAD_RGB: Final = (255, 110, 110)
INDEX_COLUMNS: Final = ("clip_id", "status", "reason", "shard", "nme_mean", "nme_p95")
