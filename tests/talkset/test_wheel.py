"""The wheel: installed into an environment of its own and run outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from reconstruct.calibration import LOOKS, View, render_view
from reconstruct.models.head_model import HeadModel
from reconstruct.video import write_video

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("talkset", "pipelines", "review", "generator", "synthetic", "exports", "annotate", "reconstruct", "schemas")
pytestmark = pytest.mark.timeout(600)

IMPORT_ALL = """
import importlib, json, pkgutil, sys

files = {}
for room in sys.argv[1:]:
    package = importlib.import_module(room)
    files[room] = package.__file__
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        files[module.name] = importlib.import_module(module.name).__file__
print(json.dumps(files))
"""
READ = """
import json, sys
import talkset

(clip,) = talkset.open_dataset(sys.argv[1])
print(json.dumps([talkset.__file__, clip.num_frames, list(clip["expression"].shape), float(clip.index["nme_mean"])]))
"""


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and a folder outside the checkout to work in."""

    environment: Path
    folder: Path

    def call(self, program: str, *arguments: str | Path) -> str:
        """Standard output of a program of the environment; fails with its standard error."""
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        command = [str(self.environment / "bin" / program), *map(str, arguments)]
        ended = subprocess.run(command, cwd=self.folder, env=clean, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    environment, dist = folder / "environment", folder / "dist"
    _python("build", "--wheel", "--no-isolation", "--outdir", dist, REPOSITORY)
    (wheel,) = dist.glob("talkset-*.whl")
    _python("venv", "--without-pip", environment)
    # before the dependencies are in sight: pip must neither find nor touch the checkout's own installation
    python = environment / "bin" / "python"
    _python("pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    # .pth files inside a folder that a .pth file adds are not read, so an editable checkout stays out
    here = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in here))
    work = folder / "work"
    work.mkdir()
    return Installed(environment, work)


def _python(module: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_module_comes_from_the_wheel_and_none_is_left_out(installed: Installed) -> None:
    files = json.loads(installed.call("python", "-c", IMPORT_ALL, *ROOMS).splitlines()[-1])
    outside = {name: file for name, file in files.items() if not Path(file).is_relative_to(installed.environment)}
    assert outside == {}
    sources = [path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py") if path.name != "__init__.py"]
    expected = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in sources}
    assert expected - set(files) == set()


def test_the_command_answers(installed: Installed) -> None:
    shown = installed.call("talkset", "--help")
    for command in ("run", "fit", "verify", "export", "review", "models"):
        assert command in shown
    entry, _ = json.loads(installed.call("talkset", "models", "list", "--json"))
    assert entry["name"].startswith("open-head")


def test_a_video_becomes_a_data_set(installed: Installed, open_head: HeadModel) -> None:
    shown = render_view(open_head, View(0.1, 0.0, 0.0, 0.12, {}, 1, LOOKS[0])).picture
    small = np.ascontiguousarray(cv2.resize(shown, (160, 160), interpolation=cv2.INTER_AREA))
    write_video(installed.folder / "tiny.mp4", ((i * 40_000, small) for i in range(30)), Fraction(25))
    run = ("run", "tiny.mp4", "--out", "out", "--engine", "local", "--set", "fit.iterations=3", "--json")
    report = json.loads(installed.call("talkset", *run))
    assert (report["accepted"], report["problems"]) == (1, [])
    origin, frames, shape, nme = json.loads(installed.call("python", "-c", READ, "out"))
    assert Path(origin).is_relative_to(installed.environment)
    assert (frames, shape[0]) == (30, 30)
    assert 0 < nme < 0.05
    assert len(list((installed.folder / "out" / "overlays").glob("*.mp4"))) == 1
