"""Talker files: a video that decodes to the promised times, truth that reads back, a manifest that a run accepts."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reconstruct.models.registry import load_model
from reconstruct.video import frames, probe, read_audio
from schemas.errors import TalksetError
from schemas.manifest import local_path, read_manifest
from synthetic.make import frame_times, load_truth, make_all, make_talker, perform
from synthetic.talker import Talker, random_talker

SHORT = dataclasses.replace(random_talker(1, 128, 96, Fraction(30000, 1001)), text="Buy five maps.")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Talker]:
    folder = tmp_path_factory.mktemp("talkers")
    make_all(folder, [SHORT])
    return folder, SHORT


def test_frame_times_follow_the_rational_clock() -> None:
    assert frame_times(1_000_000, Fraction(25)).tolist() == [40_000 * i for i in range(25)]
    times = frame_times(10_010_000, Fraction(30000, 1001))
    assert len(times) == 300
    assert times[299] == round(299 * 1001 / 30 * 1000)


def test_video_has_the_truth_s_frames_size_and_sound(made: tuple[Path, Talker]) -> None:
    folder, talker = made
    truth = load_truth(folder / f"truth/{talker.name}.npz", folder / f"truth/{talker.name}.json")
    video = folder / f"videos/{talker.name}.mp4"
    info = probe(video)
    assert (info.width, info.height) == (128, 96)
    assert float(info.fps) == pytest.approx(float(talker.fps), rel=1e-5)  # a container counts in microseconds
    shown = list(frames(video))
    assert [pts for pts, _ in shown] == truth.pts_us.tolist()
    audio = read_audio(video, 0, int(truth.pts_us[-1]))
    assert audio is not None
    samples, rate = np.asarray(audio[0]).reshape(-1), audio[1]
    _, spoken = perform(talker, load_model())
    loud = np.abs(samples) > 0.05
    start = truth.speech.phones[0].start_us / 1e6
    assert loud[: int((start - 0.02) * rate)].sum() == 0
    assert loud[int(start * rate) :].mean() > 0.1
    assert abs(len(samples) / rate - len(spoken.samples) / spoken.rate) < 0.1


def test_truth_reads_back_exactly(made: tuple[Path, Talker]) -> None:
    folder, talker = made
    path = folder / f"truth/{talker.name}.npz"
    stored = load_truth(path, path.with_suffix(".json"))
    model = load_model()
    expected, utterance = perform(talker, model)
    for field in dataclasses.fields(expected.track):
        np.testing.assert_array_equal(getattr(stored.track, field.name), getattr(expected.track, field.name))
    assert [(w.label, w.start_us) for w in stored.speech.words] == [(w.label, w.start_us) for w in utterance.words]
    assert [(p.label, p.end_us) for p in stored.speech.phones] == [(p.label, p.end_us) for p in utterance.phones]
    with np.load(path, allow_pickle=False) as arrays:
        assert tuple(arrays["expression_names"]) == model.expression_names
        assert str(arrays["model_sha256"]) == model.sha256
    meta = json.loads(path.with_suffix(".json").read_text())
    assert meta["fps"] == [30000, 1001]
    assert meta["text"] == talker.text


def test_manifest_leads_to_the_videos(made: tuple[Path, Talker]) -> None:
    folder, talker = made
    (source,) = read_manifest(folder / "manifest.csv")
    assert (source.speaker, source.language, source.transcript) == (talker.name, "en", talker.text)
    assert source.licence == "CC0-1.0"
    assert local_path(source.uri, folder).is_file()


def test_what_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(TalksetError, match="file"):
        make_talker(SHORT, blocked / "videos", tmp_path / "truth")
    with pytest.raises(TalksetError, match="does not exist"):
        load_truth(tmp_path / "no.npz", tmp_path / "no.json")
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(TalksetError, match="not readable"):
        load_truth(tmp_path / "bad.npz", tmp_path / "bad.json")
