"""What the tests of this room share; type checking passes over this second module of its name."""

from __future__ import annotations

from generator_data import data, dataset, small_config, speaker, talkers, training

__all__ = ["data", "dataset", "small_config", "speaker", "talkers", "training"]
