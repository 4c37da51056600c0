"""The scripts in `workflows/`, and the demo, run as their readers run them."""

from __future__ import annotations

import argparse
import csv
import importlib
import runpy
import shutil
from pathlib import Path
from statistics import mean, stdev
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged, ScaleIntensityd
from PIL import Image
from torch.nn.functional import interpolate

from unet_med.cli import demo, main
from unet_med.data import AutoReader, SyntheticCells, load_image, save_image
from unet_med.inferers import OverlapTileInferer
from unet_med.transforms import ElementSized, compose

pytestmark = pytest.mark.long  # each script, whole: half a minute

ROOT = Path(__file__).resolve().parents[1]
TINY = {"features": [2, 4, 8], "tile_size": 84, "epochs": 1, "num_workers": 0, "device": "cpu"}
HERE = ["--device", "cpu", "--num-workers", "0"]
STEPS = ["--steps", "2", *HERE]  # of each training in an experiment


def test_scripts_train_and_predict(tmp_path: Path) -> None:
    SyntheticCells(2, (64, 64), num_cells=5).write(tmp_path / "data")
    for part in ("configs", "workflows"):
        shutil.copytree(ROOT / part, tmp_path / "bundle" / part)
    train = runpy.run_path(str(tmp_path / "bundle/workflows/train.py"))["train"]
    predict = runpy.run_path(str(tmp_path / "bundle/workflows/predict.py"))["predict"]

    images, labels = str(tmp_path / "data/images"), str(tmp_path / "data/labels")
    settings = {**TINY, "device": "$torch.device('cpu')", "label_kind": "instances"}
    train(images, labels, **settings)
    assert (tmp_path / "bundle/models/model.pt").is_file()
    predict(
        str(tmp_path / "bundle"),
        str(tmp_path / "results"),
        [f"{images}/cells_000.tif"],
        features=TINY["features"],
    )
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == ["cells_000_instances.tif", "cells_000_mask.tif", "record.json"]


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo"
    small = demo.Scale(3, 2, volume_size=(64, 64, 4), features=(2, 4, 8, 16))
    demo.run(argparse.Namespace(output=str(output), minutes=0.02, seed=0), small)
    said = capsys.readouterr().out
    for word in ("SEG", "DET", "mean of images", "demo.png", "unet-med predict"):
        assert word in said
    assert (output / "demo.png").stat().st_size > 10_000
    names = {path.name for path in (output / "results").iterdir()}
    assert {"cells_000_mask.tif", "cells_001_instances.tif", "volume_mask.nii.gz"} <= names
    assert main(["demo", "--output", str(output)]) == 2  # a folder in use is left alone


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script, imported as `python workflows/NAME.py` finds its neighbours."""
    monkeypatch.syspath_prepend(str(ROOT / "workflows"))
    return importlib.import_module(request.param)


def table_of(folder: Path, name: str = "table.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def isbi_stack(folder: Path, slices: int) -> Path:
    """Generated cells in the challenge's layout: 0 membrane, 255 inside."""
    from skimage.io import imsave

    for k, item in enumerate(SyntheticCells(slices, (64, 64), num_cells=4)):
        for part, values in (("image", item["image"] / 256), ("label", 255 * (item["label"] > 0))):
            path = folder / "isbi2012" / part / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            imsave(path, values[0].numpy().T.clip(0, 255).astype(np.uint8), check_contrast=False)
    return folder


