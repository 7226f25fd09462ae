"""Files of a generator: safetensors with everything inside that using it needs, and the state of a training.

`checkpoint.safetensors` holds the averaged weights and the style encoder; its metadata hold configuration, motion
layout with normalisation, and name and version of the data. No code is stored, so none is run by opening one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from generator.config import GeneratorConfig, from_json, to_json
from generator.model import Denoiser
from generator.motion import MotionLayout
from generator.style import StyleEncoder
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic
from schemas.labels import EMOTIONS

FORMAT: Final = "2"
CHECKPOINT: Final = "checkpoint.safetensors"
STATE: Final = "training.safetensors"


@dataclass(frozen=True)
class Sizes:
    """What the networks' shapes follow from besides configuration and layout."""

    features: int
    """Width of the sound's features."""
    shape: int
    """Identity coefficients."""


@dataclass(frozen=True)
class Generator:
    """A trained generator."""

    config: GeneratorConfig
    layout: MotionLayout
    sizes: Sizes
    denoiser: Denoiser
    style: StyleEncoder
    data: Mapping[str, Any]
    """Name, version and digest of the data set that it learned from."""
    step: int


def make_networks(config: GeneratorConfig, layout: MotionLayout, sizes: Sizes) -> tuple[Denoiser, StyleEncoder]:
    """Fresh networks; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        denoiser = Denoiser(config.model, layout.width, layout.head_width, sizes.features, sizes.shape, config.audio)
        style = StyleEncoder(config, layout.head_width)
    return denoiser, style


def save_checkpoint(path: Path, generator: Generator) -> None:
    """Write a generator, whole or not at all."""
    tensors = {f"denoiser.{name}": value for name, value in generator.denoiser.state_dict().items()}
    tensors |= {f"style.{name}": value for name, value in generator.style.state_dict().items()}
    meta = {
        "talkset_generator": FORMAT,
        "config": to_json(generator.config),
        "layout": generator.layout.to_json(),
        "sizes": json.dumps(vars(generator.sizes)),
        "emotions": json.dumps(EMOTIONS),
        "data": json.dumps(dict(generator.data)),
        "step": str(generator.step),
    }
    write_tensors(path, tensors, meta)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Generator:
    """Read a generator; `path` may be the folder of a training.

    Raises TalksetError missing_file or corrupt_data, UsageError for one of another talkset.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    tensors, meta = read_tensors(file)
    if meta.get("talkset_generator") != FORMAT:
        message = f"{file} is no generator that this talkset reads (format {meta.get('talkset_generator')})"
        raise UsageError(message, "Train it again, or use the talkset that made it")
    if json.loads(meta["emotions"]) != list(EMOTIONS):
        raise UsageError(f"{file} knows other emotions: {meta['emotions']}", "Use the talkset that made it")
    config, layout = from_json(meta["config"]), MotionLayout.from_json(meta["layout"])
    sizes = Sizes(**json.loads(meta["sizes"]))
    denoiser, style = make_networks(config, layout, sizes)
    try:
        denoiser.load_state_dict(_under(tensors, "denoiser."))
        style.load_state_dict(_under(tensors, "style."))
    except RuntimeError as error:
        raise TalksetError("corrupt_data", f"{file} does not hold the weights it describes", "Train again") from error
    denoiser.to(device).eval()
    style.to(device).eval()
    return Generator(config, layout, sizes, denoiser, style, json.loads(meta["data"]), int(meta["step"]))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    """A safetensors file that appears whole or not at all."""
    stored = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, safetensors.torch.save(stored, dict(meta)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. Raises TalksetError missing_file or corrupt_data."""
    if not path.is_file():
        raise TalksetError("missing_file", f"there is no checkpoint at {path}", "Run `talkset train generator`")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        message = f"{path} is no readable safetensors file ({error})"
        raise TalksetError("corrupt_data", message, "Train again or copy the file again") from error


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Tensors of an optimiser's state by flat name, and the rest as JSON."""
    tensors = {}
    rest: dict[str, Any] = {"groups": state["param_groups"], "plain": {}}
    for number, entry in state["state"].items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                rest["plain"][f"{number}.{name}"] = value
    return tensors, json.dumps(rest)


def unflatten_optimizer(tensors: Mapping[str, Tensor], text: str) -> dict[str, Any]:
    """The state that `flatten_optimizer` took apart."""
    rest = json.loads(text)
    state: dict[int, dict[str, Any]] = {}
    for flat, value in [*_under(tensors, "optimizer.").items(), *rest["plain"].items()]:
        number, name = flat.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    return {"state": state, "param_groups": rest["groups"]}
