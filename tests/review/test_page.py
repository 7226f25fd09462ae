"""The page in a real browser: exact frames, a hundred clips by keyboard, reloads, tabs, crashes, hostile text."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_builder import random_clip
from numpy.typing import NDArray
from review_pages import (
    READ_NUMBER,
    SIZE,
    UNEVEN_US,
    chromium,
    scored,
    served,
    small_dataset,
    wait_until,
    with_times,
    write_numbered,
)

from reconstruct.models.head_model import HeadModel
from review.journal import Journal, last_words
from schemas.types import UntimedWord
from talkset import cli
from talkset.dataset import open_dataset

READY = "document.documentElement.dataset.ready"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    browser = chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("small") / "data")


@pytest.fixture
def dataset(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


def opened(driver: Any, address: str, clip: str = "") -> None:
    driver.get("about:blank")
    driver.get(f"{address}/#{clip}" if clip else address)
    wait_until(driver, READY)
    if clip:
        wait_until(driver, f"document.documentElement.dataset.shown === {json.dumps(clip)}")


def pressed(driver: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver, duration=0).send_keys(*keys).perform()


def shown_clip(driver: Any) -> str:
    return str(driver.execute_script("return document.documentElement.dataset.clip"))


def errors(driver: Any) -> list[str]:
    """What the console complains about, without missing head models, which the made-up clips have."""
    return [
        entry["message"]
        for entry in driver.get_log("browser")
        if entry["level"] == "SEVERE" and "409" not in entry["message"]
    ]


def assert_on_frame(driver: Any, frame: int) -> None:
    wait_until(driver, f"document.documentElement.dataset.frame === '{frame}'")
    assert driver.execute_script(READ_NUMBER) == frame


WALK = f"""
    const [keys, done] = arguments;
    const root = document.documentElement;
    const read = () => {{ {READ_NUMBER} }};
    const walk = async () => {{
        const seen = [];
        for (const key of keys) {{
            const before = root.dataset.frame;
            document.dispatchEvent(new KeyboardEvent('keydown', {{key, code: key, bubbles: true}}));
            const end = performance.now() + 8000;
            while (root.dataset.frame === before && performance.now() < end)
                await new Promise((go) => setTimeout(go, 2));
            seen.push([Number(root.dataset.frame), read()]);
        }}
        return seen;
    }};
    walk().then(done);
