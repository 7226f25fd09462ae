"""A style encoder that is learned: moments of one speaker and manner come near each other, others apart (NT-Xent).

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020), on motion and voice as in
DiffPoseTalk (Sun et al. 2024). A small convolutional network reads the features of `annotate.style.frames`; mean and
deviation over time make the embedding depend little on the clip's length. Weights, normalisation and settings lie in
one .safetensors file, which holds numbers only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from annotate.performance import Performance
from annotate.style.frames import FRAME_HZ, WIDTH, frame_features
from annotate.style.voice import Voice
from schemas.errors import TalksetError, UsageError
from schemas.files import write_atomic
from schemas.types import Float32, Style

FORMAT: Final = "talkset-style-1"
_META: Final = "talkset"
LEAST_DEVIATION: Final = 1e-3
MOST_BYTES: Final = 200_000_000


@dataclass(frozen=True)
class EncoderConfig:
    """Size of the network and how it learns."""

    channels: int = 64
    layers: int = 3
    dimension: int = 32
    crop_s: float = 1.4
    """Length of the moments that are compared."""
    batch: int = 32
    steps: int = 400
    rate: float = 2e-3
    temperature: float = 0.1
    noise: float = 0.1
    """Deviation of what is added to normalised features, so that the network does not learn single numbers by heart."""
    seed: int = 0


class StyleNetwork(nn.Module):
    """(B, N, WIDTH) normalised features to (B, dimension) unit vectors."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        sizes = [WIDTH, *[config.channels] * config.layers]
        self.layers = nn.ModuleList(nn.Conv1d(sizes[at], sizes[at + 1], 5, padding=2) for at in range(config.layers))
        pooled = 2 * config.channels + 2 * WIDTH
        self.head = nn.Sequential(
            nn.Linear(pooled, 2 * config.dimension), nn.GELU(), nn.Linear(2 * config.dimension, config.dimension)
        )
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("deviation", torch.ones(WIDTH))

    def forward(self, normalised: Tensor) -> Tensor:
        """The embeddings."""
        hidden = normalised.transpose(1, 2)
        for layer in self.layers:
            hidden = nn.functional.gelu(layer(hidden))
        both = torch.cat([hidden, normalised.transpose(1, 2)], dim=1)
        spread = (both.var(dim=2, unbiased=False) + 1e-6).sqrt()
        return nn.functional.normalize(self.head(torch.cat([both.mean(dim=2), spread], dim=1)), dim=1)

    def normalise(self, features: Tensor) -> Tensor:
        """Features against the training data's mean and deviation, cut at 5."""
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        return ((features - mean) / deviation).clamp(-5, 5)


@dataclass(frozen=True)
class ContrastiveEncoder:
    """See `annotate.style.StyleEncoder`."""

    name: str
    network: StyleNetwork

    def embed(self, clip: Performance, voice: Voice | None = None) -> Style | None:
        """See the protocol."""
        features = frame_features(clip, voice)
        if features is None or len(features) < 2:
            return None
        return Style(self.name, self.of_features(features))

    def of_features(self, features: Float32) -> Float32:
        """(dimension,) of (N, WIDTH) features."""
        with torch.no_grad():
            found = self.network(self.network.normalise(torch.as_tensor(features))[None])[0]
        return np.asarray(found.numpy(), dtype=np.float32)


def nt_xent(first: Tensor, second: Tensor, owners: Tensor, temperature: float) -> Tensor:
    """Mean over all 2B unit vectors (B, D) of -log softmax of their partners.

    Everything of the same owner (B,) but the partner is left out of the others: it should be near, too.
    """
    vectors = torch.cat([first, second])
    count = len(first)
    alike = vectors @ vectors.T / temperature
    same = torch.cat([owners, owners])
    partner = torch.cat([torch.arange(count, 2 * count), torch.arange(count)])
    apart = same[:, None] != same[None, :]
    apart[torch.arange(2 * count), partner] = True
    alike = alike.masked_fill(~apart, float("-inf"))
    return nn.functional.cross_entropy(alike, partner)


