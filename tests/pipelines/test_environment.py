"""A Ray runtime environment for real: a package that conflicts with talkset's, for one task alone.

Ray copies the whole virtual environment (about 4 GB) before it installs anything, so this is asked for by
`make test-environment`.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from ray import cloudpickle
from tiny_wav2vec2 import make_tiny_model

from annotate.align.whisperx import IN_RAY, WhisperxAligner
from pipelines.declarations import Environment, Needs
from pipelines.engines.ray import RayEngine
from schemas.config import WhisperxConfig
from schemas.errors import TalksetError
from synthetic.speech import Voice, synthesize

OLD = "5.0.2"
"""A version of inflect that talkset refuses."""
pytestmark = [
    pytest.mark.skipif("TALKSET_TEST_ENVIRONMENT" not in os.environ, reason="make test-environment (4 GB, minutes)"),
    pytest.mark.timeout(1800),
]


@dataclass(frozen=True)
class Version:
    """The version of inflect that a worker sees, and whether talkset's own code is there."""

    def __call__(self, item: int) -> tuple[int, str, str]:
        import inflect

        import pipelines.stage

        return item, inflect.engine().plural("ox") and importlib.metadata.version("inflect"), pipelines.stage.__name__


def test_a_stage_gets_packages_that_conflict_with_the_others() -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    here = importlib.metadata.version("inflect")
    assert here != OLD
    with RayEngine(2, None) as engine:
        before = dict(engine.map(Version(), range(3)))
        there = dict(engine.map(Version(), range(3), Needs(environment=Environment((f"inflect=={OLD}",)))))
        after = dict(engine.map(Version(), range(3)))
    assert there == {n: (n, OLD, "pipelines.stage") for n in range(3)}
    assert before == after == {n: (n, here, "pipelines.stage") for n in range(3)}


@dataclass(frozen=True)
class Aligned:
    """Words of WhisperX, their source, and the version of it that the worker sees."""

    text: str
    samples: NDArray[np.float32]
    model: str

    def __call__(self, item: int) -> tuple[list[str], str, str]:
        del item
        config = WhisperxConfig(python=IN_RAY, align_model=self.model, local_only=True)
        aligner = WhisperxAligner(config)
        try:
            found = aligner.align(self.samples, self.text, "en")
        finally:
            aligner.close()
        labels = [word.label for word in found.spoken]
        return labels, found.words[0].source, importlib.metadata.version("whisperx")


@pytest.mark.skipif("TALKSET_TEST_WHISPERX_IN_RAY" not in os.environ, reason="another 8 GB; see docs/words.md")
def test_whisperx_runs_in_an_environment_that_the_engine_makes(tmp_path: Path) -> None:
    """As `align.whisperx.python=ray` has it: the worker that aligns is in WhisperX' environment, others are not."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    text = "Please bring me 21 blue books."
    make_tiny_model(os.environ["TALKSET_WHISPERX_PYTHON"], tmp_path)
    package = WhisperxConfig().package
    needs = Needs(environment=Environment((package,)))
    task = Aligned(text, synthesize(text, Voice(), seed=4).samples, str(tmp_path))
    with RayEngine(1, None) as engine:
        outcomes = dict(engine.map(task, range(1), needs))
    words, source, version = outcomes[0]
    assert words == text.split()
    assert package == f"whisperx=={version}"
    assert source.startswith(f"whisperx-{version}/")
    print("in Ray:", words, source, version)


def test_an_environment_that_cannot_be_made_ends_the_run_with_its_name() -> None:
    needs = Needs(environment=Environment(("no-such-package-of-talkset==1",)))
    with RayEngine(1, None) as engine, pytest.raises(TalksetError, match="could not be made") as caught:
        list(engine.map(Version(), range(1), needs))
    assert caught.value.reason == "missing_model"
