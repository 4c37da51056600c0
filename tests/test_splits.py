"""What is learned from and what is held out: nothing that belongs together on both sides."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from unet_med import data
from unet_med.cli import main
from unet_med.data import find_pairs, split_validation

PATIENT = r"(sub-\d+)"
SMALL = ("--features", "2", "4", "--epochs", "1", "--tile-size", "24", "--device", "cpu")


def write_pair(folder: Path, name: str, planes: int = 1, seed: int = 0) -> None:
    """An image and its mask; of several planes a stack."""
    shape = (planes, 32, 28) if planes > 1 else (32, 28)
    mask = np.zeros(shape, np.uint8)
    mask[..., 8:20, 6:22] = 255
    noise = np.random.default_rng(seed).integers(0, 60, shape)
    for part, pixels in (("images", mask // 2 + noise), ("labels", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        path, options = folder / part / f"{name}.tif", {"photometric": "minisblack"}
        tifffile.imwrite(path, pixels.astype(np.uint8), description=name, **options)  # no copy


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven patients; each has two sessions, one of them three."""
    folder = tmp_path_factory.mktemp("cohort")
    sessions = [(p, s) for p in range(7) for s in range(3 if p == 2 else 2)]
    for k, (patient, session) in enumerate(sessions):
        write_pair(folder, f"sub-{patient:02}_ses-{session}", seed=k)
    return folder


def split_of(folder: Path, where: Path) -> tuple[list[Any], list[Any]]:
    """What a bundle's `train.json` learns from and validates on."""
    from monai.bundle import ConfigParser

    sides = []
    for name in ("train", "evaluate"):
        parser = ConfigParser(ConfigParser.load_config_file(folder / f"configs/{name}.json"))
        parser["bundle_root"], parser["dataset_dir"] = str(folder), str(where)
        sides.append(parser.get_parsed_content("split"))
    assert sides[0] == sides[1]
    return sides[0]


def patients(items: list[Any]) -> set[str]:
    return {Path(item["image"]).name.split("_")[0] for item in items}


def init(where: Path, output: Path, *words: str) -> int:
    given = ["--images", f"{where}/images", "--labels", f"{where}/labels", *SMALL]
    return main(["init", str(output), *given, *words])


def test_a_patient_is_on_one_side_at_any_of_five_folds(cohort: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    for k in range(5):
        output = tmp_path / str(k)
        assert init(cohort, output, "--group", PATIENT, "--fold", f"{k}/5") == 0
        training, held = split_of(output, cohort)
        assert len(training) + len(held) == 15
        assert patients(training) & patients(held) == set()
        assert len(patients(held)) in (1, 2)
        seen += [Path(item["image"]).stem for item in held]
    assert sorted(seen) == sorted(path.stem for path in (cohort / "images").iterdir())


def test_the_split_is_in_the_bundle_with_hashes(cohort: Path, tmp_path: Path) -> None:
    assert init(cohort, tmp_path / "b", "--group", PATIENT, "--fold", "3/5") == 0
    text = (tmp_path / "b/configs/split.json").read_text(encoding="utf-8")
    assert str(cohort) not in text
    split = json.loads(text)
    assert (split["fold"], split["group"]) == ("3/5", PATIENT)
    entries = split["training"] + split["validation"]
    assert len(entries) == 15
    for entry in entries:
        for part in ("image", "label"):
            assert entry["sha256"][part] == data.sha256(cohort / entry[part])
    assert {e["image"] for e in split["validation"]} == {
        f"images/sub-03_ses-{k}.tif" for k in range(2)
    }
    plan = json.loads((tmp_path / "b/configs/plan.json").read_text(encoding="utf-8"))
    assert "4 of" not in plan["ids"]["split_file"]["reason"]
    assert plan["ids"]["split_file"]["reason"] == (
        f"2 of 15 images held out, fold 3/5, groups by {PATIENT} on one side each"
    )
    used = ["--split", str(tmp_path / "b/configs/split.json"), "--fold", "3/5"]
    assert init(cohort, tmp_path / "again", *used) == 0
    assert split_of(tmp_path / "again", cohort) == split_of(tmp_path / "b", cohort)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=12),
    order=st.randoms(use_true_random=False),
    share=st.floats(0.01, 0.99),
    folds=st.integers(2, 6),
)
def test_groups_stay_together(sizes: list[int], order: Any, share: float, folds: int) -> None:
    items = [
        {"image": f"/x/sub-{patient}/ses-{k}/t1.nii.gz", "patient": f"p{patient}"}
        for patient, count in enumerate(sizes)
        for k in range(count)
    ]
    order.shuffle(items)
    for group in ("patient", PATIENT):
        splits = [split_validation(items, share, group=group)]
        if folds <= len(sizes):
            parts = [split_validation(items, fold=f"{k}/{folds}", group=group)
                     for k in range(folds)]  # fmt: skip
            held = sorted(str(item) for _, part in parts for item in part)
            assert held == sorted(map(str, items))  # each image in one fold
            splits += parts
        for training, held_out in splits:
            assert training
            assert held_out
            assert len(training) + len(held_out) == len(items)
            sides = [{item["patient"] for item in side} for side in (training, held_out)]
            assert sides[0] & sides[1] == set()


