"""Cases of several files: four sequences a patient, from training to scores, by every door."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from doors import run

from unet_med import data
from unet_med.data.cases import case_name

SEQUENCES = ("flair", "t1", "t1ce", "t2")
SIDES = (16, 20, 8)


def write(path: Path, array: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path.name


def case(folder: Path, number: int) -> dict[str, Any]:
    """A ball that is bright in every sequence, with noise of its own."""
    rng = np.random.default_rng(number)
    axes = np.meshgrid(*(np.arange(side) - side / 2 for side in SIDES), indexing="ij")
    ball = sum(axis**2 for axis in axes) < rng.integers(9, 25)
    names = [f"p{number}_{sequence}.nii.gz" for sequence in SEQUENCES]
    for name in names:
        write(folder / name, (100 * ball + rng.normal(0, 9, SIDES)).astype(np.int16))
    label = write(folder / f"p{number}_seg.nii.gz", ball.astype(np.uint8))
    return {"image": names, "label": label}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data list of three patients to train on and one to test on, and its bundle."""
    folder = tmp_path_factory.mktemp("cohort")
    cases = [case(folder, number) for number in range(4)]
    listing = {"training": cases[:2], "validation": cases[2:3], "test": cases[3:]}
    (folder / "list.json").write_text(json.dumps(listing))
    words = ["--features", 2, 4, "--epochs", 1, "--tile-size", 8, "--device", "cpu"]
    assert run("train", "--images", folder / "list.json", "--output", folder / "b", *words) == 0
    return folder


def test_the_plan_names_and_hashes_every_file(cohort: Path) -> None:
    plan = json.loads((cohort / "b/configs/plan.json").read_text())
    assert plan["ids"]["in_channels"]["value"] == 4
    image = plan["data"]["cases"][0]["image"]
    files = [f"p0_{sequence}.nii.gz" for sequence in SEQUENCES]
    assert image["name"] == ", ".join(files)
    assert image["sha256"] == data.sha256([cohort / file for file in files])
    assert image["sha256"] != data.sha256([cohort / file for file in files[:3]])
    assert plan["data"]["found_by"] == [
        "2 image(s) of 'training' of list.json",
        "1 of its 'validation' held out",
    ]


def test_a_bundle_trains_and_validates_as_its_list_says(cohort: Path) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(cohort / "b/configs/train.json"))
    parser["bundle_root"], parser["dataset_dir"] = str(cohort / "b"), str(cohort)
    training, held = parser.get_parsed_content("split")
    assert [case_name(item["image"]) for item in training] == ["p0", "p1"]
    assert [case_name(item["image"]) for item in held] == ["p2"]


def test_a_bundle_names_its_pairs_without_its_data(cohort: Path, tmp_path: Path) -> None:
    """Copied alone, and asked as a script would that knows of no data; planes are counted too."""
    import shutil

    from monai.bundle import ConfigParser

    shutil.copytree(cohort / "b", tmp_path / "b")
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "b/configs/train.json"))
    parser["bundle_root"] = str(tmp_path / "b")
    found = parser.get_parsed_content("pairs")
    real = data.find_pairs(cohort / "list.json")
    assert [case_name(item["image"]) for item in found] == [case_name(i["image"]) for i in real]
    assert [Path(item["label"]).name for item in found] == [Path(i["label"]).name for i in real]
    assert found[0]["image"] == [
        f"{tmp_path}/b/data/p0_{sequence}.nii.gz" for sequence in SEQUENCES
    ]
    known = {"plan": tmp_path / "b/configs/plan.json"}
    planes = data.find_pairs(tmp_path / "elsewhere/list.json", stacks=True, **known)
    assert [item["slice"] for item in planes] == list(range(SIDES[2])) * 3
    with pytest.raises(FileNotFoundError, match="other does not exist"):
        data.find_pairs(tmp_path / "other", tmp_path, **known)