@pytest.mark.parametrize("script", ["experiment"], indirect=True)
def test_summary_is_the_mean_over_seeds(script: ModuleType, tmp_path: Path) -> None:
    table = script.Table(tmp_path, "Title")
    scores = {"a": [0.25, 0.5, 0.9], "b": [0.125]}
    for name, values in scores.items():
        for seed, value in enumerate(values):
            table.add([{"name": name, "seed": seed, "score": value, "steps": 10}])
    assert table.has({"name": "b", "seed": 0})
    assert not table.has({"name": "b", "seed": 1})
    again = script.Table(tmp_path, "Title")  # an interrupted run goes on
    assert again.rows == table.rows == table_of(tmp_path)

    summary = table_of(tmp_path, "summary.csv")
    assert [row["name"] for row in summary] == ["a", "b"]
    assert [row["seeds"] for row in summary] == ["3", "1"]
    assert float(summary[0]["score"]) == mean(scores["a"])
    assert float(summary[0]["score sd"]) == stdev(scores["a"])
    assert summary[1]["score sd"] == ""  # one seed has no spread
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| a | 3 | 0.5500 ± 0.3279 | 10 ± 0 |" in page
    assert "| b | 0 | 0.125" in page


@pytest.mark.parametrize("script", ["experiment"], indirect=True)
def test_averaging_is_the_mean_over_the_views(script: ModuleType) -> None:
    class Sums(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.zeros_like(x), x.cumsum(dim=2)], dim=1)

    inferer = OverlapTileInferer(tile_size=-1, margin=0, stride=1)
    trained = script.Trained(Sums(), inferer, None, 0, 0.0)
    image = torch.rand(1, 4, 4)
    down, up = image[0].cumsum(dim=0), image[0].flip(0).cumsum(dim=0).flip(0)
    torch.testing.assert_close(trained.logits(image)[1], down)
    torch.testing.assert_close(trained.logits(image, "flips")[1], (down + up) / 2)
    expected = torch.sigmoid((down + up) / 2).T.numpy()  # (Y, X)
    np.testing.assert_allclose(trained.foreground(image, "flips"), expected, rtol=1e-5)


@pytest.mark.parametrize("script", ["reproduce_isbi2012"], indirect=True)
def test_isbi2012(script: ModuleType, tmp_path: Path) -> None:
    data, output = isbi_stack(tmp_path, 4), tmp_path / "out"
    options = ["--data", str(data), "--output", str(output), "--minutes", "0.003", *HERE]
    options += ["--features", *"22222"]
    small: dict[str, Any] = {
        "training": range(2),
        "held_out": range(2, 4),
        "tile": 188,
        "averaging": ("none", "rotations"),
    }
    script.main([*options, "--only", "paper2015", "falk2019"], **small)
    before = table_of(output)
    script.main(options, **small)
    rows = table_of(output)
    assert rows[: len(before)] == before  # finished rows are kept and not made again
    names = ["paper2015", "falk2019", "release2015", "modern", "BasicUNet", "BasicUNet-8nm"]
    assert [row["name"] for row in rows] == [n for n in names for _ in range(2)]
    assert [row["averaging"] for row in rows] == ["none", "rotations"] * 6
    for row in rows:
        assert row["features"] == "2-2"
        assert int(row["steps"]) > 0
        scores = [float(row[n]) for n in ("V_Rand", "V_Info", "pixel_error", "rand_error")]
        assert all(0 <= score <= 1 for score in scores)
    assert len(list((output / "pictures").glob("*.png"))) == 6
    peers = list(output.glob("trainings/BasicUNet*"))
    assert [(peer / "models" / "model.pt").is_file() for peer in peers] == [True, True]


@pytest.mark.parametrize("script", ["reproduce_isbi2012"], indirect=True)
def test_isbi2012_variants_are_what_they_say(script: ModuleType) -> None:
    from unet_med.bundle import find_bundle, merge_config

    default = find_bundle() / "configs" / "train.json"
    elastic = {
        name: merge_config(default, [], variant)["augment"]["elastic"]
        for name, variant in script.variants([2, 2, 2, 2, 2]).items()
    }
    assert elastic["paper2015"]["_target_"] == "unet_med.transforms.RandElasticDeformd"
    assert "kernel" not in elastic["paper2015"]  # the default, bicubic
    assert elastic["falk2019"] == {**elastic["paper2015"], "kernel": "bspline", "grid": 5}
    assert elastic["BasicUNet"]["_target_"] == "monai.transforms.Rand2DElasticd"


