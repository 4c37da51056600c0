"""Hypothesis strategies shared by the tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def valid_nets(draw, max_depth: int = 4):
    """Keywords of `unet_med.geometry` for a network small enough to walk through."""
    pool = draw(st.sampled_from([2, 2, 3]))
    return {
        "depth": draw(st.integers(0, max_depth if pool == 2 else 2)),
        "convs_per_level": draw(st.integers(1, 3)),
        "pool": pool,
        "upsample_crop": draw(st.integers(0, 1)),
    }


@st.composite
def thick_nets(draw, dims=None, features=(2, 3, 2)):
    """Arguments of a `UNet` whose pools and kernels differ by level and axis."""
    dims = draw(st.integers(2, 3)) if dims is None else dims
    depth = draw(
        st.integers(1, len(features) - 1 if dims == 2 else 1 + (draw(st.integers(0, 3)) == 0))
    )
    factors = st.lists(st.sampled_from([1, 1, 2, 2, 3]), min_size=dims, max_size=dims)
    widths = st.lists(st.sampled_from([1, 3, 3, 5]), min_size=dims, max_size=dims)
    few = factors.filter(lambda level: max(level) > 1 and np.prod(level) <= 12)
    return {
        "spatial_dims": dims,
        "features": features[: depth + 1],
        "pool": [draw(few) for _ in range(depth)],
        "kernel_size": [draw(widths) for _ in range(depth + 1)],
        "convs_per_level": draw(st.integers(1, 2)),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "upsample": draw(st.sampled_from(["deconv", "bilinear", "unpool", "pixelshuffle"])),
    }


@st.composite
def thick_axes(draw):
    """Arguments of `unet_med.geometry.Axis`, few enough levels to walk through."""
    depth = draw(st.integers(0, 4))
    pools = draw(st.lists(st.sampled_from([1, 2, 2, 3]), min_size=depth, max_size=depth))
    kernels = draw(st.lists(st.sampled_from([1, 3, 5]), min_size=depth + 1, max_size=depth + 1))
    crops = draw(st.lists(st.integers(0, 1), min_size=depth, max_size=depth))
    return tuple(pools), tuple(kernels), draw(st.integers(1, 3)), tuple(crops)


@st.composite
def tilings(draw, max_axes: int = 2):
    """Image shape, tile sides and the rules of a grid that can cover it."""
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    padding = draw(st.sampled_from(["valid", "same"]))
    margin = draw(st.integers(0, 20)) if padding == "valid" else stride * draw(st.integers(0, 3))
    axes = draw(st.integers(1, max_axes))
    shape = tuple(draw(st.integers(1, 60)) for _ in range(axes))
    rest = draw(st.integers(0, stride - 1)) if padding == "valid" else 0
    sides = tuple(2 * margin + rest + stride * draw(st.integers(1, 6)) for _ in range(axes))
    return shape, sides, {"margin": margin, "stride": stride, "padding": padding}


@st.composite
def images_with_spacing(draw, dtypes=("uint8", "uint16", "uint32", "int16", "int32", "float32")):
    """An image `(C, X, Y[, Z])`, Z of 2 or more, and its pixel size on each axis."""
    dims = draw(st.integers(2, 3))
    shape = (draw(st.integers(1, 3)), *(draw(st.integers(2, 6)) for _ in range(dims)))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    array = rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8).view(dtype)[..., 0]
    array = np.nan_to_num(array, posinf=0, neginf=0) if dtype.kind == "f" else array
    spacing = tuple(draw(st.sampled_from([0.065, 0.1, 0.25, 1.0, 2.5, 40.0])) for _ in range(dims))
    return array, spacing


@st.composite
def image_files(draw):
    """Suffix, and what writes an image file of one to four channels and two or three axes."""
    array, spacing = draw(images_with_spacing(("uint8", "uint16", "int16", "float32")))
    ours = [".tif", ".nii", ".nii.gz"]
    suffix = draw(st.sampled_from([*ours, ".imagej.tif", ".plain.tif", ".mha", ".nrrd", ".npy"]))
    byteorder = draw(st.sampled_from("<>"))

    def write(path):
        import SimpleITK as sitk
        import tifffile

        from unet_med.data import save_image  # brings torch

        other_order = array.transpose(0, *range(array.ndim - 1, 0, -1))  # (C, [Z,] Y, X)
        axes = "CYX" if array.ndim == 3 else "CZYX"
        if suffix in ours:
            save_image(path, array, np.diag([*spacing, 1.0]))
        elif suffix == ".imagej.tif" and array.dtype.name in ("uint8", "uint16", "float32"):
            hyperstack = np.moveaxis(other_order, 0, -3)  # ImageJ's order is ZCYX
            tifffile.imwrite(path, hyperstack, imagej=True, metadata={"axes": axes[-3::-1] + "YX"})
        elif suffix.endswith(".tif"):
            options = {"photometric": "minisblack", "metadata": None, "byteorder": byteorder}
            tifffile.imwrite(path, other_order[0], **options)
        elif suffix == ".npy":
            np.save(path, array[0].T.astype(array.dtype.newbyteorder(byteorder)))
        else:
            vector = np.moveaxis(other_order, 0, -1)
            sitk.WriteImage(sitk.GetImageFromArray(vector, isVector=True), str(path))

    return suffix, write


@st.composite
def instance_maps(draw, axes=(1, 2, 3), max_side=(60, 40, 14), max_instances: int = 9):
    """Instances of one to three boxes each, overlapping, some far apart, some pixels ignored."""
    ndim = draw(st.sampled_from(axes))
    shape = tuple(draw(st.integers(1, max_side[ndim - 1])) for _ in range(ndim))
    labels = np.zeros(shape, np.int32)
    numbers = draw(st.lists(st.integers(1, 300), max_size=max_instances))
    for number in [*numbers, *draw(st.lists(st.just(-1), max_size=2))]:
        for _ in range(draw(st.integers(1, 3))):
            start = [draw(st.integers(0, n - 1)) for n in shape]
            labels[tuple(slice(s, s + draw(st.integers(1, 8))) for s in start)] = number
    return labels


def pixel_sizes(ndim: int):
    """None, one size for all axes, or one an axis."""
    size = st.floats(0.25, 4)
    return st.none() | size | st.tuples(*[size] * ndim)
