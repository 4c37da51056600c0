"""One network for all pixel sizes: results lie on the image's own grid, over the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unet_med.cli import main
from unet_med.data import load_image, save_image
from unet_med.networks import unet
from unet_med.planning import fingerprint, make_plan
from unet_med.planning.sizes import largest_shape
from unet_med.report.cases import TIMES

FIELD_UM = (40.0, 32.0)
TRAINED_UM = 0.5
NEW_SCENE = 9
IOU = {0.19: 0.85, 0.5: 0.85, 0.8: 0.75, 1.0: 0.65}  # at least, of discs of 2.4 to 3 um
HALF_PIXEL_UM = TRAINED_UM / 2  # what the nearest pixel of the network is off, at most


def draw(scene: int, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Image and instances `(X, Y)` of twelve bright discs; sampled at each pixel's centre.

    Places and radii are those of the scene in micrometres, whatever the pixel size.
    """
    rng = np.random.default_rng(scene)
    shape = [round(side / pixel) for side in FIELD_UM]
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * pixel for n in shape), indexing="ij")
    light, label = np.full(shape, 300.0), np.zeros(shape, np.uint16)
    for number, place in enumerate(np.ndindex(4, 3), 1):
        cx, cy = np.multiply(place, 9.5) + 5.5 + rng.uniform(-0.5, 0.5, 2)
        depth = rng.uniform(2.4, 3.0) - np.hypot(x - cx, y - cy)
        light += 2000 / (1 + np.exp(-depth / 0.25))
        label[depth > 0] = number
    return (light + rng.normal(0, 60, shape)).clip(0).astype(np.uint16), label


def write(folder: Path, name: str, scene: int, pixel: float) -> Path:
    """Image and label of a scene; the image's path."""
    for part, array in zip(("images", "labels"), draw(scene, pixel), strict=True):
        affine = np.diag([pixel, pixel, 1.0, 1.0])
        save_image(folder / part / f"{name}.tif", array, affine, has_channels=False)
    return folder / "images" / f"{name}.tif"


