"""The pictures: readable PNG files of one width, the same bytes for the same counts, whatever is missing."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from schemas.figures import FIGURES, WIDTH_PX, draw_figures
from schemas.statistics import Statistics
from schemas.summary import IndexSummary

FRONTAL = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))


def _counted(clips: int, speakers: int = 30) -> tuple[IndexSummary, Statistics]:
    rng = np.random.default_rng(3)
    names = [f"speaker {number}" for number in range(speakers)]
    names[0] = "$x_1$ 王 ​with a name that is much too long"
    summary, statistics = IndexSummary(), Statistics()
    columns = {
        "source_id": [f"s{number}" for number in range(clips)],
        "speaker": [names[number % speakers] for number in range(clips)],
        "split": [("train", "val", None)[number % 3] for number in range(clips)],
        "start_us": [0] * clips,
        "end_us": [int(value) for value in rng.uniform(1e6, 3e7, clips)],
        "status": ["accepted"] * clips,
        "nme_mean": rng.gamma(6, 0.0025, clips).tolist(),
        "valid_ratio": [1.0] * clips,
    }
    summary.add(pa.table(columns))
    for _ in range(min(clips, 20)):
        turns = Rotation.from_rotvec(rng.normal(size=(30, 3)) * 0.2)
        statistics.add_signal("open-head", "global_pose", (FRONTAL * turns).as_rotvec())
        for name in ("jaw_pose", "left_eye_pose", "right_eye_pose", "translation"):
            statistics.add_signal("open-head", name, rng.normal(size=(30, 3)) * 0.1)
    return summary, statistics


@functools.cache
def _drawn(clips: int) -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter that the font does not have, an axis without a range
        return draw_figures(*_counted(clips))


def _pixels(data: bytes) -> np.ndarray:  # type: ignore[type-arg]
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    assert not picture.info.keys() & {"Software", "Creation Time", "date"}
    return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("clips", [0, 1, 200])
def test_pictures_are_light_and_of_one_width(clips: int) -> None:
    figures = _drawn(clips)
    assert list(figures) == list(FIGURES)
    for name, data in figures.items():
        pixels = _pixels(data)
        assert pixels.shape[1] == WIDTH_PX
        assert 150 < pixels.shape[0] < 800
        assert (pixels[0, 0] == 255).all()
        coloured = (np.ptp(pixels.astype(int), axis=2) > 60).mean()
        assert (coloured > 0.005) == (clips > 0), name
        assert (pixels.max(axis=2) < 120).any(), "no text"


def test_the_same_counts_give_the_same_bytes_in_any_style() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "figure.facecolor": "black", "savefig.dpi": 33}):
        again = draw_figures(*_counted(200))
        assert matplotlib.rcParams["font.size"] == 20
    assert again == _drawn(200)
    assert again["figures/clips.png"] != _drawn(1)["figures/clips.png"]


def test_what_was_not_measured_is_said() -> None:
    name = "figures/motion.png"
    assert draw_figures(_counted(1)[0], Statistics())[name] == _drawn(0)[name] != _drawn(1)[name]


def test_matplotlib_is_not_imported_before_drawing() -> None:
    code = "import sys, schemas.card, schemas.figures; print('matplotlib' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
