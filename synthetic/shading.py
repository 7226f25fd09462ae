"""Pixels of a dressed head by one Warp kernel: paint baked once per triangle, light of reconstruct.appearance, 2 x 2
samples a pixel.

Paint depends on the rest position only, so it is the same in all frames of a clip: `bake` samples it on a grid in each
triangle through `reconstruct.appearance.paint`, and a frame costs a look-up. Tested against `appearance.shade`.
"""

# No `from __future__ import annotations` here: Warp reads the kernels' annotations as types.

from typing import Any, Final

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.appearance import Canvas, Look, paint, to_srgb
from reconstruct.camera import vertex_normals
from reconstruct.raster import Fragments, make_rasterizer

GRID: Final = 8
"""Texels along each side of a triangle."""
SAMPLES: Final = 2
"""Per side of a pixel."""
SAME_SURFACE_M: Final = 0.006
_TONES: Final = 4096


@wp.func  # type: ignore[untyped-decorator]
def _sample(
    row: int,
    column: int,
    a: wp.vec3,
    b: wp.vec3,
    c: wp.vec3,
) -> wp.vec3:
    """Perspective-correct barycentric weights of a pixel centre, as in reconstruct.raster.base.fragments."""
    x = float(column) + 0.5
    y = float(row) + 0.5
    u = (b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)
    v = (c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)
    w = (a[0] - x) * (b[1] - y) - (a[1] - y) * (b[0] - x)
    weights = wp.vec3(u / a[2], v / b[2], w / c[2])
    return weights / (weights[0] + weights[1] + weights[2])


