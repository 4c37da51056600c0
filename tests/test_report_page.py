"""The page: what it holds, that it needs nothing else, and that its pictures are right."""

from __future__ import annotations

import base64
import errno
import json
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from monai.data.meta_tensor import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import LoadImaged
from PIL import Image

from unet_med.cli import main
from unet_med.data import AutoReader, load_image, save_image
from unet_med.data.checksum import sha256
from unet_med.instances import separate
from unet_med.report import html_report, panels
from unet_med.report.case_files import Reading, plane_instances, plane_parts
from unet_med.report.cases import _weights, load_case
from unet_med.report.chart import curve_svg
from unet_med.report.colours import instance_colours, rgb
from unet_med.report.entries import is_other
from unet_med.report.objects import OBJECTS, classify_objects
from unet_med.report.prediction import PredictionRecord
from unet_med.report.provenance import read_record
from unet_med.report.scores import number, shown_first
from unet_med.report.table import ScoreRow, ScoreTable, read_scores
from unet_med.report.viewing import as_viewed, viewing_turn
from unet_med.scoring.matching import find_results
from unet_med.transforms import BorderWeightMap
from unet_med.volumes.blocks import Block
from unet_med.volumes.store import Layer, Layout, create_store, write_block

CORNERS = {1: (slice(4, 20), slice(4, 20)), 2: (slice(20, 36), slice(4, 20)),
           3: (slice(4, 20), slice(24, 40)), 4: (slice(24, 40), slice(24, 40))}  # fmt: skip


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Truth and result `(44, 44)`: 1 and 2 merged, 3 right, 4 missed, and one false."""
    truth, result = np.zeros((2, 44, 44), np.uint8)
    for cell, where in CORNERS.items():
        truth[where] = cell
    result[4:36, 4:20], result[CORNERS[3]], result[38:43, 8:14] = 7, 3, 9
    return truth, result


class Machine:
    """An engine's state, without an engine."""

    class state:
        device = "cpu"
        output: Any = None


def predicted(folder: Path, weights: Path | None = None) -> Path:
    """A folder of results as `predict` leaves it, with image and truth beside."""
    truth, result = cells()
    image = (40 * truth + np.arange(44, dtype=np.uint8)).astype(np.uint8)
    for name, array in (("images/a", image), ("truth/a", truth), ("results/a_instances", result)):
        save_image(folder / f"{name}.tif", array[None], 0.5 * np.eye(4), "um")
    handler = PredictionRecord(folder / "results", weights, {"label_kind": "instances"})
    record(handler, folder / "images/a.tif")
    return folder / "results"


def record(
    handler: PredictionRecord,
    *images: Path,
    outputs: Sequence[str] = ("instances",),
    **choice: int,
) -> None:
    engine: Any = Machine()
    handler._start(engine)
    for image in images:
        loaded = load_image(image, **choice)
        loaded.meta["outputs"] = list(outputs)  # as `SaveImageResultd` says
        files = (handler.folder / f"{image.stem}_{kind}.tif" for kind in outputs)
        loaded.meta["digests"] = {f.name: sha256(f) for f in files if f.is_file()}
        engine.state.output = [{"image": loaded}]
        handler._keep(engine)
    handler._write(engine)


def decoded(address: str) -> np.ndarray:
    """Pixels `(Y, X, RGBA)` of a `data:` address."""
    kind, _, code = address.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Image.open(BytesIO(base64.b64decode(code))).convert("RGBA"))


class Outline(HTMLParser):
    """Tags, attributes and text of a page; tags must close in order."""

    EMPTY = ("meta", "img", "line", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_the_page_says_what_the_files_say(tmp_path: Path) -> None:
    results = predicted(tmp_path)
    page = tmp_path / "out" / "page.html"
    words = [str(results), "--truth", str(tmp_path / "truth"), "--output", str(page)]
    assert main(["report", *words]) == 0
    text = page.read_text(encoding="utf-8")
    outline = Outline(text)
    said = " ".join(outline.text.split())
    for part in (
        "44 × 44 px · pixel size 0.5 × 0.5 µm",  # noqa: RUF001
        "4 true objects", "1 correct", "2 merged", "1 missed", "1 false", "0 split",
        "SEG 0.500",  # (1/2 + 1/2 + 1 + 0) / 4
        sha256(tmp_path / "images/a.tif"), "torch", "monai", "not a medical device",
    ):  # fmt: skip
        assert part in said, part
    title = f"<title>{results.absolute().parent.name} / {results.name}: segmentation report</title>"
    assert title in text
    pictures = [a["src"] for tag, a in outline.tags if tag == "img"]
    assert len(pictures) == 4  # result, truth, errors, weights; the image lies beneath
    assert all(str(source).startswith("data:image/png;base64,") for source in pictures)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    text = html_report(predicted(tmp_path)).read_text(encoding="utf-8")
    outline = Outline(text)
    tags = {tag for tag, _ in outline.tags}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    addresses = [v for _, a in outline.tags for k, v in a.items() if k in ("src", "href")]
    addresses += re.findall(r"url\(([^)]*)\)", text)
    assert addresses
    assert all(str(address).startswith("data:image/") for address in addresses)
    assert not re.search(r"https?://(?!www\.w3\.org)|@import", text)
    assert not [k for _, a in outline.tags for k in a if k.startswith("on")]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        a for tag, a in outline.tags if tag == "meta"
    ]
    assert "No truth: nothing here says how good" in outline.text


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    results = predicted(tmp_path)
    content = read_record(results)
    content["images"] = {"<script>x</script>": {**content["images"]["a"], "file": "/no/<b>.tif"}}
    (results / "record.json").write_text(json.dumps(content))
    text = html_report(results).read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "the image is no longer at /no/&lt;b&gt;.tif" in text


