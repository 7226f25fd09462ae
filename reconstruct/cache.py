"""Where this machine keeps what is made or fetched once."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """TALKSET_CACHE, or the user's cache directory."""
    override = os.environ.get("TALKSET_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("talkset"))
