"""One orientation for the network: whatever the order of a file's axes, the same voxels."""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from doors import run
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from unet_med import bundle
from unet_med.data import AutoReader, find_pairs, load_image
from unet_med.data.grids import Grid, axes_of
from unet_med.data.label_reader import look_and_head
from unet_med.data.labels import summarize_label
from unet_med.data.orientation import turn_between, turn_towards
from unet_med.inferers.test_time_augmentation import views
from unet_med.planning import fingerprint, make_plan
from unet_med.planning.fingerprints import FileFacts
from unet_med.planning.orientation import decide_mirroring, decide_orientation
from unet_med.planning.sides import lie_apart, places_of
from unet_med.planning.sizes import decide_turns
from unet_med.transforms import Orientd, Standardized
from unet_med.volumes import open_source

ORDERS = [
    np.array(list(zip(order, signs, strict=True)))
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3))
]
THICK_FRONT = np.diag([0.8, 3.0, 0.7, 1.0])  # RAS, coarsest to the front: coronal slices
COS, SIN = np.cos(0.3), np.sin(0.3)
TILTED = np.array(
    [[0.8 * COS, 0, -0.7 * SIN, 9], [0, 3, 0, -7], [0.8 * SIN, 0, 0.7 * COS, 4], [0, 0, 0, 1]]
)


def write(path: Path, array: np.ndarray, affine: np.ndarray, turn: Any = None) -> Path:
    """A NIfTI of an image in RAS, its axes turned as nibabel does it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if turn is not None:
        affine = affine @ inv_ornt_aff(turn, array.shape)
        array = np.ascontiguousarray(apply_orientation(array, turn))
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def canonical(path: Path) -> np.ndarray:
    """Voxels in RAS, by nibabel."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)


# --- the transform ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("affine", "word", "axes"), [(THICK_FRONT, "RAS", (0, 1, 2)), (TILTED, "RSA", (0, 2, 1))]
)
def test_all_48_orders_are_one_image_and_come_back(
    tmp_path: Path, affine: np.ndarray, word: str, axes: tuple[int, ...]
) -> None:
    volume = np.random.default_rng(0).integers(0, 999, (5, 4, 6)).astype(np.int16)
    load = LoadImaged("image", reader=AutoReader(), ensure_channel_first=True)
    chain = Compose([load, Orientd("image", word), Standardized("image", spatial_dims=3)])
    back = Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False)
    first: dict[str, Any] = {}
    assert len(ORDERS) == 48
    for turn in ORDERS:
        path = write(tmp_path / "a.nii", volume, affine, turn)
        item = chain({"image": str(path)})
        first = first or item
        assert item["image"].is_contiguous()
        assert axes_of(item["image"].affine.numpy()) == word
        assert torch.equal(item["image"].as_tensor(), first["image"].as_tensor())  # to the bit
        np.testing.assert_allclose(item["image"].affine, first["image"].affine, atol=1e-5)
        turned = torch.as_tensor(np.ascontiguousarray(volume.transpose(axes)))[None].float()
        found = back({**item, "pred": MetaTensor(turned)})["pred"]
        np.testing.assert_array_equal(found[0], nib.load(path).get_fdata())
        np.testing.assert_array_equal(found.affine, load_image(path).affine)
    expected = (turned - turned.mean()) / turned.std(unbiased=False)
    torch.testing.assert_close(first["image"].as_tensor(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("affine", [THICK_FRONT, TILTED])
def test_a_label_in_another_order_is_turned_by_its_own(tmp_path: Path, affine: np.ndarray) -> None:
    """It lay mirrored or on its side on the image, where they had not been brought together."""
    volume = np.random.default_rng(0).integers(0, 999, (5, 4, 6)).astype(np.int16)
    load = LoadImaged(["image", "label"], reader=AutoReader(), ensure_channel_first=True)
    chain = Compose([load, Orientd(["image", "label"], "RAS")])
    image = write(tmp_path / "image.nii", volume, affine, ORDERS[7])
    for turn in ORDERS:
        label = write(tmp_path / "label.nii", volume, affine, turn)
        found = chain({"image": str(image), "label": str(label)})
        assert torch.equal(found["label"].as_tensor(), found["image"].as_tensor())
        np.testing.assert_allclose(found["label"].affine, found["image"].affine, atol=1e-5)
        back = chain.inverse(found)["label"]
        np.testing.assert_array_equal(back[0], nib.load(label).get_fdata())


WORDS = ["".join(nib.orientations.ornt2axcodes(turn)) for turn in ORDERS]


@given(
    st.sampled_from(WORDS), st.sampled_from(WORDS), st.tuples(*[st.integers(2, 4)] * 3),
    st.data(),
)  # fmt: skip
def test_turns_boxes_and_inverses_are_nibabels(own: str, word: str, sides: Any, draw: Any) -> None:
    volume = np.arange(np.prod(sides)).reshape(sides)
    turn = turn_between(own, sides, word)
    there = ornt_transform(axcodes2ornt(own), axcodes2ornt(word))
    expected = apply_orientation(volume, there)
    np.testing.assert_array_equal(turn.of_array(volume), expected)
    np.testing.assert_array_equal(turn.inverse.of_array(expected), volume)
    np.testing.assert_array_equal(turn.matrix(sides), inv_ornt_aff(there, sides))
    box = tuple(
        tuple(sorted(draw.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))))
        for n in turn.sides(sides)
    )
    window = tuple(slice(*side) for side in turn.source(box, sides))
    part = expected[tuple(slice(*side) for side in box)]
    np.testing.assert_array_equal(turn.of_array(volume[window]), part)