def arguments(folder: Path) -> list[str]:
    return ["--images", str(folder / "images"), "--labels", str(folder / "labels")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained at 0.5 um a pixel; in place of what it learned, a threshold of intensities."""
    folder = tmp_path_factory.mktemp("trained")
    for scene in range(2):
        write(folder, f"scene{scene}", scene, TRAINED_UM)
    words = "--preset paper2015 --element-size 0.5 --features 2 4 --tile-size 26 --epochs 1"
    bundle = str(folder / "bundle")
    options = [*words.split(), "--label-kind", "instances", "--device", "cpu"]
    assert main(["train", *arguments(folder), "--output", bundle, *options]) == 0
    torch.save(threshold_network(), folder / "bundle" / "models" / "model.pt")
    return Path(bundle)


def threshold_network() -> dict[str, torch.Tensor]:
    """Weights that hand the standardised intensity through; foreground above half the light."""
    weights = unet("paper2015", features=(2, 4)).state_dict()
    for name, values in weights.items():
        values.zero_()
        if ".convs." in name and name.endswith("weight"):
            first = 2 if "expanding" in name and "convs.0" in name else 0  # past those from below
            values[0, first, 1, 1] = 1.0
    weights["logits.conv.weight"][:, 0] = torch.tensor([[[0.0]], [[20.0]]])
    weights["logits.conv.bias"][1] = -14.0  # 0.7 standard deviations
    return weights


def predict(bundle: Path, image: Path, output: Path) -> None:
    words = ["--bundle", str(bundle), "--output", str(output), "--tta", "none", "--device", "cpu"]
    assert main(["predict", str(image), *words, "--instances", "--probabilities"]) == 0


def check_aligned(
    found: np.ndarray, truth: np.ndarray, pixel: float, shift_um: float = HALF_PIXEL_UM
) -> None:
    """One object over each true one, and centroids that differ by no more in the mean."""
    assert found.shape == truth.shape
    shifts = []
    for number in range(1, truth.max() + 1):
        inside = truth == number
        values, counts = np.unique(found[inside], return_counts=True)
        best = found == values[counts.argmax()]
        assert values[counts.argmax()] > 0
        assert (best & inside).sum() > IOU[pixel] * (best | inside).sum()
        shifts.append((np.argwhere(best).mean(0) - np.argwhere(inside).mean(0)) * pixel)
    assert np.abs(np.mean(shifts, axis=0)).max() <= shift_um


def test_the_training_records_the_size_for_every_prediction(bundle: Path) -> None:
    for name in ("train", "inference"):
        config = json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))
        assert (config["element_size"], config["element_unit"]) == ([0.5], "um")


@pytest.mark.parametrize("pixel", [0.19, 0.5, 1.0])
def test_results_lie_over_the_truth_at_any_pixel_size(
    bundle: Path, tmp_path: Path, pixel: float
) -> None:
    image = write(tmp_path, "new", NEW_SCENE, pixel)
    predict(bundle, image, tmp_path)
    truth = draw(NEW_SCENE, pixel)[1]
    for name in ("instances", "mask", "probabilities"):
        result = load_image(tmp_path / f"new_{name}.tif")
        torch.testing.assert_close(result.affine, load_image(image).affine)
        assert result.shape[1:] == truth.shape
    instances = load_image(tmp_path / "new_instances.tif")[0].numpy().astype(int)
    mask = load_image(tmp_path / "new_mask.tif")[0].numpy().astype(int)
    check_aligned(instances, truth, pixel)
    check_aligned(mask * truth, truth, pixel, shift_um=0.05)
    probabilities = load_image(tmp_path / "new_probabilities.tif").numpy()
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-3)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), mask)


def test_millimetres_in_the_file_are_the_same_size(bundle: Path, tmp_path: Path) -> None:
    array, truth = draw(NEW_SCENE, 0.19)
    affine = np.diag([0.00019, 0.00019, 0.001, 1.0])  # where MONAI's Spacing sees no difference
    image = save_image(tmp_path / "new.nii.gz", array, affine, "mm", has_channels=False)
    predict(bundle, image, tmp_path)
    instances = load_image(tmp_path / "new_instances.nii.gz")
    np.testing.assert_allclose(instances.affine, affine)
    assert instances.meta["spatial_unit"] == "mm"
    check_aligned(instances[0].numpy().astype(int), truth, 0.19)


def test_the_planes_of_a_stack_are_left_to_a_2d_network(bundle: Path, tmp_path: Path) -> None:
    array, truth = draw(NEW_SCENE, 0.8)
    stack = np.stack([array, array[::-1], array], axis=-1)  # (X, Y, Z)
    affine = np.diag([0.8, 0.8, 3.0, 1.0])
    image = save_image(tmp_path / "new.tif", stack, affine, has_channels=False)
    predict(bundle, image, tmp_path)
    instances = load_image(tmp_path / "new_instances.tif")[0].numpy().astype(int)
    assert instances.shape == stack.shape
    check_aligned(instances[::-1, :, 1], truth, 0.8)


def test_sizes_are_counted_in_the_pixels_that_the_network_sees(tmp_path: Path) -> None:
    write(tmp_path, "fine", 0, 0.25)
    found = fingerprint(tmp_path / "images", tmp_path / "labels")
    own, even = (
        make_plan(found, {"label_kind": "instances", "element_size": size})
        for size in (None, [0.5])
    )
    assert largest_shape(found, 2, {}) == (160, 128)
    assert largest_shape(found, 2, {"element_size": [0.5]}) == (80, 64)
    assert largest_shape(found, 2, {"scale": [0.5, 0.25]}) == (80, 32)
    assert even.value("min_size") == pytest.approx(own.value("min_size") / 4, abs=1)
    assert largest_shape(found, 2, {"element_size": [0.5, 0.25]}) == (80, 128)


def test_a_training_image_without_pixel_size_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, array in zip(("images", "labels"), draw(0, 0.5), strict=True):
        save_image(tmp_path / part / "a.tif", array, has_channels=False)
    words = [*arguments(tmp_path), "--output", str(tmp_path / "b"), "--element-size", "0.5"]
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert "a.tif does not say its pixel size" in said
    assert "--pixel-size" in said
    assert "Image > Properties" in said


def as_png(folder: Path, scene: int, pixel: float) -> Path:
    """Image and label of a scene as PNG, which says no pixel size; the image's path."""
    for part, array in zip(("images", "labels"), draw(scene, pixel), strict=True):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.T).save(folder / part / "a.png")  # (Y, X)
    return folder / "images" / "a.png"