def test_several_files_are_resumed_and_compared(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One more epoch; then one sequence of one patient has changed."""
    import shutil

    folder = Path(shutil.copytree(cohort, tmp_path / "copy"))
    words = ["train", "--images", folder / "list.json", "--output", folder / "b", "--resume"]
    assert run(*words, "--epochs", 2, "--device", "cpu") == 0
    assert json.loads((folder / "b/models/training.json").read_text())["epochs"] == 2
    write(folder / "p1_t2.nii.gz", np.zeros(SIDES, np.int16))
    capsys.readouterr()
    assert run(*words, "--epochs", 3) == 2
    error = capsys.readouterr().err
    assert f"{folder}/p1_t1ce.nii.gz, {folder}/p1_t2.nii.gz is not the file p1_flair" in error


def test_a_share_to_validate_on_is_refused_where_the_list_says_which(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--validation", 0.5, "--output", tmp_path / "b", "--plan-only"]
    assert run("train", "--images", cohort / "list.json", *words) == 2
    assert "(1 of its 'validation' held out), so a share" in capsys.readouterr().err


def test_prediction_and_scores_of_a_list(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    words = ["--bundle", cohort / "b", "--device", "cpu"]
    assert run("predict", cohort / "list.json", "--output", results, *words) == 0
    assert "1 image(s) of 'test' of list.json" in capsys.readouterr().err
    assert [file.name for file in results.glob("*.nii.gz")] == ["p3_mask.nii.gz"]
    record = json.loads((results / "record.json").read_text())
    files = [str(cohort / f"p3_{sequence}.nii.gz") for sequence in SEQUENCES]
    assert record["images"]["p3"]["files"] == files
    assert record["images"]["p3"]["sha256"] == data.sha256(files)
    assert record["images"]["p3"]["shape"] == [4, *SIDES]
    assert run("evaluate", results, cohort / "list.json") == 0
    out = capsys.readouterr().out
    assert "truth: the labels of 'test' of list.json" in out
    assert "\np3 " in out
    assert run("report", results) == 0
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "p3_flair.nii.gz, p3_t1.nii.gz, p3_t1ce.nii.gz, p3_t2.nii.gz" in page


def test_every_door_gives_the_same_mask(cohort: Path, tmp_path: Path) -> None:
    import monai.bundle

    from unet_med import Segmenter

    config = cohort / "b/configs/inference.json"
    monai.bundle.run(
        config_file=str(config),
        meta_file=str(cohort / "b/configs/metadata.json"),
        bundle_root=str(cohort / "b"),
        images=str(cohort / "list.json"),
        output_dir=str(tmp_path),
        device="$torch.device('cpu')",
        fail_fast=True,
    )
    mask = np.asanyarray(nibabel.load(tmp_path / "p3_mask.nii.gz").dataobj)
    files = [str(cohort / f"p3_{sequence}.nii.gz") for sequence in SEQUENCES]
    found = Segmenter(cohort / "b", device="cpu")(files)
    np.testing.assert_array_equal(found.mask, mask)
    assert mask.shape == SIDES
    zarr = tmp_path / "p3.ome.zarr"
    words = ["--bundle", cohort / "b", "--output", zarr, "--device", "cpu", "--block", 4, 8, 8]
    words += ["--workers", 1]
    assert run("predict", cohort / "list.json", *words) == 0
    np.testing.assert_array_equal(data.load_image(zarr / "labels/mask").numpy()[0], mask)


def test_monai_trains_and_scores_the_list(cohort: Path, tmp_path: Path) -> None:
    import monai.bundle
    import torch

    bundle = tmp_path / "b"
    shutil.copytree(cohort / "b", bundle, ignore=shutil.ignore_patterns("models"))
    (bundle / "models").mkdir()
    for name in ("train", "evaluate"):
        monai.bundle.run(
            config_file=str(bundle / f"configs/{name}.json"),
            meta_file=str(bundle / "configs/metadata.json"),
            bundle_root=str(bundle),
            dataset_dir=str(cohort),
            device="$torch.device('cpu')",
        )
    weights = [
        torch.load(path / "models/model.pt", weights_only=True) for path in (cohort / "b", bundle)
    ]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    scores = (bundle / "eval/val_mean_dice_raw.csv").read_text().splitlines()
    assert len(scores) == 2  # a head, and the one case that was held out


def test_a_case_on_two_grids_or_without_a_file_is_set_aside(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [case(tmp_path, number) for number in range(3)]
    write(tmp_path / "p1_t1ce.nii.gz", np.zeros((16, 20, 9), np.int16))
    (tmp_path / "p2_t2.nii.gz").unlink()
    (tmp_path / "list.json").write_text(json.dumps({"test": cases}))
    words = ["--bundle", cohort / "b", "--output", tmp_path / "r", "--device", "cpu"]
    assert run("predict", tmp_path / "list.json", *words) == 3
    said = capsys.readouterr()
    assert "1 of 3 images segmented" in said.out
    assert "p1_t1ce.nii.gz and p1_flair.nii.gz are not channels of one image" in said.err
    assert "p2_t2.nii.gz does not exist" in said.err


def test_channels_are_read_in_the_order_of_the_list(tmp_path: Path) -> None:
    files = [
        str(tmp_path / write(tmp_path / f"a_{k}.nii", np.full(SIDES, k, np.int16)))
        for k in (3, 1, 2)
    ]
    image = data.load_image(files)
    assert image[:, 0, 0, 0].tolist() == [3, 1, 2]
    header = data.load_header(files)
    assert header.array.shape == (3, *SIDES)
    assert image.meta["files"] == files
    moved = np.diag([1.0, 1.0, 2.0, 1.0])
    moved[0, 3] = 0.04  # of a pixel: rounding
    nibabel.save(nibabel.Nifti1Image(np.zeros(SIDES, np.int16), moved), files[1])
    assert data.load_header(files).array.shape == (3, *SIDES)
    moved[0, 3] = 0.5
    nibabel.save(nibabel.Nifti1Image(np.zeros(SIDES, np.int16), moved), files[1])
    with pytest.raises(ValueError, match=r"a_1\.nii and a_3\.nii are not channels of .* affines"):
        data.load_header(files)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ("x/a.ome.tif", "a"),
        (["x/a_0000.nii.gz", "x/a_0001.nii.gz"], "a"),
        (["x/p1-t1.nii", "x/p1-t1ce.nii"], "p1"),
        (["p1/t1.nii", "p1/t2.nii"], "p1"),
        (["t1/p1.nii", "t2/p1.nii"], "p1"),
    ],
)
def test_names_of_cases(files: Any, name: str) -> None:
    assert case_name(files) == name