@pytest.mark.parametrize("script", ["reproduce_isbi2012"], indirect=True)
def test_isbi2012_at_8_nm_is_the_same_on_half_the_pixels(script: ModuleType) -> None:
    here, there = (script.variants([2, 2])[name] for name in ("BasicUNet", "BasicUNet-8nm"))
    sizes = {"reader::pixel_size": 0.004, "element_size": 0.008, "element_unit": "um"}
    assert {key: value for key, value in there.items() if key not in here} == sizes
    assert script.variants([2, 2])["modern"].items() >= sizes.items()
    assert [v["validate::inferer"]["roi_size"] for v in (here, there)] == [[192] * 2, [96] * 2]
    found = {}  # px
    assert list(here["augment"]) == list(there["augment"])
    for name, one in here["augment"].items():
        other = there["augment"][name]
        assert one.keys() == other.keys()
        found |= {key: (one[key], other[key]) for key in one if one[key] != other[key]}
    assert found == {
        "roi_size": (192, 96),
        "spacing": ([30, 30], [15, 15]),
        "magnitude_range": ([1, 2], [0.5, 1]),
    }


@pytest.mark.parametrize("script", ["experiment"], indirect=True)
def test_a_prediction_lies_on_the_pixels_of_the_file(script: ModuleType, tmp_path: Path) -> None:
    def inferer(x: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), network(x)], dim=1)

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16)).astype(np.uint8)  # (Y, X)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    reader = AutoReader(pixel_size=0.004)
    load = Compose(
        [
            LoadImaged("image", reader=reader, ensure_channel_first=True),
            ElementSized("image", 0.008),
            ScaleIntensityd("image"),
        ]
    )
    item = {"image": str(tmp_path / "a.png")}
    image = load(item)["image"]
    assert image.shape == (1, 8, 6)
    found = script.Trained(torch.nn.Identity(), inferer, load, 0, 0.0).foreground(image)
    probability = torch.sigmoid(image.as_tensor())[None]
    expected = interpolate(probability, scale_factor=2, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, expected[0, 0].T, rtol=1e-5)
    np.testing.assert_array_equal(script.pixels(item, "image"), pixels)
    stack = np.stack([pixels.T, pixels.T + 1], axis=-1)  # (X, Y, Z)
    save_image(tmp_path / "b.tif", stack, has_channels=False)
    plane = script.pixels({"label": str(tmp_path / "b.tif"), "slice": 1}, "label")
    np.testing.assert_array_equal(plane, pixels + 1)


def tracking_challenge(folder: Path, sequences: dict[str, int]) -> Path:
    """Generated cells in the challenge's layout; the second sequence has gold truth alone."""
    for number, (name, length) in enumerate(sequences.items()):
        cells = SyntheticCells(length, (64, 64), num_cells=5, kind="fluorescence", seed=number)
        for frame, item in enumerate(cells):
            truths = ("ST", "GT") if number == 0 else ("GT",)
            paths = {f"{name}_{truth}/SEG/man_seg{frame:03d}.tif": "label" for truth in truths}
            for path, key in {**paths, f"{name}/t{frame:03d}.tif": "image"}.items():
                save_image(folder / path, item[key].numpy().astype(np.uint16), None, None)
    return folder


@pytest.mark.parametrize("script", ["reproduce_cells"], indirect=True)
def test_cells_of_the_tracking_challenge(script: ModuleType, tmp_path: Path) -> None:
    folder, output = tracking_challenge(tmp_path / "cells", {"01": 2, "02": 2}), tmp_path / "out"
    options = ["--folder", str(folder), "--output", str(output), *STEPS, "--features", *"222"]
    script.main([*options, "--seeds", "0", "--only", "no-border-weights"])
    before = table_of(output)
    script.main([*options, "--seeds", "0"])
    rows = table_of(output)
    assert [(row["name"], row["fold"]) for row in rows] == [
        ("no-border-weights", "test 01"),
        ("no-border-weights", "test 02"),
        ("border-weights", "test 01"),
        ("border-weights", "test 02"),
    ]
    assert rows[:2] == before
    assert {row["data"] for row in rows} == {"cells"}
    assert all(0 <= float(row[n]) <= 1 for row in rows for n in ("SEG", "DET", "AP50"))
    assert len(list((output / "pictures").glob("*.png"))) == 4