def test_errors_are_painted_by_what_became_of_the_objects() -> None:
    truth, result = cells()
    drawn = decoded(panels.object_errors(truth, result, classify_objects(truth, result)))
    factor = panels.zoom(truth.shape)
    assert drawn.shape == (44 * factor, 44 * factor, 4)
    for name, (x, y) in {
        "merged": (12, 12), "correct": (12, 32), "missed": (32, 32), "false": (40, 10),
    }.items():  # fmt: skip
        colour = np.rint(255 * rgb([OBJECTS[name]])[0])  # type: ignore[list-item]
        np.testing.assert_array_equal(drawn[y * factor, x * factor, :3], colour, name)
        assert 0 < drawn[y * factor, x * factor, 3] < 255
    assert drawn[0, 0, 3] == 0  # nothing there
    assert drawn[4 * factor, 4 * factor, 3] == 255  # the contour


def test_pictures_are_upright_and_of_a_bounded_size() -> None:
    image = np.zeros((1, 2100, 600), np.uint8)
    image[0, 1800:, :100] = 200  # right, top
    drawn = decoded(panels.picture(image))
    assert drawn.shape[:2] == (200, 700)  # one drawn for three
    assert drawn[10, 690, 0] > 240
    assert drawn[190, 10, 0] < 15
    labels = (image[0] > 0).astype(np.int32)
    overlay = decoded(panels.outlines(labels, rgb(["#000000", "#ff0000"])))
    assert overlay.shape == (200, 700, 4)
    assert (overlay[..., 3] > 0).mean() == pytest.approx(labels.mean(), abs=0.005)
    colour = np.zeros((3, 30, 20), np.uint8)
    colour[0] = np.arange(30)[:, None] * 8
    assert decoded(panels.picture(colour))[5, 29, 0] > 240


def test_the_weight_map_shows_its_own_scale() -> None:
    weights = np.array([[1.0, 5.0], [1.0, 11.0]], np.float32)  # (X, Y)
    address, low, high = panels.heat(weights)
    drawn = decoded(address)[..., :3].astype(int).sum(axis=2)
    assert (low, high) == (1.0, 11.0)
    assert drawn[-1, -1] == drawn.max() > drawn[-1, 0] > drawn[0, 0] == drawn.min()


def volume(folder: Path, unit: str) -> dict[str, Any]:
    """A volume `(10, 12, 5)` whose worst plane is 3; patient axes R, A, S."""
    truth, result = np.zeros((2, 10, 12, 5), np.uint8)
    truth[1:4, 1:4], result[1:4, 1:4] = 1, 1
    truth[6:9, 6:9, 3] = 2
    affine = np.diag([2.0, 1, 3, 1])
    for name, array in (("image", truth), ("truth", truth), ("a_instances", result)):
        save_image(folder / f"{name}.nii.gz", array[None], affine, unit)
    return {
        "file": str(folder / "image.nii.gz"), "sha256": sha256(folder / "image.nii.gz"),
        "shape": [1, 10, 12, 5], "pixel_size": [2, 1, 3], "unit": unit, "affine": affine.tolist(),
    }  # fmt: skip


@pytest.mark.parametrize(("unit", "turned"), [("mm", True), ("um", False)])
def test_of_a_volume_the_worst_plane_as_a_radiologist_looks_at_it(
    tmp_path: Path, unit: str, turned: bool
) -> None:
    entry = volume(tmp_path, unit)
    case = load_case("a", entry, tmp_path, str(tmp_path / "truth.nii.gz"), Reading())
    assert case.plane.startswith("plane 4 of 5")
    assert ("right is on the left" in case.plane) == turned
    assert case.aspect == round(20 / 12, 4)
    assert case.bar == (f"5 {'mm' if turned else 'µm'}", 0.25)  # of 10 px of 2
    assert case.counts == {
        "correct": 1, "inexact": 0, "split": 0, "merged": 0, "missed": 1, "false": 0,
    }  # fmt: skip
    assert case.errors is not None
    drawn = decoded(case.errors)[..., 3] > 0
    y, x = (np.argwhere(drawn).mean(axis=0) / drawn.shape).tolist()
    assert (x < 0.5, y < 0.5) == (turned, turned) or abs(x - 0.5) < 0.1
    by_plane = load_case(
        "a", entry, tmp_path, str(tmp_path / "truth.nii.gz"), Reading(by_plane=True)
    )
    assert by_plane.counts["correct"] == 5
    through = {**entry, "planes": "joined"}
    joined = load_case(
        "a", through, tmp_path, str(tmp_path / "truth.nii.gz"), Reading(by_plane=True)
    )
    assert joined.counts == case.counts


def test_the_input_has_a_bar_where_its_pixel_size_is_known(tmp_path: Path) -> None:
    page = html_report(predicted(tmp_path)).read_text(encoding="utf-8")
    assert page.count('class="length"') == 1  # of 44 px of 0.5 um, a page of one image
    assert '<span class="length" style="width: 22.73%">5 µm</span>' in page
    entry = {**volume(tmp_path, "um"), "pixel_size": None}
    assert load_case("a", entry, tmp_path, None, Reading()).bar is None


