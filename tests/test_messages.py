"""What users read: errors name files and options; an image far from the training gets a line."""

from __future__ import annotations

import ast
import gzip
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.transforms
import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from doors import run
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from tiny_bundle import make_bundle

import unet_med
from unet_med import bundle, planning
from unet_med.data import load_header, load_image, save_image
from unet_med.data.entries import CHANNEL_NAMES, NOTES
from unet_med.data.grey_values import skew_of
from unet_med.data.sources import open_source
from unet_med.planning.words import describe
from unet_med.segmentation import Segmenter
from unet_med.segmentation.arrays import without_pixels
from unet_med.segmentation.volume import Volume
from unet_med.transforms import CompareWithTrainingd, Standardized
from unet_med.transforms.windowed import Box, Windowed

PACKAGE = Path(unet_med.__file__).parent
PYTHON_DOORS = ("losses", "metrics", "__init__.py")  # whose callers write Python
TARGETS = "target_of"  # a `_target_` stands in the user's config by that name


def raised(nodes_of: dict[Path, list[ast.AST]]) -> Iterator[tuple[str, ast.Call]]:
    """Every error of the package that is made of a built-in class, and where."""
    for path, nodes in nodes_of.items():
        if not set(PYTHON_DOORS) & set(path.relative_to(PACKAGE).parts):
            for node in nodes:
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.exc


def test_no_error_names_a_python_class() -> None:
    """Words of all `raise` statements; what is told to programmers, TypeError, aside."""
    classes = {name for name in dir(monai.transforms) if re.search("[a-z][A-Z]|[a-z]d$", name)}
    nodes_of = {
        path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    for nodes in nodes_of.values():
        classes |= {n.name for n in nodes if isinstance(n, ast.ClassDef)}
    classes = {name for name in classes if re.search("[a-z][A-Z]|[A-Z].*[a-z]d$", name)}
    assert {"TiffReader", "CheckPaird", "LoadImaged", "SitkReader"} <= classes
    found, count = [], 0
    for place, call in raised(nodes_of):
        if ast.unparse(call.func) == "TypeError":
            continue
        count += 1
        texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant)]
        words = {w for text in texts if isinstance(text, str) for w in re.findall(r"\w+", text)}
        if words & classes or "__name__" in ast.unparse(call):
            found.append((place, sorted(words & classes)))
    assert count > 200
    assert found == []


VOLUME = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)


def nifti(path: Path, sizes: tuple[float, ...], form: str) -> Path:
    """A NIfTI whose header states these sizes by pixdim alone, by qform or by sform, unchecked."""
    nib.save(nib.Nifti1Image(VOLUME, None), path)
    content = bytearray(path.read_bytes())
    content[80:92] = np.array(sizes, "<f4").tobytes()
    if form == "qform":
        content[252:254] = b"\1\0"
    if form == "sform":
        content[254:256] = b"\1\0"
        content[280:328] = np.diag([*sizes, 1.0])[:3].astype("<f4").tobytes()
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize("form", ["pixdim", "qform", "sform"])
@pytest.mark.parametrize("size", [0.0, -1.0, np.nan, 2.0])
def test_a_nifti_that_states_no_size_says_so(tmp_path: Path, form: str, size: float) -> None:
    path = nifti(tmp_path / "a.nii", (1.0, size, 3.0), form)
    known = size == 2.0 or (size == -1.0 and form == "sform")  # a flip
    header = load_header(path)
    source = "pixdim" if form == "pixdim" else "nifti"  # which of the two says the size
    assert header.spacing_source == (source if known else "assumed")
    assert header.pixel_size[1] == (abs(size) if known else 1.0)
    np.testing.assert_array_equal(load_image(path).numpy()[0], VOLUME)