@pytest.mark.parametrize("script", ["reproduce_cells"], indirect=True)
def test_folds_of_the_tracking_challenge(script: ModuleType, tmp_path: Path) -> None:
    two = tracking_challenge(tmp_path / "two", {"01": 2, "02": 1})
    [(first, *_), (second, training, held_out)] = script.challenge(two, tmp_path)
    assert (first, second) == ("test 01", "test 02")
    assert [Path(item["label"]).parts[-3:] for item in training] == [
        ("01_ST", "SEG", "man_seg000.tif"),  # silver truth to train on
        ("01_ST", "SEG", "man_seg001.tif"),
    ]
    assert [Path(item["image"]).parts[-2:] for item in held_out] == [("02", "t000.tif")]
    one = tracking_challenge(tmp_path / "one", {"01": 10})
    [(_, training, held_out)] = script.challenge(one, tmp_path)
    assert [Path(item["image"]).stem for item in held_out] == ["t008", "t009"]
    assert len(training) == 8
    (tmp_path / "none" / "01").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no 01_ST/SEG/man_segNNN\.tif nor 01_GT/SEG"):
        script.challenge(tmp_path / "none", tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("script", ["reproduce_cells"], indirect=True)
def test_folds_of_the_real_images(script: ModuleType, shared: Path, tmp_path: Path) -> None:
    [(name, training, held_out)] = script.usiigaci(shared / "data" / "usiigaci-t98g", tmp_path)
    assert (name, len(training), len(held_out)) == ("test every third", 8, 4)
    assert all(Path(path).is_file() for item in training + held_out for path in item.values())
    [(_, training, held_out)] = script.dsb2018(shared / "data" / "dsb2018", tmp_path)
    assert (len(training), len(held_out)) == (30, 8)
    label = load_image(held_out[0]["label"]).numpy()
    image_id = Path(held_out[0]["label"]).name.removesuffix("_label.tif")
    masks = shared / "data" / "dsb2018" / "stage1_train" / image_id / "masks"
    assert np.unique(label).tolist() == list(range(len(list(masks.glob("*.png"))) + 1))
    assert load_image(held_out[0]["image"]).shape == label.shape


@pytest.mark.parametrize("script", ["ablate"], indirect=True)
def test_ablation(script: ModuleType, tmp_path: Path) -> None:
    data, output = isbi_stack(tmp_path, 4), tmp_path / "out"
    options = ["--data", str(data), "--output", str(output), *STEPS, "--seeds", "0"]
    options += ["--features", *"222"]
    small = {"training": range(2), "held_out": range(2, 4), "output_side": 32}
    script.main([*options, "--only", "default"], **small)
    before = table_of(output)
    names = ["default", "same-padding", "up-bilinear", "weights-before"]
    script.main([*options, "--only", *names], **small)
    rows = table_of(output)
    assert rows[:2] == before  # one training, two ways to apply its network
    names = ["default", "zero-border", "same-padding", "up-bilinear", "weights-before"]
    assert [row["name"] for row in rows] == names
    assert before[0]["steps"] == before[1]["steps"]
    assert all(0 <= float(row[n]) <= 1 for row in rows for n in ("V_Rand", "V_Info"))
    assert len(list((output / "pictures").glob("*.png"))) == len(rows)


@pytest.mark.parametrize("script", ["ablate"], indirect=True)
def test_each_change_changes_one_thing(script: ModuleType) -> None:
    from unet_med.bundle import merge_config

    variants = {name: {**script.COMMON, **change} for name, change in script.CHANGES.items()}
    merged = {n: merge_config(script.TRAIN_JSON, [], v) for n, v in variants.items()}
    default = merged.pop("default")
    assert {n for n in default if default[n] != script.DEFAULT[n]} == set(script.COMMON)
    several = {
        "sgd": {"optimizer", "learning_rate"},
        "weights-before": {"train", "augment"},
    }
    for name, config in merged.items():
        changed = {section for section in config if config[section] != default[section]}
        assert len(changed) == 1 or changed == several[name]
    assert {n: merged["sgd"][n] for n in several["sgd"]} == {
        n: script.DEFAULT[n] for n in several["sgd"]
    }
    assert merged["no-class-weights"]["weigh"]["border"]["class_weights"] == [1.0, 1.0]
    assert merged["no-elastic"]["augment"]["elastic"]["prob"] == 0.0
    assert merged["b-spline"]["augment"]["elastic"]["kernel"] == "bspline"
    before = merged["weights-before"]["augment"]
    for name in ("crop", "flip", "quarter_turn", "rotate", "elastic", "drop_metadata"):
        assert before[name]["keys"] == ["image", "label", "weight"]
        assert before[name].get("mode", ["bilinear", "nearest", "bilinear"])[2] == "bilinear"
    assert before["grey"]["keys"] == "image"
    sides = {
        name: script.tile_size({"features": [2] * 5, **script.CHANGES[name]}) for name in merged
    }
    assert sides["no-skip"] == 380
    assert sides["same-padding"] == 208
    assert sides["up-bilinear"] > 380


@pytest.mark.parametrize("script", ["ablate"], indirect=True)
def test_zero_border_is_one_pass_over_the_image_in_zeros(script: ModuleType) -> None:
    from unet_med.inferers import OverlapTileInferer
    from unet_med.networks import UNet

    torch.manual_seed(0)
    network = UNet(features=(2, 4, 8), dropout=0.0).eval()  # margin 20, stride 4
    image = torch.rand(1, 1, 24, 24)
    with torch.no_grad():
        found = script.zero_border(OverlapTileInferer(44))(image, network)
        expected = network(torch.nn.functional.pad(image, [20] * 4))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("script", ["shapes_and_ellipses"], indirect=True)
def test_shapes_and_ellipses(script: ModuleType, tmp_path: Path) -> None:
    options = ["--output", str(tmp_path), *STEPS, "--features", *"22"]
    script.main([*options, "--only", "six-channels"], held_out=3)
    before = table_of(tmp_path)
    script.main(options, held_out=3)
    rows = table_of(tmp_path)
    assert [row["name"] for row in rows] == ["six-channels", "ellipses", "ellipses-no-skip"]
    assert rows[:1] == before
    assert all(0 <= float(row["IoU"]) <= 1 and int(row["steps"]) > 0 for row in rows)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3


@pytest.mark.parametrize("script", ["shapes_and_ellipses"], indirect=True)
def test_iou_of_channels(script: ModuleType) -> None:
    found = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]], [[[0, 0, 0, 1]], [[1, 0, 0, 0]]]]) > 0
    truth = torch.tensor([[[[1, 0, 1, 0]], [[1, 0, 0, 0]]], [[[0, 0, 0, 1]], [[1, 0, 0, 0]]]]) > 0
    assert script.iou(found, truth) == pytest.approx((2 / 4 + 1) / 2)