def halfway(axis: int) -> np.ndarray:
    """A turn by 45 degrees about an axis of the world."""
    found = np.eye(3) * np.sqrt(0.5)
    found[axis, axis] = 1
    one, other = (k for k in range(3) if k != axis)
    found[one, other], found[other, one] = np.sqrt(0.5), -np.sqrt(0.5)
    return found


@given(st.one_of(st.integers(0, 2), st.integers(3, 10_000)), st.sampled_from(ORDERS))
def test_no_order_of_axes_changes_what_is_closest(seed: int, order: np.ndarray) -> None:
    if seed < 3:  # where two orientations are equally close
        matrix = halfway(seed)
    else:
        matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = matrix * (1.0, 2.0, 0.5)
    turned = (affine @ inv_ornt_aff(order, (5, 6, 7))).astype(np.float32).astype(float)
    sides = tuple(apply_orientation(np.empty((5, 6, 7)), order).shape)
    grids = (Grid("a", (5, 6, 7), affine, "mm", True), Grid("a", sides, turned, "mm", True))
    found = [g.affine @ turn_towards(g, "LSP").matrix(g.shape) for g in grids]
    np.testing.assert_allclose(*found, atol=1e-5)
    cosines = np.abs(
        np.diag((found[0][:3, :3] / (np.linalg.norm(found[0][:3, :3], axis=0)))[[0, 2, 1]])
    )
    if cosines.min() > np.sqrt(0.5) + 1e-6:  # beyond doubt
        assert axes_of(affine) == "".join(nib.aff2axcodes(affine))


@pytest.mark.parametrize(
    ("own", "shape", "word", "becomes", "sides"),
    [
        ("RAS", (5, 6), "RAS", "RAS", (5, 6)),  # an axial plane
        ("ARS", (5, 6), "RSA", "RAS", (6, 5)),
        ("SPL", (5, 6), "RAS", "ASL", (6, 5)),  # a sagittal one has no axis to the right
        ("RAS", (1, 6, 7), "RAS", "ASR", (6, 7, 1)),
        ("LIP", (5, 6, 7), "ASR", "ASR", (7, 6, 5)),
    ],
)
def test_planes_stay_planes(own: str, shape: Any, word: str, becomes: str, sides: Any) -> None:
    turn = turn_between(own, shape, word)
    letters = [own[old] for old in turn.order]
    pairs = [{"L": "R", "A": "P", "I": "S"}, {"R": "L", "P": "A", "S": "I"}]
    other = pairs[0] | pairs[1]
    found = [other[a] if flip else a for a, flip in zip(letters, turn.flips, strict=True)]
    assert "".join(found) == becomes
    assert turn.of_array(np.zeros(shape)).shape == sides


