"""The page docs/dataset.md, written from the tables themselves: `python -m schemas.describe > docs/dataset.md`."""

from __future__ import annotations

import sys

from schemas.tables import SCHEMA_HISTORY, SCHEMA_VERSION, SHARDED, TABLES, Column

FIRST_VERSION = next(iter(SCHEMA_HISTORY))
FOLDERS = """\
dataset.json            name, versions, configuration digest, models and hashes, licences, counts, history
index.parquet           one row per clip; rejected spans and failed sources are rows too, with their reason
params/part-*.parquet   one row per accepted clip: head and camera
landmarks/part-*.parquet  the same rows: the big columns
words.parquet phones.parquet events.parquet   long tables by clip_id
columns/<name>.parquet, columns/<name>/part-*.parquet   columns that users added, beside the index or the params
models/                 the head model and the landmarks on it, where their licences let them travel
media/<clip_id>.mp4     the clip's own video and sound; overlays/<clip_id>.mp4 the mesh over it
stats.json              mean, std, min, max and quantiles per signal over accepted, valid frames, for normalising
README.md figures/      the data card and its pictures
config.yaml             the configuration that built it
MANIFEST.sha256         checksums of every file (`sha256sum -c` reads it)
"""


def _row(column: Column) -> str:
    shape = "" if column.shape is None else " x ".join(str(axis) for axis in column.shape)
    space = ", ".join(part for part in (column.space, column.rotation) if part)
    limits = "" if column.low is None and column.high is None else f"{_bound(column.low)} .. {_bound(column.high)}"
    notes = ["optional"] * column.optional + [f"since {column.since}"] * (column.since != FIRST_VERSION)
    meaning = column.meaning + (f" ({', '.join(notes)})" if notes else "")
    return f"| `{column.name}` | {column.type} | {shape} | {column.unit or ''} | {limits} | {space} | {meaning} |"


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def page() -> str:
    """The whole page as Markdown."""
    lines = [
        "# The data set on disk",
        "",
        f"Written by `python -m schemas.describe`; do not edit. Schema version {SCHEMA_VERSION}.",
        "",
        "```",
        FOLDERS.rstrip(),
        "```",
        "",
        "Per-frame tensors are flat float32 lists, one column a signal; `num_frames` (T) is in the row. S is the",
        "number of identity coefficients, E of expressions, L of landmarks. Shape, unit, space and rotation kind are",
        "in each column's Arrow field metadata. Pixels are continuous: (0, 0) is the outer corner of the first pixel.",
        "Frames that are not valid are NaN. A range holds for every value that is there; of a rotation it bounds the",
        "angle. An optional column is null in rows that do not have it.",
        "",
        "## Versions",
        "",
        "| | schema version | version of a data set |",
        "|---|---|---|",
        "| PATCH | descriptions changed | the same data, written again |",
        "| MINOR | columns were added; older readers go on working | columns were added |",
        "| MAJOR | a column was renamed, removed or redefined | clips or values changed |",
        "",
        "A reader opens every data set of its own MAJOR schema version, older and newer. `talkset upgrade` brings an",
        "older one up to date; all Parquet files of a data set have the schema version that dataset.json names.",
        "",
        "| schema version | what it brought |",
        "|---|---|",
        *(f"| {version} | {text} |" for version, text in SCHEMA_HISTORY.items()),
    ]
    for table in TABLES.values():
        where = f"{table.name}/part-*.parquet" if table in SHARDED else f"{table.name}.parquet"
        lines += [
            "",
            f"## `{where}`",
            "",
            "| column | type | shape | unit | range | space | meaning |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_row(column) for column in table.columns]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
