"""Training: from a data set to a checkpoint, on one device or many, stopped and resumed without a trace.

Everything random in a step follows from (seed, step, rank), and the loader knows where it stood, so a training that was
killed goes on with the losses that it would have had.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
import torch.distributed as distributed
from torch import Tensor

from generator.checkpoint import (
    CHECKPOINT,
    STATE,
    Generator,
    Sizes,
    flatten_optimizer,
    make_networks,
    read_tensors,
    save_checkpoint,
    unflatten_optimizer,
    write_tensors,
)
from generator.config import GeneratorConfig, from_json, to_json
from generator.data import Batch, TrainingData, augmented, clip_emotions, selected, whole_clips
from generator.diffusion import noised, signal_power
from generator.losses import ORDER, Counts, Lips, counts, emphasis, exchange, loss_terms, style_term, total
from generator.motion import make_layout
from generator.style import Labels, step_seed, train_style
from reconstruct.models.registry import load_model
from schemas.errors import UsageError
from schemas.files import write_atomic
from talkset.dataset import Dataset, open_dataset

LOSSES: Final = "losses.jsonl"
KNOWN_SHARE: Final = 0.5
"""Of the windows that begin with known frames, as all but the first of a long sound do."""
KNOWN_NOISE: Final = 0.05
"""Noise on them, in standard deviations: at use they are the generator's own, not the truth."""
SHORT_SHARE: Final = 0.3
LEAST_FRAMES: Final = 24
"""Some windows are cut short, down to this: streaming uses short ones."""
SHAPE_NOISE: Final = 0.3
EMBED_BATCH: Final = 16


class Progress(Protocol):
    """Who is told how far it is, such as talkset.progress.BarProgress."""

    def begin(self, phase: str, total: int) -> None:
        """A phase with so many steps begins."""

    def step(self) -> None:
        """One step is done."""


@dataclass(frozen=True)
class Place:
    """Which process of how many this is, and on what it computes."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0


def place_from_environment(device: str | None = None) -> Place:
    """The place that torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK) tells; joins the group where there is one.

    Without `device`: a GPU where there is one. Raises UsageError for a device that is not there.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UsageError(f"the device {kind} is not here", "Use --device cpu")
        kind = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if kind == "cuda" else kind
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    return Place(rank, world, torch.device(kind))


def train(
    data: Path,
    out: Path,
    config: GeneratorConfig,
    *,
    resume: bool = False,
    place: Place | None = None,
    progress: Progress | None = None,
    split: str | None = "train",
    stop_after: int | None = None,
) -> Path:
    """Train a generator from the data set at `data` into the folder `out`; returns its checkpoint.

    `data` needs the column of the sound's features (generator.audio_column). With `resume` goes on where `out` stands;
    a folder that has a training is not overwritten. `stop_after` ends this call after so many steps, for tests.
    Raises UsageError for data or settings that do not fit, and the loader's errors.
    """
    place = place or place_from_environment()
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(selected(open_dataset(data), split), out, config, place)
    if resume and (out / STATE).is_file():
        trainer.restore()
    elif (out / STATE).is_file():
        raise UsageError(f"{out} holds a training", "Go on with --resume, or choose another folder")
    else:
        trainer.prepare(progress)
    trainer.run(progress, stop_after)
    return out / CHECKPOINT


