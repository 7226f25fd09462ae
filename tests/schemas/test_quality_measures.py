"""The measures of quality against the configuration and the profiles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from schemas.config import PROFILES, QualityConfig, load_config
from schemas.errors import UsageError
from schemas.quality import MEASURES
from schemas.tables import INDEX


def test_every_measure_has_its_limits_and_columns() -> None:
    limits = [limit for measure in MEASURES for limit in measure.limits]
    assert sorted(limits) == sorted(f.name for f in dataclasses.fields(QualityConfig) if f.name != "enabled")
    columns = {column.name: column for column in INDEX.columns}
    for measure in MEASURES:
        for name in (measure.name, measure.worst):
            assert columns[name].unit == measure.unit
            assert columns[name].since == "1.4.0"


def tightness(config: QualityConfig) -> dict[str, float]:
    """Every limit as a number that grows as the limit tightens; none is the loosest."""
    found = {}
    for measure in MEASURES:
        for limit in measure.limits:
            value = getattr(config, limit)
            sign = 1 if measure.more_is_better else -1
            found[limit] = float("-inf") if value is None else sign * value
    return found


def test_profiles_tighten_one_after_the_other() -> None:
    default, pretrain, strict = (
        tightness(load_config(None, chosen).quality) for chosen in ([], ["profile=pretrain"], ["profile=strict"])
    )
    assert all(default[name] <= pretrain[name] <= strict[name] for name in default)
    assert any(default[name] < pretrain[name] for name in default)
    assert any(pretrain[name] < strict[name] for name in default)


def test_a_profile_lies_under_file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("profile: strict\nquality:\n  min_face_px: 33\n")
    config = load_config(path, ["quality.min_snr_db=1"])
    assert config.quality.min_face_px == 33
    assert config.quality.min_snr_db == 1
    assert config.quality.max_clipped == load_config(Path("profile:strict")).quality.max_clipped
    assert config.sync.correct
    assert load_config(path, ["profile=pretrain"]).duplicates.action == "group"


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(UsageError, match=f"Known: {', '.join(PROFILES)}"):
        load_config(None, ["profile=best"])
