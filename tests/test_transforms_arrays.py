"""Every transform takes NumPy arrays and tensors alike, as MONAI's own do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, Transform

from unet_med import transforms

CLASSES = {
    found.__name__: found
    for found in vars(transforms).values()
    if isinstance(found, type) and issubclass(found, Transform)
}
OPTIONS: dict[str, dict[str, Any]] = {
    "CheckPaird": {"spatial_dims": 2, "label_kind": "instances"},
    "ClassWeightMap": {"num_classes": 6},
    "ClassWeightMapd": {"keys": "label", "num_classes": 6},
    "ElementSize": {"element_size": 2.0},
    "ElementSized": {"keys": ["image", "label"], "element_size": 2.0},
    "LabelInstances": {"label_kind": "instances"},
    "LabelInstancesd": {"keys": "label", "label_kind": "instances"},
    "Orientd": {"keys": "label", "orientation": "RAS"},
    "RandTileCrop": {"tile_size": 12},
    "RarePlacesd": {"keys": "label", "values": [2, 5]},
    "RandTileCropd": {"keys": ["image", "label"], "tile_size": 12, "ignore": 0},
    "ScoreObjectsd": {"keys": "label", "probabilities": "scores"},
    "SelectSliced": {"keys": "volume"},
}
KEYS = {
    "Calibrated": "certain",
    "InstancesFromLogitsd": "logits",
    "RandGreyValued": "image",
    "Standardized": "image",
}
ARRAYS = {"ElementSize": "image", "InstancesFromLogits": "logits", "RandElasticDeform": "image"}
ARRAYS |= {
    "Calibrate": "certain",
    "RandGreyValue": "image",
    "RandTileCrop": "image",
    "Standardize": "image",
}


def item(dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 6, (4, 5)), np.ones((5, 5)))  # (20, 25)
    found = {"image": rng.integers(0, 200, (1, 20, 25)), "label": label[None]}
    found |= {"volume": rng.integers(0, 200, (1, 6, 5, 4)), "logits": rng.integers(0, 9, (3, 9, 8))}
    found |= {"scores": rng.integers(0, 9, (3, 20, 25)), "certain": label[None] > 2}
    return {key: value.astype(dtype) for key, value in found.items()}


def plain(array: np.ndarray) -> Any:
    return torch.from_numpy(array)


def tracked(array: np.ndarray) -> Any:
    """With metadata, as `LoadImage` leaves it."""
    values = array.astype({"uint16": "int32"}.get(array.dtype.name, array.dtype))
    meta = {"filename_or_obj": "cell.tif", "original_affine": np.eye(4)}
    return MetaTensor(values, affine=torch.eye(4), meta=meta)


def made(name: str, folder: Path, **more: Any) -> Any:
    options = {**OPTIONS.get(name, {}), **more}
    if name == "SaveImageResultd":
        options = {"keys": "label", "output_dir": folder}
    elif name != "CheckPaird" and issubclass(CLASSES[name], MapTransform) and "keys" not in options:
        options["keys"] = KEYS.get(name, "label")
    transform = CLASSES[name](**options)
    return transform.set_random_state(seed=3) if isinstance(transform, Randomizable) else transform


def applied(name: str, transform: Any, values: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(transform, MapTransform):
        return {"result": transform(values[ARRAYS.get(name, "label")])}
    found: dict[str, Any] = transform({**values, "slice": 1} if name == "SelectSliced" else values)
    return found


def outcome(name: str, values: dict[str, Any], folder: Path) -> Any:
    """What the transform makes of an item, or why it refuses it, in arrays."""
    try:
        found = applied(name, made(name, folder), values)
    except ValueError as error:
        return str(error)
    return {key: np.asarray(value) for key, value in found.items()}


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64", "uint16"])
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_arrays_and_tensors_give_the_same(name: str, dtype: str, tmp_path: Path) -> None:
    """A transform that joins the package is tested without being named here."""
    values = item(dtype)
    kinds: dict[str, Callable[[np.ndarray], Any]] = {"NumPy": np.copy, "torch": plain}
    if name in ("ElementSize", "ElementSized", "SaveImageResultd"):  # need a file's metadata
        sizes = outcome(name, {k: np.copy(v) for k, v in values.items()}, tmp_path)
        assert "pixel size is unknown" in sizes or "metadata that names its file" in sizes
        values["image"] = tracked(values["image"])
        kinds = {"NumPy": lambda a: a, "torch": lambda a: a if torch.is_tensor(a) else plain(a)}
    expected, *others = (
        outcome(name, {key: kind(value) for key, value in values.items()}, tmp_path)
        for kind in [*kinds.values(), *([tracked] if len(kinds) == 2 else [])]
        if kind is not tracked or not torch.is_tensor(values["image"])
    )
    assert isinstance(expected, dict), expected
    for other in others:
        assert isinstance(other, dict), other
        assert other.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(other[key], value)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_their_types_say_so(name: str) -> None:
    """What type checkers tell who imports a transform, of a result too where it is an array."""
    if issubclass(CLASSES[name], MapTransform):
        return
    first = next(iter(get_type_hints(CLASSES[name].__call__).values()))
    kinds = getattr(first, "__constraints__", None) or get_args(first)
    assert {np.ndarray, torch.Tensor} <= {get_origin(kind) or kind for kind in kinds}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in sorted(CLASSES)),
        *((name, {"element_size": 1.0}) for name in ("ElementSize", "ElementSized")),
    ],
)
def test_the_metadata_of_the_input_stay(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """An image that is kept in memory passes once an epoch, also where nothing is to do."""
    values = {key: tracked(value) for key, value in item("float32").items()}
    stated = {key: (str(v.meta), str(v.applied_operations)) for key, v in values.items()}
    applied(name, made(name, tmp_path, **options), values)
    for key, value in values.items():
        assert (str(value.meta), str(value.applied_operations)) == stated[key], key


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_eight_bits_hold_no_ignored_instance(kind: Callable[[Any], Any]) -> None:
    """-1 marks ignored pixels; 255 instances in 8 bits are instances, the last one too."""
    label = np.full((1, 4, 4), 255, np.uint8)
    values = {"image": kind(np.ones((1, 4, 4), np.float32)), "label": kind(label)}
    transforms.CheckPaird(label_kind="instances")(values)
    kept = transforms.DropIgnoredd("label", ignore=-1)(values)["label"]
    np.testing.assert_array_equal(np.asarray(kept), label)
