"""Manifests in three formats, and every way in which one can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import TalksetError, UsageError
from schemas.manifest import local_path, read_manifest
from schemas.types import Source

HASH = "0123456789abcdef" * 4
EXPECTED = [
    Source(
        "a ü.mp4", 1, HASH, 1_500_000, 3_000_000, "s1", "en", 'say "hi", you', "CC0-1.0", {"take": "2", "mood": "ä"}
    ),
    Source("b.mp4", 2),
]


def _csv(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_three_formats_agree(tmp_path: Path) -> None:
    names = "uri,sha256,start,end,speaker,language,transcript,licence,labels"
    text = f"{names}\r\na ü.mp4,{HASH.upper()},1.5,3,s1,en,"
    text += '"say ""hi"", you",CC0-1.0,"{""take"": 2, ""mood"": ""ä""}"\r\n'
    assert read_manifest(_csv(tmp_path / "m.csv", text + "b.mp4,,,,,,,,\r\n\r\n", "utf-8-sig")) == EXPECTED

    row = {
        "uri": "a ü.mp4",
        "sha256": HASH,
        "start": 1.5,
        "end": 3,
        "speaker": "s1",
        "language": "en",
        "transcript": 'say "hi", you',
        "licence": "CC0-1.0",
        "labels": {"take": 2, "mood": "ä"},
    }
    lines = json.dumps(row) + "\n\n" + json.dumps({"uri": "b.mp4"}) + "\n"
    assert read_manifest(_csv(tmp_path / "m.jsonl", lines, "utf-8-sig")) == EXPECTED

    labels = pa.array([[("take", "2"), ("mood", "ä")], None], type=pa.map_(pa.string(), pa.string()))
    columns = {key: [value, None] for key, value in row.items() if key not in ("uri", "labels")}
    table = pa.table({"uri": ["a ü.mp4", "b.mp4"], **columns, "labels": labels})
    pq.write_table(table, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet") == EXPECTED


def test_duplicates_are_kept(tmp_path: Path) -> None:
    assert [s.row for s in read_manifest(_csv(tmp_path / "m.csv", "uri\na.mp4\na.mp4\n"))] == [1, 2]


@pytest.mark.parametrize(
    ("row", "column", "hint"),
    [
        ({"uri": "a", "speeker": "x"}, "speeker", "did you mean 'speaker'"),
        ({"speaker": "x"}, "uri", "missing"),
        ({"uri": " "}, "uri", "missing"),
        ({"uri": 7}, "uri", "must be text, got 7"),
        ({"uri": "a", "sha256": "abc"}, "sha256", "64 hex digits"),
        ({"uri": "a", "sha256": "g" * 64}, "sha256", "64 hex digits"),
        ({"uri": "a", "start": -1}, "start", "from 0"),
        ({"uri": "a", "start": float("nan")}, "start", "got nan"),
        ({"uri": "a", "end": float("inf")}, "end", "got inf"),
        ({"uri": "a", "end": -(10**400)}, "end", "from 0"),
        ({"uri": "a", "start": "soon"}, "start", "as a number"),
        ({"uri": "a", "start": True}, "start", "as a number"),
        ({"uri": "a", "start": 3, "end": 2}, "end", "2 is not after start 3"),
        ({"uri": "a", "end": 0}, "end", "not after start 0"),
        ({"uri": "a", "labels": [1]}, "labels", "must be a mapping"),
        ({"uri": "a", "labels": {"x": [1]}}, "labels", "'x' must be text"),
        ({"uri": "a", "labels": "{"}, "labels", "JSON object"),
        ({"uri": "a", "language": 5}, "language", "must be text"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, row: dict[str, object], column: str, hint: str) -> None:
    path = _csv(tmp_path / "m.jsonl", json.dumps({"uri": "good.mp4"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    assert str(path) in caught.value.message
    assert f"row 2, column {column!r}: " in caught.value.message
    assert hint in caught.value.message


def test_all_problems_together_and_capped(tmp_path: Path) -> None:
    rows = "".join(f"a{n}.mp4,-1\n" for n in range(30))
    with pytest.raises(UsageError) as caught:
        read_manifest(_csv(tmp_path / "m.csv", "uri,start\n" + rows))
    assert caught.value.message.count("column 'start'") == 20
    assert "and more" in caught.value.message
    with pytest.raises(UsageError) as caught:
        read_manifest(_csv(tmp_path / "n.csv", "uri,start,sha256\n,x,zz\nb.mp4,,q\nc.mp4\n"))
    for part in ("row 1, column 'uri'", "row 1, column 'start'", "row 1, column 'sha256'", "row 2, column 'sha256'"):
        assert part in caught.value.message
    assert "row 3: has 1 cells, the header has 3" in caught.value.message


@pytest.mark.parametrize(
    ("name", "data", "hint"),
    [
        ("m.txt", b"uri\na\n", "unknown ending"),
        ("m.csv", b"", "no rows"),
        ("m.csv", b"uri\n", "no rows"),
        ("m.csv", b"url\na\n", "Rename 'url'"),
        ("m.csv", b"uri,uri\na,b\n", "twice"),
        ("m.csv", b"uri\n\xff\xfe\n", "not UTF-8"),
        ("m.csv", b'uri\n"open\n', "not valid csv"),
        ("m.jsonl", b"[1]\n", "row 1: must be a JSON object"),
        ("m.jsonl", b"{oops\n", "row 1: is not JSON"),
        ("m.parquet", b"PAR1 no", "not valid parquet"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, data: bytes, hint: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_manifest(tmp_path / name)
    assert name in caught.value.message
    assert hint in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        read_manifest(tmp_path / "nowhere.csv")


def test_local_path(tmp_path: Path) -> None:
    assert local_path("a b/ü.mp4", tmp_path) == tmp_path / "a b" / "ü.mp4"
    assert local_path("/x/100%20.mp4", tmp_path) == Path("/x/100%20.mp4")
    assert local_path("take:2.mp4", tmp_path) == tmp_path / "take:2.mp4"
    assert local_path("file:///x/a%20b%C3%BC.mp4", tmp_path) == Path("/x/a bü.mp4")
    assert local_path("FILE://localhost/x.mp4", tmp_path) == Path("/x.mp4")
    real = tmp_path / "a ?#%ü.mp4"
    real.write_bytes(b"x")
    assert local_path(real.as_uri(), Path("/elsewhere")).read_bytes() == b"x"
    for uri in (
        "s3://bucket/a.mp4",
        "https://example.org/a.mp4",
        "file://host/a.mp4",
        "file:///a?b",
        "",
        "file:///%00",
    ):
        with pytest.raises(TalksetError) as caught:
            local_path(uri, tmp_path)
        assert caught.value.reason == "unsupported_uri"