@given(count=st.integers(2, 40), fraction=st.floats(0.01, 0.99))
def test_split_is_a_partition(count: int, fraction: float) -> None:
    items = [{"image": str(k)} for k in range(count)]
    training, validation = split_validation(items, fraction)
    assert training
    assert validation
    assert sorted(training + validation, key=lambda i: int(i["image"])) == items


def test_split_is_spread_evenly_over_images() -> None:
    items = [{"image": str(k)} for k in range(20)]
    _, validation = split_validation(items, 0.1)
    assert [item["image"] for item in validation] == ["5", "15"]


def test_split_of_a_single_image_uses_it_twice() -> None:
    items = [{"image": "only"}]
    assert split_validation(items, 0.5) == (items, items)


@given(planes=st.integers(2, 60), share=st.floats(0.01, 0.99), folds=st.integers(2, 60))
def test_a_single_stack_is_cut_into_blocks(planes: int, share: float, folds: int) -> None:
    items = [{"image": "stack.tif", "slice": k} for k in range(planes)]
    training, held = split_validation(items, share)
    assert [item["slice"] for item in training + held] == list(range(planes))
    if folds <= planes:
        blocks = [split_validation(items, fold=f"{k}/{folds}")[1] for k in range(folds)]
        assert [item["slice"] for block in blocks for item in block] == list(range(planes))
        assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def test_planes_of_several_stacks_stay_with_their_stack() -> None:
    items = [{"image": f"{name}.tif", "slice": k} for name in "abc" for k in range(4)]
    _, held = split_validation(items, 0.5)
    assert [item["slice"] for item in held] == [0, 1, 2, 3] * (len(held) // 4)
    assert {item["image"] for item in held} < {"a.tif", "b.tif", "c.tif"}


def test_a_stack_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path / "d", "stack", planes=20)
    assert init(tmp_path / "d", tmp_path / "b", "--dims", "2") == 0
    assert "2 of 20 planes held out, one block of the stack" in capsys.readouterr().out
    training, held = split_of(tmp_path / "b", tmp_path / "d")
    assert [i["slice"] for i in training + held] == list(range(20))
    assert [i["slice"] for i in held] == [18, 19]
    split = json.loads((tmp_path / "b/configs/split.json").read_text(encoding="utf-8"))
    assert [split[part][0]["slices"] for part in ("training", "validation")] == [[0, 18], [18, 20]]


def test_a_single_image_says_that_its_score_is_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path / "d", "only")
    assert init(tmp_path / "d", tmp_path / "b") == 0
    assert "the only image is validated on itself" in capsys.readouterr().out
    training, held = split_of(tmp_path / "b", tmp_path / "d")
    assert training == held == find_pairs(tmp_path / "d/images", tmp_path / "d/labels")


