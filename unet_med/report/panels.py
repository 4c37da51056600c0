"""Pictures of one image for a page: a grey image, and crisp overlays to lay over it.

Overlays are palette images with transparency, so that a page holds each image once.
Everything comes as `data:` addresses: the page needs no other file.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.data.class_names import names_of
from unet_med.instances import IGNORED
from unet_med.report.colours import (
    class_colours,
    contours,
    instance_colours,
    matched_colours,
    palette,
    stretched,
)
from unet_med.report.differences import DIFFERENCES, Labels, difference_map
from unet_med.report.objects import CORRECT, OBJECTS, ObjectErrors, object_codes

FINE, COARSE = 480, 1024  # px: smaller planes are drawn larger, larger ones smaller
INSIDE, FAINT, SOLID = 0.34, 0.16, 1.0  # opacity of fills and contours


def picture(image: NDArray[Any]) -> str:
    """An image plane `(C, X, Y)` as JPEG; three channels are colours, else the first is shown."""
    from PIL import Image

    plane = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
    values = _reduced(stretched(plane), zoom(image.shape[1:]))  # (X, Y, 3)
    shades = np.rint(255 * values.swapaxes(0, 1)).astype(np.uint8)
    drawn = Image.fromarray(shades)
    is_grey = (shades == shades[..., :1]).all()
    return _saved(drawn.convert("L") if is_grey else drawn, "JPEG", quality=88, subsampling=0)


def outlines(labels: Labels, colours: NDArray[np.float64]) -> str:
    """Labels `(X, Y)` as an overlay: tinted inside, solid along the contour."""
    large = enlarged(np.maximum(labels, 0))
    return _overlay(large, colours, np.where(contours(large), SOLID, INSIDE) * (large > 0))


def instance_outlines(truth: Labels | None, result: Labels) -> tuple[str | None, str]:
    """Overlays of truth and result; matching objects have one colour, others are grey."""
    if truth is None:
        return None, outlines(result, instance_colours(result))
    colours = instance_colours(truth)
    return outlines(truth, colours), outlines(result, matched_colours(truth, result, colours))


def object_errors(truth: Labels, result: Labels, errors: ObjectErrors) -> str:
    """Objects `(X, Y)` in the colour of their class, under the outlines of the true ones."""
    t, r = enlarged(truth), enlarged(result)
    codes = object_codes(t, r, errors)
    contour = contours(np.maximum(t, 0)) | contours(np.maximum(r, 0))
    fill = np.where(codes == CORRECT, FAINT, 0.62)
    return _overlay(codes, palette(OBJECTS), np.where(contour, SOLID, fill) * (codes > 0))


def class_errors(truth: Labels, result: Labels) -> str:
    """Pixels `(X, Y)` in the colour of right or wrong."""
    codes = enlarged(difference_map(truth, result, "classes"))
    fill = np.where(codes == list(DIFFERENCES).index("correct"), FAINT, 0.85)
    return _overlay(codes, palette(DIFFERENCES), fill * (codes > 0))


def heat(values: NDArray[np.float32]) -> tuple[str, float, float]:
    """A weight map `(X, Y)` in the colours of `heat_gradient`, and what its ends stand for."""
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    codes = np.rint(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)
    colours = colormaps["magma"](np.arange(256))[:, :3]
    return _indexed(enlarged(codes), colours), low, high


def heat_gradient() -> str:
    """The colours of `heat` as stops of a CSS gradient, low to high."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return ", ".join(to_hex(colormaps["magma"](k / 8)) for k in range(9))


def class_key(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Classes but the background, each with its colour as CSS has it.

    Args:
        settings: of a record; where they do not tell the values of the classes there is no key.
    """
    from matplotlib.colors import to_hex

    names = settings.get("class_names")
    values = settings.get("class_values") or range(len(names or []) + 1)
    colours = class_colours(max(values) + 1)[list(values)]
    named = zip(names_of(values, names), colours, strict=False)
    return [(name, to_hex(colour)) for name, colour in named][1:]


def without_ignored(labels: Labels) -> Labels:
    """Classes `(X, Y)` with ignored pixels as background."""
    return np.where((labels == IGNORED) | (labels < 0), 0, labels)


def zoom(shape: tuple[int, ...]) -> int:
    """Pixels drawn for one of a plane; negative: pixels of the plane for one drawn."""
    longest = max(shape)
    return -(-longest // COARSE) * -1 if longest > COARSE else max(1, round(FINE / longest))


def enlarged(values: NDArray[Any]) -> NDArray[Any]:
    """Labels or codes `(X, Y)` at the size at which they are drawn."""
    factor = zoom(values.shape)
    if factor < 0:
        return values[-factor // 2 :: -factor, -factor // 2 :: -factor]
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _reduced(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Means over blocks where a plane is drawn smaller, `(x, y, 3)`; a browser enlarges well."""
    if factor > 0:
        return values
    from skimage.transform import downscale_local_mean

    step = -factor
    x, y = (len(range(step // 2, side, step)) * step for side in values.shape[:2])
    padded = np.pad(
        values, ((0, max(0, x - len(values))), (0, max(0, y - values.shape[1])), (0, 0)), "edge"
    )
    reduced: NDArray[np.float64] = downscale_local_mean(padded[:x, :y], (step, step, 1))
    return reduced


def _overlay(codes: Labels, colours: NDArray[np.float64], alpha: NDArray[np.float64]) -> str:
    """Colours by code with opacity as PNG; equal pairs share one of its palette's entries."""
    levels = np.rint(255 * alpha).astype(np.int64)
    shades = np.rint(255 * colours).astype(np.int64)[codes]
    key = np.where(levels > 0, ((shades @ [1 << 24, 1 << 16, 1 << 8]) + levels), 0)  # RGBA in one
    entries, index = np.unique(key, return_inverse=True)
    rgba = np.stack([entries >> shift & 255 for shift in (24, 16, 8, 0)], axis=-1)
    return _indexed(index.reshape(key.shape).astype(np.uint8), rgba[:, :3] / 255, rgba[:, 3])


def _indexed(
    index: NDArray[np.uint8], colours: NDArray[np.float64], alpha: NDArray[np.int64] | None = None
) -> str:
    """Palette positions `(X, Y)` as PNG."""
    from PIL import Image

    drawn = Image.fromarray(np.ascontiguousarray(index.T), mode=None)
    drawn.putpalette(np.rint(255 * colours).astype(np.uint8).tobytes())
    options = {} if alpha is None else {"transparency": bytes(alpha.astype(np.uint8))}
    return _saved(drawn, "PNG", optimize=True, **options)


def _saved(drawn: Any, kind: str, **options: Any) -> str:
    buffer = BytesIO()
    drawn.save(buffer, kind, **options)
    return address(buffer.getvalue(), kind.lower())


def address(picture: bytes, kind: str) -> str:
    """A file of a kind, such as `png`, as a `data:` address."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
