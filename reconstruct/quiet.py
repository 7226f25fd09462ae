"""Keeps the start-up chatter of native libraries off stderr without hiding anything else."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

# Written by native code before its log levels apply, so no environment variable stops it.
NOISE: Final = re.compile(
    rb"All log messages before absl|inference_feedback_manager|XNNPACK delegate|gl_context(_egl)?\.cc|"
    rb"landmark_projection_calculator|face_landmarker_graph|cuda|TF-TRT|oneDNN|Warp CUDA warning: Could not find",
)
_lock = threading.RLock()


def solutions() -> Any:
    """The `mediapipe.solutions` module, imported without log messages."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with quiet():
        return importlib.import_module("mediapipe.python.solutions")


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what native code writes to stderr; on leaving, pass on every line that is not known noise.

    One thread at a time; inside itself the inner one passes its lines on to the outer.
    """
    with _lock, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            held.seek(0)
            for line in held:
                if not NOISE.search(line):
                    os.write(kept, line)
            os.close(kept)
