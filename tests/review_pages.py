"""Data sets with numbered pictures, a review server in a thread, and Chromium to look at its page."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import uvicorn
from dataset_builder import random_clip, rejected_clip, writer
from numpy.typing import NDArray

from reconstruct.video import write_video
from review.guard import Guard
from review.server import listen, make_app
from review.session import Renderer, ReviewSession, Settings
from schemas.records import ClipRecord

for _name in dir(anyio):
    # anyio loads its parts when they are first used, which would be in the server's thread; and pytest parses each
    # file of a package with a plugin anew, which CPython 3.11 cannot do in two threads at once (SystemError in `ast`)
    getattr(anyio, _name)

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
BITS = 8
CELL = 16
"""Side of a square of a numbered picture."""
SIZE = (2 * CELL, BITS * CELL)
"""Height and width of a numbered picture."""
UNEVEN_US = (0, 33_367, 50_000, 120_000, 133_333, 200_000, 233_367, 300_001, 333_333, 366_667, 400_000, 480_000)
"""Frame times of a variable rate."""
NTSC_US = tuple(round(number * 1_001_000_000 / 30_000) for number in range(len(UNEVEN_US)))
"""Frame times of 30000/1001 frames a second, which no clock of a browser counts exactly."""


def numbered(number: int) -> NDArray[np.uint8]:
    """A picture whose squares are the bits of a number, the lowest at the left, and their opposites below."""
    picture: NDArray[np.uint8] = np.full((*SIZE, 3), 16, np.uint8)
    for bit in range(BITS):
        row = 0 if number >> bit & 1 else 1
        picture[row * CELL : (row + 1) * CELL, bit * CELL : (bit + 1) * CELL] = 235
    return picture


READ_NUMBER = f"""
    const video = document.getElementById('video');
    const canvas = document.createElement('canvas');
    canvas.width = {SIZE[1]}; canvas.height = {SIZE[0]};
    const context = canvas.getContext('2d', {{willReadFrequently: true}});
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    let number = 0;
    for (let bit = 0; bit < {BITS}; bit++) {{
        const at = (row) => context.getImageData(bit * {CELL} + {CELL // 2}, row * {CELL} + {CELL // 2}, 1, 1).data[1];
        if (at(0) > at(1)) number += 1 << bit;
    }}
    return number;
"""
"""Reads the number of the picture that the page's video element shows."""


def with_times(record: ClipRecord, pts_us: Sequence[int]) -> ClipRecord:
    """The clip with other frame times; it must have as many frames."""
    assert record.landmarks is not None
    pts = np.array(pts_us, np.int64)
    assert len(pts) == len(record.landmarks.pts_us)
    end = int(record.index["start_us"]) + int(pts[-1]) + 40_000
    words = dataclasses.replace(record.transcription, words=(), phones=()) if record.transcription else None
    return dataclasses.replace(
        record,
        index={**record.index, "end_us": end, "has_audio": False},
        landmarks=dataclasses.replace(record.landmarks, pts_us=pts),
        transcription=words,
        events=(),
    )


def scored(record: ClipRecord, **index: Any) -> ClipRecord:
    """The clip with other index values."""
    return dataclasses.replace(record, index={**record.index, **index})


def write_numbered(root: Path, records: Sequence[ClipRecord]) -> Path:
    """A data set whose clips' videos have numbered pictures at the clips' own times."""
    root.mkdir(parents=True, exist_ok=True)
    media = root / "media"
    media.mkdir()
    known: dict[tuple[int, ...], Path] = {}
    for record in records:
        if record.landmarks is None:
            continue
        pts = tuple(record.landmarks.pts_us.tolist())
        target = media / f"{record.index['clip_id']}.mp4"
        if pts in known:
            os.link(known[pts], target)
            continue
        end = int(record.index["end_us"]) - int(record.index["start_us"])
        write_video(target, ((time_us, numbered(i)) for i, time_us in enumerate(pts)), Fraction(25), None, end_us=end)
        known[pts] = target
    with writer(root) as output:
        for record in records:
            output.add(record)
        output.finish()
    return root


def small_dataset(root: Path, clips: int = 6) -> Path:
    """Clips of 20 frames, the worst by landmark error last, and a rejected source. Two more have other frame times."""
    records = [
        scored(random_clip(number, 20), nme_p95=0.01 + 0.001 * number, nme_mean=0.008) for number in range(clips)
    ]
    for number, (name, times) in enumerate((("uneven", UNEVEN_US), ("even", NTSC_US))):
        made = with_times(random_clip(500 + 4 * number, len(times)), times)
        records.append(scored(made, clip_id=name, nme_p95=0.009, nme_mean=0.008))
    return write_numbered(root, [*records, rejected_clip(1)])


@contextlib.contextmanager
def served(
    root: Path,
    reviewer: str = "anna",
    token: str | None = None,
    port: int = 0,
    journal: Path | None = None,
    blind: int = 0,
    render: Renderer | None = None,
) -> Iterator[str]:
    """The address of a review server of a data set in this process."""
    settings = Settings(root, reviewer, root.parent / "cache", journal, blind)
    with contextlib.closing(ReviewSession(settings, render)) as session:
        bound = listen("127.0.0.1", port)
        app = make_app(session, Guard("127.0.0.1", token))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.force_exit = True
            thread.join()
            bound.close()


def chromium(profile: Path, webgl: bool = False) -> Any:
    """A headless Chromium, with WebGL in software where asked for; the test is skipped where it is not installed."""
    if not CHROMIUM.is_file() or not DRIVER.is_file():
        pytest.skip(f"no {CHROMIUM} or {DRIVER}: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    shutil.rmtree(profile, ignore_errors=True)
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        *(["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"] if webgl else ["--disable-gpu"]),
        "--autoplay-policy=no-user-gesture-required",
        "--mute-audio",
        "--window-size=1280,800",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(str(DRIVER)))


def wait_until(driver: Any, condition: str, seconds: float = 15.0) -> Any:
    """Wait for a JavaScript expression to become true; returns its value. Fails with what the console says."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = driver.execute_script(f"return {condition}")
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"never true: {condition}; console: {driver.get_log('browser')}")