@pytest.mark.parametrize("script", ["shapes_and_ellipses"], indirect=True)
def test_ellipses_are_one_channel_of_the_shapes(script: ModuleType) -> None:
    from monai.bundle import ConfigParser

    from unet_med.data import SyntheticShapes

    def load(name: str) -> Compose:
        return compose([ConfigParser(script.VARIANTS[name]).get_parsed_content("load")])

    shapes = SyntheticShapes(1, 48)[0]
    ellipse = load("ellipses")(dict(shapes))["label"]
    torch.testing.assert_close(ellipse[0], shapes["label"][4].as_tensor().float())
    assert load("six-channels")(dict(shapes))["label"].shape == (6, 48, 48)


@pytest.mark.parametrize("script", ["experiment"], indirect=True)
def test_a_budget_is_of_minutes_or_of_steps(script: ModuleType, tmp_path: Path) -> None:
    parser = script.parser("", [], output="o", budget=script.Budget.of_minutes(8), seeds=(0,))
    assert str(parser.parse_args([]).budget) == "8 min"
    assert str(parser.parse_args(["--minutes", "0.5"]).budget) == "0.5 min"
    assert str(parser.parse_args(["--steps", "300"]).budget) == "300 steps"
    with pytest.raises(SystemExit):
        parser.parse_args(["--steps", "300", "--minutes", "1"])
    data = isbi_stack(tmp_path, 1) / "isbi2012"
    item = {"image": f"{data}/image/0.png", "label": f"{data}/label/0.png"}
    variant = {"preset": "modern", "features": [2, 2], "tile_size": 32}
    args = parser.parse_args(["--steps", "3", *HERE])
    trained = script.train(tmp_path / "run", [item], variant, args=args, seed=0)
    assert trained.steps == 3  # of batches of four, of a single image
    [group] = torch.load(tmp_path / "run/models/resume/checkpoint.pt")["optimizer"]["param_groups"]
    assert group["lr"] < 0.002 * 0.5  # the rate comes down within the steps


