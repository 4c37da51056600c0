"""CT on the scale of the training set's foreground, all else each image by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from unet_med import bundle, data
from unet_med.cli import main
from unet_med.data.modality import stated_modality
from unet_med.planning import Plan, fingerprint, lay_bundle, make_plan
from unet_med.planning.foreground import foreground_scales
from unet_med.planning.intensity import decide_intensity
from unet_med.planning.words import describe
from unet_med.transforms import Standardize
from unet_med.transforms.windowed import Windowed

SCALE = {"low": -100.0, "high": 300.0, "mean": 60.0, "std": 40.0}


def write_cohort(folder: Path, *, value: int = 1, listed: Any = None) -> list[tuple]:
    """Three volumes of numbers in Hounsfield's manner, and a `dataset.json`; arrays as written."""
    rng = np.random.default_rng(0)
    arrays = []
    for k in range(3):
        label = np.zeros((12, 10, 8), np.uint8)
        label[2:9, 3:8, 2 : 6 + k % 2] = value
        image = np.where(label > 0, rng.normal(60, 40, label.shape), -1000).astype(np.float32)
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        for part, array in (("imagesTr", image), ("labelsTr", label)):
            data.save_image(folder / part / f"{k}.nii.gz", array, affine, "mm", has_channels=False)
        arrays.append((image, label))
    items = [{"image": f"imagesTr/{k}.nii.gz", "label": f"labelsTr/{k}.nii.gz"} for k in range(3)]
    content = {"training": items, **({"modality": listed} if listed else {})}
    (folder / "dataset.json").write_text(json.dumps(content))
    return arrays


def nnunets(image: np.ndarray, scale: dict[str, float]) -> np.ndarray:
    """`CTNormalization` of nnU-Net 2."""
    image = image.astype(np.float32)
    np.clip(image, scale["low"], scale["high"], out=image)
    image -= scale["mean"]
    return image / max(scale["std"], 1e-8)


@pytest.mark.parametrize("value", [1, 255])
def test_the_scale_is_the_foregrounds(tmp_path: Path, value: int) -> None:
    arrays = write_cohort(tmp_path, value=value, listed={"0": "CT"})
    found = fingerprint(tmp_path / "dataset.json")
    inside = np.concatenate([image[label > 0] for image, label in arrays])
    low, high = np.percentile(inside, (0.5, 99.5))
    (scale,) = found.foreground
    expected = {"low": low, "high": high, "mean": inside.mean(), "std": inside.std()}
    assert scale == pytest.approx(expected, rel=1e-4)
    plan = make_plan(found)
    assert (plan.value("modality"), plan.value("intensity")) == (["ct"], [scale])
    assert "99.5 percentiles" in plan.ids["intensity"].reason
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again.data == found


@pytest.mark.parametrize("extreme", [None, 60000.0], ids=["plain", "with a hot pixel"])
def test_volumes_that_hold_air_may_be_cts_of_which_nobody_says_so(
    tmp_path: Path, extreme: float | None
) -> None:
    arrays = write_cohort(tmp_path)
    for k, (image, _) in enumerate(arrays):
        image[0, 0, 0] = image[0, 0, 0] if extreme is None else extreme
        file = tmp_path / f"imagesTr/{k}.nii.gz"
        data.save_image(file, image, np.diag([1.0, 1, 2, 1]), "mm", has_channels=False)
    found = fingerprint(tmp_path / "dataset.json")
    plan = make_plan(found)
    assert plan.value("modality") is None
    assert plan.value("intensity") == (None if extreme is None else ["robust"])
    said = "values as of air in a CT: if these are CTs, say --modality ct"
    assert said in plan.ids["intensity"].reason
    assert said in describe(plan)
    for told in ({"modality": ["mr"]}, {"preset": "paper2015"}):
        assert said not in make_plan(found, told).ids["intensity"].reason
    for k, (image, _) in enumerate(arrays):
        file = tmp_path / f"imagesTr/{k}.nii.gz"
        data.save_image(file, image + 1000, np.diag([1.0, 1, 2, 1]), "mm", has_channels=False)
    other = make_plan(fingerprint(tmp_path / "dataset.json"))
    assert said not in describe(other) + other.ids["intensity"].reason