def test_other_formats_that_state_no_size(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    import SimpleITK as sitk

    tifffile.imwrite(
        tmp_path / "a.tif", VOLUME[0].astype(np.uint8), imagej=True, resolution=(0, 0),
        metadata={"unit": "um"},
    )  # fmt: skip
    assert load_header(tmp_path / "a.tif").spacing_source == "assumed"
    store = save_image(tmp_path / "a.ome.zarr", VOLUME, affine=np.eye(4), has_channels=False)
    metadata = store / "zarr.json"
    text = metadata.read_text()
    changed = re.sub(r'("scale": \[\s*)[\d.]+(,[^\]]*\])', r"\g<1>0.0\2", text)
    assert changed != text
    metadata.write_text(changed)
    assert load_header(store).spacing_source == "assumed"
    from unet_med.volumes import open_source

    assert open_source(store).unit is None
    mha = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(mha))
    mha.write_bytes(mha.read_bytes().replace(b"Spacing = 1 1 1", b"Spacing = 1 1 0"))
    with pytest.raises(ValueError, match=r"a\.mha .*pixel size of 0 .*unknown: write the true one"):
        load_image(mha)


def test_a_gzip_with_a_wrong_checksum_is_damaged(tmp_path: Path) -> None:
    """The pixels inflate, to other ones perhaps; whole, cut short, or with something behind."""
    from unet_med.volumes import open_source

    whole = tmp_path / "whole.nii.gz"
    nib.save(nib.Nifti1Image(VOLUME, np.eye(4)), whole)
    content = whole.read_bytes()
    damaged = {
        "checksum": content[:-8] + bytes([content[-8] ^ 1]) + content[-7:],
        "length": content[:-4] + bytes([content[-4] ^ 1]) + content[-3:],
        "short": content[:-4],
        "behind": content + b"and more",
    }
    for name, part in damaged.items():
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(part)
        with pytest.raises(ValueError, match=f"{name}.nii.gz as NIfTI: it is damaged, copy it"):
            load_image(path)
        with pytest.raises(ValueError, match="it is damaged, copy it"):
            open_source(path)
    plain = gzip.decompress(content)
    (tmp_path / "two.nii.gz").write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))
    (tmp_path / "padded.nii.gz").write_bytes(content + bytes(512))  # as tapes do
    for name in ("whole", "two", "padded"):
        np.testing.assert_array_equal(load_image(tmp_path / f"{name}.nii.gz").numpy()[0], VOLUME)
        window = open_source(tmp_path / f"{name}.nii.gz").read([slice(None)] * 3)
        np.testing.assert_array_equal(window[0].T, VOLUME)


def test_the_name_of_another_format_is_said(tmp_path: Path) -> None:
    from PIL import Image

    nib.save(nib.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes((tmp_path / "a.nii").read_bytes())
    nib.save(nib.Nifti1Image(VOLUME, np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "c.nii").write_bytes((tmp_path / "a.nii.gz").read_bytes())
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "d.tif").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "e.tif").write_bytes(b"PK\3\4" + bytes(40))
    for name, said in {
        "b.nii.gz": "a NIfTI that is not compressed: rename it to b.nii",
        "c.nii": "compressed by gzip: rename it to c.nii.gz",
        "d.tif": "a PNG picture: rename it to d.tif.png",
        "e.tif": "a ZIP archive: save the image in it",
    }.items():
        with pytest.raises(ValueError, match=f"{name} .*by its content it is {said}"):
            load_image(tmp_path / name)


