"""The output folder is used by one run at a time, and media are exactly the wanted ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.output import files_differ, locked_output, place_files
from schemas.errors import TalksetError, UsageError


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        locked_output(out),
        pytest.raises(TalksetError, match=r"another run is writing .*process") as caught,
        locked_output(out),
    ):
        pass
    assert caught.value.reason == "not_writable"
    with locked_output(out):
        assert (out / ".talkset" / "owner.json").is_file()
    assert not (out / ".talkset" / "owner.json").exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="not empty"), locked_output(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TalksetError) as caught, locked_output(tmp_path / "file" / "out"):
        pass
    assert caught.value.reason == "not_writable"


def test_the_folder_holds_exactly_what_is_wanted(tmp_path: Path) -> None:
    stored = {f"{name}.mp4": tmp_path / f"stored-{name}" for name in "abc"}
    for name, path in stored.items():
        path.write_text(name)
    folder = tmp_path / "media"
    place_files(folder, {name: stored[name] for name in ("a.mp4", "b.mp4")})
    assert not files_differ(folder, {name: stored[name] for name in ("a.mp4", "b.mp4")})
    wanted = {"b.mp4": stored["c.mp4"], "c.mp4": stored["c.mp4"]}
    assert files_differ(folder, wanted)
    place_files(folder, wanted)
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"b.mp4": "c.mp4", "c.mp4": "c.mp4"}
    place_files(folder, {})
    assert not folder.exists()
    assert stored["a.mp4"].read_text() == "a.mp4"
