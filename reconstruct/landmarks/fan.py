"""The network of face-alignment, so that its published weights run without that package and what it needs.

Bulat and Tzimiropoulos 2017, "How far are we from solving the 2D & 3D face alignment problem?": four stacked
hourglasses (Newell et al. 2016) of hierarchical residual blocks. Parameters are named as in the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 256
DEPTH = 4
NUM_POINTS = 68


class Block(nn.Module):
    """Residual block of three 3x3 convolutions whose outputs are laid side by side: a half, a quarter, a quarter."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half, quarter = channels_out // 2, channels_out // 4
        sizes = ((channels_in, half), (half, quarter), (quarter, quarter))
        for index, (before, after) in enumerate(sizes, start=1):
            self.add_module(f"bn{index}", nn.BatchNorm2d(before))
            self.add_module(f"conv{index}", nn.Conv2d(before, after, 3, padding=1, bias=False))
        self.downsample: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(channels_in), nn.ReLU(), nn.Conv2d(channels_in, channels_out, 1, bias=False)
            )

    def forward(self, picture: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H, W)."""
        parts, current = [], picture
        for index in (1, 2, 3):
            normalised = functional.relu(self.get_submodule(f"bn{index}")(current))
            current = self.get_submodule(f"conv{index}")(normalised)
            parts.append(current)
        kept: Tensor = self.downsample(picture)
        return torch.cat(parts, dim=1) + kept


class Hourglass(nn.Module):
    """Features at DEPTH scales, each half of the one above, added back from the coarsest up."""

    def __init__(self) -> None:
        super().__init__()
        for level in range(1, DEPTH + 1):
            for name in ("b1", "b2", "b3"):
                self.add_module(f"{name}_{level}", Block(FEATURES, FEATURES))
        self.add_module("b2_plus_1", Block(FEATURES, FEATURES))

    def forward(self, features: Tensor) -> Tensor:
        """(B, 256, H, W) -> the same size; H and W are multiples of 16."""
        return self._at(DEPTH, features)

    def _at(self, level: int, features: Tensor) -> Tensor:
        low = self.get_submodule(f"b2_{level}")(functional.avg_pool2d(features, 2))
        low = self._at(level - 1, low) if level > 1 else self.get_submodule("b2_plus_1")(low)
        low = self.get_submodule(f"b3_{level}")(low)
        kept: Tensor = self.get_submodule(f"b1_{level}")(features)
        return kept + functional.interpolate(low, scale_factor=2.0, mode="nearest")


class Fan(nn.Module):
    """Heat maps of 68 points from a square face crop."""

    def __init__(self, stacks: int = 4) -> None:
        super().__init__()
        self.stacks = stacks
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2, self.conv3, self.conv4 = Block(64, 128), Block(128, 128), Block(128, FEATURES)
        for stack in range(stacks):
            self.add_module(f"m{stack}", Hourglass())
            self.add_module(f"top_m_{stack}", Block(FEATURES, FEATURES))
            self.add_module(f"conv_last{stack}", nn.Conv2d(FEATURES, FEATURES, 1))
            self.add_module(f"bn_end{stack}", nn.BatchNorm2d(FEATURES))
            self.add_module(f"l{stack}", nn.Conv2d(FEATURES, NUM_POINTS, 1))
            if stack < stacks - 1:
                self.add_module(f"bl{stack}", nn.Conv2d(FEATURES, FEATURES, 1))
                self.add_module(f"al{stack}", nn.Conv2d(NUM_POINTS, FEATURES, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, 256, 256) RGB 0..1 -> (B, 68, 64, 64) of the last stack."""
        features = functional.relu(self.bn1(self.conv1(picture)))
        features = self.conv4(self.conv3(functional.avg_pool2d(self.conv2(features), 2)))
        maps: Tensor = features
        for stack in range(self.stacks):
            inner = self.get_submodule(f"top_m_{stack}")(self.get_submodule(f"m{stack}")(features))
            normalised = self.get_submodule(f"bn_end{stack}")(self.get_submodule(f"conv_last{stack}")(inner))
            inner = functional.relu(normalised)
            maps = self.get_submodule(f"l{stack}")(inner)
            if stack < self.stacks - 1:
                inner, back = self.get_submodule(f"bl{stack}")(inner), self.get_submodule(f"al{stack}")(maps)
                features = features + inner + back
        return maps