def test_mixed_pixel_sizes_and_unknown_ones_are_one_line(tmp_path: Path, cells: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for k, source in enumerate(sorted((cells / part).glob("*.tif"))):
            pixels = tifffile.imread(source)
            save_image(
                tmp_path / part / f"c{k}.tif", pixels.T,
                affine=np.diag([0.5 + k, 0.5 + k, 1.0, 1.0]) if k < 2 else None,
            )  # fmt: skip
    plan = planning.make_plan(planning.fingerprint(tmp_path / "images", tmp_path / "labels"))
    (line,) = [line for line in describe(plan).splitlines() if line.startswith("pixels")]
    assert "2 sizes" in line
    assert "--element-size" in line
    assert "unknown of images/c2.tif: give it with --pixel-size" in line


def test_pixel_sizes_that_headers_round_are_one(tmp_path: Path) -> None:
    """Of a patient who lies askew a 32-bit header has 0.8 mm as 0.79999998."""
    for k in range(3):
        turn, affine = 0.1 * k, np.diag([0.8, 0.8, 3.0, 1.0])
        affine[:2, :2] = 0.8 * np.array(
            [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        )
        for part, values in (("images", 7), ("labels", 2)):
            volume = np.random.default_rng(k).integers(0, values, (8, 9, 10)).astype(np.uint8)
            (tmp_path / part).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(volume, affine), tmp_path / part / f"{k}.nii")
    found = planning.fingerprint(tmp_path / "images", tmp_path / "labels")
    assert len({case.image.pixel_size for case in found.cases}) > 1
    lines = describe(planning.make_plan(found, {"label_kind": "classes"})).splitlines()
    assert "pixels    0.8 x 0.8 x 3 mm" in lines


@pytest.mark.parametrize("filled", [False, True])
def test_a_mask_of_outlines_is_told(tmp_path: Path, filled: bool) -> None:
    label = np.zeros((64, 64), np.uint8)
    for k in (4, 36):
        label[k : k + 24, k : k + 24] = 255
        label[k + 2 : k + 22, k + 2 : k + 22] = 255 * filled  # lines of two pixels
    for name in ("a", "b"):
        image = np.arange(4096, dtype=np.uint16).reshape(64, 64)
        save_image(tmp_path / f"images/{name}.tif", image)
        save_image(tmp_path / f"labels/{name}.tif", label)
    plan = planning.make_plan(planning.fingerprint(tmp_path / "images", tmp_path / "labels"))
    (line,) = [line for line in describe(plan).splitlines() if line.startswith("labels")]
    hint = ", thin: fill it where it is outlines of objects" * (not filled)
    mask = "labels    a mask, its value besides 0 the foreground"
    assert line == f"{mask}{hint} (decided from the values)"


SIZE = 0.5  # um
SIDES = (64, 48)


def blobs(seed: int, planes: int = 1) -> np.ndarray:
    """Bright disks on dark ground, `(X, Y[, Z])`, 8 bits."""
    rng = np.random.default_rng(seed)
    image = rng.normal(40, 6, (*SIDES, planes))
    x, y = np.indices(SIDES)
    for _ in range(3):
        cx, cy = rng.uniform(8, 40, 2)
        image[(x - cx) ** 2 + (y - cy) ** 2 < 40] += 120
    image = np.clip(image, 0, 255).astype(np.uint8)
    return image if planes > 1 else image[..., 0]


def write(path: Path, image: np.ndarray, size: float = SIZE) -> Path:
    affine = np.diag([size, size, 1.0, 1.0])
    return save_image(path, image, affine=affine, has_channels=False)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on three planes of disks."""
    folder = tmp_path_factory.mktemp("disks")
    for k in range(3):
        image = blobs(k)
        write(folder / f"images/c{k}.tif", image)
        write(folder / f"labels/c{k}.tif", (image > 100).astype(np.uint8))
    words = ["--images", folder / "images", "--labels", folder / "labels", "--features", 2, 4]
    assert run("train", *words, "--epochs", 1, "--device", "cpu", "--output", folder / "b") == 0
    return folder / "b"


def far(folder: Path) -> dict[str, str | None]:
    """Images, and what is said of each; None: nothing."""
    images: dict[str, tuple[np.ndarray, float, str | None]] = {
        "like": (blobs(7), SIZE, None),
        "larger": (blobs(7), SIZE * 1.4, None),
        "bits": (blobs(7).astype(np.uint16) * 200 + 3000, SIZE, None),
        "size": (blobs(7), 2.0, "its pixels are 2 x 2 um, the training's 0.5 x 0.5 um"),
        "inverted": (255 - blobs(7), SIZE, "most of its pixels are bright, and of the training's"),
        "constant": (np.full(SIDES, 7, np.uint8), SIZE, "all its pixels are 7"),
        "mask": ((blobs(7) > 100).astype(np.uint8), SIZE, "it has two grey values alone, as a"),
    }
    for name, (image, size, _) in images.items():
        write(folder / f"{name}.tif", image, size)
    return {name: said for name, (_, _, said) in images.items()}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    logs = [r for r in caplog.records if r.name == "unet_med.transforms.compare"]
    assert all(r.levelno == logging.WARNING for r in logs)
    return [r.getMessage() for r in logs]


def test_what_was_trained_on_is_in_the_bundle(disks: Path) -> None:
    config = json.loads((disks / "configs/inference.json").read_text())
    plan = json.loads((disks / "configs/plan.json").read_text())
    found = config["trained_on"]
    assert found == plan["ids"]["trained_on"]["value"]
    assert (found["unit"], found["pixel_size"]) == ("um", [[SIZE, SIZE]] * 2)
    assert (found["axes"], found["dtypes"], found["orientations"]) == ([2], ["uint8"], [])
    pixels = np.concatenate([blobs(k).ravel() for k in range(3)])
    assert found["intensities"][0][3] == np.percentile(pixels, 50)
    skews = [skew_of(blobs(k)) for k in range(3)]
    assert found["skews"] == [[min(skews), max(skews)]]


def test_channels_of_one_name_are_the_same_channel(tmp_path: Path) -> None:
    """A name may be a stranger's: MONAI's parser takes none for an expression."""
    names, turned = ("DAPI", "$GFP", "#3"), ("$GFP", "DAPI", "#3")
    for k in range(3):
        image = np.stack([blobs(k), blobs(k + 3), blobs(k + 6)])
        save_image(tmp_path / f"images/c{k}.tif", image, channel_names=names if k else ())
        write(tmp_path / f"labels/c{k}.tif", (image[0] > 100).astype(np.uint8))
    folders = tmp_path / "images", tmp_path / "labels"
    planning.lay_bundle(planning.make_plan(planning.fingerprint(*folders)), tmp_path / "b")
    parser = ConfigParser(json.loads((tmp_path / "b/configs/inference.json").read_text()))
    trained_on = parser.get_parsed_content("trained_on")
    assert trained_on["channels"] == [*names]
    compare = CompareWithTrainingd("image", trained_on)
    other = save_image(tmp_path / "other.tif", image[[1, 0, 2]], channel_names=turned)
    said = "its channels are $GFP, DAPI, #3, the training's DAPI, $GFP, #3"
    for path, notes in ((other, [said]), (folders[0] / "c0.tif", []), (folders[0] / "c1.tif", [])):
        found = compare({"image": load_image(path)})["image"].meta[NOTES].splitlines()
        assert [line for line in found if "channels" in line] == notes
        windowed = without_pixels(open_source(path)).meta
        assert windowed[CHANNEL_NAMES] == load_image(path).meta[CHANNEL_NAMES]
    save_image(folders[0] / "c2.tif", image, channel_names=turned)
    with pytest.raises(
        ValueError, match=r"c2\.tif has the channels \$GFP, DAPI, #3, and .*c1\.tif"
    ):
        planning.make_plan(planning.fingerprint(*folders))


def test_files_of_a_case_are_its_channels_in_one_order(tmp_path: Path) -> None:
    """A folder lists its files in any order, and a list made of it each patient's in another."""
    for k, patient in enumerate(("p1", "p2", "p3")):
        for name in ("T1", "flair"):
            write(tmp_path / f"{patient}/{patient}_{name}.tif", blobs(k))
        write(tmp_path / f"{patient}/{patient}_seg.tif", (blobs(k) > 100).astype(np.uint8))

    def listed(orders: dict[str, tuple[str, str]]) -> Path:
        items = [
            {"image": [f"{p}/{p}_{n}.tif" for n in names], "label": f"{p}/{p}_seg.tif"}
            for p, names in orders.items()
        ]
        (tmp_path / "list.json").write_text(json.dumps({"training": items}))
        return tmp_path / "list.json"

    alike = dict.fromkeys(("p1", "p2", "p3"), ("T1", "flair"))
    with pytest.raises(
        ValueError, match=r"p3_flair\.tif, .*p3_T1\.tif has its channels in another"
    ):
        planning.make_plan(planning.fingerprint(listed({**alike, "p3": ("flair", "T1")})))
    plan = planning.make_plan(planning.fingerprint(listed(alike)))
    trained_on = plan.ids["trained_on"].value
    assert trained_on["channels"] == ["t1", "flair"]
    compare = CompareWithTrainingd("image", trained_on)
    files = [tmp_path / f"p1/p1_{name}.tif" for name in ("T1", "flair")]
    said = "its channels are flair, t1, the training's t1, flair"
    folder = make_bundle(tmp_path / "bundle", in_channels=2, trained_on=trained_on)
    for order, notes in ((files, []), (files[::-1], [said])):
        found = compare({"image": load_image(order)})["image"].meta[NOTES].splitlines()
        assert [line for line in found if "channels" in line] == notes
        (tmp_path / "one.json").write_text(json.dumps([{"image": [str(file) for file in order]}]))
        by_blocks = Volume(
            Segmenter(folder, device="cpu"), open_source(tmp_path / "one.json")
        ).found
        (found,) = (lines.tolist() for name, lines in by_blocks.items() if name.endswith(NOTES))
        assert [line for line in found if "channels" in line] == notes


def test_images_far_from_the_training_get_a_line_each(
    disks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the command line and MONAI's workflow of the bundle, and segmented all the same."""
    said = far(tmp_path / "in")
    assert run("predict", tmp_path / "in", "--bundle", disks, "--output", tmp_path / "out") == 0
    for name, text in said.items():
        own = [line for line in lines(caplog) if line.startswith(f"{name}.tif is far from")]
        assert len(own) == (text is not None)
        assert text is None or text in own[0]
    record = json.loads((tmp_path / "out/record.json").read_text())["images"]
    assert record.keys() == said.keys()
    for name, entry in record.items():
        notes = entry.get("notes", [])
        assert len(notes) == (said[name] is not None)
        assert all(str(said[name]) in note for note in notes)
    by_command = lines(caplog)
    caplog.clear()
    settings = {"images": tmp_path / "in", "output_dir": tmp_path / "monai", "outputs": ["mask"]}
    bundle.load_workflow(disks, "inference", settings).run()
    assert lines(caplog) == by_command
    again = json.loads((tmp_path / "monai/record.json").read_text())["images"]
    assert {n: e.get("notes") for n, e in again.items()} == {
        n: e.get("notes") for n, e in record.items()
    }


def test_stacks_go_slice_by_slice_and_it_is_said_once(
    disks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"in/{name}.tif", blobs(5, planes=4))
    assert run("predict", tmp_path / "in", "--bundle", disks, "--output", tmp_path / "out") == 0
    text = (
        "its 4 planes go through the 2-D network slice by slice: objects go through planes "
        "(--planes apart: images of their own)"
    )
    assert lines(caplog) == [f"a.tif: {text}"]
    record = json.loads((tmp_path / "out/record.json").read_text())["images"]
    assert [entry["notes"] for entry in record.values()] == [[text]] * 2
    assert [entry["planes"] for entry in record.values()] == ["joined"] * 2


def test_a_plane_that_stands_upright_has_its_own_pixels() -> None:
    known = {"unit": "mm", "pixel_size": [[1.0, 1.0], [1.0, 1.0], [5.0, 5.0]]}
    known |= {"orientations": ["ASR"], "skews": []}
    meta = {"spatial_unit": "mm", "spacing_source": "nifti"}
    image = MetaTensor(np.arange(20.0).reshape(1, 4, 5), meta=meta)
    image.affine = np.diag([1.0, 1.0, 5.0, 1.0])[[2, 0, 1, 3]]  # X to the front, Y to the head
    noted = CompareWithTrainingd("image", known, 2)({"image": image})
    assert noted["image"].meta["notes"] == ""


@pytest.mark.parametrize(("sign", "own", "others"), [(1, "dark", "bright"), (-1, "bright", "dark")])
def test_dark_and_bright_are_told_apart(sign: int, own: str, others: str) -> None:
    """On the other side of 0, and half a skew beyond what the training had."""
    image = MetaTensor(sign * np.arange(60.0).reshape(1, 6, 10) ** 4)
    skew = skew_of(np.asarray(image))
    assert sign * skew > 0.5
    for far, said in ((-1.0, True), (skew * sign - 0.4, False), (0.1, skew * sign > 0.6)):
        known = {"unit": None, "pixel_size": None, "orientations": []}
        known["skews"] = [sorted((sign * far, sign * (far - 1)))]
        noted = CompareWithTrainingd("image", known, 2)({"image": image})["image"].meta["notes"]
        assert (f"its pixels are {own}, and of the training's {others}" in noted) == said


GREY = {"unit": None, "pixel_size": None, "orientations": [], "skews": []}


@pytest.mark.parametrize(("scale", "said"), [(None, True), ("robust", False)])
def test_few_pixels_that_rule_the_contrast_are_said(scale: str | None, said: bool) -> None:
    """One hot pixel of an image, where nothing clips it; not the object that is wider."""
    from monai.data import MetaTensor

    cells = torch.arange(2 * 90000.0).view(2, 300, 300) % 101
    cells[0, 20:50, 20:50] += 900  # a hundredth of the image
    cells[1, 7, 8] = 65535
    compare = CompareWithTrainingd("image", GREY, 2, intensity=[None, scale])
    notes = compare({"image": MetaTensor(cells)})["image"].meta["notes"]
    rule = "a few of its pixels, far brighter or darker than all others, rule its contrast in"
    assert (f"{rule} channel 1: if they are hot or dead, remove them" in notes) == said
    assert len(notes.splitlines()) == said
    assert CompareWithTrainingd("image")({"image": MetaTensor(cells)})["image"].meta["notes"] == ""

    def read(box: Box) -> torch.Tensor:
        return cells[:, slice(*box[0]), slice(*box[1])]

    boxes = [((0, 40), (0, 300)), ((40, 300), (0, 300))]
    standardize = Standardized("image", 2, intensity=[None, scale])
    found = standardize.first_pass(Windowed(read, 2, (300, 300), torch.eye(4), {}), boxes)
    assert found.get("notes", np.array([])).tolist() == notes.splitlines()


def test_one_hot_pixel_in_a_stack_is_said_once_by_windows() -> None:
    """Planes have statistics of their own; of the stack is said what is said of it in memory."""
    cells = torch.arange(64 * 64 * 5.0).reshape(1, 64, 64, 5) % 101

    def found() -> list[str]:
        image = Windowed(lambda box: cells[..., slice(*box[2])], 1, (64, 64, 5), torch.eye(4), {})
        boxes = [((0, 64), (0, 64), (z, z + 1)) for z in range(5)]
        passed = Standardized("image", 2).first_pass(image, boxes)
        in_memory = CompareWithTrainingd("image", GREY, 2)._about_extremes(cells.numpy())
        assert passed.get("notes", np.array([])).tolist() == list(in_memory)
        return list(passed.get("notes", np.array([])))

    assert found() == []
    cells[0, 7, 8, 3] = 65535
    assert len(found()) == 1


@pytest.mark.parametrize(
    ("blue", "alpha", "taken", "said"),
    [
        (0, 255, 1, "1 channel(s) of the 4 in the files, which are grey saved in colours\n"),
        (9, 255, 3, "3 channel(s) of the 4 in the files, which are all opaque\n"),
        (0, None, 1, "1 channel(s) of the 3 in the files, which are grey saved in colours\n"),
        (9, None, 3, "3 channel(s)\n"),
        (0, 9, 4, "4 channel(s)\n"),
    ],
)
def test_channels_that_add_nothing_are_left_out(
    tmp_path: Path, blue: int, alpha: int | None, taken: int, said: str
) -> None:
    from PIL import Image

    for k in range(3):
        grey = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50) // 2 + k
        label = np.zeros((40, 50), np.uint8)
        label[5 + k : 20, 5:20] = 255
        bands = [grey, grey, grey + blue, *([] if alpha is None else [np.full_like(grey, alpha)])]
        for name, pixels in (("i", np.stack(bands, -1)), ("l", label)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    plan = planning.make_plan(planning.fingerprint(tmp_path / "i", tmp_path / "l"))
    assert said in describe(plan)
    assert plan.value("in_channels") == taken
    assert len(plan.value("trained_on")["intensities"]) == taken
    assert planning.Plan.from_json(json.loads(json.dumps(plan.to_json()))).data == plan.data


def test_grey_is_one_kind_however_it_was_saved(tmp_path: Path) -> None:
    from PIL import Image

    for k, mode in enumerate(("L", "RGB", "RGBA")):
        grey = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50) // 2 + k
        for name, picture in (("i", Image.fromarray(grey).convert(mode)), ("l", grey > 99)):
            (tmp_path / name).mkdir(exist_ok=True)
            picture = picture if name == "i" else Image.fromarray(picture)
            picture.save(tmp_path / name / f"{k}.png")
    plan = planning.make_plan(planning.fingerprint(tmp_path / "i", tmp_path / "l"))
    assert plan.value("in_channels") == 1
    colours = np.stack([grey, 2 * grey, grey, np.full_like(grey, 255)], -1)
    Image.fromarray(colours).save(tmp_path / "i/2.png")  # of which grey is no kind
    with pytest.raises(ValueError, match=r"image i/1.png has 3 channel\(s\), i/0.png 1: save all"):
        planning.make_plan(planning.fingerprint(tmp_path / "i", tmp_path / "l"))


def test_of_a_run_the_first_five_far_images_are_named(caplog: pytest.LogCaptureFixture) -> None:
    compare = CompareWithTrainingd("image", GREY, 2)
    for k in range(9):
        compare({"image": torch.full((1, 4, 5), 7.0) if k else torch.arange(20.0).view(1, 4, 5)})
    named = "image is far from what was trained on: all its pixels are 7"
    more = "more images are far from what was trained on: record.json lists them"
    assert lines(caplog) == [named] * 5 + [more]


def test_each_channel_is_compared_with_its_own() -> None:
    dark = torch.arange(60.0).view(6, 10) ** 4
    known = {**GREY, "skews": [[0.5, 1.5], [-1.5, -0.5]]}
    for other, note in ((-dark, ""), (0 * dark + 7, "all its pixels are 7 in channel 1")):
        image = MetaTensor(torch.stack([dark, other]))
        compared = CompareWithTrainingd("image", known, 2)({"image": image})
        assert compared["image"].meta["notes"] == note


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ct: ct, ""),
        (lambda ct: ct[:, 20:], ""),  # the body alone
        (lambda ct: ct + 1024, "its values are 24 to 1164, and half of the training's below -200"),
        (
            lambda ct: (ct + 1000) / 2000,
            "its values are 0 to 0.57, and half of the training's below -200",
        ),
    ],
    ids=["alike", "the body alone", "not subtracted", "from 0 to 1"],
)
def test_ct_of_another_scale_is_said(change: Any, said: str) -> None:
    ct = torch.full((1, 40, 40), -1000.0)
    ct[:, 20:] = torch.linspace(-300, 140, 40)
    known = {**GREY, "intensities": [[-1000, -1000, -900, -200, 60, 200, 300]]}
    scale = {"low": -100, "high": 300, "mean": 60, "std": 50}
    compare = CompareWithTrainingd("image", known, 2, intensity=[scale])
    notes = compare({"image": MetaTensor(change(ct))})["image"].meta[NOTES]
    assert notes == (said and f"{said}: is it in Hounsfield units, as theirs?")
    own_scale = CompareWithTrainingd("image", known, 2, intensity=[None])
    assert own_scale({"image": MetaTensor(change(ct))})["image"].meta[NOTES] == ""