def test_a_pixel_size_that_is_told_is_as_good_as_one_in_the_file(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(bundle, write(tmp_path / "tif", "a", NEW_SCENE, 0.8), tmp_path / "said")
    image = str(as_png(tmp_path / "png", NEW_SCENE, 0.8))
    words = ["--tta", "none", "--device", "cpu", "--instances", "--bundle", str(bundle)]
    assert main(["predict", image, *words, "--output", str(tmp_path / "unsaid")]) == 2
    assert "--pixel-size" in capsys.readouterr().err
    told = ["--output", str(tmp_path / "told"), "--pixel-size", "0.8"]
    assert main(["predict", image, *words, *told]) == 0
    results = [load_image(tmp_path / name / "a_instances.tif") for name in ("said", "told")]
    torch.testing.assert_close(results[0], results[1])
    assert results[1].affine[0, 0] == pytest.approx(0.8)
    assert main(["report", str(tmp_path / "told")]) == 0
    assert f"0.8{TIMES}0.8 µm" in (tmp_path / "told" / "report.html").read_text(encoding="utf-8")


def test_a_factor_serves_images_that_say_no_pixel_size(tmp_path: Path) -> None:
    """0.19 um a pixel, which nothing says, scaled by 0.38: the network sees 0.5 um a pixel."""
    as_png(tmp_path, 0, 0.19)
    trained = tmp_path / "trained"
    words = [*arguments(tmp_path), "--output", str(trained), "--scale", "0.38"]
    small = ["--features", "2", "4", "--tile-size", "26", "--preset", "paper2015"]
    kind = ["--label-kind", "instances", "--device", "cpu", "--epochs", "1"]
    assert main(["train", *words, *small, *kind]) == 0
    config = json.loads((trained / "configs" / "evaluate.json").read_text(encoding="utf-8"))
    assert (config["scale"], config["element_size"]) == ([0.38], None)
    torch.save(threshold_network(), trained / "models" / "model.pt")
    image = as_png(tmp_path / "new", NEW_SCENE, 0.19)
    predict(trained, image, tmp_path / "results")
    truth = draw(NEW_SCENE, 0.19)[1]
    for name in ("instances", "mask", "probabilities"):
        result = load_image(tmp_path / "results" / f"a_{name}.tif")
        assert result.shape[1:] == truth.shape
        assert result.meta["spacing_source"] == "assumed"  # as before, it is not known
    check_aligned(
        load_image(tmp_path / "results/a_instances.tif")[0].numpy().astype(int), truth, 0.19
    )


def test_a_training_is_told_the_pixel_size_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_png(tmp_path, 0, 0.25)
    words = [*arguments(tmp_path), "--output", str(tmp_path / "b"), "--device", "cpu"]
    size = ["--element-size", "0.5", "--features", "2", "4", "--tile-size", "26"]
    kind = ["--label-kind", "instances", "--validation", "0"]
    assert main(["train", *words, *size, *kind, "--epochs", "1", "--pixel-size", "0.25"]) == 0
    configs = tmp_path / "b" / "configs"
    trained = json.loads((configs / "train.json").read_text(encoding="utf-8"))
    assert trained["reader"]["pixel_size"] == [0.25]
    found = fingerprint(tmp_path / "images", tmp_path / "labels")
    own = make_plan(found, {"label_kind": "instances"})
    used = json.loads((configs / "inference.json").read_text(encoding="utf-8"))
    assert used["min_size"] == pytest.approx(own.value("min_size") / 4, abs=1)
    resumed = [*words, "--resume", "--epochs", "2"]
    assert main(["train", *resumed, "--pixel-size", "0.3"]) == 2
    assert "--pixel-size [0.3] does not continue" in capsys.readouterr().err
    assert main(["train", *resumed, "--pixel-size", "0.25"]) == 0


def test_a_pixel_size_without_effect_is_said(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One image of three says no size; the two that do keep theirs, which is said once."""
    for name in ("a", "b"):
        image = write(tmp_path, name, 0, 0.5)
    array = draw(1, 0.5)[0]
    plain = save_image(tmp_path / "images" / "c.tif", array, has_channels=False)
    save_image(tmp_path / "labels" / "c.tif", draw(1, 0.5)[1], has_channels=False)
    words = [*arguments(tmp_path), "--output", str(tmp_path / "b"), "--plan-only"]
    told = "--pixel-size has no effect on 2 of 3 image(s), images/a.tif the first: they say"
    assert main(["train", *words, "--pixel-size", "0.25", "--label-kind", "instances"]) == 0
    assert capsys.readouterr().err.count(told) == 1
    words = ["--bundle", str(bundle), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["predict", str(image), *words, "--tta", "none", "--pixel-size", "0.25"]) == 0
    said = capsys.readouterr().err
    assert said.count(f"--pixel-size has no effect on 1 of 1 image(s), {image} the first") == 1
    assert main(["predict", str(plain), *words, "--tta", "none", "--pixel-size", "0.25"]) == 0
    assert "has no effect" not in capsys.readouterr().err