class Trainer:
    """One training: networks, optimiser, data and where it stands."""

    def __init__(self, dataset: Dataset, out: Path, config: GeneratorConfig, place: Place) -> None:
        self.dataset, self.out, self.config, self.place = dataset, out, config, place
        names = set(dataset.column("head_model").to_pylist())
        if len(names) != 1:
            message = f"the clips have the head models {', '.join(map(str, names)) or 'none'}, whose codes differ"
            raise UsageError(message, "Make a version with one: talkset filter -w \"head_model == '...'\"")
        model = load_model(str(names.pop()))
        self.layout = make_layout(model, dataset.stats, config.body)
        self.data = TrainingData(
            dataset,
            config,
            self.layout,
            batch=max(1, config.train.batch // place.world),
            seed=config.seed,
            rank=place.rank,
            world_size=place.world,
        )
        self.sizes = Sizes(self.data.features_width, model.num_shape)
        denoiser, style = make_networks(config, self.layout, self.sizes)
        self.denoiser, self.style = denoiser.to(place.device), style.to(place.device)
        self.lips = Lips(model, self.layout, config.loss.lip_vertices)
        self.weights = emphasis(model, self.layout, config.loss.lids).to(place.device)
        self.average = copy.deepcopy(self.denoiser)
        self.optimizer = torch.optim.AdamW(
            self.denoiser.parameters(),
            lr=config.train.learning_rate,
            weight_decay=config.train.weight_decay,
            betas=(0.9, 0.99),
        )
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=config.train.precision == "fp16")
        self.power = signal_power(config.diffusion.steps).to(place.device)
        if place.world > 1:
            for parameter in [*self.denoiser.parameters(), *self.style.parameters()]:
                distributed.broadcast(parameter.data, 0)
        self.codes = torch.zeros(0)
        self.step = 0

    def prepare(self, progress: Progress | None) -> None:
        """Train the style encoder and embed every clip. All ranks do the same; the first one's weights count."""
        if progress is not None:
            progress.begin("style", 1)
        labels = Labels(torch.as_tensor(self.data.groups), *map(torch.as_tensor, clip_emotions(self.dataset)))
        size = min(self.config.style.batch, len(self.dataset))
        with contextlib.closing(whole_clips(self.dataset, self.layout, size, self.config.seed + 1)) as clips:
            losses = train_style(self.style, clips, labels, self.config, self.place.device)
        if self.place.world > 1:
            for tensor in self.style.state_dict().values():
                distributed.broadcast(tensor, 0)
        self.style.requires_grad_(False)
        self.codes = self.embed()
        if self.place.first:
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomic(self.out / "config.json", (to_json(self.config) + "\n").encode())
            write_atomic(self.out / "style_losses.json", json.dumps(losses).encode())
            write_atomic(self.out / LOSSES, b"")
        if progress is not None:
            progress.step()

    @torch.no_grad()
    def embed(self) -> Tensor:
        """(N, K) style of every selected clip, from its whole motion."""
        self.style.eval()
        codes = torch.zeros(len(self.dataset), self.config.model.style_width)
        for clips in whole_clips(self.dataset, self.layout, EMBED_BATCH):
            found, _ = self.style(clips.motion.to(self.place.device), clips.valid.to(self.place.device))
            codes[clips.place] = found.cpu()
        return codes

    def run(self, progress: Progress | None = None, stop_after: int | None = None) -> None:
        """Steps until the configured number, or `stop_after` of this call."""
        settings = self.config.train
        last = settings.steps if stop_after is None else min(settings.steps, self.step + stop_after)
        if progress is not None:
            progress.begin("generator", last - self.step)
        writer = _tensorboard(self.out) if self.place.first else None
        batches = iter(self.data)
        log = (self.out / LOSSES).open("a", encoding="utf-8") if self.place.first else None
        started = time.perf_counter()
        try:
            while self.step < last:
                told = self.advance(next(batches))
                if log is not None:
                    log.write(json.dumps({"step": self.step, **told}) + "\n")
                if writer is not None and self.step % settings.log_every == 0:
                    for name, value in told.items():
                        writer.add_scalar(name, value, self.step)
                    writer.add_scalar("steps_per_s", self.step / (time.perf_counter() - started), self.step)
                if self.step % settings.save_every == 0 or self.step == settings.steps:
                    if log is not None:
                        log.flush()
                    self.save()
                if progress is not None:
                    progress.step()
        finally:
            if log is not None:
                log.close()
            if writer is not None:
                writer.close()
            self.data.close()

    def advance(self, batch: Batch) -> dict[str, float]:
        """One step; returns the loss and its terms over the whole batch of all ranks."""
        settings = self.config.train
        rate = settings.learning_rate * _schedule(self.step, settings.warmup, settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seed = step_seed(self.config.seed, self.step, self.place.rank)
        torch.manual_seed(seed)
        given = self.draw(batch, torch.Generator().manual_seed(seed))
        size = math.ceil(len(given.batch.motion) / settings.accumulate)
        pieces = [given.part(slice(start, start + size)) for start in range(0, len(given.batch.motion), size)]
        count = sum((counts(piece.batch.valid, piece.known) for piece in pieces), Counts((0.0, 0.0, 0.0)))
        count = self._everywhere(count)
        self.denoiser.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for piece in pieces:
            with self._autocast():
                terms, swap = self.terms(piece.to(self.place.device))
            loss = total(terms, count, self.config.loss)
            if swap is not None:
                loss = (
                    loss
                    + self.config.loss.exchange
                    * swap
                    * len(piece.batch.motion)
                    / len(given.batch.motion)
                    / self.place.world
                )
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            sums["loss"] = sums.get("loss", 0.0) + float(loss.detach())
        self._sum_gradients()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._follow()
        return self._told(sums, count)

    def draw(self, batch: Batch, generator: torch.Generator) -> Given:
        """Everything random about a batch: length, known frames, steps, noise, styles, dropped conditions."""
        diffusion = self.config.diffusion
        items, frames, _ = batch.motion.shape

        def chance(share: float, count: int = items) -> Tensor:
            return torch.rand(count, generator=generator) < share

        if bool(chance(SHORT_SHARE, 1)) and frames > LEAST_FRAMES:
            frames = int(torch.randint(max(LEAST_FRAMES, self.config.context + 8), frames, (1,), generator=generator))
            cut = {name: getattr(batch, name)[:, :frames] for name in ("motion", "valid", "audio")}
            batch = Batch(**{**vars(batch), **cut})
        lead = torch.arange(frames) < self.config.context
        known = chance(KNOWN_SHARE)[:, None] & lead & batch.valid
        step = torch.randint(1, diffusion.steps + 1, (items,), generator=generator)
        noise = torch.randn(batch.motion.shape, generator=generator)
        blur = KNOWN_NOISE * torch.randn(batch.motion.shape, generator=generator)
        drops = (diffusion.drop_audio, diffusion.drop_style, diffusion.drop_emotion, diffusion.drop_shape)
        given = torch.stack([~chance(share) for share in drops], dim=1)
        given[:, 2] &= batch.emotion_known
        shape = batch.shape + SHAPE_NOISE * torch.randn(batch.shape.shape, generator=generator)
        features = augmented(batch.audio, self.config.audio, generator)
        style = self.codes[self._others(batch, generator)]
        batch = Batch(**{**vars(batch), "audio": features})
        return Given(batch, known, step, noise, blur, given, shape, style)

    def _others(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B,) for each window a clip of its style: its own, or another where there is one."""
        groups = torch.as_tensor(self.data.groups)
        own = torch.rand(len(batch.clip), generator=generator) < self.config.diffusion.own_style
        chosen = []
        for group, clip, same in zip(batch.group.tolist(), batch.clip.tolist(), own.tolist(), strict=True):
            if same:
                chosen.append(torch.tensor([clip]))
                continue
            members = torch.nonzero(groups == group)[:, 0]
            others = members[members != clip]
            pool = others if len(others) else members
            chosen.append(pool[torch.randint(len(pool), (1,), generator=generator)])
        return torch.cat(chosen)

    def terms(self, given: Given) -> tuple[dict[str, Tensor], Tensor | None]:
        """Sums of the loss's terms over a part of a batch, and the exchange loss where it is on."""
        batch, known = given.batch, given.known
        clean = batch.motion
        noisy = noised(clean, given.noise, self.power[given.step])
        noisy = torch.where(known[..., None], clean + given.blur, noisy)
        heard = self.denoiser.listen(batch.audio)
        conditions = (heard, given.style, batch.emotion, given.shape, batch.valid, given.given)
        prediction = self.denoiser(noisy, given.step, known, *conditions)
        terms = loss_terms(
            clean, prediction, batch.valid, known, batch.shape, self.lips, self.config.loss, self.weights
        )
        if self.config.loss.style:
            shown, _ = self.style(torch.where(known[..., None], clean, prediction.float()), batch.valid)
            weight = self.power[given.step] * given.given[:, 1]
            terms["style"] = style_term(shown, given.style, weight, batch.valid, known)
        if not self.config.loss.exchange:
            return terms, None
        turned = batch.emotion.roll(1, 0)
        everything = torch.ones_like(given.given)
        swapped = self.denoiser(
            noisy, given.step, known, heard, given.style, turned, given.shape, batch.valid, everything
        )
        _, judged = self.style(swapped, batch.valid)
        return terms, exchange(
            prediction, swapped, turned, judged, batch.valid, batch.shape, self.lips, self.config.loss
        )

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.train.precision)
        return contextlib.nullcontext() if kind is None else torch.autocast(self.place.device.type, dtype=kind)

    def _everywhere(self, count: Counts) -> Counts:
        if self.place.world == 1:
            return count
        numbers = torch.tensor(count.frames, dtype=torch.float64, device=self.place.device)
        distributed.all_reduce(numbers)
        first, second, third = numbers.tolist()
        return Counts((first, second, third))

    def _sum_gradients(self) -> None:
        """Sum over ranks: every rank's loss is already divided by the counts of all."""
        if self.place.world > 1:
            for parameter in self.denoiser.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def _told(self, sums: dict[str, float], count: Counts) -> dict[str, float]:
        names = list(sums)
        if self.place.world > 1:
            numbers = torch.tensor([sums[name] for name in names], dtype=torch.float64, device=self.place.device)
            distributed.all_reduce(numbers)
            sums = dict(zip(names, numbers.tolist(), strict=True))
        return {n: v / max(count.frames[ORDER[n]], 1.0) if n in ORDER else v for n, v in sums.items()}

    @torch.no_grad()
    def _follow(self) -> None:
        """The running average of the weights, quicker at the start."""
        decay = min(self.config.train.ema, (1 + self.step) / (10 + self.step))
        for mean, current in zip(self.average.parameters(), self.denoiser.parameters(), strict=True):
            mean.lerp_(current, 1 - decay)

    def save(self) -> None:
        """Write the state to go on from, and the checkpoint to use."""
        if not self.place.first:
            return
        tensors, rest = flatten_optimizer(self.optimizer.state_dict())
        for prefix, module in (("denoiser", self.denoiser), ("average", self.average), ("style", self.style)):
            tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
        tensors["codes"] = self.codes
        meta = {
            "config": to_json(self.config),
            "optimizer": rest,
            "scaler": json.dumps(self.scaler.state_dict()),
            "loader": json.dumps(self.data.state_dict()),
            "step": str(self.step),
        }
        write_tensors(self.out / STATE, tensors, meta)
        save_checkpoint(self.out / CHECKPOINT, self.generator())

    def generator(self) -> Generator:
        """The generator as it stands, with averaged weights."""
        facts = self.dataset.facts
        known: dict[str, Any] = {key: facts.get(key) for key in ("name", "version", "schema_version", "config_digest")}
        known["clips"] = len(self.dataset)
        return Generator(self.config, self.layout, self.sizes, self.average, self.style, known, self.step)

    def restore(self) -> None:
        """Go on from the state in the folder. Raises UsageError where it is of other settings."""
        tensors, meta = read_tensors(self.out / STATE)
        stored = from_json(meta["config"])
        if stored != self.config:
            changed = _differences(json.loads(to_json(stored)), json.loads(to_json(self.config)))
            message = f"the training in {self.out} has other settings: {', '.join(changed)}"
            raise UsageError(message, "Resume with the same, or train into another folder")
        for prefix, module in (("denoiser.", self.denoiser), ("average.", self.average), ("style.", self.style)):
            part = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
            module.load_state_dict(part)
        self.optimizer.load_state_dict(unflatten_optimizer(tensors, meta["optimizer"]))
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(json.loads(meta["scaler"]))
        self.codes = tensors["codes"]
        self.data.load_state_dict(json.loads(meta["loader"]))
        self.step = int(meta["step"])
        self.style.eval().requires_grad_(False)
        if self.place.first:
            kept = [line for line in read_losses(self.out) if line["step"] <= self.step]
            write_atomic(self.out / LOSSES, "".join(json.dumps(line) + "\n" for line in kept).encode())