def test_what_states_no_place_stays_as_it_is(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 99, (5, 4, 6)).astype(np.int16)
    bare = nib.Nifti1Image(volume, None)  # no sform, no qform: nibabel calls that LAS
    nib.save(bare, tmp_path / "bare.nii")
    image = load_image(tmp_path / "bare.nii")
    assert image.meta["spacing_source"] == "pixdim"
    turned = Orientd("image", "SPR")({"image": image})["image"]
    np.testing.assert_array_equal(turned[0], volume)
    assert torch.equal(Orientd("x", "SPR")({"x": torch.ones(1, 2, 3)})["x"], torch.ones(1, 2, 3))
    assert fingerprint_orientations(tmp_path / "bare.nii", tmp_path) == [None]
    with pytest.raises(ValueError, match="orientation 'RRS' is not one letter of each of L and R"):
        Orientd("x", "RRS")


def fingerprint_orientations(image: Path, folder: Path) -> list[str | None]:
    half = np.indices(load_image(image).shape[1:])[0] % 2
    label = write(folder / "label/a.nii", half.astype(np.uint8), np.eye(4))
    return [case.image.orientation for case in fingerprint(image, label).cases]


def test_memory_is_laid_out_anew() -> None:
    pixels = torch.rand(1, 6, 5, 4).permute(0, 3, 2, 1)  # as NumPy's order="F"
    image = MetaTensor(pixels, affine=torch.eye(4), meta={"spacing_source": "nifti"})
    assert not image.is_contiguous()
    found = Orientd("image", "RAS")({"image": image})["image"]
    assert found.is_contiguous()
    assert torch.equal(found.as_tensor(), pixels)


def test_files_of_a_case_in_other_orders_are_its_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    volumes = [rng.integers(0, 99, (5, 4, 6)).astype(np.int16) for _ in range(2)]
    for turn in ORDERS[::7]:
        files = [write(tmp_path / "t1.nii", volumes[0], TILTED)]
        files += [write(tmp_path / "t2.nii", volumes[1], TILTED, turn)]
        np.testing.assert_array_equal(load_image(files).numpy(), volumes)
        listing = tmp_path / "one.json"
        listing.write_text(json.dumps([{"image": ["t1.nii", "t2.nii"]}]))
        window = (slice(1, 6), slice(0, 3), slice(2, 4))  # Z, Y, X
        found = open_source(listing).read(window)
        np.testing.assert_array_equal(found, [v.T[window] for v in volumes])
    moved = TILTED.copy()
    moved[0, 3] += 1
    files[1] = write(tmp_path / "t2.nii", volumes[1], moved)
    with pytest.raises(ValueError, match="not channels of one image: they have affines"):
        load_image(files)


# --- a cohort ---------------------------------------------------------------------------


def patient(number: int) -> tuple[np.ndarray, np.ndarray]:
    """In RAS: two like organs, 1 on the right and 2 on the left, one brighter patch in front."""
    rng = np.random.default_rng(number)
    axes = np.meshgrid(np.arange(22), np.arange(9), np.arange(18), indexing="ij")
    label = np.zeros((22, 9, 18), np.uint8)
    for value, x in ((1, 16), (2, 5)):
        centre = np.array([x, 4, 9]) + rng.integers(-1, 2, 3)
        far = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, (3, 2, 4), strict=True))
        label[far < 1] = value
    image = 200 * (label > 0) + rng.normal(0, 20, label.shape)
    image[:, 7:, 5:9] += 100
    return image.astype(np.int16), label