def test_folds_of_nnunet(cohort: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (cohort / "images").iterdir())
    folds = [{"train": names[3:], "val": names[:3]}, {"train": names[:12], "val": names[12:]}]
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps(folds))
    for words, expected in ((["--fold", "1"], names[12:]), ([], names[:3])):
        output = tmp_path / ("b" + "".join(words))
        assert init(cohort, output, "--split", str(file), *words) == 0
        training, held = split_of(output, cohort)
        assert [Path(item["image"]).stem for item in held] == expected
        assert len(training) == 12
        content = json.loads((output / "configs/split.json").read_text(encoding="utf-8"))
        assert content["from"] == {"name": "splits_final.json", "sha256": data.sha256(file)}


def test_names_of_a_split(tmp_path: Path) -> None:
    items = [
        {"image": f"/data/sub-{k}/t1.nii.gz", "label": f"/data/sub-{k}/seg.nii.gz"}
        for k in range(3)
    ]
    items.append({"image": ["/data/p_0000.nii.gz", "/data/p_0001.nii.gz"], "label": "/l/p.nii.gz"})
    file = tmp_path / "split.json"

    def sides(training: list[Any], validation: list[Any]) -> list[list[int]]:
        file.write_text(json.dumps({"training": training, "validation": validation}))
        return [[items.index(i) for i in side] for side in split_validation(items, file=file)]

    assert sides(["sub-0/t1.nii.gz", "p"], ["sub-2/seg.nii.gz"]) == [[0, 3], [2]]
    listed = [{"image": ["x/p_0000.nii.gz", "x/p_0001.nii.gz"]}]
    assert sides(listed, [{"image": "other/sub-1/t1.nii.gz"}]) == [[3], [1]]
    for training, validation, message in (
        (["t1.nii.gz"], ["p"], "t1.nii.gz may be several images: write more of its folders"),
        (
            ["sub-0/t1.nii.gz"],
            ["sub-0/t1.nii"],
            "names sub-0/t1.nii, which is not among the images; the nearest is t1.nii.gz",
        ),
        (["p", "sub-0/t1.nii.gz"], ["p"], "has p_0000.nii.gz, p_0001.nii.gz in training and in"),
        (["p"], [], "is no split"),
        ([3], ["p"], "3 names no image"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            sides(training, validation)


@pytest.mark.parametrize("named", ["{}/t1.nii.gz", "copied/{}/t1.nii.gz"])
def test_repeated_names_take_one_look_at_each_file(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planes of patients whose files have one name: the work grows with their number alone."""
    items = [
        {"image": f"/data/p{p}/t1.nii.gz", "label": f"/data/p{p}/seg.nii.gz", "slice": k}
        for p in range(20)
        for k in range(30)
    ]
    names = [named.format(f"p{p}") for p in range(20)]
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"training": names[:15], "validation": names[15:]}))
    looked, normpath = [], os.path.normpath
    monkeypatch.setattr(os.path, "normpath", lambda path: looked.append(path) or normpath(path))
    training, held = split_validation(items, file=file)
    assert (training, held) == (items[:450], items[450:])
    assert len(looked) <= 4 * len(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": "5/5"}, "--fold 5/5 is not K/N with K from 0 to N - 1"),
        ({"fold": "x"}, "--fold x is not K/N"),
        ({"fold": "2"}, r"no list has folds; .* such as --fold 2/5, or give --split"),
        ({"fold": "1/9"}, "there are 4 images or groups of them, .* give from 2 to 4 parts"),
        ({"group": "(img)"}, "puts all 4 images into one group"),
        ({"group": "nothing"}, r"is no key of img_0\.tif in a data list, and has no bracket"),
        ({"group": "(x)"}, "finds no group in the name /d/img_0.tif"),
        ({"group": "("}, "is no regular expression"),
        ({"fraction": 0.0}, "--validation 0 is no share above 0 and below 1"),
    ],
)
def test_refused_splits(options: dict[str, Any], message: str) -> None:
    items = [{"image": f"/d/img_{k}.tif"} for k in range(4)]
    with pytest.raises(ValueError, match=message):
        split_validation(items, **options)


def test_what_a_list_says_holds(tmp_path: Path) -> None:
    items = [{"image": f"{k}.tif", "fold": k % 3, "patient": k // 2} for k in range(6)]
    for fold in (None, 1, "2"):
        training, held = split_validation(items, fold=fold)
        assert {item["fold"] for item in held} == {int(fold or 0)}
        assert len(training) == 4
    with pytest.raises(ValueError, match=r"the data list has folds of its own \(0, 1, 2\)"):
        split_validation(items, fold="1/3")
    with pytest.raises(ValueError, match="--fold 3: the data list has 0, 1, 2"):
        split_validation(items, fold=3)
    with pytest.raises(ValueError, match=r"group 0 of --group patient is on both sides: 1\.tif"):
        split_validation(items, group="patient")
    sections = [{"image": "a.tif"}, {"image": "b.tif", "section": "validation"}]
    assert split_validation(sections) == ([sections[0]], [sections[1]])
    with pytest.raises(ValueError, match="--fold 0/2 has no effect: the data list says"):
        split_validation(sections, fold="0/2")


def test_a_share_beside_a_fold_is_refused(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(cohort, tmp_path / "b", "--fold", "0/5", "--validation", "0.2") == 2
    assert "--fold 0/5 says what is held out, so --validation" in capsys.readouterr().err


def write_patients(folder: Path, count: int) -> list[dict[str, str]]:
    """`folder/017/ct.tif` and `folder/017/seg.tif` of each patient."""
    pairs = []
    for k in range(count):
        write_pair(folder / "made", "x", seed=k)
        own = folder / f"{17 + k // 2:03}" / str("ab"[k % 2])
        own.mkdir(parents=True)
        for part, name in (("images", "ct"), ("labels", "seg")):
            (folder / "made" / part / "x.tif").rename(own / f"{name}.tif")
        pairs.append({"image": str(own / "ct.tif"), "label": str(own / "seg.tif")})
    shutil.rmtree(folder / "made")
    return pairs


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_group_is_looked_for_in_the_names_of_the_bundle(tmp_path: Path, elsewhere: bool) -> None:
    """The folders above the data have numbers as well, and other ones wherever it moves."""
    cohort = tmp_path / "2024/patients"
    pairs = write_patients(cohort, 8)
    place = tmp_path / "lists" if elsewhere else cohort
    place.mkdir(exist_ok=True)
    (place / "list.json").write_text(json.dumps(pairs))
    words = ["--images", f"{place}/list.json", *SMALL, "--group", r"(\d+)", "--fold", "1/4"]
    assert main(["init", str(tmp_path / "b"), *words]) == 0
    settings = json.loads((tmp_path / "b/configs/split.json").read_text(encoding="utf-8"))
    assert settings["validation"][0]["image"].endswith("018/a/ct.tif")
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_file(tmp_path / "b/configs/train.json"))
    parser["bundle_root"], parser["dataset_dir"] = str(tmp_path / "b"), str(place)
    training, held = parser.get_parsed_content("split")
    assert [Path(item["image"]).parts[-3:-1] for item in held] == [("018", "a"), ("018", "b")]
    assert len(training) == 6
    split = settings | {"training": settings["training"] + settings["validation"][:1]}
    split["validation"] = settings["validation"][1:]
    (tmp_path / "b/configs/split.json").write_text(json.dumps(split), encoding="utf-8")
    parser = ConfigParser(ConfigParser.load_config_file(tmp_path / "b/configs/train.json"))
    parser["bundle_root"], parser["dataset_dir"] = str(tmp_path / "b"), str(place)
    with pytest.raises(RuntimeError) as refused:
        parser.get_parsed_content("split")
    assert "group 018 of --group" in str(refused.value.__cause__)


def test_a_key_of_the_data_list(cohort: Path, tmp_path: Path) -> None:
    pairs = find_pairs(cohort / "images", cohort / "labels")
    listed = [{**pair, "patient": Path(pair["image"]).name[:6]} for pair in pairs]
    (tmp_path / "list.json").write_text(json.dumps(listed))
    words = ["--images", f"{tmp_path}/list.json", *SMALL, "--group", "patient", "--fold", "0/7"]
    assert main(["init", str(tmp_path / "b"), *words]) == 0
    training, held = split_of(tmp_path / "b", tmp_path)
    assert patients(held) == {"sub-00"}
    assert len(training) == 13
