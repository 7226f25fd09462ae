"""The data card: README.md of a data set, written from its facts and its index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import REASONS

CARD_COLUMNS: Final = (
    "source_id",
    "speaker",
    "split",
    "language",
    "licence",
    "status",
    "reason",
    "nme_mean",
    "transcript",
    "sync_confidence",
    "speech_ratio",
    "has_audio",
    "warnings",
)
"""Columns of the index that the card counts."""


def render_card(facts: Mapping[str, Any], index: pa.Table) -> str:
    """The card as Markdown with the front matter that the Hugging Face hub reads.

    `facts` is the content of dataset.json, `index` the `CARD_COLUMNS` of the index.
    No date: the same data give the same card.
    """
    accepted = index.filter(pc.equal(index["status"], "accepted"))
    sections = [
        _front_matter(facts),
        f"# {_text(facts['name'])} {_text(facts['version'])}",
        "Talking clips with fitted 3D head parameters, 2D landmarks, words and phones. The parameters are"
        " pseudo-ground truth: they were fitted to video, not measured in 3D.",
        _contents(facts, accepted),
        _outcome(index),
        _licences(facts, accepted),
        _models(facts),
        _reading(),
        _limits(facts, accepted),
        _provenance(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: Mapping[str, Any]) -> str:
    configs = "".join(f"- config_name: {name}\n  data_files: {path}\n" for name, path in _HUB_TABLES.items())
    return f"---\npretty_name: {json.dumps(facts['name'], ensure_ascii=False)}\nconfigs:\n{configs}---"


_HUB_TABLES = {
    "index": "index.parquet",
    "params": "params/*.parquet",
    "landmarks": "landmarks/*.parquet",
    "words": "words.parquet",
    "phones": "phones.parquet",
    "events": "events.parquet",
}


def _contents(facts: Mapping[str, Any], accepted: pa.Table) -> str:
    counts = facts["counts"]
    rows = [
        ("accepted clips", f"{counts['accepted']}"),
        ("hours", f"{counts['seconds'] / 3600:.3f}"),
        ("frames", f"{counts['frames']}"),
        ("frames with a face", f"{counts['valid_frames']}"),
        ("source videos", f"{pc.count_distinct(accepted['source_id']).as_py()}"),
        ("speakers", _speakers(accepted)),
        ("words", f"{counts['words']}"),
        ("phones", f"{counts['phones']}"),
        ("events", f"{counts['events']}"),
    ]
    blocks = ["## Contents", _table(("what", "count"), rows)]
    for column, title in (("split", "split"), ("language", "language")):
        if accepted[column].null_count < accepted.num_rows:
            blocks.append(_table((title, "clips"), _value_counts(accepted, [column])))
    return "\n\n".join(blocks)


def _speakers(accepted: pa.Table) -> str:
    known = pc.count_distinct(accepted["speaker"], mode="only_valid").as_py()
    unnamed = accepted["speaker"].null_count
    return f"{known}" + (f" named; {unnamed} clips without a name" if unnamed else "")


def _outcome(index: pa.Table) -> str:
    rows = []
    for status, reason, count in _value_counts(index, ["status", "reason"]):
        rows.append((status, reason, REASONS.get(reason, ""), count))
    note = (
        "Rows that are not accepted carry no parameters; they are kept in the index so that nothing is lost silently."
    )
    return "\n\n".join(("## What became of every clip", _table(("status", "reason", "meaning", "rows"), rows), note))


def _licences(facts: Mapping[str, Any], accepted: pa.Table) -> str:
    whole = _text(facts["licence"]) if facts["licence"] else "not stated by its maker"
    rows = _value_counts(accepted, ["licence"])
    return "\n\n".join(
        (
            "## Licences",
            f"Data set as a whole: {whole}. Clips by the licence of their source video:",
            _table(("licence of the source", "clips"), rows),
        )
    )


def _models(facts: Mapping[str, Any]) -> str:
    rows = [(model.get("name", ""), model.get("licence", ""), model.get("sha256", "")) for model in facts["models"]]
    note = "Expression and shape codes are meaningful only with the model that the row names."
    return "\n\n".join(("## Models", _table(("model", "licence", "sha256"), rows), note))


def _reading() -> str:
    return """## How to read it

