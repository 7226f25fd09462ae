"""Whole runs: every kind of bad source beside good ones, resuming, and what is made again when something changes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.ledger import Ledger
from pipelines.report import RunReport
from pipelines.run import read_sources, run
from pipelines.stage import loaded_models
from pipelines.work import loaded_models as _same_cache
from schemas.config import Config, load_config
from schemas.errors import TalksetError, UsageError
from schemas.files import MANIFEST_NAME
from schemas.verify import verify_dataset

from .conftest import Pictures, write_clip

LOCAL = load_config(None, ["run.engine=local", "overlay.enabled=false", "fit.iterations=4"])
REPOSITORY = Path(__file__).resolve().parents[2]
STILL = np.full((288, 360, 3), 90, np.uint8)


def content(root: Path) -> dict[str, bytes]:
    """Every file of a data set but the run state."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and ".talkset" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
