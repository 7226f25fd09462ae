"""TextGrids: read back by an independent parser that follows Praat's own reading rule."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from dataset_builder import build

from exports.textgrid import export_textgrids, textgrid, write_textgrid
from schemas.errors import TalksetError, UsageError
from schemas.types import Interval
from talkset import cli
from talkset.dataset import open_dataset

Tier = tuple[str, str, float, float, list[tuple[float, float, str]]]


def parse(text: str) -> tuple[float, float, list[Tier]]:
    """Praat reads free-standing numbers, quoted texts and <flags>, all else is comment: long and short forms alike."""
    tokens = re.findall(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d+(?:\.\d+)?)(?!\S)|<(\w+)>', text)
    values = iter([float(n) if n else flag or quoted.replace('""', '"') for quoted, n, flag in tokens])

    def number() -> float:
        value = next(values)
        assert isinstance(value, float)
        return value

    def string() -> str:
        value = next(values)
        assert isinstance(value, str)
        return value

    assert [string(), string()] == ["ooTextFile", "TextGrid"]
    start, end, exists = number(), number(), string()
    assert exists == "exists"
    tiers: list[Tier] = []
    for _ in range(int(number())):
        kind, name, first, last = string(), string(), number(), number()
        points = kind == "TextTier"
        rows = [(t := number(), t if points else number(), string()) for _ in range(int(number()))]
        tiers.append((kind, name, first, last, rows))
    assert next(values, None) is None
    return start, end, tiers


def spoken(*rows: tuple[int, int, str]) -> list[Interval]:
    return [Interval(start, end, label, 1.0, False, "test") for start, end, label in rows]


def test_round_trip_with_gaps_quotes_and_unicode() -> None:
    words = spoken((1_000_001, 1_500_000, 'say "größe"'), (0, 250_000, "bin"), (250_000, 400_000, "二 blau"))
    phones = spoken((40_000, 80_000, '"'))
    start, end, tiers = parse(textgrid(words, phones, 2_000_000))
    assert (start, end) == (0, 2)
    assert tiers == [
        (
            "IntervalTier",
            "words",
            0,
            2,
            [
                (0, 0.25, "bin"),
                (0.25, 0.4, "二 blau"),
                (0.4, 1.000001, ""),
                (1.000001, 1.5, 'say "größe"'),
                (1.5, 2, ""),
            ],
        ),
        ("IntervalTier", "phones", 0, 2, [(0, 0.04, ""), (0.04, 0.08, '"'), (0.08, 2, "")]),
    ]


def test_without_labels_one_empty_interval_spans_the_clip() -> None:
    _, _, tiers = parse(textgrid([], [], 1_234_567))
    assert [tier[4] for tier in tiers] == [[(0, 1.234567, "")]] * 2


def test_layout_and_content_equal_files_that_praat_users_have(eval_data: Path) -> None:
    short = (eval_data / "speech" / "mary.TextGrid").read_text(encoding="utf-8")
    _, end, tiers = parse(short)

    def microseconds(name: str) -> list[Interval]:
        (rows,) = (rows for kind, tier, _, _, rows in tiers if (kind, tier) == ("IntervalTier", name))
        return spoken(*((round(a * 1e6), round(b * 1e6), label) for a, b, label in rows if label))

    _, own_end, own = parse(textgrid(microseconds("word"), microseconds("phone"), round(end * 1e6)))
    assert own_end == pytest.approx(end)
    for name, other in (("words", "word"), ("phones", "phone")):
        (found,) = (rows for _, tier, _, _, rows in own if tier == name)
        (expected,) = (rows for _, tier, _, _, rows in tiers if tier == other)
        assert [label for _, _, label in found] == [label for _, _, label in expected]
        assert [time for row in found for time in row[:2]] == pytest.approx(
            [t for r in expected for t in r[:2]], abs=1e-6
        )

    def skeleton(text: str) -> list[str]:
        """The different lines in their order, without names, texts and numbers."""
        return list(dict.fromkeys(re.sub(r'"[^"]*"|-?\d+(\.\d+)?', "#", line) for line in text.splitlines()))

    long = (eval_data / "speech" / "beat2_2_scott_0_1_1.TextGrid").read_text(encoding="utf-8")
    assert skeleton(textgrid(microseconds("word"), [], round(end * 1e6))) == skeleton(long)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [(0, 300_000, "one"), (200_000, 400_000, "two")],
            r"'two' \(0.2..0.4 s\) in words overlaps 'one' \(0..",
        ),
        ([(500_000, 500_000, "none")], "'none' .* has no length"),
        ([(-10, 500_000, "early")], "'early' .* overlaps the start of the clip"),
        ([(500_000, 1_000_001, "late")], "'late' .* ends after the clip, which lasts 1 s"),
    ],
)
def test_intervals_that_cannot_stand_in_a_tier_are_named(rows: list[tuple[int, int, str]], told: str) -> None:
    with pytest.raises(TalksetError, match=told) as caught:
        textgrid(spoken(*rows), [], 1_000_000)
    assert caught.value.reason == "corrupt_data"


def test_a_clip_of_a_data_set_is_written_as_it_is_exported(tmp_path: Path) -> None:
    made = build(tmp_path / "data", 4)
    (tmp_path / "one").mkdir()
    dataset = open_dataset(tmp_path / "data")
    paths = export_textgrids(tmp_path / "data", tmp_path / "out" / "grids")
    accepted = [record for record in made if record.index["status"] == "accepted"]
    assert sorted(path.stem for path in paths) == sorted(record.index["clip_id"] for record in accepted)
    assert sorted((tmp_path / "out" / "grids").iterdir()) == sorted(paths)
    for path in paths:
        write_textgrid(dataset[path.stem], tmp_path / "one" / path.name)
        assert (tmp_path / "one" / path.name).read_bytes() == path.read_bytes()
    record = accepted[1]
    assert record.transcription is not None
    _, end, tiers = parse((tmp_path / "out" / "grids" / f"{record.index['clip_id']}.TextGrid").read_text("utf-8"))
    assert end == (record.index["end_us"] - record.index["start_us"]) / 1e6
    labels = [(a, b, label) for a, b, label in tiers[0][4] if label]
    assert labels == [(w.start_us / 1e6, w.end_us / 1e6, w.label) for w in record.transcription.words]


def test_export_by_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "data", 2)
    out = tmp_path / "grids"
    assert cli.main(["export", str(tmp_path / "data"), "--format", "textgrid", "--out", str(out)]) == 0
    assert len(list(out.glob("*.TextGrid"))) == 2
    assert cli.main(["export", str(tmp_path / "data"), "--format", "textgird", "--out", str(out)]) == 2
    assert "textgrid" in capfd.readouterr().err


def test_errors_of_an_export_name_folder_and_clip(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no data set"):
        export_textgrids(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    build(tmp_path / "data", 2)
    words = pd.read_parquet(tmp_path / "data" / "words.parquet")
    words.loc[words.clip_id == "clip_0001", "end_us"] = 150_000
    words.to_parquet(tmp_path / "data" / "words.parquet")
    with pytest.raises(TalksetError, match=r"clip_0001: 'blue' .* overlaps 'bin'"):
        export_textgrids(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "clip_0001.TextGrid").exists()
    (tmp_path / "data" / "words.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(TalksetError, match=r"words\.parquet cannot be read"):
        export_textgrids(tmp_path / "data", tmp_path / "out")
