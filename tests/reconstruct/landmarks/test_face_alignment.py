"""face-alignment's backend on a network whose heat maps are known: crops, peaks, back-mapping and weights files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_network import PEAK, grey, template, with_dot, write_network

from reconstruct.landmarks import make_detector
from reconstruct.landmarks.face_alignment import RISE, WEIGHTS, FaceAlignmentDetector, load_network, peaks
from reconstruct.landmarks.fan import Fan
from schemas.config import LandmarkConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import FaceTrack


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("weights") / "dot.pt")


@pytest.mark.parametrize("size", [40.0, 83.0, 330.0])
def test_points_come_back_in_source_pixels(weights: Path, size: float) -> None:
    """The dot in the middle of the crop, a little beside it, at sizes that enlarge and that reduce the picture."""
    width, height = 900, 800
    at = np.array([441.3, 402.8])
    picture = with_dot(grey(width, height), (float(at[0]), float(at[1])), radius=size / 10)
    config = LandmarkConfig(backend="face-alignment", weights_path=str(weights))
    centre = at + np.array([0.05, 0.07]) * size
    box = np.array([[*(centre - size / 2), size, size]], np.float32)
    with make_detector(config) as detector:
        track = detector.detect([(5, picture), (40_005, picture)], FaceTrack(np.array([5]), box), width, height)
    side = config.crop_scale * size
    wanted = at + template() * side
    assert track.face_xy.shape == (2, 68, 2)
    assert (
        np.abs(track.face_xy - wanted).max() < 0.004 * side
    )  # the dot's centre of mass is that good: 1 px of the crop
    assert np.abs((track.face_xy - wanted).mean(axis=(0, 1))).max() < 0.0015 * side  # no half pixel is lost
    assert np.array_equal(track.face_xy[0], track.face_xy[1])
    assert np.abs(track.confidence - PEAK).max() < 0.12
    assert track.blendshapes is None


def test_the_crop_is_framed_as_in_training(weights: Path) -> None:
    """The network sees the picture that the upstream package would cut: its centre 12 % above the box's."""
    with make_detector(LandmarkConfig(backend="face-alignment", weights_path=str(weights))) as detector:
        assert isinstance(detector, FaceAlignmentDetector)
        centre, side = detector._frame(np.array([100.0, 200.0]), 50.0)
    assert centre.tolist() == [100.0, 200.0 - RISE * 50]
    assert side == 2.0 * 50


def test_peaks_between_cells() -> None:
    random = np.random.default_rng(2)
    wanted = random.uniform(0.05, 0.95, (50, 2))
    rows, columns = (np.indices((48, 64)) + 0.5) / np.array([48, 64])[:, None, None]
    gap = (columns - wanted[:, 0, None, None]) ** 2 * 64**2 + (rows - wanted[:, 1, None, None]) ** 2 * 48**2
    height = random.uniform(0.2, 0.9, 50)
    found, score = peaks((height[:, None, None] * np.exp(-gap / 4.5)).astype(np.float32))
    assert np.abs(found - wanted).max() * 64 < 0.01
    assert (score <= height + 1e-6).all()
    assert (score > 0.85 * height).all()


def test_a_flat_map_has_a_peak_without_confidence() -> None:
    found, score = peaks(np.zeros((3, 64, 64), np.float32))
    assert np.isfinite(found).all()
    assert score.tolist() == [0, 0, 0]


def test_a_state_dictionary_gives_the_same_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Fan(stacks=1).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth.tar")
    loaded = load_network(tmp_path / "weights.pth.tar", torch.device("cpu"))
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = loaded(picture)
        assert maps.shape == (1, 68, 16, 16)
        assert torch.equal(maps, network(picture))


def test_the_published_names_of_the_parameters() -> None:
    """Some of the keys, and the size, of the published 2D weights with their four stacks."""
    with torch.device("meta"):
        state = Fan().state_dict()
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (64, 3, 7, 7),
        "m3.b2_plus_1.conv3.weight": (64, 64, 3, 3),
        "l3.weight": (68, 256, 1, 1),
    }
    shapes |= {"conv4.downsample.2.weight": (256, 128, 1, 1), "al2.weight": (256, 68, 1, 1), "bn_end0.bias": (256,)}
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "al3.weight" not in state
    assert 23.5e6 < sum(value.numel() for value in state.values()) < 24.5e6  # 2DFAN4 has 23.8 million


def test_missing_and_wrong_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=rf"{WEIGHTS} does not exist\. Fetch https://.* or set landmarks.weights_path"):
        make_detector(LandmarkConfig(backend="face-alignment"))
    for content in (b"", b"no weights", b"PK\x05\x06" + bytes(18)):
        path = tmp_path / "broken.pth"
        path.write_bytes(content)
        with pytest.raises(TalksetError, match=r"broken\.pth holds no face-alignment network") as caught:
            load_network(path, torch.device("cpu"))
        assert caught.value.reason == "corrupt_data"
    torch.save({"conv_last0.weight": torch.zeros(2)}, path)
    with pytest.raises(TalksetError, match="holds no face-alignment network"):
        load_network(path, torch.device("cpu"))


def test_the_name_follows_the_weights(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(weights.read_bytes() + b"\0")
    names = []
    for path in (weights, weights, other):
        with make_detector(LandmarkConfig(backend="face-alignment", weights_path=str(path))) as detector:
            names.append(detector.name)
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("face-alignment-2dfan-")
