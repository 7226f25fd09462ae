"""`talkset generate` and `talkset evaluate generator`: using and measuring the bundled generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import UsageError

if TYPE_CHECKING:
    from generator.api import Motion, Speaker
    from generator.evaluate import Report

console = Console(stderr=True, highlight=False)

DataOption = Annotated[Path, typer.Option("--data", "-d", help="Folder of a data set.", exists=True, file_okay=False)]
CheckpointOption = Annotated[
    Path, typer.Option("--checkpoint", "-k", help="checkpoint.safetensors, or a training's folder.", exists=True)
]
COLUMNS = ("lve_l2", "lve_rms", "mod", "mve", "fdd_motion", "head_beat_align", "head_speed_deg_s", "blinks_per_min")
STYLES = ("style_retrieval_top1", "style_retrieval_top1_statistical")
LATER = (*STYLES, "emotion_recognised", "diversity_samples", "real_time_factor")


def register(app: typer.Typer, evaluate: typer.Typer) -> None:
    """Add `generate` to the command and `generator` to its group `evaluate`."""
    app.command("generate")(generate_command)
    evaluate.command("generator")(evaluate_command)


def generate_command(
    audio: Annotated[Path, typer.Option("--audio", "-a", help="Any sound or video file.")],
    style: Annotated[str, typer.Option(help="The clip whose head and manner to use.")],
    data: DataOption,
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", file_okay=False)],
    emotion: Annotated[str, typer.Option(help="Such as happiness:0.8.")] = "neutral",
    seed: Annotated[int, typer.Option(min=0)] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
    video: Annotated[bool, typer.Option("--video/--no-video", help="An mp4 with the sound.")] = True,
    gltf: Annotated[bool, typer.Option("--gltf/--no-gltf", help="An animated .glb.")] = True,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_: Annotated[bool, typer.Option("--json", help="Print what was written as JSON on stdout.")] = False,
) -> int:
    """Make motion for a sound: a row of a data set, an mp4 with the sound, and glTF."""
    import time

    from generator.api import load_speaker
    from talkset.dataset import open_dataset
    from talkset.generated import clip_id_of, write_dataset

    speaker = load_speaker(checkpoint, device, **({} if steps is None else {"sample_steps": steps}))
    dataset = open_dataset(data, where="status == 'accepted'")
    try:
        clip = dataset[style]
    except KeyError as error:
        raise UsageError(f"{data} has no accepted clip {style!r}", "Choose one of index.parquet's clip_id") from error
    started = time.perf_counter()
    motion = speaker.speak(audio, clip, emotion, seed)
    wall_s = time.perf_counter() - started
    seconds = len(motion.pts_us) / motion.fps
    written = [write_dataset(out / "dataset", speaker.model, motion, audio, clip, emotion, seed, speaker.generator)]
    stem = clip_id_of(audio, clip, emotion, seed)
    if video:
        written.append(_video(out / f"{stem}.mp4", speaker, motion, audio))
    if gltf:
        from exports.gltf import write_gltf

        made = write_gltf(out / f"{stem}.glb", motion.track, motion.pts_us, speaker.model)
        written.append(made.path)
        console.print(f"glTF: {len(made.targets)} morph targets, {made.residual_mm:.3f} mm from the skinned mesh")
    if json_:
        typer.echo(json.dumps({"written": [str(path) for path in written], "seconds": seconds, "wall_s": wall_s}))
    for path in written:
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    console.print(f"{seconds:.1f} s of motion in {wall_s:.1f} s, {seconds / max(wall_s, 1e-9):.1f} x real time")
    return 0


def _video(path: Path, speaker: Speaker, motion: Motion, audio: Path) -> Path:
    import numpy as np

    from talkset.media import file_sound
    from talkset.motion_video import write_motion_video

    sound = np.concatenate(list(file_sound(audio, 16_000)))
    write_motion_video(path, motion.track, motion.pts_us, speaker.model, motion.fps, (sound, 16_000))
    return path


def evaluate_command(
    data: DataOption,
    checkpoint: CheckpointOption,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    split: Annotated[str, typer.Option(help="The split to measure on.")] = "test",
    second: Annotated[
        Path | None, typer.Option(help="The same clips fitted otherwise: the tracker's noise floor.", exists=True)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File for the figures.", dir_okay=False)] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")] = False,
) -> int:
    """Measure a generator beside mean face, nearest neighbour, another clip and viseme rules, with intervals."""
    from generator.api import load_speaker
    from schemas.files import write_atomic
    from talkset.generated import evaluate_on

    report = evaluate_on(load_speaker(checkpoint), data, checkpoint, seeds, split, second)
    text = json.dumps(report.to_json(), indent=1)
    if out is not None:
        write_atomic(out, (text + "\n").encode())
    if json_:
        typer.echo(text)
    print_report(report)
    return 0


def print_report(report: Report) -> None:
    """The table of all methods, on stderr."""
    from rich.table import Table

    for columns in (COLUMNS, LATER):
        table = Table(box=None)
        for heading in ("", *columns):
            table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
        for method, row in report.figures.items():
            cells = [_cell(row.get(column)) for column in columns]
            if any(cells):
                table.add_row(method, *cells)
        console.print(table)
    for key, value in report.facts.items():
        console.print(f"{key}: {escape(str(value))}", style="dim", soft_wrap=True)


def _cell(figure: Any) -> str:
    if figure is None or figure.mean != figure.mean:
        return ""
    spread = "" if figure.half_width != figure.half_width else f" ±{figure.half_width:.2f}"
    return f"{figure.mean:.2f}{spread}"