def cohort(folder: Path, turns: list[Any]) -> Path:
    for number, turn in enumerate(turns):
        image, label = patient(number)
        write(folder / f"images/p{number}.nii.gz", image, TILTED, turn)
        write(folder / f"labels/p{number}.nii.gz", label, TILTED, turn)
    return folder


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same four patients in one orientation, and each file in another."""
    folder = tmp_path_factory.mktemp("cohorts")
    mixed = [ORDERS[k] for k in (5, 14, 27, 46)]  # 27: labels come in the order of their image
    return {
        "one": cohort(folder / "one", [None] * 4),
        "mixed": cohort(folder / "mixed", mixed),
    }


TINY = ("--features", 2, 4, "--epochs", 2, "--device", "cpu", "--config", "few.json")
TINY = (*TINY, "--label-kind", "classes")


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # planes without classes
@pytest.mark.parametrize("dims", [3, 2])
def test_a_mixed_cohort_trains_and_predicts_as_in_one_orientation(
    cohorts: dict[str, Path], dims: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import monai.bundle

    monkeypatch.chdir(tmp_path)
    few = {"tiles_per_epoch": 4, "tile_size": 24 if dims == 2 else [24, 24, 8]}
    Path("few.json").write_text(json.dumps({**few, "validation_fraction": 0.25}))
    weights, masks, dice = {}, {}, {}
    for name, folder in cohorts.items():
        place = ["--images", folder / "images", "--labels", folder / "labels"]
        assert run("train", *place, "--output", name, "--dims", dims, *TINY) == 0
        plan = json.loads(Path(name, "configs/plan.json").read_text())["ids"]
        assert plan["orientation"]["value"] == "RSA"
        assert plan["mirror_axes"]["value"] == [1, 2][: dims - 1]
        weights[name] = torch.load(f"{name}/models/model.pt", weights_only=True)
        words = ["--bundle", name, "--output", f"{name}/results", "--device", "cpu"]
        assert run("predict", folder / "images", *words) == 0
        results = sorted(Path(name, "results").glob("*.nii.gz"))
        masks[name] = [canonical(path) for path in results]
        sources = sorted((folder / "images").iterdir())
        for result, source in zip(results, sources, strict=True):
            np.testing.assert_array_equal(nib.load(result).affine, nib.load(source).affine)
        monai.bundle.run(
            config_file=f"{name}/configs/evaluate.json",
            meta_file=f"{name}/configs/metadata.json",
            bundle_root=name,
            dataset_dir=str(folder),
            device="$torch.device('cpu')",
        )
        dice[name] = Path(name, "eval/val_mean_dice_raw.csv").read_text()
    assert [*weights["one"]] == [*weights["mixed"]]
    for key, value in weights["one"].items():
        assert torch.equal(value, weights["mixed"][key]), key
    assert len(masks["one"]) == 4
    assert all(len(np.unique(mask)) > 1 for mask in masks["one"])
    np.testing.assert_array_equal(masks["one"], masks["mixed"])
    assert dice["one"] == dice["mixed"]


def test_planes_are_counted_along_the_planned_axis(cohorts: dict[str, Path]) -> None:
    for folder in cohorts.values():
        place = folder / "images", folder / "labels", True
        assert len(find_pairs(*place, orientation="RSA")) == 4 * 9
        assert len(find_pairs(*place, orientation="RAS")) == 4 * 18


def test_evaluation_looks_at_labels_in_one_order(cohorts: dict[str, Path]) -> None:
    for one, other in zip(
        *(sorted((f / "labels").iterdir()) for f in cohorts.values()), strict=True
    ):
        looks = [look_and_head(path)[0] for path in (one, other)]
        for field in ("values", "counts", "plane_sizes", "centres"):
            np.testing.assert_array_equal(*(getattr(look, field) for look in looks))
        centre = np.argwhere(canonical(one) == 1).mean(axis=0)
        np.testing.assert_allclose(looks[1].centres[1], centre)
        assert looks[0].blobs == looks[1].blobs


# --- the plan ---------------------------------------------------------------------------


def facts(orientation: str | None, sizes: Any, shape: Any = (9, 8, 7), unit: str = "mm") -> Any:
    return FileFacts("a", "", shape, 1, "int16", sizes, "nifti", unit, orientation)


@pytest.mark.parametrize(
    ("images", "word", "reason"),
    [
        ([facts("LPS", (0.5, 0.5, 3))], "RAS", "pixels are coarsest to the head; the files: 1 LPS"),
        ([facts("SAR", (1, 1, 1.005))], "RAS", "all axes alike; the files: 1 SAR"),
        ([facts("SLP", (0.5, 0.5, 3))] * 2, "RSA", "coarsest to the front; the files: 2 SLP"),
        (
            [facts("PSR", (0.5, 0.5, 3)), *[facts("RAS", (1, 1, 4))] * 2],
            "RAS",
            "1 coarsest along another axis",
        ),
        ([facts("PSR", (0.5, 0.5), (9, 8))], "ASR", "coarsest to the right"),
        (
            [*[facts("RAS", (1, 1, 3))] * 2, facts("RAS", (9, 1, 3))],
            "RAS",
            "pixels are coarsest to the head; the files: 3 RAS; 1 coarsest along another axis",
        ),
        ([facts("RAS", (900, 1, 1), unit="um"), facts("RAS", (0.9, 2, 1))], "RSA", ""),
        ([facts("RAS", (1, 1, 2)), facts(None, (1, 1, 1))], "RAS", "1 state none and are taken"),
        ([facts(None, (0.2, 0.2), (9, 8), "um")], None, "no file states one"),
    ],
)
def test_the_coarsest_axis_comes_last(images: Any, word: str | None, reason: str) -> None:
    decided = decide_orientation(images)
    assert decided.value == word
    assert reason in decided.reason


def plan_of(folder: Path, choices: Any = None, **names: str) -> dict[str, Any]:
    """Decisions on two files of two classes each, listed with names of classes."""
    listing = folder / "list.json"
    files = [{"image": f"images/p{k}.nii.gz", "label": f"labels/p{k}.nii.gz"} for k in range(2)]
    listing.write_text(json.dumps({"training": files, "labels": names}))
    choices = {"label_kind": "classes", "out_channels": 3, **(choices or {})}
    found = make_plan(fingerprint(listing), choices).ids
    return {id: (why.value, why.reason) for id, why in found.items()}


def test_sides_are_found_by_place(cohorts: dict[str, Path], tmp_path: Path) -> None:
    axes, reason = plan_of(cohorts["mixed"])["mirror_axes"]
    assert axes == [1, 2]
    assert reason == (
        "classes 1 and 2 are of like size, and one lies to the right of the other in all 2 files: "
        "not mirrored"
    )
    assert plan_of(cohorts["mixed"], {"mirror_axes": [0, 1, 2]})["mirror_axes"][0] == [0, 1, 2]
    for kind, reason in (("instances", "objects have no sides"), ("mask", "a mask has no sides")):
        said = plan_of(cohorts["mixed"], {"label_kind": kind, "out_channels": None})
        assert said["mirror_axes"] == (None, reason)


@pytest.mark.parametrize(
    ("names", "axes", "reason"),
    [
        ({"1": "Left_Kidney", "2": "right kidney"}, [1, 2], "'Left_Kidney' and 'right kidney'"),
        ({"lung_l": 1, "lung_r": 2}, [1, 2], "'lung_l' and 'lung_r' differ by their side"),
        ({"1": "Anterior", "2": "Posterior"}, [0, 1], "'Posterior' and 'Anterior'"),
        ({"1": "leftover", "2": "right"}, None, "no two classes differ by their side alone"),
        ({"1": "left kidney", "2": "right lung"}, None, "no two classes"),
    ],
)
def test_sides_are_found_by_name(tmp_path: Path, names: Any, axes: Any, reason: str) -> None:
    """The two classes lie within each other; the coarsest axis runs to the front, and is last."""
    label = np.zeros((9, 8, 7), np.uint8)
    label[2:7, 2:6, 2:5] = 1
    label[3:6, 3:5, 3:4] = 2
    for k in range(2):
        for name in ("images", "labels"):
            write(tmp_path / name / f"p{k}.nii.gz", label, THICK_FRONT)
    decided = plan_of(tmp_path, **names)
    assert decided["orientation"][0] == "RSA"
    assert decided["mirror_axes"][0] == axes
    assert reason in decided["mirror_axes"][1]


def test_names_beside_a_folder_count(tmp_path: Path) -> None:
    for k in range(2):
        for name in ("imagesTr", "labelsTr"):
            label = np.zeros((9, 8, 7), np.uint8)
            label[2:6, 2:6, 2:5], label[3, 3 + k, 3] = 1, 2
            write(tmp_path / name / f"p{k}.nii.gz", label, THICK_FRONT)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "L": 1, "R": 2}}')
    found = fingerprint(tmp_path / "imagesTr", tmp_path / "labelsTr")
    assert found.class_names == {"1": "L", "2": "R"}
    plan = make_plan(found, {"label_kind": "classes"}).ids
    assert plan["mirror_axes"].value == [1, 2]
    assert make_plan(found, {"label_kind": "instances"}).ids["mirror_axes"].value is None


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["classes", "instances"])
def test_a_mixed_cohort_is_planned_as_in_one_orientation(
    cohorts: dict[str, Path], dims: int, kind: str
) -> None:
    choices = {"label_kind": kind, "spatial_dims": dims, "element_size": [0.8, 0.7, 3][:dims]}
    plans = {}
    for name, folder in cohorts.items():
        found = fingerprint(folder / "images", folder / "labels")
        plans[name] = make_plan(found, choices)
        assert make_plan(found, choices).from_json(plans[name].to_json()) == plans[name]
    for id, decided in plans["one"].ids.items():
        other = plans["mixed"].ids[id]
        assert decided.value == other.value, id
        assert decided.reason == other.reason or id == "orientation"
    assert plans["one"].value("tile_size") == ([32, 32] if dims == 2 else [24, 24, 10])
    assert {case.image.shape for case in plans["mixed"].seen.cases} == {(22, 18, 9)}


def test_an_override_decides_the_orientation(cohorts: dict[str, Path], tmp_path: Path) -> None:
    found = fingerprint(cohorts["one"] / "images", cohorts["one"] / "labels")
    choices = {"label_kind": "classes"}
    (tmp_path / "own.json").write_text('{"orientation": null, "mirror_axes": null}')
    own = make_plan(found, choices, overrides=[tmp_path / "own.json"])
    assert own.value("orientation") is None
    assert own.value("mirror_axes") is None
    assert own.seen.cases[0].image.shape == (22, 9, 18)
    said = make_plan(found, {**choices, "orientation": "SPL"})
    assert said.value("mirror_axes") == [0, 1]
    assert said.seen.cases[0].image.shape == (18, 9, 22)
    with pytest.raises(ValueError, match="orientation 'RAZ' is not one letter of each"):
        make_plan(found, {**choices, "orientation": "RAZ"})


def place(x: float, y: float = 0, z: float = 0, size: float = 1000) -> Any:
    return size, (size * 3 / (4 * np.pi)) ** (1 / 3), (x, y, z)  # radius 6.2


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([{1: place(9), 2: place(0)}] * 2, [("R", (1, 2), 2)]),
        ([{1: place(0, 9), 3: place(0, 0, 4)}] * 3, [("A", (1, 3), 3)]),
        ([{1: place(9), 2: place(0)}], []),  # a file alone
        ([{1: place(9), 2: place(0)}, {1: place(0), 2: place(9)}], []),  # no side of its own
        ([{1: place(30), 2: place(0)}, {1: place(0), 2: place(1)}], []),  # one is far, and turned
        ([{1: place(20, 0, 8), 2: place(0)}] * 2, [("R", (1, 2), 2)]),  # farthest along x
        ([{1: place(5), 2: place(0)}] * 2, []),  # within each other
        ([{1: place(9), 2: place(0, size=600)}] * 2, []),  # told apart by size
        ([{1: place(9, size=600), 2: place(0)}] * 2, []),
        ([{1: place(9), 2: place(0)}] * 2 + [{1: place(0)}], [("R", (1, 2), 2)]),
        ([{1: place(9), 255: place(0)}] * 2, []),  # ignored pixels
        ([{k: place(0, 0, 8 * k) for k in range(1, 5)}] * 2, [("S", (4, 1), 2)]),  # vertebrae
        ([{}, {}], []),
    ],
)
def test_apart_are_like_classes_on_their_own_sides(files: Any, found: Any) -> None:
    apart = lie_apart(files, "RAS")
    assert [(a.axis, a.values, a.files) for a in apart] == found


def test_a_place_is_a_centre_and_the_radius_of_a_ball_in_the_world() -> None:
    label = np.zeros((9, 8, 7), np.uint8)
    label[1:4, 2:6, 3:5] = 3  # 24 voxels
    found = places_of(summarize_label(label), (1.0, 2.0, 5.0))
    assert set(found) == {0, 3}
    radius = (3 * 240 / (4 * np.pi)) ** (1 / 3)
    assert found[3] == (pytest.approx(240), pytest.approx(radius), pytest.approx((2, 7, 17.5)))
    flat = places_of(summarize_label(label[..., 3]), (1.0, 2.0))  # a disc
    assert flat[3] == (24, pytest.approx((24 / np.pi) ** 0.5), pytest.approx((2, 7, 0)))


@pytest.mark.parametrize(
    ("names", "dims", "axes"),
    [
        (("left a", "right a", "upper b", "lower b"), 3, [1]),
        (("left a", "right a", "upper b", "lower b"), 2, [1]),  # planes have no third axis
        (("upper b", "lower b"), 3, [0, 1]),
        (("upper b", "lower b"), 2, None),
    ],
)
def test_planes_are_mirrored_along_axes_of_their_own(names: Any, dims: int, axes: Any) -> None:
    named = {str(k): name for k, name in enumerate(names, 1)}
    found = SimpleNamespace(apart=(), class_names=named)
    assert decide_mirroring(found, "classes", "RAS", dims).value == axes


# --- no mirroring -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flips", "rotations"])
@pytest.mark.parametrize("dims", [2, 3])
def test_views_leave_the_axes_that_are_not_mirrored(kind: str, dims: int) -> None:
    shape = (1, 1, *(5, 5, 3)[:dims])
    ramps = torch.meshgrid(*(torch.arange(n) for n in shape[2:]), indexing="ij")
    whole = views(kind, dims)
    for fixed in [(), (0,), (1,), (0, 1)]:
        kept = views(kind, dims, [axis for axis in range(dims) if axis not in fixed])
        same = [v for v in whole if all(torch.equal(v.apply(ramps[a][None, None])[0, 0], ramps[a])
                                        for a in fixed)]  # fmt: skip
        assert kept == same
        assert kept[0].turns == 0
        assert not kept[0].flips
    assert len(views("rotations", 2, [1])) == 2
    assert len(views("flips", 3, [1, 2])) == 4


@pytest.mark.parametrize(
    ("axes", "flip", "turned"),
    [(None, 0, True), ([0, 1], 0, True), ([1, 2], 1, False), ([0, 2], 0, False), ([], None, False)],
)
def test_training_mirrors_no_side(axes: Any, flip: int | None, turned: bool) -> None:
    config = bundle.merge_config(bundle.find_bundle() / "configs/train.json", [], {})
    parser, _ = bundle.network_of({**config, "mirror_axes": axes})
    chain = parser.get_parsed_content("augment")
    assert chain["flip"].flipper.spatial_axis == flip if flip is not None else "flip" not in chain
    assert ("quarter_turn" in chain) == turned
    inference = bundle.merge_config(bundle.find_bundle() / "configs/inference.json", [], {})
    parser, _ = bundle.network_of({**inference, "mirror_axes": axes})
    assert parser.get_parsed_content("inferer").mirror_axes == axes


@pytest.mark.parametrize(
    ("dims", "axes", "sides"),
    [
        *((2, axes, 64) for axes in (None, [0, 1], [1], [])),
        *((2, axes, [64, 48]) for axes in (None, [0, 1], [0], [1], [])),
        *((3, axes, 64) for axes in (None, [0, 1], [1, 2], [0, 2], [1], [])),
        (3, None, [64, 48, 16]),
    ],
)
def test_a_training_has_seen_each_view_of_a_prediction(
    dims: int, axes: list[int] | None, sides: Any
) -> None:
    """What test-time averaging shows a network, flips and quarter turns of a training make."""
    names = ["modern", *(["volume3d", "modern3d"] if dims == 3 else [])]
    configs = bundle.find_bundle() / "configs"
    overrides = [configs / f"{name}.json" for name in names]
    said = {"spatial_dims": dims, "mirror_axes": axes, "tile_size": sides}
    parser, _ = bundle.network_of(bundle.merge_config(configs / "train.json", overrides, said))
    chain = parser.get_parsed_content("augment")
    turns = [chain[name] for name in ("flip", "flip_y", "flip_z", "quarter_turn") if name in chain]
    cube = torch.arange(3**dims).reshape(1, *(3,) * dims)
    seen = set()
    for seed in range(200):
        item = {"image": cube, "label": cube}
        for turn in turns:
            item = turn.set_random_state(seed=seed + 1000 * turns.index(turn))(item)
        seen.add(tuple(item["image"].flatten().tolist()))
    recipe = {**said, "tta": json.loads(overrides[-1].read_text())["tta"]}
    turned = decide_turns(recipe)
    tta = turned["tta"].value if turned else recipe["tta"]
    wanted = {tuple(view.apply(cube[None]).flatten().tolist()) for view in views(tta, dims, axes)}
    assert wanted <= seen
    assert len(wanted) > 1 or not axes
