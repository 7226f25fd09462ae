"""`talkset evaluate reconstruction` on a data set that holds the truth, and on what cannot be evaluated."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from dataset_builder import random_clip, writer

from reconstruct.embedding import Embedding
from reconstruct.models.head_model import HeadModel
from reconstruct.video import write_video
from schemas.config import load_config
from schemas.records import ClipRecord
from schemas.types import Transcription
from synthetic.known_truth import FPS, SIZE, KnownClip, model_clip
from synthetic.make import Truth, save_truth
from synthetic.render import render
from synthetic.talker import random_talker
from talkset import cli, evaluate
from talkset.dataset import open_dataset
from talkset.evaluate import FIGURE, REPORT, ClipReport

FRAMES = 8
WRONG_RAD = 0.05


@pytest.fixture(scope="module")
def known(open_head: HeadModel, embedding: Embedding) -> KnownClip:
    return model_clip(open_head, embedding, seed=11, frames=FRAMES)


@pytest.fixture(scope="module")
def folder(known: KnownClip, open_head: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dataset/ with one clip, whose jaw is off in the first half, and truth/ beside it."""
    root = tmp_path_factory.mktemp("known")
    jaw = known.truth.jaw_pose.copy()
    jaw[: FRAMES // 2, 0] += WRONG_RAD
    nme = np.linspace(0.01, 0.02, FRAMES, dtype=np.float32)
    head = dataclasses.replace(known.truth, jaw_pose=jaw, nme=nme)
    index = {
        **random_clip(0).index,
        "source_uri": "videos/robin.mp4",
        "num_frames": FRAMES,
        "start_us": 0,
        "end_us": FRAMES * 40_000,
        "width": SIZE[0],
        "height": SIZE[1],
        "model_sha256": open_head.sha256,
    }
    with writer(root / "dataset") as target:
        target.add(ClipRecord(index, head, known.landmarks, Transcription((), ())))
        target.finish()
    (root / "truth").mkdir()
    truth = Truth(known.landmarks.pts_us, known.truth, Transcription((), ()))
    talker = dataclasses.replace(random_talker(1), name="robin")
    save_truth(truth, open_head, talker, root / "truth" / "robin.npz", root / "truth" / "robin.json")
    return root


@pytest.fixture(scope="module")
def output(folder: Path) -> tuple[int, str]:
    """Exit status and stdout of the command with --json and --out."""
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        status = cli.main(["evaluate", "reconstruction", str(folder), "--json", "--out", str(folder / "report")])
    return status, shown.getvalue()


def test_figures_of_a_known_clip(output: tuple[int, str]) -> None:
    status, shown = output
    assert status == 0
    (line,) = json.loads(shown)
    assert line["frames"] == FRAMES
    assert line["valid_ratio"] == 1.0
    assert line["nme_percent"] == pytest.approx(1.5)
    assert line["nme_by_frame_percent"][0] == pytest.approx(1.0)
    assert 0 < line["held_out_percent"] < 1.0  # exact landmarks of a head of the model
    assert line["floor"] is None  # no media, so no second look
    assert line["truth"]["jaw_deg"] == pytest.approx(np.degrees(WRONG_RAD) / 2, abs=0.1)
    assert line["truth"]["head_deg"] == pytest.approx(0, abs=1e-3)
    # the jaw jumps back in the middle, which the detector's points do not
    assert line["jitter_percent"] > line["detector_jitter_percent"] > 0


def test_files_hold_the_same_and_a_picture(folder: Path, output: tuple[int, str]) -> None:
    assert json.loads((folder / "report" / REPORT).read_text()) == json.loads(output[1])
    picture = matplotlib.image.imread(folder / "report" / FIGURE)
    assert picture.shape[:2] == (750, 1000)
    assert (picture[..., :3] < 0.9).any(axis=2).mean() > 0.02  # something is drawn


def test_a_second_look_at_the_pictures_gives_the_noise_floor(
    folder: Path, known: KnownClip, open_head: HeadModel, output: tuple[int, str]
) -> None:
    assert output[0] == 0  # the command above saw no media
    (clip,) = list(open_dataset(folder / "dataset"))
    talker = dataclasses.replace(random_talker(1), width=SIZE[0], height=SIZE[1])
    pictures = zip(known.landmarks.pts_us.tolist(), render(open_head, talker, known.truth), strict=True)
    (folder / "dataset" / "media").mkdir()
    write_video(folder / "dataset" / "media" / f"{clip.clip_id}.mp4", pictures, FPS)
    (line,) = evaluate.evaluate_reconstruction([folder], load_config(None))
    assert line.floor is not None
    assert line.floor.frames == FRAMES
    assert 0.01 < line.floor.vertex_mm < 3.0
    assert line.floor.head_deg > 0.01
    assert evaluate.table_rows([line])[0][evaluate.COLUMNS.index("floor\nmm")] == f"{line.floor.vertex_mm:.2f}"


def report(source: str, held_out: float, valid: bool = True) -> ClipReport:
    return ClipReport(
        clip_id="0123456789ab-0001000000-0003500000",
        source=source,
        frames=3,
        valid_ratio=1.0,
        nme_percent=1.0,
        nme_p95_percent=2.0,
        held_out_percent=held_out,
        jitter_percent=float("nan"),
        detector_jitter_percent=0.5,
        floor=None,
        truth=None,
        seconds=(0.0, 0.04, 0.08),
        nme_by_frame_percent=(1.0, 1.5 if valid else None, 0.5),
    )


def test_rows_have_names_means_and_dashes() -> None:
    rows = evaluate.table_rows([report("a/amber.mp4", 1.0), report("b/basil.mp4", 2.0)])
    assert [row[0] for row in rows] == ["amber 1-4 s", "basil 1-4 s", "mean"]
    assert all(len(row) == len(evaluate.COLUMNS) for row in rows)
    assert rows[2][evaluate.COLUMNS.index("held\nout %")] == "1.50"
    assert rows[0][evaluate.COLUMNS.index("jitter\n%")] == "-"
    assert evaluate.truth_rows([report("a.mp4", 1.0)]) == []
    values = evaluate.to_json([report("a.mp4", 1.0, valid=False)])[0]
    assert values["jitter_percent"] is None
    assert values["nme_by_frame_percent"] == [1.0, None, 0.5]


def test_figures_of_many_clips_are_drawn() -> None:
    one, many = (evaluate.figure_of([report(f"{i}.mp4", 1.0 + i, False) for i in range(n)]) for n in (1, 40))
    assert one[:4] == many[:4] == b"\x89PNG"
    assert len(many) > len(one)


def test_what_cannot_be_evaluated_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "reconstruction", str(tmp_path / "nothing.mp4")]) == 2
    assert "nothing.mp4 does not exist" in capsys.readouterr().err
    with writer(tmp_path / "empty") as target:
        target.add(ClipRecord({**random_clip(1).index, "status": "rejected", "reason": "no_face", "clip_id": "none"}))
        target.finish()
    assert cli.main(["evaluate", "reconstruction", str(tmp_path / "empty")]) == 2
    assert "no accepted clip" in capsys.readouterr().err