def test_a_large_image_is_looked_at_in_boxes_that_are_spread_over_it() -> None:
    """Its first half is of one value, and a few of its hundred boxes tell that the rest is not."""
    pixels = torch.zeros(1, 100, 30)
    pixels[:, 50:] = torch.arange(1500.0).view(50, 30)
    reads = []

    def read(box: Box) -> torch.Tensor:
        reads.append(box)
        return pixels[(..., *(slice(*side) for side in box))]

    image = Windowed(read, 1, (100, 30), torch.eye(4, dtype=torch.float64), {})
    boxes = [((k, k + 1), (0, 30)) for k in range(100)]
    found = CompareWithTrainingd("image", GREY, 2).first_pass(image, boxes)
    assert found["notes"].tolist() == []
    assert 8 <= len(reads) <= 16
    pixels[:] = 3
    found = CompareWithTrainingd("image", GREY, 2).first_pass(image, boxes)
    assert found["notes"].tolist() == ["all its pixels are 3"]


def test_element_size_and_orientation(caplog: pytest.LogCaptureFixture) -> None:
    """What is brought to one size is not compared; a millimetre has a thousand micrometres."""
    known = {
        "unit": "mm", "pixel_size": [[0.5, 0.6], [0.5, 0.6], [2.0, 5.0]],
        "orientations": ["LPS", "RAS"], "skews": [[0.5, 1.0]],
    }  # fmt: skip

    def notes(sizes: list[float], unit: str, source: str = "nifti", **options: Any) -> str:
        meta = {"spatial_unit": unit, "spacing_source": source}
        image = MetaTensor(np.arange(60.0).reshape(1, 3, 4, 5) ** 4, meta=meta)
        image.affine = np.diag([*sizes, 1.0])
        return str(
            CompareWithTrainingd("image", known, 3, **options)({"image": image})["image"].meta[
                "notes"
            ]
        )

    assert notes([0.55, 0.5, 3.0], "mm") == ""
    assert notes([550.0, 500.0, 3000.0], "um") == ""
    assert notes([3.0, 0.5, 0.55], "mm") == ""  # axes in another order
    assert (
        "its pixels are 0.5 x 0.5 x 9 mm, the training's 0.5 x 0.5 x 2 to 0.6 x 0.6 x 5 mm"
        in notes([0.5, 0.5, 9.0], "mm")
    )
    assert "500 x 500 x 2000 to 600 x 600 x 5000 um" in notes([0.55, 0.5, 3.0], "um")
    assert "its pixels are 0.3 x 0.5 x 3 mm" in notes([0.5, 0.3, 3.0], "mm")
    assert notes([0.35, 0.5, 1.4], "mm") == ""  # two thirds are not far
    assert notes([0.5, 0.5, 9.0], "mm", element_size=1.0) == ""
    assert notes([0.5, 0.5, 9.0], "mm", source="assumed") == ""
    assert notes([500.0, 500.0, 3000.0], "um", source="ome") == (
        "it states no orientation, the training's images LPS and RAS"
    )