@pytest.mark.parametrize("off", [(1,), (0, 2)])
def test_cts_of_which_some_are_not_in_hounsfield_units_are_named(
    tmp_path: Path, off: tuple[int, ...]
) -> None:
    arrays = write_cohort(tmp_path, listed={"0": "CT"})
    assert fingerprint(tmp_path / "dataset.json").off_scale == ()
    for k, (image, _) in enumerate(arrays):
        pixels = image + 1024 * (k in off)
        pixels[0, 0] = -3024 + 1024 * (k in off)  # padding, as of some scanners
        file = tmp_path / f"imagesTr/{k}.nii.gz"
        data.save_image(file, pixels, np.diag([1.0, 1, 2, 1]), "mm", has_channels=False)
    found = fingerprint(tmp_path / "dataset.json")
    names = [f"imagesTr/{k}.nii.gz" for k in off]
    assert sorted(found.off_scale) == names
    plan = make_plan(found)
    said = f"{len(off)} image(s), such as {names[0]}, hold neither air nor fat, and others hold air"
    assert said in plan.ids["intensity"].reason
    assert said in describe(plan)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))).data == found
    for k, (image, _) in enumerate(arrays):  # all of one scale, whatever it is
        file = tmp_path / f"imagesTr/{k}.nii.gz"
        data.save_image(file, image + 1024, np.diag([1.0, 1, 2, 1]), "mm", has_channels=False)
    assert fingerprint(tmp_path / "dataset.json").off_scale == ()


def test_ignored_pixels_are_no_foreground(tmp_path: Path) -> None:
    for part, array in (("images", [[-9, 5, 7, 900]]), ("labels", [[0, 1, 2, 255]])):
        pixels = np.array(array * 2, np.int16)
        data.save_image(tmp_path / part / "a.tif", pixels, has_channels=False)
    pairs = [{key: str(tmp_path / f"{key}s/a.tif") for key in ("image", "label")}]
    (scale,) = foreground_scales(pairs, {})
    assert (scale["mean"], scale["std"]) == (6.0, 1.0)


def test_each_channel_has_its_own_scale_of_finite_pixels(tmp_path: Path) -> None:
    """A pixel that is no number in one channel counts in none."""
    first, other = [[-9.0, 5, 7, np.nan, 900]] * 2, [[-90.0, 60, 80, 70, 9000]] * 2
    data.save_image(tmp_path / "images/a.tif", np.array([first, other], np.float32))
    label = np.array([[[0, 1, 1, 1, 0]] * 2], np.uint8)
    data.save_image(tmp_path / "labels/a.tif", label)
    pairs = [{key: str(tmp_path / f"{key}s/a.tif") for key in ("image", "label")}]
    scales = foreground_scales(pairs, {})
    assert [(scale["mean"], scale["std"]) for scale in scales] == [(6.0, 1.0), (70.0, 10.0)]
    found = fingerprint(tmp_path / "images", tmp_path / "labels", modality=["mr", "ct"])
    assert decide_intensity(found, {"modality": ["mr", "ct"]})["intensity"].value == [
        None,
        scales[1],
    ]


def test_pixels_that_are_too_many_are_taken_all_over_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.planning.foreground.SAMPLES", 10)
    ramp = np.arange(25, dtype=np.float32).reshape(1, 5, 5)
    for part, array in (("images", ramp), ("labels", np.ones_like(ramp, np.uint8))):
        data.save_image(tmp_path / part / "a.tif", array)
    (scale,) = foreground_scales(
        [{key: str(tmp_path / f"{key}s/a.tif") for key in ("image", "label")}], {}
    )
    assert (scale["mean"], scale["std"]) == (12.0, pytest.approx(3 * (20 / 3) ** 0.5, rel=1e-5))