"""
"""Presses keys; answers, for each, the frame that the page names and the number in the picture that is shown."""


@pytest.mark.parametrize("clip", ["even", "uneven"])
def test_every_step_shows_exactly_that_frame(driver: Any, dataset: Path, clip: str) -> None:
    from selenium.webdriver.common.keys import Keys

    last = len(UNEVEN_US) - 1
    with served(dataset) as address:
        opened(driver, address, clip)
        pressed(driver, Keys.HOME)
        assert_on_frame(driver, 0)
        driver.set_script_timeout(60)
        forward = driver.execute_async_script(WALK, ["ArrowRight"] * last)
        assert forward == [[frame, frame] for frame in range(1, last + 1)]
        backward = driver.execute_async_script(WALK, ["ArrowLeft"] * last)
        assert backward == [[frame, frame] for frame in reversed(range(last))]
        assert errors(driver) == []


def test_wishes_that_come_faster_than_frames_end_at_the_last(driver: Any, dataset: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    with served(dataset) as address:
        opened(driver, address, "clip_0004")
        pressed(driver, Keys.HOME, *[Keys.ARROW_RIGHT] * 13, *[Keys.ARROW_LEFT] * 4)
        assert_on_frame(driver, 9)


def test_it_plays_in_a_loop_and_stops(driver: Any, dataset: Path) -> None:
    with served(dataset) as address:
        opened(driver, address, "clip_0005")
        driver.execute_script(
            "window.seen = []; const tag = document.documentElement;"
            "new MutationObserver(() => seen.push(Number(tag.dataset.frame)))"
            ".observe(tag, {attributes: true, attributeFilter: ['data-frame']});"
        )
        pressed(driver, " ")
        wait_until(driver, "window.seen.some((frame, place) => place > 3 && frame < window.seen[place - 1])")
        pressed(driver, " ")
        wait_until(driver, "document.getElementById('video').paused")
        wait_until(driver, f"Number(document.documentElement.dataset.frame) === (() => {{{READ_NUMBER}}})()")
        seen = driver.execute_script("return window.seen")
        assert max(seen) < len(open_dataset(dataset)["clip_0005"]["pts_us"])
        assert errors(driver) == []


def test_the_worst_clip_opens_first_at_its_worst_frame_and_says_why(driver: Any, dataset: Path) -> None:
    with served(dataset) as address:
        opened(driver, address)
        wait_until(driver, "document.documentElement.dataset.shown")
        first = driver.execute_script("return document.querySelector('#list .item').id")
        assert first == f"row-{shown_clip(driver)}"
        view = driver.execute_async_script(
            "const done = arguments[1]; fetch(`api/clips/${arguments[0]}`).then((a) => a.json()).then(done)",
            shown_clip(driver),
        )
        assert_on_frame(driver, view["worst_frame"])
        why = driver.execute_script("return document.getElementById('why').textContent")
        assert f"worst frame {view['worst_frame']}" in why
        assert "median" in why


def test_a_hundred_clips_by_keyboard_with_a_reload_in_the_middle(driver: Any, tmp_path: Path) -> None:
    records = [scored(random_clip(4 * number, 8), nme_p95=0.02 - number / 10_000) for number in range(104)]
    root = write_numbered(tmp_path / "data", records)
    expected: dict[str, str] = {}
    with served(root) as address:
        opened(driver, address)
        for number in range(100):
            clip = wait_until(driver, "document.documentElement.dataset.clip")
            key = "ars"[number % 3]
            assert clip not in expected
            expected[clip] = {"a": "accept", "r": "reject", "s": "skip"}[key]
            pressed(driver, *(["4"] if key == "r" else []), key)
            wait_until(driver, f"document.documentElement.dataset.clip !== {json.dumps(clip)}")
            if number == 41:
                driver.refresh()
                wait_until(driver, READY)
                wait_until(driver, "document.documentElement.dataset.clip")
        wait_until(driver, "document.getElementById('saved').textContent === 'Saved'")
        wait_until(driver, "document.getElementById('progress-text').textContent.startsWith('100 of 104')")
    said = {item.clip_id: item for item in last_words(Journal(root).decisions).values()}
    assert {clip: item.verdict for clip, item in said.items()} == expected
    assert all(item.reasons == (("jitter",) if item.verdict == "reject" else ()) for item in said.values())
    assert cli.main(["review", "apply", str(root), "--out", str(tmp_path / "next"), "--json"]) == 0
    kept = set(pq.read_table(tmp_path / "next" / "index.parquet")["clip_id"].to_pylist())
    rejected = {clip for clip, verdict in expected.items() if verdict == "reject"}
    assert kept == {str(record.index["clip_id"]) for record in records} - rejected


def test_undo_brings_the_clip_and_its_former_state_back(driver: Any, dataset: Path) -> None:
    with served(dataset) as address:
        opened(driver, address, "clip_0003")
        pressed(driver, "2", "r")
        wait_until(driver, "document.documentElement.dataset.clip !== 'clip_0003'")
        pressed(driver, "u")
        wait_until(driver, "document.documentElement.dataset.clip === 'clip_0003'")
        wait_until(driver, "document.getElementById('toast').textContent === 'Taken back: reject'")
        assert last_words(Journal(dataset).decisions) == {}
        pressed(driver, "a")
        wait_until(driver, "document.documentElement.dataset.clip !== 'clip_0003'")
        wait_until(driver, "document.getElementById('saved').textContent === 'Saved'")
    assert [item.verdict for item in Journal(dataset).decisions] == ["reject", None, "accept"]


def test_two_tabs_keep_both_and_the_last_counts(driver: Any, dataset: Path) -> None:
    with served(dataset) as address:
        opened(driver, address, "clip_0002")
        first = driver.current_window_handle
        driver.switch_to.new_window("tab")
        try:
            opened(driver, address, "clip_0002")
            pressed(driver, "r")
            wait_until(driver, "document.getElementById('saved').textContent === 'Saved'")
        finally:
            driver.close()
            driver.switch_to.window(first)
        pressed(driver, "a")
        wait_until(driver, "document.getElementById('toast').textContent.includes('Another tab had said reject')")
    assert [item.verdict for item in Journal(dataset).decisions] == ["reject", "accept"]
    assert [item.verdict for item in last_words(Journal(dataset).decisions).values()] == ["accept"]


def test_a_decision_outlives_the_server(driver: Any, dataset: Path) -> None:
    with served(dataset) as address:
        opened(driver, address, "clip_0001")
    pressed(driver, "a")
    wait_until(driver, "document.getElementById('notice').textContent.includes('wait in this browser')")
    with served(dataset, port=int(address.rpartition(":")[2])):
        wait_until(driver, "document.getElementById('saved').textContent === 'Saved'")
    assert [(item.clip_id, item.verdict) for item in Journal(dataset).decisions] == [("clip_0001", "accept")]


def test_marks_comment_and_corrections_are_typed_drafted_and_saved(driver: Any, dataset: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    with served(dataset) as address:
        opened(driver, address, "clip_0005")
        pressed(driver, Keys.HOME)
        assert_on_frame(driver, 0)
        pressed(driver, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        assert_on_frame(driver, 2)
        pressed(driver, "[", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        assert_on_frame(driver, 5)
        pressed(driver, "]", "n", "lips <late>", Keys.ESCAPE, "e", "happy", Keys.ESCAPE, "y", "-35.5", Keys.ESCAPE)
        opened(driver, address, "clip_0005")
        assert driver.execute_script("return document.getElementById('comment').value") == "lips <late>"
        pressed(driver, "s")
        wait_until(driver, "document.getElementById('saved').textContent === 'Saved'")
    (said,) = Journal(dataset).decisions
    assert said.comment == "lips <late>"
    assert said.corrections == {"emotion": "happy", "sync_offset_ms": -35.5}
    assert [(mark.start_us, mark.end_us) for mark in said.marks] == [(80_000, 240_000)]


def test_text_of_a_data_set_is_never_markup(driver: Any, tmp_path: Path) -> None:
    hostile = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    record = scored(random_clip(1, 10), transcript=hostile, speaker=hostile, warnings=hostile, source_uri=hostile)
    root = write_numbered(tmp_path / "data", [record])
    with served(root) as address:
        opened(driver, address)
        wait_until(driver, "document.documentElement.dataset.clip")
        wait_until(driver, "document.querySelector('#list .name')")
        assert driver.execute_script("return document.querySelector('#list .name').textContent") == hostile[:160]
        assert hostile in driver.execute_script("return document.getElementById('facts').textContent")
        assert driver.execute_script("return window.hacked") is None
        assert driver.execute_script("return document.querySelectorAll('main img, main script').length") == 0


def test_words_without_times_are_shown_in_their_place(driver: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    record = random_clip(1, 10)
    assert record.transcription is not None
    untimed = (UntimedWord("so", 0, "x"), UntimedWord("9", 1, "x"))
    said = dataclasses.replace(record.transcription, untimed=untimed)
    root = write_numbered(tmp_path / "data", [dataclasses.replace(record, transcription=said)])
    words = "[...document.querySelectorAll('#spoken .word')].map((word) => [word.textContent, word.className])"
    driver.get("about:blank")
    errors(driver)  # what the page of an earlier test said when its server went
    with served(root) as address:
        opened(driver, address, "clip_0001")
        pressed(driver, Keys.HOME, *[Keys.ARROW_RIGHT] * 3)  # 120 ms: in "blue"
        assert_on_frame(driver, 3)
        assert driver.execute_script(f"return {words}") == [
            ["so", "word untimed"],
            ["bin", "word"],
            ["9", "word untimed"],
            ["blue", "word now"],
            ["größe", "word"],
        ]
        assert errors(driver) == []


def test_a_deleted_video_is_said_and_the_clip_can_be_judged(driver: Any, dataset: Path) -> None:
    (dataset / "media" / "clip_0004.mp4").unlink()
    with served(dataset) as address:
        opened(driver, address, "clip_0004")
        text = driver.execute_script("return document.getElementById('message').textContent")
        assert "media/clip_0004.mp4 is missing" in text
        pressed(driver, "r")
        wait_until(driver, "document.documentElement.dataset.clip !== 'clip_0004'")
        wait_until(driver, "document.getElementById('saved').textContent === 'Saved'")
    assert [item.clip_id for item in Journal(dataset).decisions] == ["clip_0004"]


def test_a_folder_that_cannot_be_written_is_said_before_work_is_lost(driver: Any, dataset: Path) -> None:
    (dataset / "file").write_text("")
    with served(dataset, journal=dataset / "file" / "journal") as address:
        opened(driver, address, "clip_0001")
        assert "--journal FOLDER" in driver.execute_script("return document.getElementById('notice').textContent")
        pressed(driver, "a")
        wait_until(driver, "document.getElementById('toast').textContent.startsWith('Not saved')")
        assert shown_clip(driver) == "clip_0001"


def test_an_export_opens_without_a_server(driver: Any, dataset: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    assert cli.main(["review", str(dataset), "--export", str(tmp_path / "out"), "--clips", "3"]) == 0
    driver.get((tmp_path / "out" / "index.html").as_uri())
    wait_until(driver, READY)
    clip = wait_until(driver, "document.documentElement.dataset.clip")
    assert driver.execute_script("return document.querySelectorAll('#list .item').length") == 3
    pressed(driver, Keys.HOME)
    wait_until(driver, "document.documentElement.dataset.frame === '0'")
    pressed(driver, Keys.ARROW_RIGHT)
    wait_until(driver, "document.documentElement.dataset.frame === '1'")
    pressed(driver, "a")
    assert shown_clip(driver) == clip
    assert driver.execute_script("return document.getElementById('accept').disabled")


def test_every_control_has_a_name_and_can_be_reached(driver: Any, dataset: Path) -> None:
    with served(dataset) as address:
        opened(driver, address, "clip_0005")
        nameless = driver.execute_script(
            "return [...document.querySelectorAll('button, select, input, textarea')].filter((item) =>"
            " !(item.getAttribute('aria-label') || item.textContent.trim() || item.labels?.[0]?.textContent.trim()))"
            ".map((item) => item.outerHTML)"
        )
        assert nameless == []
        unreachable = "document.querySelectorAll('[tabindex=\"-1\"] > button, div[onclick]').length"
        assert driver.execute_script(f"return {unreachable}") == 0
        pressed(driver, "?")
        wait_until(driver, "document.getElementById('help').open")


def test_the_mesh_lies_where_the_camera_says(tmp_path: Path, open_head: HeadModel) -> None:
    frames = 4
    record = with_times(random_clip(0, frames), [40_000 * number for number in range(frames)])
    height, width = SIZE
    focal = 60.0
    still = np.zeros((frames, 3), np.float32)

    def dataset(name: str, centre: NDArray[np.float32]) -> Path:
        assert record.head is not None
        head = dataclasses.replace(
            record.head,
            head_model=open_head.name,
            model_sha256=open_head.sha256,
            shape=np.zeros(open_head.num_shape, np.float32),
            expression=np.zeros((frames, open_head.num_expression), np.float32),
            global_pose=still + np.array([np.pi, 0, 0], np.float32),  # the face looks at the camera
            neck_pose=still,
            jaw_pose=still,
            left_eye_pose=still,
            right_eye_pose=still,
            translation=still + np.array([0.2, 0.05, 1.0], np.float32),
            focal_px=focal,
            principal_point=centre,
        )
        made = scored(record, model_sha256=open_head.sha256, width=width, height=height)
        return write_numbered(tmp_path / name, [dataclasses.replace(made, head=head)])

    vertices = open_dataset(dataset("probe", np.ones(2, np.float32)))[0].vertices(start=0, stop=1)[0]
    pixels = focal * vertices[:, :2] / vertices[:, 2:]
    centre = np.array([width / 2 + 9, height / 2]) - (pixels.min(axis=0) + pixels.max(axis=0)) / 2
    root = dataset("data", centre.astype(np.float32))
    pixels += centre
    driver = chromium(tmp_path / "profile", webgl=True)
    with contextlib.closing(_Quitting(driver)), served(root) as address:
        opened(driver, address, "clip_0000")
        driver.execute_script("document.querySelector('[data-view=mesh]').click()")
        wait_until(driver, "document.getElementById('mesh-canvas').style.visibility === 'visible'")
        driver.execute_script("document.getElementById('opacity').value = 100")
        driver.execute_script("document.getElementById('opacity').dispatchEvent(new Event('input'))")
        box = driver.execute_script(
            "const style = document.getElementById('points-canvas').style;"
            "const pane = document.getElementById('pane').getBoundingClientRect();"
            "return [pane.x + parseFloat(style.left), pane.y + parseFloat(style.top), parseFloat(style.width)]"
        )
        drawn = screenshot(driver)
        driver.execute_script("document.querySelector('[data-view=source]').click()")
        wait_until(driver, "document.getElementById('mesh-canvas').style.visibility === 'hidden'")
        changed = np.abs(drawn - screenshot(driver)).max(axis=2) > 20
    left, top, shown = box
    scale = shown / width
    rows, columns = np.nonzero(changed[int(top) + 1 : int(top + height * scale), int(left) : int(left + shown)])
    assert pixels.min() > 0
    assert [columns.min(), rows.min()] == pytest.approx((pixels.min(axis=0) * scale).tolist(), abs=4)
    assert [columns.max(), rows.max()] == pytest.approx((pixels.max(axis=0) * scale).tolist(), abs=4)


class _Quitting:
    """Ends a browser as other things are closed."""

    def __init__(self, driver: Any) -> None:
        self.close = driver.quit


def screenshot(driver: Any) -> NDArray[np.int16]:
    picture = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(picture, np.int16)