def train_encoder(features: Sequence[Float32], owners: Sequence[str], config: EncoderConfig) -> StyleNetwork:
    """A network that tells owners apart by moments: two of one owner, of two clips where it has two, are partners.

    Args: features: (N, WIDTH) of each clip; owners: speaker (and manner) of each. Raises UsageError for fewer than two
    owners with clips of a moment's length.
    """
    crop = round(config.crop_s * FRAME_HZ)
    usable = [(table, owner) for table, owner in zip(features, owners, strict=True) if len(table) >= crop]
    people = sorted({owner for _, owner in usable})
    if len(people) < 2:
        message = f"{len(people)} speakers have clips of {config.crop_s:g} s, a style encoder needs two at least"
        raise UsageError(message, "Name speakers in the manifest, or give more clips")
    of_owner = [[table for table, owner in usable if owner == person] for person in people]
    rng = np.random.default_rng([config.seed, 71])
    torch.manual_seed(config.seed)
    network = StyleNetwork(config)
    everything = np.concatenate([table for table, _ in usable])
    network.get_buffer("mean").copy_(torch.as_tensor(everything.mean(0)))
    network.get_buffer("deviation").copy_(torch.as_tensor(np.maximum(everything.std(0), LEAST_DEVIATION)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.rate, total_steps=config.steps)
    for _ in range(config.steps):
        chosen = rng.permutation(len(people))[: config.batch]
        pairs = [_moments(of_owner[person], crop, rng) for person in chosen]
        first, second = (torch.as_tensor(np.stack(side)) for side in zip(*pairs, strict=True))
        views = []
        for side in (first, second):
            known = network.normalise(side)
            views.append(network(known + config.noise * torch.randn_like(known)))
        loss = nt_xent(views[0], views[1], torch.as_tensor(chosen), config.temperature)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


def _moments(tables: Sequence[Float32], crop: int, rng: np.random.Generator) -> tuple[Float32, Float32]:
    """Two moments of one owner: of two clips where there are two, else far apart in one."""
    if len(tables) > 1:
        one, other = rng.choice(len(tables), 2, replace=False)
        return _crop(tables[one], crop, rng), _crop(tables[other], crop, rng)
    table = tables[0]
    room = len(table) - crop
    first = int(rng.integers(room // 2 + 1))
    last = int(rng.integers((room + 1) // 2, room + 1))
    return table[first : first + crop], table[last : last + crop]


def _crop(table: Float32, crop: int, rng: np.random.Generator) -> Float32:
    start = int(rng.integers(len(table) - crop + 1))
    return table[start : start + crop]


def save_encoder(path: Path, network: StyleNetwork, config: EncoderConfig, trained_on: dict[str, Any]) -> str:
    """Write an encoder completely or not at all; returns its name. Raises TalksetError disk_full or not_writable."""
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    meta = {"format": FORMAT, "config": asdict(config), "trained_on": trained_on}
    # one entry, because the library writes several in an order that changes
    content = safetensors.torch.save(tensors, {_META: json.dumps(meta, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
    return _name(content)


def load_encoder(path: Path) -> ContrastiveEncoder:
    """What `save_encoder` wrote. Raises TalksetError missing_model or corrupt_data."""
    content = _content(path)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            meta = json.loads((file.metadata() or {})[_META])
        if meta["format"] != FORMAT:
            raise ValueError(f"its format is {meta['format']!r}, expected {FORMAT!r}")
        config = EncoderConfig(**meta["config"])
        network = StyleNetwork(config)
        network.load_state_dict(safetensors.torch.load(content))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        message = f"{path} is no style encoder ({error})"
        raise TalksetError("corrupt_data", message, "Train it again: `talkset train style`") from error
    return ContrastiveEncoder(_name(content), network.eval())


def stored_name(path: Path) -> str:
    """Name of a stored encoder: what it is and the hash of its file. Raises TalksetError missing_model."""
    return _name(_content(path))


def _content(path: Path) -> bytes:
    if not path.is_file():
        message = f"style.encoder={str(path)!r} is no file"
        raise TalksetError("missing_model", message, "Use statistical, or train one: `talkset train style`")
    if path.stat().st_size > MOST_BYTES:
        raise TalksetError("corrupt_data", f"{path} is too large for a style encoder", "Give the right file")
    return path.read_bytes()


def _name(content: bytes) -> str:
    return f"contrastive-1/{hashlib.sha256(content).hexdigest()[:12]}"
