"""One draw deforms all keys, and only `self.R` decides it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from unet_med.deformation import random_displacement, warp
from unet_med.transforms import RandElasticDeform, RandElasticDeformd, elastic

KEYS = ("image", "label")


def pair(shape=(40, 50)) -> dict[str, torch.Tensor]:
    """An image and the labels that are its values, so that both can be compared."""
    label = torch.arange(int(np.prod(shape))).view(1, *shape)
    return {"image": label.float(), "label": label}


def both_nearest(**options) -> RandElasticDeformd:
    return RandElasticDeformd(KEYS, mode="nearest", **options)


@pytest.mark.parametrize("kernel", ["bicubic", "bspline"])
@pytest.mark.parametrize("shape", [(40, 50), (9, 10, 11)])
def test_is_the_warp_by_the_drawn_displacement(shape, kernel):
    image = torch.rand(2, *shape)
    transform = RandElasticDeform(5.0, 4, kernel=kernel).set_random_state(7)
    rng = np.random.RandomState(7)
    rng.rand()  # whether
    field = random_displacement(shape, 4, sigma=5.0, kernel=kernel, rng=rng)
    torch.testing.assert_close(transform(image).as_tensor(), warp(image[None], field)[0])


def test_one_draw_moves_image_and_label_together():
    out = both_nearest().set_random_state(0)(pair())
    assert (out["label"] != pair()["label"]).any()
    torch.testing.assert_close(out["image"].long(), out["label"], rtol=0, atol=0)


def test_each_key_has_its_mode_and_labels_keep_their_dtype():
    data = pair()
    data["label"] = data["label"] + 2**40
    out = RandElasticDeformd(KEYS, mode=("bilinear", "nearest")).set_random_state(0)(data)
    assert out["label"].dtype == torch.int64
    assert set(out["label"].flatten().tolist()) <= set(data["label"].flatten().tolist())
    assert (out["image"] % 1 > 0).any()


@pytest.mark.parametrize("options", [{"sigma": 0.0}, {"prob": 0.0}])
def test_identity_to_the_last_bit(options):
    out = RandElasticDeformd(KEYS, mode=("bilinear", "nearest"), **options)(pair())
    for key in KEYS:
        torch.testing.assert_close(out[key].as_tensor(), pair()[key], rtol=0, atol=0)


def test_nothing_is_resampled_when_not_applied(monkeypatch):
    monkeypatch.setattr(elastic, "warp", None)
    monkeypatch.setattr(elastic, "interpolate_nodes", None)
    out = both_nearest(prob=0.0)(pair())
    torch.testing.assert_close(out["label"].as_tensor(), pair()["label"])


def test_probability():
    transform = both_nearest(prob=0.3).set_random_state(0)
    still = pair((8, 8))["label"]
    moved = [bool((transform(pair((8, 8)))["label"] != still).any()) for _ in range(300)]
    assert np.mean(moved) == pytest.approx(0.3, abs=0.06)


def test_dtype_does_not_depend_on_the_draw():
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    for prob in (0.0, 1.0):
        assert RandElasticDeform(prob=prob)(image).dtype == torch.float32


@pytest.mark.parametrize("compose", [False, True])
def test_same_seed_same_result(compose):
    def run(seed: int) -> torch.Tensor:
        transform = both_nearest()
        (Compose([transform]) if compose else transform).set_random_state(seed=seed)
        return transform(pair())["label"]

    torch.testing.assert_close(run(1), run(1), rtol=0, atol=0)
    assert (run(1) != run(2)).any()


def test_global_generators_are_neither_read_nor_moved():
    def run(seed: int) -> torch.Tensor:
        np.random.seed(seed)  # noqa: NPY002 - the global generator is what is tested
        torch.manual_seed(seed)
        position, state = np.random.get_state()[2], torch.get_rng_state()  # noqa: NPY002
        out = both_nearest().set_random_state(3)(pair())["label"]
        assert np.random.get_state()[2] == position  # noqa: NPY002
        torch.testing.assert_close(torch.get_rng_state(), state)
        return out

    torch.testing.assert_close(run(0), run(1), rtol=0, atol=0)


def test_randomize_false_repeats_the_draw():
    transform = both_nearest().set_random_state(0)
    first, second = transform(pair()), transform(pair())
    again = transform(pair(), randomize=False)
    assert (first["label"] != second["label"]).any()
    torch.testing.assert_close(second["label"], again["label"], rtol=0, atol=0)
    single = RandElasticDeform(mode="nearest").set_random_state(0)
    a = single(pair()["label"])
    torch.testing.assert_close(a, single(pair()["label"], randomize=False), rtol=0, atol=0)
    torch.testing.assert_close(a, first["label"], rtol=0, atol=0)


def test_nothing_to_repeat_before_the_first_draw():
    with pytest.raises(RuntimeError, match="there was none yet"):
        both_nearest()(pair(), randomize=False)


def test_metadata_stays():
    affine = torch.diag(torch.tensor([0.5, 0.25, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(1, 20, 30), affine=affine, meta={"spatial_unit": "um"})
    image.push_applied_operation({"class": "Before", "id": 1})
    out = RandElasticDeform().set_random_state(0)(image)
    assert isinstance(out, MetaTensor)
    assert out.meta["spatial_unit"] == "um"
    assert out.applied_operations == image.applied_operations
    torch.testing.assert_close(out.affine, affine)


def test_batch_of_three_slices_is_a_volume():
    volume = torch.rand(3, 2, 8, 9)  # three channels, two slices: not three images
    assert RandElasticDeform(2.0).set_random_state(0)(volume).shape == volume.shape


def test_shapes_must_agree():
    data = pair() | {"label": torch.zeros(1, 20, 30)}
    with pytest.raises(ValueError, match=r"label is \(20, 30\) px, image is \(40, 50\) px"):
        both_nearest()(data)


def test_missing_keys():
    data = {"label": pair()["label"]}
    with pytest.raises(KeyError, match="image"):
        both_nearest()(data)
    modes = {"mode": ("bilinear", "nearest"), "allow_missing_keys": True}
    out = RandElasticDeformd(KEYS, **modes).set_random_state(0)(data)
    assert out["label"].dtype == torch.int64
    assert RandElasticDeformd(KEYS, **modes)({"other": 1}) == {"other": 1}