def test_an_image_of_ignored_pixels_alone_adds_nothing_to_the_scale(tmp_path: Path) -> None:
    """255 is the object where a mask has no other value, and ignored among classes."""
    arrays = write_cohort(tmp_path, value=2, listed={"0": "CT"})
    label = tmp_path / "labelsTr/0.nii.gz"
    ignored = 255 * (arrays[0][1] == 0).astype(np.uint8)
    data.save_image(label, ignored, np.diag([1.0, 1, 2, 1]), "mm", has_channels=False)
    found = fingerprint(tmp_path / "dataset.json", seconds=0)
    inside = np.concatenate([image[label > 0] for image, label in arrays[1:]])
    assert found.foreground[0]["mean"] == pytest.approx(inside.mean(), rel=1e-4)
    assert found.foreground_of == 2


def test_objects_of_a_movie_are_those_of_the_time_that_is_told(tmp_path: Path) -> None:
    """Hot pixels rule the deviation, so that the objects' own pixels are looked at."""
    movie = np.full((3, 32, 32), 100, np.uint16) + np.arange(32, dtype=np.uint16)
    movie[:, 5, 5] = 60000
    label = np.zeros((3, 32, 32), np.uint8)
    label[1, 8:16, 8:16], label[1, 20:28, 20:28] = 1, 2
    for part, array in (("images", movie), ("labels", label)):
        (tmp_path / part).mkdir()
        tifffile.imwrite(tmp_path / part / "a.ome.tif", array, metadata={"axes": "TYX"})
    found = fingerprint(tmp_path / "images", tmp_path / "labels", time=1)
    assert found.extremes == ({"ruled": 1.0, "of": 1.0, "in_objects": 0.0},)


