"""Targets of a batch on its device are those that the workers make item by item."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import AsDiscreted, EnsureTyped, SelectItemsd
from skimage.measure import label as components

from unet_med.instances import separate
from unet_med.transforms import (
    BorderWeightMapd,
    ClassWeightMapd,
    FalkWeightMapd,
    Foregroundd,
    SeparateInstancesd,
    Weighing,
    compose,
)
from unet_med.weights.batches import separate_batch

KEYS = ["image", "label", "weight"]
SHAPES = [(1, 19, 23), (1, 7, 9, 8)]


def cells(shape: tuple[int, ...], seed: int, density: float = 0.5) -> torch.Tensor:
    """Instances of any shape that touch, some pixels ignored."""
    rng = np.random.default_rng(seed)
    found = components(rng.random(shape[1:]) < density, connectivity=1).astype(np.int32)
    numbers = rng.permutation(int(found.max()) + 1)
    found = np.where(found > 0, numbers[found] + 1, 0) * 1000
    found[rng.random(found.shape) < 0.05] = -1
    return torch.from_numpy(found[None].astype(np.int32))


def chain(**steps: Any) -> dict[str, Any]:
    tensors = EnsureTyped(KEYS, track_meta=False)
    return {**steps, "select": SelectItemsd(KEYS), "tensors": tensors}


def chains(kind: str, classes: Any = None) -> dict[str, Any]:
    if kind == "classes":
        return chain(balance=ClassWeightMapd("label", num_classes=3, class_weights=classes))
    ridge = {} if kind == "joined" else {"separate": SeparateInstancesd("label", kind)}
    border = BorderWeightMapd("label", w0=7.0, sigma=3.0, class_weights=classes)
    return chain(**ridge, border=border, foreground=Foregroundd("label"))


def both(kind: str, labels: list[torch.Tensor], classes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets by the workers, and by the device, which a CPU may be as well."""
    items = [{"image": label.float(), "label": label} for label in labels]
    whole = compose([chains(kind, classes)])
    expected = [whole(dict(item)) for item in items]
    targets = [torch.cat([item["label"].float(), item["weight"]]) for item in expected]
    weighing = Weighing(chains(kind, classes), "cuda")
    assert weighing.on_batches is not None
    sent = [compose([weighing.in_workers])(dict(item)) for item in items]
    assert {item["label"].dtype for item in sent} == {torch.int32}
    assert all("weight" not in item for item in sent)
    found = weighing.on_batches(torch.stack([item["label"] for item in sent]))
    return torch.stack(targets), found


@pytest.mark.parametrize("classes", [None, [1.0, 2.0]])
@pytest.mark.parametrize("kind", ["symmetric", "falk", "joined"])
@pytest.mark.parametrize("shape", SHAPES)
def test_targets_of_instances(shape: tuple[int, ...], kind: str, classes: Any) -> None:
    labels = [cells(shape, 0), cells(shape, 1, 0.8), torch.zeros(shape, dtype=torch.int32)]
    expected, found = both(kind, labels, classes)
    assert torch.equal(found[:, 0], expected[:, 0])
    torch.testing.assert_close(found[:, 1], expected[:, 1], rtol=1e-6, atol=1e-6)
    assert expected[:, 1].max() > 2  # there are borders


@pytest.mark.parametrize("classes", [None, [1.0, 2.0, 0.5]])
def test_targets_of_classes(rng: np.random.Generator, classes: Any) -> None:
    labels = [torch.from_numpy(rng.choice([0, 1, 2, 255], (1, 9, 8))).int() for _ in range(3)]
    expected, found = both("classes", [*labels, torch.ones(1, 9, 8).int()], classes)
    assert torch.equal(found, expected)


@given(st.integers(0, 99), st.sampled_from(SHAPES), st.sampled_from(["symmetric", "falk"]))
def test_separation_is_that_of_each_item(seed: int, shape: tuple[int, ...], kind: Any) -> None:
    batch = torch.stack([cells(shape, seed, 0.9), cells(shape, seed + 100, 0.6)])
    expected = torch.stack([torch.from_numpy(separate(item.numpy(), kind)) for item in batch])
    assert torch.equal(separate_batch(batch, kind), expected)


def test_other_chains_stay_with_the_workers() -> None:
    falk = FalkWeightMapd("label")
    own = [
        chain(border=falk, separate=SeparateInstancesd("label", "falk")),
        chain(border=BorderWeightMapd("label"), foreground=AsDiscreted("label", threshold=0.5)),
    ]
    for each in own:
        weighing = Weighing(each, "cuda")
        assert weighing.on_batches is None
        assert weighing.in_workers is each
    weighing = Weighing(chains("symmetric"), "cpu")  # on a CPU all do
    assert weighing.on_batches is None


def test_large_numbers_and_fractions() -> None:
    large = torch.tensor([[0, 2**40, 2**40, 5, -1]])
    step = Weighing(chains("symmetric"), "cuda").in_workers["whole"]
    assert step({"label": large})["label"].tolist() == [[0, 4, 4, 3, -1]]
    with pytest.raises(ValueError, match="not a whole number"):
        step({"label": torch.tensor([[0.5]])})