@dataclass(frozen=True)
class Given:
    """A batch and everything that was drawn for it."""

    batch: Batch
    known: Tensor
    step: Tensor
    noise: Tensor
    blur: Tensor
    given: Tensor
    shape: Tensor
    """(B, S) with noise; the batch has the true one."""
    style: Tensor

    def part(self, chosen: slice) -> Given:
        """Some of the windows."""
        rest = {name: value[chosen] for name, value in vars(self).items() if name != "batch"}
        return Given(self.batch.part(chosen), **rest)

    def to(self, device: torch.device) -> Given:
        """The same on a device."""
        rest = {name: value.to(device) for name, value in vars(self).items() if name != "batch"}
        return Given(self.batch.to(device), **rest)


def read_losses(out: Path) -> Iterator[dict[str, float]]:
    """The recorded losses, step by step; a line that a kill cut off is left out."""
    path = out / LOSSES
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Learning rate over its highest: a linear rise, then half a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in one.items():
        if isinstance(value, dict):
            found += _differences(value, other.get(key, {}), f"{prefix}{key}.")
        elif value != other.get(key):
            found.append(f"{prefix}{key}={value} (now {other.get(key)})")
    return found


def _tensorboard(out: Path) -> Any:
    """A writer of TensorBoard's files where it is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))