@wp.kernel(enable_backward=False)  # type: ignore[untyped-decorator]
def _resolve(  # type: ignore[no-untyped-def]
    ids: wp.array(dtype=wp.int32, ndim=3),  # type: ignore[valid-type]
    vertices: wp.array(dtype=wp.vec3, ndim=2),  # type: ignore[valid-type]
    normals: wp.array(dtype=wp.vec3, ndim=2),  # type: ignore[valid-type]
    faces: wp.array(dtype=wp.int32, ndim=2),  # type: ignore[valid-type]
    plain: wp.array(dtype=wp.bool),  # type: ignore[valid-type]
    texture: wp.array(dtype=wp.vec3, ndim=2),  # type: ignore[valid-type]
    surface: wp.array(dtype=wp.vec2),  # type: ignore[valid-type]
    background: wp.array(dtype=wp.vec3, ndim=2),  # type: ignore[valid-type]
    tones: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    light: wp.vec3,
    middle: wp.vec3,
    ambient: float,
    top: int,
    left: int,
    picture: wp.array(dtype=wp.uint8, ndim=4),  # type: ignore[valid-type]
):
    frame, row, column = wp.tid()  # type: ignore[misc]
    samples = wp.static(SAMPLES)
    grid = wp.static(GRID)
    first_row = samples * row
    first_column = samples * column
    far = float(-1.0)  # noqa: UP018 - Warp's dynamic variables are written so
    near = float(1.0e9)  # noqa: UP018
    missed = int(0)  # noqa: UP018, RUF046
    busy = int(0)  # noqa: UP018, RUF046
    for index in range(samples * samples):
        face = ids[frame, first_row + index // samples, first_column + index % samples]
        if face < 0:
            missed += 1
        else:
            depth = vertices[frame, faces[face, 0]][2]
            far = wp.max(far, depth)
            near = wp.min(near, depth)
            if not plain[face]:
                busy += 1
    nothing = missed == samples * samples
    same = missed + busy == 0 and far - near < wp.static(SAME_SURFACE_M)
    total = wp.vec3(0.0, 0.0, 0.0)
    count = int(0)  # noqa: UP018, RUF046
    if nothing:
        total = background[top + row, left + column]
        count = 1
    for index in range(samples * samples):
        if not nothing and (index == 0 or not same):
            fine_row = first_row + index // samples
            fine_column = first_column + index % samples
            face = ids[frame, fine_row, fine_column]
            count += 1
            if face < 0:
                total += background[top + row, left + column]
            else:
                i = faces[face, 0]
                j = faces[face, 1]
                k = faces[face, 2]
                weights = _sample(fine_row, fine_column, vertices[frame, i], vertices[frame, j], vertices[frame, k])
                # texels lie in rows of grid, grid - 1, ... 1
                u = wp.clamp(int(weights[0] * float(grid)), 0, grid - 1)
                v = wp.clamp(int(weights[1] * float(grid)), 0, grid - 1 - u)
                colour = texture[face, u * grid - (u * (u - 1)) // 2 + v]
                normal = wp.normalize(
                    weights[0] * normals[frame, i] + weights[1] * normals[frame, j] + weights[2] * normals[frame, k]
                )
                look = weights[0] * surface[i] + weights[1] * surface[j] + weights[2] * surface[k]
                diffuse = wp.max((wp.dot(normal, light) + 0.3) / 1.3, 0.0)
                shine = wp.max(wp.dot(normal, middle), 0.0)
                shine = shine * shine
                shine = shine * shine
                shine = shine * shine  # 8th power
                shine = shine * shine * shine * shine * shine  # 40th
                lit = colour * (ambient + (1.15 - ambient) * diffuse)
                gloss = look[0] * shine
                total += (lit + wp.vec3(gloss, gloss, gloss)) * look[1]
    total = total / float(count)
    for channel in range(3):
        tone = wp.clamp(int(total[channel] * float(wp.static(_TONES - 1)) + 0.5), 0, wp.static(_TONES - 1))
        picture[frame, row, column, channel] = tones[tone]


def bake(canvas: Canvas, look: Look, faces: Tensor) -> Tensor:
    """(F, GRID (GRID + 1) / 2, 3) linear RGB: the paint at the middle of each cell of a barycentric grid."""
    cells = [(u, v) for u in range(GRID) for v in range(GRID - u)]
    weights = torch.tensor([[u + 0.5, v + 0.5] for u, v in cells]) / GRID
    weights = torch.cat([weights, 1 - weights.sum(1, keepdim=True)], dim=1).clamp(min=0)
    weights = weights / weights.sum(1, keepdim=True)
    count, texels = len(faces), len(cells)
    zero = torch.zeros(count * texels, dtype=torch.long)
    triangles = faces.long().repeat_interleave(texels, 0)
    everywhere = Fragments(zero, zero, zero, triangles, zero, weights.repeat(count, 1))
    return paint(canvas, look, everywhere).reshape(count, texels, 3)


def gloss_of(canvas: Canvas) -> Tensor:
    """(V,) strength of the highlight, as `appearance.shade` sets it."""
    return 0.6 * canvas.masks[:, 3] + 0.03


def _box(pixels: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that the mesh may touch in any frame; never empty."""
    low = pixels[..., :2].amin(dim=(0, 1)).floor()
    high = pixels[..., :2].amax(dim=(0, 1)).ceil() + 1
    left, top = int(low[0].clamp(0, width - 1)), int(low[1].clamp(0, height - 1))
    return left, top, max(left + 1, int(high[0].clamp(1, width))), max(top + 1, int(high[1].clamp(1, height)))


def _turned_away(pixels: Tensor, faces: Tensor, closed: Tensor) -> Tensor:
    """(F,) bool: triangles of closed surfaces that show their back in all frames."""
    a, b, c = (pixels[:, faces[:, corner].long(), :2] for corner in range(3))
    area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    return closed & (area > 0).all(0)  # y points down: counter-clockwise triangles have negative area


def draw(
    vertices: Tensor,
    pixels: Tensor,
    faces: Tensor,
    plain: Tensor,
    closed: Tensor,
    texture: Tensor,
    surface: Tensor,
    look: Look,
    background: Tensor,
) -> NDArray[np.uint8]:
    """(T, H, W, 3) sRGB pictures.

    Args: vertices (T, V, 3) camera space; pixels (T, V, 3) from `project`; faces (F, 3) int32; plain (F,) bool,
    triangles for which one sample a pixel is enough; closed (F,) bool, triangles whose back is never seen; texture from
    `bake`; surface (V, 2) gloss and received light; background (H, W, 3) linear RGB.
    """
    height, width = background.shape[:2]
    left, top, right, bottom = _box(pixels, height, width)
    fine = pixels.clone()
    fine[..., :2] = SAMPLES * (pixels[..., :2] - torch.tensor([float(left), float(top)]))
    kept = torch.nonzero(~_turned_away(pixels, faces, closed)).squeeze(1)
    faces, plain, texture = faces[kept], plain[kept], texture[kept]
    ids = make_rasterizer("warp").rasterize(fine, faces, SAMPLES * (bottom - top), SAMPLES * (right - left))
    direction = torch.nn.functional.normalize(torch.tensor(look.light), dim=0)
    middle = torch.nn.functional.normalize(direction + torch.tensor([0.0, 0.0, -1.0]), dim=0)
    tones = to_srgb(torch.linspace(0, 1, _TONES))
    box = torch.empty((len(vertices), bottom - top, right - left, 3), dtype=torch.uint8)
    arguments: list[Any] = [
        wp.from_torch(ids),
        wp.from_torch(fine.contiguous(), dtype=wp.vec3),
        wp.from_torch(vertex_normals(vertices, faces).contiguous(), dtype=wp.vec3),
        wp.from_torch(faces),
        wp.from_torch(plain),
        wp.from_torch(texture.contiguous(), dtype=wp.vec3),
        wp.from_torch(surface.contiguous(), dtype=wp.vec2),
        wp.from_torch(background.contiguous(), dtype=wp.vec3),
        wp.from_torch(tones),
        wp.vec3(*direction.tolist()),
        wp.vec3(*middle.tolist()),
        look.ambient,
        top,
        left,
        wp.from_torch(box),
    ]
    wp.launch(_resolve, dim=tuple(box.shape[:3]), inputs=arguments, device="cpu")
    pictures = to_srgb(background).expand(len(vertices), -1, -1, -1).contiguous()
    pictures[:, top:bottom, left:right] = box
    return np.asarray(pictures.numpy())