def test_a_truth_that_is_stored_flipped_is_turned(tmp_path: Path) -> None:
    entry = volume(tmp_path, "mm")
    straight = load_case("a", entry, tmp_path, str(tmp_path / "truth.nii.gz"), Reading())
    truth = np.asarray(nibabel.load(tmp_path / "truth.nii.gz").dataobj)
    affine = np.array(entry["affine"])
    flipped = np.array([[-2.0, 0, 0, 18], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    save_image(tmp_path / "flipped.nii.gz", truth[None, ::-1], flipped, "mm")
    swapped = affine[:, [1, 0, 2, 3]]
    save_image(tmp_path / "swapped.nii.gz", truth.swapaxes(0, 1)[None], swapped, "mm")
    for name in ("flipped", "swapped"):
        case = load_case("a", entry, tmp_path, str(tmp_path / f"{name}.nii.gz"), Reading())
        assert case.counts == straight.counts
        assert case.errors == straight.errors
        assert case.truth == straight.truth


def test_planes_are_those_that_the_network_saw(tmp_path: Path) -> None:
    """Two bars along A: connected in coronal planes (R, S), 6 pieces in axial ones."""
    mask = np.zeros((10, 12, 5), np.uint8)  # R, A, S
    mask[1:4, 2, :] = 1
    mask[6:9, 2, :] = 1
    affine = np.diag([2.0, 1, 3, 1])
    for name in ("image", "truth", "a_mask"):
        save_image(tmp_path / f"{name}.nii.gz", mask[None], affine, "mm")
    entry = {**volume(tmp_path / "other", "mm"), "file": str(tmp_path / "image.nii.gz")}
    entry["sha256"] = sha256(tmp_path / "image.nii.gz")
    truth = str(tmp_path / "truth.nii.gz")
    for orientation, count, planes in (("RSA", 2, 12), ("RAS", 10, 5), ("ASR", 6, 10)):
        reading = Reading("mask", by_plane=True, orientation=orientation)
        case = load_case("a", entry, tmp_path, truth, reading)
        assert case.counts["correct"] == count, orientation
        assert case.plane.split(",")[0].endswith(f" of {planes}")
        assert ("right is on the left" in case.plane) == (orientation[0] == "R")


def test_axes_run_to_left_and_posterior() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    entry = {"shape": [1, 2, 3, 4], "unit": "mm", "affine": np.diag([1.0, 1, 1, 1]).tolist()}
    np.testing.assert_array_equal(
        as_viewed(array, viewing_turn(entry, Reading())), array[::-1, ::-1]
    )
    swapped = {**entry, "affine": np.eye(4)[[1, 0, 2, 3]].tolist()}  # first axis to anterior
    np.testing.assert_array_equal(
        as_viewed(array, viewing_turn(swapped, Reading())), array.swapaxes(0, 1)[::-1, ::-1]
    )


def test_planes_of_instances_that_seeds_told_apart() -> None:
    """Two that touch stay two; one that is joined in another plane is two where it is not."""
    instances = np.zeros((6, 2, 2), np.int32)
    instances[:, 0, 0] = [1, 1, 2, 2, 0, -1]
    instances[:, 0, 1] = [4, 4, 0, 4, 0, 0]
    found = plane_parts(instances)
    np.testing.assert_array_equal(found[:, 0, 0], [1, 1, 2, 2, 0, 0])
    np.testing.assert_array_equal(found[:, 0, 1], [3, 3, 0, 4, 0, 0])
    assert not found[:, 1].any()


def test_large_numbers_are_drawn_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of 24 bits, as labels in colours hold them, took a table of as many colours."""
    results = predicted(tmp_path)
    entry, truth = read_record(results)["images"]["a"], tmp_path / "truth/a.tif"
    small = load_case("a", entry, results, str(truth), Reading())
    for file in (truth, results / "a_instances.tif"):
        labels = load_image(file).numpy().astype(np.int32)
        save_image(file, np.where(labels > 0, labels + 2**24 - 9, 0), 0.5 * np.eye(4), "um")
    tables: list[np.ndarray] = []

    def kept(labels: np.ndarray) -> np.ndarray:
        tables.append(instance_colours(labels))
        return tables[-1]

    monkeypatch.setattr(panels, "instance_colours", kept)
    large = load_case("a", entry, results, str(truth), Reading())
    assert large.counts == small.counts
    assert large.errors == small.errors
    assert [len(table) for table in tables] == [6]


def test_planes_of_a_mask_are_counted_each_by_itself() -> None:
    mask = np.zeros((6, 6, 2), bool)
    mask[:2, :2], mask[4:, 4:, 1] = True, True
    found = plane_instances(mask)
    assert [len(np.unique(found[..., k])) - 1 for k in (0, 1)] == [1, 2]


def test_results_of_blocks_are_drawn_as_files_are(tmp_path: Path) -> None:
    """The layers of `NAME_mask.ome.zarr`, each of which a file of its own may hold as well."""
    pytest.importorskip("zarr", reason="Python 3.11")
    results = predicted(tmp_path)
    found = load_image(results / "a_instances.tif").numpy()[0]
    layers = {
        Layer("instances", "int32"): found,
        Layer("mask", "uint8"): found > 0,
        Layer("uncertainty", "float32"): np.linspace(0, 1, found.size).reshape(found.shape),
    }
    for layer, array in layers.items():
        array = array.astype(layer.dtype)[None]
        save_image(results / f"a_{layer.name}.tif", array, 0.5 * np.eye(4), "um")
    entry, truth = read_record(results)["images"]["a"], str(tmp_path / "truth/a.tif")

    def drawn(kind: str) -> tuple[Any, ...]:
        case = load_case("a", entry, results, truth, Reading(kind))
        return case.notes, case.counts, case.result, case.errors, case.uncertainty

    files = [drawn(kind) for kind in ("instances", "classes")]
    assert None not in files[0]
    layout = Layout(found.shape, found.shape, ((1, 1),), (0.5, 0.5), "um")
    output = results / "a_mask.ome.zarr"
    create_store(output, list(layers), layout)
    for layer, array in layers.items():
        (results / f"a_{layer.name}.tif").unlink()
        block = Block((0, 0), tuple(slice(0, side) for side in array.T.shape))
        write_block(output, layer, block, array.T.astype(layer.dtype), layout)
    assert [drawn(kind) for kind in ("instances", "classes")] == files


def test_classes_get_no_objects(tmp_path: Path) -> None:
    results = predicted(tmp_path)
    truth = load_image(tmp_path / "truth/a.tif").numpy().astype(np.uint8)
    truth[truth > 2] = 255
    save_image(tmp_path / "truth/a.tif", truth, 0.5 * np.eye(4), "um")
    save_image(results / "a_mask.tif", np.minimum(truth, 1), 0.5 * np.eye(4), "um")
    entry = read_record(results)["images"]["a"]
    case = load_case("a", entry, results, str(tmp_path / "truth/a.tif"), Reading("classes"))
    assert case.counts == {}
    assert case.errors is not None
    drawn = decoded(case.errors)
    factor = drawn.shape[0] // 44
    assert drawn[32 * factor, 32 * factor, 3] == 0  # ignored
    wrong, right = drawn[12 * factor, 28 * factor], drawn[12 * factor, 12 * factor]
    assert (wrong[:3].tolist(), right[:3].tolist()) == ([199, 125, 255], [31, 158, 119])


@pytest.mark.parametrize(
    ("values", "names", "key"),
    [
        ([0, 2, 4], ["wall", "pool"], {2: "wall", 4: "pool"}),
        ([0, 2, 4], None, {2: "class 2", 4: "class 4"}),
        (None, ["wall", "pool"], {1: "wall", 2: "pool"}),
        (None, None, {}),
    ],
)
def test_the_page_says_which_colour_is_which_class(
    values: Any, names: Any, key: dict[int, str], tmp_path: Path
) -> None:
    results = predicted(tmp_path)
    (results / "a_instances.tif").unlink()
    mask = np.zeros((1, 44, 44), np.uint8)
    mask[:, :20], mask[:, 24:] = min(key, default=1), max(key, default=1)
    save_image(results / "a_mask.tif", mask, 0.5 * np.eye(4), "um")
    written = json.loads((results / "record.json").read_text())
    written["settings"] = {"label_kind": "classes", "class_values": values, "class_names": names}
    (results / "record.json").write_text(json.dumps(written))
    page = html_report(results).read_text(encoding="utf-8")
    told = dict(re.findall(r'<li style="--own: (#\w{6})">([^<]*)</li>', page))
    assert list(told.values()) == list(key.values())
    overlay = decoded(re.findall(r'<img src="(data:image/png[^"]*)"', page)[0])
    for colour, row in zip(told, (2, -2), strict=False):  # inside, and on the edge of the picture
        np.testing.assert_array_equal(np.rint(255 * rgb([colour])[0]), overlay[2, row, :3])


def test_what_changed_since_is_said(tmp_path: Path) -> None:
    weights = tmp_path / "models" / "model.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    results = predicted(tmp_path, weights)
    words = ["--output", str(tmp_path / "scores.json")]
    assert main(["evaluate", str(results), str(tmp_path / "truth"), *words]) == 0
    scores = read_scores(tmp_path / "scores.json")
    page = html_report(results, scores=scores).read_text(encoding="utf-8")
    assert "Before you read on" not in page
    weights.write_bytes(b"two")
    for name in ("images/a.tif", "truth/a.tif", "results/a_instances.tif"):
        path = tmp_path / name
        save_image(path, load_image(path).numpy(), np.eye(4), "um")
    text = html_report(results, scores=scores).read_text(encoding="utf-8")
    for part in ("model.pt", "truth of a", "image file", "result of a"):
        assert f"{part} has changed" in text
    shutil.rmtree(weights.parent)
    (tmp_path / "images/a.tif").unlink()
    text = html_report(results).read_text(encoding="utf-8")
    assert "weights are no longer at" in text
    assert "image is no longer at" in text
    (tmp_path / "results/a_instances.tif").unlink()
    text = html_report(results, scores=scores).read_text(encoding="utf-8")
    assert "The result of a is no longer at" in text


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda file: save_image(file, np.zeros((1, 44, 40))), r"has shape \(1, 44, 40\), and was"),
        (lambda file: file.write_bytes(file.read_bytes()[:300]), "a.tif"),
    ],
)
def test_an_image_that_changed_is_not_drawn_and_the_rest_is(
    tmp_path: Path, change: Callable[[Path], Any], note: str
) -> None:
    results = predicted(tmp_path)
    entry = read_record(results)["images"]["a"]
    change(tmp_path / "images/a.tif")
    case = load_case("a", entry, results, str(tmp_path / "truth/a.tif"), Reading())
    assert case.picture is None
    assert case.result is not None
    changed, why = case.notes
    assert changed == "the image file has changed since it was segmented"
    assert re.search(rf"the image is not drawn: .*{note}", why)


def test_an_image_far_from_the_training_says_so_on_the_page(tmp_path: Path) -> None:
    results = predicted(tmp_path)
    record = read_record(results)
    notes = ["its 3 planes go through the 2-D network slice by slice: each", "as if <inverted>"]
    record["images"]["a"]["notes"] = notes
    (results / "record.json").write_text(json.dumps(record))
    page = html_report(results).read_text(encoding="utf-8")
    assert "far from what was trained on: as if &lt;inverted&gt;" in page
    assert "slice by slice" not in page  # which the page says of each plane


def two_images(tmp_path: Path) -> tuple[Path, Path]:
    """Weights, and the results of image a by them; an image b lies beside a."""
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"one")
    results = predicted(tmp_path, weights)
    shutil.copy(tmp_path / "images/a.tif", tmp_path / "images/b.tif")
    return weights, results


def test_a_page_shows_the_point_in_time_that_was_segmented(tmp_path: Path) -> None:
    times = np.stack([np.zeros((44, 44)), np.tile(np.arange(44), (44, 1))]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", times, metadata={"axes": "TYX"})
    save_image(tmp_path / "results/a_instances.tif", cells()[1][None])
    handler = PredictionRecord(
        tmp_path / "results", settings={"label_kind": "instances"}, reader=AutoReader(time=1)
    )
    record(handler, tmp_path / "a.ome.tif", time=1)
    assert read_record(tmp_path / "results")["settings"]["choice"] == {"time": 1}
    page = html_report(tmp_path / "results").read_text(encoding="utf-8")
    assert "time 1" in page
    truths = np.stack([np.zeros((44, 44)), cells()[0]]).astype(np.uint8)
    (tmp_path / "truth").mkdir()
    tifffile.imwrite(tmp_path / "truth/a.ome.tif", truths, metadata={"axes": "TYX"})
    words = [str(tmp_path / "results"), str(tmp_path / "truth"), "--label-kind", "instances"]
    assert main(["evaluate", *words, "--output", str(tmp_path / "s.json")]) == 0
    for given in (["--truth", *words[1:]], ["--scores", str(tmp_path / "s.json")]):
        assert main(["report", words[0], *given, "--quiet"]) == 0
        text = (tmp_path / "results/report.html").read_text(encoding="utf-8")
        assert "1 missed" in " ".join(Outline(text).text.split())
    assert main(["report", *words[:1], "--truth", *words[1:], "--time", "0"]) == 0  # is empty
    assert "1 missed" not in (tmp_path / "results/report.html").read_text(encoding="utf-8")
    pictures = [decoded(a) for a in re.findall(r'[("](data:image/(?:png|jpeg);[^")]+)', page)]
    assert max(len(np.unique(p[..., 0])) for p in pictures) > 20  # the ramp, not the first's black


def test_a_record_grows_only_with_what_the_same_weights_made(tmp_path: Path) -> None:
    weights, results = two_images(tmp_path)
    handler = PredictionRecord(results, weights, {"label_kind": "instances"})
    record(handler, tmp_path / "images/b.tif")
    assert list(read_record(results)["images"]) == ["a", "b"]
    weights.write_bytes(b"two")
    record(handler, tmp_path / "images/b.tif")
    assert list(read_record(results)["images"]) == ["b"]
    assert read_record(results)["weights"]["sha256"] == sha256(weights)


def test_as_many_pictures_as_asked_for(tmp_path: Path, capsys: Any) -> None:
    weights, results = two_images(tmp_path)
    record(
        PredictionRecord(results, weights, {"label_kind": "instances"}), tmp_path / "images/b.tif"
    )
    shutil.copy(results / "a_instances.tif", results / "b_instances.tif")
    page = tmp_path / "page.html"
    words = ["report", str(results), "--output", str(page), "--pictures"]
    for asked, shown in (("0", 0), ("1", 1), ("5", 2)):
        assert main([*words, asked]) == 0
        text = page.read_text(encoding="utf-8")
        assert (f"{shown} of 2 shown" in text) == (shown > 0)
        assert text.count("data:image/png;base64,") == shown
    with pytest.raises(SystemExit):
        main([*words, "-1"])
    assert "argument --pictures: -1 is less than 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="-1 pictures: show 0 or more"):
        html_report(results, page, pictures=-1)


def test_channels_in_several_files_that_moved_are_the_same_image(tmp_path: Path) -> None:
    for folder in ("old", "new", "other"):
        (tmp_path / folder).mkdir()
        for channel in range(2):
            (tmp_path / folder / f"a_{channel}.tif").write_bytes(bytes([channel]))
    (tmp_path / "other/a_1.tif").write_bytes(b"x")
    files = {f: [str(tmp_path / f / f"a_{k}.tif") for k in range(2)] for f in ("new", "other")}
    entry = {"file": str(tmp_path / "gone/a_0.tif"), "sha256": sha256(files["new"])}
    assert not is_other(files["new"], entry)
    assert is_other(files["other"], entry)


def test_a_run_that_is_stopped_leaves_no_record_of_what_it_wrote_over(tmp_path: Path) -> None:
    weights, results = two_images(tmp_path)
    weights.write_bytes(b"two")
    handler = PredictionRecord(results, weights, {"label_kind": "instances"})
    engine: Any = Machine()
    handler._start(engine)
    engine.state.output = [{"image": load_image(tmp_path / "images/b.tif")}]
    handler._keep(engine)  # killed here
    left = read_record(results)
    assert list(left["images"]) == ["b"]
    assert left["weights"]["sha256"] == sha256(weights)
    engine.state.output = [{"image": load_image(tmp_path / "images/a.tif")}]
    handler._keep(engine)
    assert list(read_record(results)["images"]) == ["b"]  # the next one in ten seconds
    handler._due = 0.0
    handler._keep(engine)
    assert list(read_record(results)["images"]) == ["b", "a"]


@pytest.mark.parametrize("file", ["p_mask.nii.gz", "p_seg.tif", "p_instances.png", "p_rois.zip"])
def test_files_that_no_prediction_recorded_are_not_written_over(tmp_path: Path, file: str) -> None:
    """Somebody's own masks, beside their images, are called as results are."""
    (tmp_path / file).write_text("mine")
    record = PredictionRecord(tmp_path)
    with pytest.raises(ValueError, match=rf"holds {file}, which no prediction recorded: give an"):
        record.refuse_others([str(tmp_path / "p.nii.gz")])
    with pytest.raises(ValueError, match=rf"holds {file}, which no prediction recorded: give an"):
        record.refuse_others([str(tmp_path / "P.nii.gz")])  # on a disk that ignores case
    record.refuse_others([str(tmp_path / "q.nii.gz")])
    one = PredictionRecord(tmp_path, file=tmp_path / file)  # by the name that somebody gave it
    with pytest.raises(ValueError, match="which no prediction recorded: give another output, or"):
        one.refuse_others([str(tmp_path / "p.nii.gz")])


def test_a_mask_whose_name_somebody_chose_is_shown(tmp_path: Path) -> None:
    """Of `predict --output x.png`; a file that the record does not name is anybody's."""
    results = predicted(tmp_path)
    entry = read_record(results)["images"]["a"]
    save_image(results / "x.png", (cells()[1] > 0)[None])
    said = f"no x_mask or x_instances in {results}"
    assert said in load_case("x", entry, results, None, Reading("mask")).notes
    named = {**entry, "digests": {"x.png": "0"}}
    assert said not in load_case("x", named, results, None, Reading("mask")).notes


def test_an_image_that_is_set_aside_takes_no_file_of_others_along(tmp_path: Path) -> None:
    for name in "pq":
        (tmp_path / f"{name}_mask.tif").write_text(name)
    entry = {"file": "q.tif", "sha256": "0"}
    (tmp_path / "record.json").write_text(json.dumps({"images": {"q": entry}, "settings": {}}))
    engine: Any = Machine()
    PredictionRecord(tmp_path)._drop(engine, ["p.tif", "q.tif"])
    assert [path.name for path in tmp_path.glob("*_mask.tif")] == ["p_mask.tif"]
    assert read_record(tmp_path)["images"] == {}


def test_results_that_a_stopped_run_left_are_known_to_the_next_one(tmp_path: Path) -> None:
    """Of the second image a result is there, and no record yet of what it is of."""
    images = [tmp_path / "images" / f"{name}.tif" for name in "ab"]
    for image in images:
        save_image(image, np.eye(8, dtype=np.uint8)[None])
    results = tmp_path / "results"

    def predict(stop: str = "") -> None:
        def write(item: dict[str, Any]) -> dict[str, Any]:
            name = Path(item["image"].meta["filename_or_obj"]).stem
            save_image(results / f"{name}_mask.tif", np.eye(8, dtype=np.uint8)[None])
            if name == stop:
                raise KeyboardInterrupt
            return item

        data = Dataset([{"image": str(image)} for image in images], LoadImaged("image", AutoReader))
        SupervisedEvaluator(
            torch.device("cpu"),
            DataLoader(data),
            torch.nn.Identity(),
            postprocessing=write,
            val_handlers=[PredictionRecord(results)],
        ).run()

    with pytest.raises(KeyboardInterrupt):
        predict(stop="b")
    assert (results / "b_mask.tif").is_file()
    assert list(read_record(results)["images"]) == ["a"]
    assert read_record(results)["claimed"] == ["b"]
    predict()
    assert list(read_record(results)["images"]) == ["a", "b"]
    assert "claimed" not in read_record(results)


def test_what_other_settings_left_of_an_image_goes_where_it_is_not_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Masks of one threshold do not lie beside instances of another, which would pass for its."""
    weights, results = two_images(tmp_path)
    items = [{"image": str(tmp_path / f"images/{name}.tif")} for name in "ab"]
    a, b = (Path(item["image"]) for item in items)
    for name in ("a_mask", "b_mask", "b_instances", "mine_instances"):
        (results / f"{name}.tif").write_bytes(b"mask")
    same = PredictionRecord(results, weights, {"label_kind": "instances"})
    record(same, a, outputs=["mask"])
    record(same, b, outputs=["mask", "instances"])
    entries = read_record(results)["images"]
    assert {name: entry["outputs"] for name, entry in entries.items()} == {
        "a": ["instances", "mask"],  # of two runs
        "b": ["mask", "instances"],
    }
    assert same.unfinished(items, ["mask", "instances"]) == []
    assert "removed" not in caplog.text

    other = PredictionRecord(results, weights, {"label_kind": "instances", "tta": "flips"})
    record(other, a, outputs=["mask"])
    assert sorted(path.stem for path in results.glob("*.tif")) == [
        "a_mask", "b_instances", "b_mask", "mine_instances"
    ]  # fmt: skip
    assert caplog.text.count("removed what was not written anew, such as") == 1
    assert "a_instances.tif: it is of other weights, settings or pixels" in caplog.text
    (results / "a_instances.tif").write_bytes(b"of somewhere else")
    assert other.unfinished(items[:1], ["mask"]) == []
    assert other.unfinished(items[:1], ["mask", "instances"]) == items[:1]


def test_a_result_that_has_changed_is_kept_where_it_would_be_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody may have corrected it; of what no record knows the content, nobody can tell."""
    weights, results = two_images(tmp_path)
    a, b = (tmp_path / f"images/{name}.tif" for name in "ab")
    for name in ("a_mask", "b_mask", "b_instances"):
        (results / f"{name}.tif").write_bytes(b"mask")
    both = ["mask", "instances"]
    for image in (a, b):
        record(PredictionRecord(results, weights), image, outputs=both)
    (results / "b_instances.tif").write_bytes(b"corrected")
    content = read_record(results)
    del content["images"]["a"]["digests"]  # of an earlier version
    (results / "record.json").write_text(json.dumps(content))

    other = PredictionRecord(results, weights, {"tta": "flips"})
    record(other, a, b, outputs=["mask"])
    assert sorted(path.name for path in results.glob("*.tif")) == ["a_mask.tif", "b_mask.tif"]
    assert (results / "kept/b_instances.tif").read_bytes() == b"corrected"
    assert (results / "kept/a_instances.tif").is_file()
    assert caplog.text.count("kept what was not as a prediction wrote it, such as") == 1
    assert find_results(str(results)).keys() == {"a_mask", "b_mask"}

    (results / "b_mask.tif").write_bytes(b"corrected too")
    engine: Any = Machine()
    other._drop(engine, [str(a), str(b)])
    assert [*results.glob("*.tif")] == []
    assert sorted(path.name for path in (results / "kept").iterdir()) == [
        "a_instances.tif", "b_instances.tif", "b_mask.tif"
    ]  # fmt: skip


@pytest.mark.parametrize("own", ["x.png", "x_mask.png"])
def test_other_settings_leave_nothing_old_beside_one_file(tmp_path: Path, own: str) -> None:
    """What the record names goes; a label that somebody put there stays."""
    image, mask = tmp_path / "image.tif", tmp_path / own
    for file in (image, mask):
        save_image(file, np.eye(8, dtype=np.uint8)[None])
    for name in ("instances", "probabilities"):
        (tmp_path / f"x_{name}.tif").write_bytes(b"old")
    loaded = load_image(image)
    digests = {name: sha256(tmp_path / name) for name in (own, "x_instances.tif")}
    for settings, names in (({}, [*digests]), ({"tta": "flips"}, [own])):
        handler = PredictionRecord(tmp_path, None, settings, name="x", file=mask)
        handler.claim([str(image)], "cpu")  # else nobody knows whose the files are
        handler.refuse_others([str(image)])
        loaded.meta |= {"outputs": ["mask", "instances"][: len(names)]}
        loaded.meta |= {"digests": {name: digests[name] for name in names}}
        handler.note(loaded, "cpu", 0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["image.tif", own, "record.json", "x_probabilities.tif"]
    )


def test_a_record_without_outputs_has_done_nothing(tmp_path: Path) -> None:
    weights, results = two_images(tmp_path)
    handler = PredictionRecord(results, weights, {"label_kind": "instances"})
    items = [{"image": str(tmp_path / "images/a.tif")}]
    assert handler.unfinished(items, ["instances"]) == []
    content = read_record(results)
    del content["images"]["a"]["outputs"]  # of an earlier version
    (results / "record.json").write_text(json.dumps(content))
    assert handler.unfinished(items, ["instances"]) == items


def test_an_image_that_can_no_longer_be_read_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is to be done again, where it is set aside; one that was read is not listed."""
    weights, results = two_images(tmp_path)
    handler = PredictionRecord(results, weights, {"label_kind": "instances"})
    items = [{"image": str(tmp_path / f"images/{name}.tif")} for name in "ab"]
    assert handler.unfinished(items, ["instances"]) == items[1:]

    def stale(files: Any) -> str:
        raise OSError(errno.ESTALE, "Stale file handle", str(files))

    monkeypatch.setattr("unet_med.report.entries.sha256", stale)  # of images; weights are read
    assert handler.unfinished(items, ["instances"]) == items
    record(handler, tmp_path / "images/b.tif")
    assert list(read_record(results)["images"]) == ["a"]
    assert "b.tif cannot be read again, so" in caplog.text


def test_evaluation_leaves_the_results_as_they_are(tmp_path: Path) -> None:
    results = predicted(tmp_path)
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    results.chmod(0o555)
    words = ["--output", str(tmp_path / "s.csv"), "--long", str(tmp_path / "l.csv")]
    assert main(["evaluate", str(results), str(tmp_path / "truth"), *words]) == 0
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    results.chmod(0o755)


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_a_page_of_a_table_that_was_written(tmp_path: Path, suffix: str) -> None:
    results = predicted(tmp_path)
    table = tmp_path / f"s.{suffix}"
    assert main(["evaluate", str(results), str(tmp_path / "truth"), "--output", str(table)]) == 0
    assert main(["report", str(results), "--scores", str(table)]) == 0
    text = (results / "report.html").read_text(encoding="utf-8")
    said = " ".join(Outline(text).text.split())
    assert "SEG 0.500" in said
    assert "pooled0.500" in said  # two cells of the table
    assert "SEG0.500 too few images for an interval" in said
    assert "AP50: objects that match (IoU 0.5) over matched, missed and false ones; 1 is" in said
    assert ("1 missed" in said) == (suffix == "json")  # which names the truth


def test_a_page_asks_as_evaluate_does(tmp_path: Path, capsys: Any) -> None:
    """What the truth's values mean can be said where it is scored: here one is unknown."""
    results = predicted(tmp_path)
    truth = str(tmp_path / "truth")
    words = ["--label-kind", "instances", "--unknown", "1"]
    table = tmp_path / "s.json"

    def page(*words: str) -> str:
        assert main(["report", str(results), *words]) == 0
        text = Outline((results / "report.html").read_text(encoding="utf-8")).text
        return re.sub(r":[0-9]{2}:[0-9]{2}", "", text)  # the moment of the scores

    assert main(["evaluate", str(results), truth, *words, "--output", str(table)]) == 0
    assert page("--truth", truth, *words) == page("--scores", str(table))
    assert page("--truth", truth, *words) != page("--truth", truth)
    assert main(["report", str(results), *words]) == 2
    assert "--label-kind says what --truth holds" in capsys.readouterr().err
    assert main(["report", str(results), "--time", "1"]) == 2
    assert "--time says what --truth holds" in capsys.readouterr().err


def test_a_page_of_something_else_is_refused(tmp_path: Path, capsys: Any) -> None:
    results = predicted(tmp_path)
    for content in ("{}", "[]", "no", '{"columns": ["a"], "rows": [{}], "about": {}}'):
        (tmp_path / "s.json").write_text(content)
        assert main(["report", str(results), "--scores", str(tmp_path / "s.json")]) == 2
        assert "s.json is no table of scores: name the file of" in capsys.readouterr().err


def test_small_scores_keep_their_digits() -> None:
    assert [number(v) for v in (None, 0.0, 0.000353, 0.91234)] == ["-", "0.000", "0.00035", "0.912"]


def test_worst_images_come_first() -> None:
    def table(column: str, **scores: float | None) -> ScoreTable:
        return ScoreTable(
            (column,), tuple(ScoreRow("case", c, "", {column: s}) for c, s in scores.items())
        )

    assert shown_first("abc", table("SEG", a=0.9, b=0.1, c=None)) == ["b", "a", "c"]
    assert shown_first("abc", table("Rand error", a=0.9, b=0.1)) == ["a", "b", "c"]


def test_curves_are_drawn_where_the_numbers_are() -> None:
    history = [{"minutes": 0.0, "loss": 4.0}, {"minutes": 10.0, "loss": 0.0, "dice": 1.0}]
    svg = curve_svg(history, ["loss", "dice"])
    lines = re.findall(r'<polyline class="(\w+)" points="([^"]*)"', svg)
    assert [name for name, _ in lines] == ["line0", "line1"]
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in lines[0][1].split())
    assert x0 < x1
    assert y0 < y1  # a falling loss runs down the page
    assert ">10</text>" in svg
    Outline(svg)
    dot = re.search(r'points="([^"]*)"', curve_svg([{"minutes": 1.0, "loss": 2.0}], ["loss"]))
    assert dot is not None
    assert len(set(dot[1].split())) == 1
    assert len(dot[1].split()) == 2  # a line of no length, which a round cap makes a dot


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda f: None, r"holds no record.json, which `unet-med predict` leaves"),
        (lambda f: (f / "record.json").write_text("{"), r"record.json is no JSON"),
        (lambda f: (f / "record.json").write_text("[]"), r"holds no JSON object"),
    ],
)
def test_folders_of_something_else_are_refused(tmp_path: Path, make: Any, sentence: str) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        html_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        html_report(tmp_path / "nowhere")