```python
from talkset import open_dataset           # needs numpy and pyarrow only
clips = open_dataset(".", where="nme_mean < 0.02")
clip = clips[0]
clip["expression"]                         # (T, E) float32
clip.window(0.0, 1.0)                      # one second of every signal, by presentation time
```

```python
import pandas
index = pandas.read_parquet("index.parquet")
params = pandas.read_parquet("params")     # per-frame tensors are flat lists of num_frames x width values
row = params.iloc[0]
row["jaw_pose"].reshape(row["num_frames"], 3)
```

```sql
-- DuckDB
SELECT i.clip_id, i.nme_mean, p.expression
FROM 'index.parquet' i JOIN 'params/*.parquet' p USING (clip_id) WHERE i.status = 'accepted';
```

Shape, unit, space and rotation kind of a column are in its Arrow field metadata. Units: metres, radians,
microseconds, pixels. Model space: y up, z out of the face; camera space: x right, y down, z forward; left and right
are the subject's. `sha256sum -c MANIFEST.sha256` or `talkset verify` proves the files unchanged."""


def _limits(facts: Mapping[str, Any], accepted: pa.Table) -> str:
    counts = facts["counts"]
    lines = ["Fitted from one camera: absolute size and distance rest on the model's shape space and the focal length."]
    errors = accepted["nme_mean"].drop_null().to_numpy()
    if len(errors):
        middle, high, worst = (100 * float(value) for value in (*np.quantile(errors, (0.5, 0.95)), errors.max()))
        lines.append(
            f"Landmark error of a clip (share of the outer eye corner distance): median {middle:.2f} %,"
            f" 95 % of the clips below {high:.2f} %, worst {worst:.2f} %."
        )
    unseen = counts["frames"] - counts["valid_frames"]
    if unseen:
        lines.append(
            f"{unseen} of {counts['frames']} frames show no face: `valid` is false there, the values are not measured."
        )
    missing = {
        "transcript": "have no transcript",
        "sync_confidence": "have no measured sync of sound and lips",
        "speech_ratio": "have no measured share of speech",
    }
    for column, text in missing.items():
        if accepted[column].null_count:
            lines.append(f"{accepted[column].null_count} of {accepted.num_rows} accepted clips {text}.")
    silent = pc.sum(pc.invert(accepted["has_audio"])).as_py() or 0
    if silent:
        lines.append(f"{silent} of {accepted.num_rows} accepted clips have no sound.")
    warned = accepted.num_rows - accepted["warnings"].null_count
    if warned:
        lines.append(f"{warned} accepted clips carry a warning (index column `warnings`).")
    return "\n".join(("## Known limits", "", *(f"- {line}" for line in lines)))


def _provenance(facts: Mapping[str, Any]) -> str:
    rows = list(facts["generator"].items())
    head = f"Configuration digest `{facts['config_digest']}` (config.yaml), schema version {facts['schema_version']}."
    return "\n\n".join(("## How it was made", head, _table(("library", "version"), rows)))


def _value_counts(table: pa.Table, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Distinct values with their number of rows, sorted by value; absent values read as an empty cell."""
    grouped = table.group_by(list(columns), use_threads=False).aggregate([([], "count_all")])
    rows = [tuple("" if row[name] is None else str(row[name]) for name in columns) for row in grouped.to_pylist()]
    counts = grouped["count_all"].to_pylist()
    return sorted((*row, str(count)) for row, count in zip(rows, counts, strict=True))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _text(value: str) -> str:
    """User text that cannot break the Markdown around it."""
    return " ".join(value.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
