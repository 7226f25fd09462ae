"""What a run needs, looked for on this machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipelines.digests import library_versions


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    text: str


def examine() -> list[Finding]:
    """Versions, ffmpeg, models, landmark detectors, cores, space and cache folder."""
    import torch

    from reconstruct.cache import cache_folder
    from reconstruct.landmarks import backend_states
    from reconstruct.models.registry import entries

    found = [Finding("python", (3, 10) <= sys.version_info[:2] < (3, 13), sys.version.split()[0])]
    found += [Finding(name, True, version) for name, version in sorted(library_versions().items())]
    found.append(_ray())
    found.append(_ffmpeg())
    found += [
        Finding(f"model {entry.name}", True, str(entry.path) if entry.built else "not built yet: the first run does it")
        for entry in entries()
    ]
    found += [Finding(f"landmarks {name}", True, state) for name, state in backend_states().items()]
    found.append(_cache(cache_folder()))
    found.append(Finding("cores", True, f"{len(os.sched_getaffinity(0))}"))
    found.append(
        Finding("gpu", True, torch.cuda.get_device_name() if torch.cuda.is_available() else "none; not needed")
    )
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    found.append(Finding("free space here", free > 1, f"{free:.1f} GiB"))
    return found


def _ray() -> Finding:
    try:
        import ray
    except ImportError as error:
        return Finding("ray", False, f"cannot be loaded ({error}); use --engine local")
    return Finding("ray", True, str(ray.__version__))


def _ffmpeg() -> Finding:
    import imageio_ffmpeg

    try:
        return Finding("ffmpeg", True, str(imageio_ffmpeg.get_ffmpeg_exe()))
    except RuntimeError as error:
        return Finding("ffmpeg", False, str(error))


def _cache(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("cache folder", True, str(folder))
    except OSError as error:
        return Finding("cache folder", False, f"{folder} cannot be written ({error}); set TALKSET_CACHE")