@pytest.mark.parametrize("script", ["learning_curve"], indirect=True)
def test_learning_curve(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, output = isbi_stack(tmp_path, 4), tmp_path / "out"
    common = [*STEPS, "--seeds", "0", "--features", *"22"]
    options = ["--data", str(data), "--output", str(output), *common]
    small = {"training": range(2), "held_out": range(2, 4), "changes": {"tile_size": 32}}
    script.main(options, **small)
    rows = table_of(output)
    assert [row["name"] for row in rows] == ["1 image", "2 images"]  # there are no more
    assert (output / "learning_curve.png").stat().st_size > 5_000
    said = capsys.readouterr().out
    assert "V_Info: error" in said
    assert "5 images more than 2 would add" in said
    script.main(options, **small)
    assert table_of(output) == rows  # finished rows are kept

    folders = [str(data / "isbi2012" / part) for part in ("image", "label")]
    own = ["--images", folders[0], "--labels", folders[1], "--output", str(tmp_path / "own")]
    script.main([*own, *common, "--only", "2 images"], **small)
    assert len(table_of(tmp_path / "own")) == 1


@pytest.mark.parametrize("script", ["learning_curve"], indirect=True)
def test_power_law_of_a_learning_curve(script: ModuleType) -> None:
    law = script.PowerLaw.fit([1, 2, 5, 10], [0.4 * n**-0.5 for n in (1, 2, 5, 10)])
    assert law.scale == pytest.approx(0.4)
    assert law.power == pytest.approx(0.5)
    assert law(16) == pytest.approx(0.1)
    said = script.verdict("V_Rand", {n: 1 - 0.4 * n**-0.5 for n in (1, 4, 16)}, more=9)
    # 0.4 / 4 - 0.4 / 5, whichever size is left out
    assert said == (
        "V_Rand: error 0.400 n^-0.50; 9 images more than 16 would add +0.0200 "
        "(+0.0200 to +0.0200 with one size left out)."
    )


@pytest.mark.parametrize("script", ["experiment"], indirect=True)
def test_a_training_that_diverges_stops_no_experiment(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = isbi_stack(tmp_path, 1) / "isbi2012"
    item = {"image": f"{data}/image/0.png", "label": f"{data}/label/0.png"}
    variant = {"features": [2, 2], "tile_size": 32, "preset": "paper2015", "learning_rate": 1e12}
    run = tmp_path / "paper2015-0"
    parser = script.parser("", [], output="o", budget=script.Budget.of_steps(20), seeds=(0,))
    args = parser.parse_args(HERE)
    assert script.train(run, [item], variant, args=args, seed=0) is None
    assert "paper2015-0 diverged: the loss is" in capsys.readouterr().out
