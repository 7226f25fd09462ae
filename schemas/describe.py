"""The page docs/dataset.md, written from the tables themselves: `python -m schemas.describe > docs/dataset.md`."""

from __future__ import annotations

import sys

from schemas.tables import SCHEMA_VERSION, SHARDED, TABLES, Column

FOLDERS = """\
dataset.json            name, versions, configuration digest, models and hashes, licences, counts
index.parquet           one row per clip; rejected spans and failed sources are rows too, with their reason
params/part-*.parquet   one row per accepted clip: head and camera
landmarks/part-*.parquet  the same rows: the big columns
words.parquet phones.parquet events.parquet   long tables by clip_id
media/<clip_id>.mp4     the clip's own video and sound; overlays/<clip_id>.mp4 the mesh over it
stats.json              mean, std, min, max per signal over accepted, valid frames, for normalising
README.md               the data card
MANIFEST.sha256         checksums of every file (`sha256sum -c` reads it)
"""


def _row(column: Column) -> str:
    shape = "" if column.shape is None else " x ".join(str(axis) for axis in column.shape)
    space = ", ".join(part for part in (column.space, column.rotation) if part)
    return f"| `{column.name}` | {column.type} | {shape} | {column.unit or ''} | {space} | {column.meaning} |"


def page() -> str:
    """The whole page as Markdown."""
    lines = [
        "# The data set on disk",
        "",
        "Written by `python -m schemas.describe`; do not edit. "
        f"Schema version {SCHEMA_VERSION}: MAJOR renames, removes or redefines a column, MINOR adds columns.",
        "",
        "```",
        FOLDERS.rstrip(),
        "```",
        "",
        "Per-frame tensors are flat float32 lists, one column a signal; `num_frames` (T) is in the row. S is the",
        "number of identity coefficients, E of expressions. Shape, unit, space and rotation kind are in each",
        "column's Arrow field metadata. Pixels are continuous: (0, 0) is the outer corner of the first pixel. Frames",
        "that are not valid are NaN.",
    ]
    for table in TABLES.values():
        where = f"{table.name}/part-*.parquet" if table in SHARDED else f"{table.name}.parquet"
        lines += [
            "",
            f"## `{where}`",
            "",
            "| column | type | shape | unit | space | meaning |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_row(column) for column in table.columns]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
