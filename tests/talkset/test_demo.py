"""The demo: its figures against values made by hand, and one small talker from end to end."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_builder import random_clip, writer

from reconstruct.models.head_model import HeadModel
from schemas.records import ClipRecord
from schemas.types import Interval, LandmarkTrack, Transcription
from schemas.verify import verify_dataset
from synthetic.make import TalkerFiles, Truth, make_all, perform
from synthetic.talker import random_talker
from talkset import demo
from talkset.dataset import open_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = dataclasses.replace(random_talker(4, 200, 200), name="robin", text="Buy maps.")


def spoken(*rows: tuple[int, int, str]) -> tuple[Interval, ...]:
    return tuple(Interval(start * 1000, end * 1000, label, 1.0, False, "test") for start, end, label in rows)


def rows(*intervals: tuple[int, int, str]) -> list[dict[str, Any]]:
    return [{"start_us": start * 1000, "end_us": end * 1000, "label": label} for start, end, label in intervals]


def test_word_boundary_error_by_hand() -> None:
    truth = spoken((100, 200, "Bin"), (250, 400, "blue"))
    assert demo.word_boundary_error_ms(truth, rows((100, 200, "bin"), (250, 400, "blue"))) == 0
    late_and_early = rows((110, 170, "bin"), (250, 380, "BLUE"))  # 10 and 30, 0 and 20
    assert demo.word_boundary_error_ms(truth, late_and_early) == pytest.approx((10 + 30 + 0 + 20) / 4)


@pytest.mark.parametrize("found", [rows((100, 200, "bin")), rows((100, 200, "blue"), (250, 400, "bin")), []])
def test_other_words_have_no_boundary_error(found: list[dict[str, Any]]) -> None:
    assert np.isnan(demo.word_boundary_error_ms(spoken((100, 200, "bin"), (250, 400, "blue")), found))


def dataset_of(truth: Truth, root: Path, late_us: int = 0, lost: int = 0, larger: float = 0.0) -> Any:
    """The clip of a data set that holds the truth: words late, first frames lost, NME of 1 % on the rest."""
    frames = len(truth.pts_us)
    valid = np.arange(frames) >= lost
    arrays: dict[str, Any] = {
        "nme": np.where(valid, 0.01, np.nan).astype(np.float32),
        "residual_px": np.where(valid, 1.0, np.nan).astype(np.float32),
        "jaw_pose": truth.track.jaw_pose + np.array([larger, 0, 0], np.float32),
        "valid": valid,
    }
    words = tuple(
        dataclasses.replace(word, start_us=word.start_us + late_us, end_us=word.end_us + late_us)
        for word in truth.speech.words
    )
    xy = np.where(valid[:, None, None], np.ones((frames, 478, 2)), np.nan).astype(np.float32)
    index = {
        **random_clip(0).index,
        "num_frames": frames,
        "start_us": 0,
        "end_us": int(truth.pts_us[-1]) + 40_000,
        "model_sha256": truth.track.model_sha256,
    }
    with writer(root) as target:
        target.add(
            ClipRecord(
                index,
                dataclasses.replace(truth.track, **arrays),
                LandmarkTrack(
                    truth.pts_us, xy, np.ones(xy.shape[:2], np.float32), valid, SMALL.width, SMALL.height, "truth"
                ),
                Transcription(words, ()),
            )
        )
        target.finish()
    return open_dataset(root)[0]


def test_a_data_set_of_the_truth_has_no_error(open_head: HeadModel, tmp_path: Path) -> None:
    truth, _ = perform(SMALL, open_head)
    line = demo.score("small", dataset_of(truth, tmp_path / "data"), truth, open_head)
    assert (line.name, line.frames, line.true_frames) == ("small", len(truth.pts_us), len(truth.pts_us))
    assert (line.words, line.word_error_ms) == (2, 0)
    assert line.nme_percent == pytest.approx(1.0)
    assert line.errors.frames == len(truth.pts_us)
    for error in ("vertex_mm", "jaw_deg", "gaze_deg", "head_deg", "lips_mm"):
        assert getattr(line.errors, error) == pytest.approx(0, abs=1e-3)


def test_what_is_wrong_in_a_data_set_is_in_its_score(open_head: HeadModel, tmp_path: Path) -> None:
    truth, _ = perform(SMALL, open_head)
    clip = dataset_of(truth, tmp_path / "data", late_us=20_000, lost=4, larger=0.05)
    line = demo.score("small", clip, truth, open_head)
    assert line.frames == line.true_frames - 4
    assert line.word_error_ms == pytest.approx(20)
    assert line.nme_percent == pytest.approx(1.0)
    assert line.errors.jaw_deg == pytest.approx(np.degrees(0.05), abs=0.3)  # the true rotation is not about x alone
    assert line.errors.vertex_mm > 0.1
    assert line.errors.valid_ratio == pytest.approx(1 - 4 / line.true_frames)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """The whole demo with one talker of 200 x 200: its folder, exit status and what it printed."""

    def one(folder: Path) -> tuple[Path, list[TalkerFiles]]:
        return make_all(folder, [SMALL])

    folder = tmp_path_factory.mktemp("demo") / "demo"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as shown:
        patch.setattr(demo, "make_all", one)
        patch.setenv("COLUMNS", "120")
        status = demo.run_demo(folder, "local", 1)
    return folder, status, shown.getvalue()


def test_a_small_talker_from_end_to_end(ran: tuple[Path, int, str]) -> None:
    """4 mm is a bound of sanity, not what the fit can do."""
    folder, status, shown = ran
    assert status == 0
    (line,) = json.loads((folder / "scores.json").read_text())
    assert line["name"] == SMALL.name
    assert line["frames"] == line["true_frames"] > 25
    assert line["words"] == 2
    assert line["word_error_ms"] < 60
    assert line["errors"]["vertex_mm"] < 4
    assert line["errors"]["valid_ratio"] == 1
    assert SMALL.name in shown
    assert f"{line['frames']}/{line['true_frames']}" in shown
    assert len(list((folder / "dataset" / "overlays").glob("*.mp4"))) == 1


def test_its_data_set_is_whole_and_stands_alone(ran: tuple[Path, int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The head model travels with the data: the clip's mesh needs nothing of this machine."""
    root = ran[0] / "dataset"
    assert verify_dataset(root) == []
    clip = open_dataset(root)[0]
    assert (root / "models" / f"{clip['head_model']}.npz").is_file()

    def refuse(*_: object) -> None:
        raise AssertionError("the installed model was used")

    monkeypatch.setattr("reconstruct.models.registry.load_model", refuse)
    monkeypatch.setattr("reconstruct.landmarks.embed.embedding_for", refuse)
    points = clip.landmarks3d()
    pixels = points[..., :2] / points[..., 2:] * clip["focal_px"] + clip["principal_point"]
    error = np.linalg.norm(pixels - clip["face_xy"], axis=2)[:, :468].mean(1)
    np.testing.assert_allclose(error, clip["residual_px"], rtol=0.02)


def test_the_page_about_using_a_data_set_runs(
    ran: tuple[Path, int, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REPOSITORY / "docs" / "using.md").read_text(encoding="utf-8")
    monkeypatch.chdir(ran[0])
    monkeypatch.setenv("HF_HOME", str(ran[0] / "hf"))
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 7
    for block in blocks:
        exec(compile(block, "using.md", "exec"), names)
    assert names["vertices"].shape[0] == names["clip"].num_frames
    assert names["batch"]["expression"].shape[::2] == (names["batch"]["mask"].shape[0], 52)
    assert "1 clips" in capsys.readouterr().out
    duckdb = pytest.importorskip("duckdb")
    (query,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert duckdb.connect().execute(query).fetchall()[0][1] == 2