def test_no_clock_decides_which_images_the_scale_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of those with objects does, spread over the set: here the first and the last."""
    arrays = write_cohort(tmp_path, listed={"0": "CT"})
    monkeypatch.setattr("unet_med.planning.looking.IMAGES", 2)
    found = fingerprint(tmp_path / "dataset.json", seconds=0)
    assert found.foreground == fingerprint(tmp_path / "dataset.json").foreground
    inside = np.concatenate([arrays[k][0][arrays[k][1] > 0] for k in (0, 2)])
    assert found.foreground[0]["mean"] == pytest.approx(inside.mean(), rel=1e-4)
    assert make_plan(found).ids["intensity"].reason.endswith("deviation (of 2 of 3 images)")
    label = tmp_path / "labelsTr/0.nii.gz"
    data.save_image(label, 0 * arrays[0][1], np.diag([1.0, 1, 2, 1]), "mm", has_channels=False)
    inside = np.concatenate([arrays[k][0][arrays[k][1] > 0] for k in (1, 2)])
    (scale,) = fingerprint(tmp_path / "dataset.json", seconds=0).foreground
    assert scale["mean"] == pytest.approx(inside.mean(), rel=1e-4)


def test_it_is_never_guessed(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    found = fingerprint(tmp_path / "dataset.json")
    assert (found.modality, found.foreground) == ((), ())
    plan = make_plan(found)
    assert (plan.value("modality"), plan.value("intensity")) == (None, None)
    assert plan.ids["modality"].reason == "nothing says it"
    with pytest.raises(ValueError, match=r"were not looked at: say --modality ct"):
        make_plan(found, {"modality": ["ct"]})
    with pytest.raises(ValueError, match=r"--modality ct mr names 2, the images have 1 channel"):
        make_plan(found, {"modality": ["ct", "mr"]})
    asked = fingerprint(tmp_path / "dataset.json", modality=["ct"])
    assert make_plan(asked, {"modality": ["ct"]}).value("intensity") == [dict(asked.foreground[0])]
    own = make_plan(asked, {"modality": ["ct"], "preset": "paper2015"})
    assert own.value("intensity") is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"channel_names": {"0": "CT"}}, ("ct",)),
        ({"modality": {"1": "CT", "0": "MRI"}}, ("mr", "ct")),
        ({"modality": "MRI"}, ("mr",)),
        ({"modality": {"0": "FLAIR"}}, ("flair",)),
        ({"modality": {"a": "CT"}}, ()),
        ({"modality": [1]}, ()),
        ({}, ()),
    ],
)
def test_what_a_list_says(tmp_path: Path, said: Any, expected: tuple[str, ...]) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    for images in ("dataset.json", "imagesTr"):
        assert stated_modality(tmp_path / images) == expected
    assert stated_modality(tmp_path / "other") == ()


def test_one_scale_for_all_images_as_nnunet_does() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 300, (2, 9, 8, 7)).astype(np.float32)
    found = Standardize(intensity=[SCALE, None])(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found[0], nnunets(image[0], SCALE), atol=1e-6)
    own = (image[1] - image[1].mean()) / image[1].std()
    np.testing.assert_allclose(found[1], own, atol=1e-5)


@pytest.mark.parametrize("intensity", [[SCALE, None], [SCALE, {**SCALE, "high": 100.0}]])
def test_windows_equal_the_whole(intensity: Any) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).normal(0, 300, (2, 9, 8))).float()
    reads: list[Any] = []

    def read(box: Any) -> torch.Tensor:
        reads.append(box)
        return pixels[:, slice(*box[0]), slice(*box[1])]

    image = Windowed(read, 2, (9, 8), torch.eye(4), {})
    rule = Standardize(intensity=intensity)
    found = rule.first_pass(image, [((0, 5), (0, 8)), ((5, 9), (0, 8))])
    assert bool(reads) == (None in intensity)  # a scale for every channel needs no pass
    window = rule.by_window(image, found).read(((3, 9), (2, 8)))
    torch.testing.assert_close(window, rule(pixels)[:, 3:9, 2:8], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("intensity", "words"),
    [
        ([{"low": 0, "high": 1, "mean": 0}], "has no std"),
        ([{**SCALE, "std": 0}], "std is not positive"),
        ([SCALE, SCALE], r"2 scale\(s\), the image 1 channel\(s\): give one a channel"),
    ],
)
def test_scales_that_cannot_be(intensity: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Standardize(intensity=intensity)(torch.zeros(1, 4, 4))


def test_the_bundle_says_what_it_is(tmp_path: Path) -> None:
    write_cohort(tmp_path, listed={"0": "CT"})
    folder = lay_bundle(make_plan(fingerprint(tmp_path / "dataset.json")), tmp_path / "ct")
    metadata = json.loads((folder / "configs/metadata.json").read_text(encoding="utf-8"))
    assert metadata["network_data_format"]["inputs"]["image"]["modality"] == "ct"
    assert "training set's foreground" in metadata["image_classes"]
    for name in ("train", "inference", "evaluate"):
        config = bundle.load_config(folder / f"configs/{name}.json")
        assert config["intensity"] == bundle.read_plan(folder)["ids"]["intensity"]["value"]
    write_cohort(tmp_path)
    folder = lay_bundle(make_plan(fingerprint(tmp_path / "dataset.json")), tmp_path / "unknown")
    metadata = json.loads((folder / "configs/metadata.json").read_text(encoding="utf-8"))
    assert metadata["network_data_format"]["inputs"]["image"]["modality"] == "not stated"
    assert "own mean" in metadata["image_classes"] or "whole image" in metadata["image_classes"]


def test_a_training_by_the_shell_takes_the_option(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    words = ["--images", str(tmp_path / "dataset.json"), "--modality", "ct"]
    assert main(["init", str(tmp_path / "b"), *words]) == 0
    config = bundle.load_config(tmp_path / "b/configs/train.json")
    assert config["modality"] == ["ct"]
    assert set(config["intensity"][0]) == {"low", "high", "mean", "std"}