def test_a_result_of_another_shape_is_refused(tmp_path: Path) -> None:
    results = predicted(tmp_path)
    save_image(results / "a_instances.tif", np.zeros((1, 44, 43), np.uint8))
    with pytest.raises(ValueError, match=r"result of a has shape \(44, 43\), its image \(44, 44\)"):
        html_report(results)


def test_the_record_needs_metadata_to_know_a_file(tmp_path: Path) -> None:
    handler = PredictionRecord(tmp_path)
    engine = Engine(lambda *_: {"image": MetaTensor(np.zeros((1, 4, 4)))})
    engine.state.device = "cpu"  # type: ignore[attr-defined]
    handler.attach(engine)
    engine.run([0])
    assert read_record(tmp_path)["images"] == {}
    assert read_record(tmp_path)["weights"] is None


@pytest.mark.parametrize("k", [0, 1, 20, 39])
def test_weights_of_a_plane_are_those_of_the_volume(k: int) -> None:
    """Cells that touch within the planes and across them, and some that nobody annotated."""
    true = np.zeros((14, 12, 40), np.int32)
    for cell, start in enumerate(range(0, 40, 7), start=1):
        true[2:7, 2:9, start : start + 6] = 2 * cell
        true[7:12, 3:8, start + 1 : start + 7] = 2 * cell + 1
    true[0, :, ::3] = -1
    reading = Reading(w0=10.0, sigma=2.0, class_weights=(1.0, 1.5))
    weigh = BorderWeightMap(10.0, 2.0, class_weights=(1.0, 1.5))
    np.testing.assert_array_equal(_weights(true, k, reading), weigh(separate(true))[..., k])


def test_a_report_names_exports_of_other_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.cli.report.html_report", lambda folder, *_, **__: folder)
    models = tmp_path / "models"
    models.mkdir()
    (models / "model.pt").write_bytes(b"weights")
    (models / "model.onnx").write_text(f"card {sha256(models / 'model.pt')}")
    assert main(["report", str(tmp_path)]) == 0
    assert "exports" not in capsys.readouterr().err
    (models / "model.pt").write_bytes(b"of ten minutes more")
    assert main(["report", str(tmp_path)]) == 0
    said = "exports   not known to be of these weights, so export anew: model.onnx"
    assert said in capsys.readouterr().err
