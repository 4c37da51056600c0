"""Signs that mean something to MONAI's parser mean nothing in a path, by any door."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from processes import finish, start_module

from unet_med import Segmenter, bundle
from unet_med.bundle.literals import is_literal, literal
from unet_med.cli import main
from unet_med.workflows import UNetInferWorkflow, UNetTrainWorkflow

ODD = ("a #1", "b::2", "$c", "%d", "@e", "@#f", "'g' %41 {h}, import i")


@given(st.text("#:$%@ab/'\\ \n\"", max_size=12) | st.text(max_size=12))
def test_the_parser_gives_back_what_it_was_given(text: str) -> None:
    """Compared with the string itself, in every place that a value can have."""
    path = Path(text)
    content = {"a": literal(path), "b": [literal(path), "@a"], "c": {"d": "@b"}, "e": "$@a + '/x'"}
    parser = ConfigParser(content)
    found = [parser.get_parsed_content(id) for id in ("a", "b", "c::d", "e")]
    assert found == [str(path), [str(path)] * 2, [str(path)] * 2, str(path) + "/x"]
    form = literal(path)
    assert form == str(path) or is_literal(form)


def test_syntax_stays_and_other_objects_too() -> None:
    thing = object()
    value = {"a": "$@x + '#'", "b": ["@x::y", "%z", "x"], "c": (1, "#"), "d": thing, "e": None}
    assert literal(value) == value
    for other in ("$'a' + x", "$'a'.b", "'a'", "$f'{x}'"):
        assert not is_literal(other)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    """A folder whose path has every sign, with images and labels."""
    folder = tmp_path_factory.mktemp("odd").joinpath(*ODD)
    for part, odd in (("images", "images #1"), ("labels", "@labels::")):
        shutil.copytree(cells / part, folder / odd)
    return folder


@pytest.fixture(scope="module")
def odd_bundle(place: Path) -> Path:
    output = place / "out #1"
    words: list[Any] = ["train", "--images", place / "images #1", "--labels", place / "@labels::"]
    words += ["--output", output, "--features", 2, 4, 8, "--epochs", 1, "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    assert (output / "models/model.pt").is_file()
    return output


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*_mask.*")}


MASKS = {f"cells_00{k}_mask.tif" for k in range(3)}


def run(*words: Any) -> None:
    assert main([str(word) for word in words]) == 0


def test_predict_report_and_resume(odd_bundle: Path, place: Path) -> None:
    results = place / "results ::2"
    run("predict", place / "images #1", "--instances", "--bundle", odd_bundle, "--output", results)
    assert files(results) == MASKS
    run("report", results, "--truth", place / "@labels::")
    assert (results / "report.html").is_file()
    run("report", odd_bundle)
    data = ["--images", place / "images #1", "--labels", place / "@labels::"]
    run("train", *data, "--output", odd_bundle, "--epochs", 2, "--resume", "--device", "cpu")
    assert not list(place.glob("*::1*"))


def test_relative_paths_that_begin_with_a_sign(
    odd_bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    shutil.copytree(odd_bundle, "%b")
    shutil.copytree("images #1", "$images")
    run("predict", "$images", "--bundle", "%b", "--output", "@out")
    assert files(place / "@out") == MASKS
    labels = ["--labels", "@labels::", "--features", 2, 4, "--epochs", 1, "--device", "cpu"]
    run("train", "--images", "$images", *labels, "--output", "%trained")
    assert (place / "%trained/models/model.pt").is_file()


@pytest.mark.parametrize(("name", "file"), [("@{stem}", "@cells_000"), ("$v #1", "$v #1")])
def test_names_of_results_mean_themselves(
    name: str, file: str, odd_bundle: Path, place: Path, tmp_path: Path
) -> None:
    image = place / "images #1/cells_000.tif"
    run("predict", image, "--bundle", odd_bundle, "--name", name, "--output", tmp_path)
    assert files(tmp_path) == {f"{file}_mask.tif"}


@pytest.mark.parametrize("name", ["v #1.ome.zarr", "$v::2.ome.tif"])
def test_blocks(odd_bundle: Path, place: Path, name: str) -> None:
    image = place / "images #1/cells_000.tif"
    words = ["predict", image, "--bundle", odd_bundle, "--output", place / name]
    run(*words, "--block", 64, 64, "--workers", 1, "--instances", "--device", "cpu")
    assert (place / name).exists()
    run("job", "verify", place / name)


def test_python(odd_bundle: Path, place: Path) -> None:
    image = place / "images #1/cells_000.tif"
    Segmenter(odd_bundle, device="cpu")(image).save(place / "%by #segmenter")
    settings = {"images": str(place / "images #1"), "output_dir": str(place / "by @#workflow")}
    UNetInferWorkflow(odd_bundle, **settings).run()
    assert files(place / "%by #segmenter") == {"cells_000_mask.tif"}
    assert files(place / "by @#workflow") == MASKS
    train = UNetTrainWorkflow(
        images=str(place / "images #1"), labels=str(place / "@labels::"), label_kind="instances"
    )
    train.initialize()
    assert len(train.train_dataset.data) + len(train.val_dataset.data) == 3


def test_init_and_the_line_that_it_prints(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed for a shell runs there, with MONAI alone."""
    data = ["--images", place / "images #1", "--labels", place / "@labels::"]
    made = tmp_path / "made #1"
    run("init", made, *data, "--features", 2, 4, "--epochs", 1, "--device", "cpu")
    line = next(x for x in capsys.readouterr().out.splitlines() if "monai.bundle" in x)
    _, _, module, *words = shlex.split(line)
    assert finish(start_module(module, words, tmp_path)) == 0, (tmp_path / "stderr").read_text()
    assert (made / "models/model.pt").is_file()


def test_a_path_in_a_settings_file(odd_bundle: Path, place: Path, tmp_path: Path) -> None:
    """Weights to start from, named in an override file that MONAI would misread."""
    folder = bundle.copy_bundle(tmp_path / "copy")
    weights = str(odd_bundle / "models/model.pt")
    bundle.write_settings(folder, [], {"pretrained": weights, "output_dir": "x #1"})
    parser = bundle.inference_parser(folder, {})
    assert parser.get_parsed_content("output_dir") == "x #1"
    bundle.require_trust(folder)
