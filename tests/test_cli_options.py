"""The table of options: each acts on what is asked, or is refused."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from unet_med.cli import main
from unet_med.cli.option import build_parser, sentence
from unet_med.cli.options import COMMANDS, PLAN, PREDICT, TRAIN, Option, config_ids
from unet_med.data import SyntheticCells

OTHER: dict[str, list[str]] = {  # values that a training was not begun with
    "--preset": ["paper2015"],
    "--label-kind": ["mask"],
    "--classes": ["3"],
    "--class-names": ["cell"],
    "--features": ["3", "5"],
    "--dims": ["3"],
    "--planes": ["apart"],
    "--element-size": ["0.5"],
    "--scale": ["1/2"],
    "--modality": ["mr"],
    "--tile-size": ["64"],
    "--seed": ["5"],
    "--validation": ["0.5"],
    "--fold": ["1/2"],
    "--folds": ["2"],
    "--learning-curve": [],
    "--group": ["(.)"],
    "--split": ["split.json"],
    "--config": ["sparse"],
    "--unknown": ["7"],
    "--series": ["0"],
    "--time": ["0"],
    "--channel": ["0"],
    "--axes": ["YX"],
    "--pixel-size": ["0.5"],
    "--minutes": ["3"],
    "--epochs": ["7"],
    "--device": ["cpu"],
    "--precision": ["float32"],
    "--cache": ["scratch"],
    "--max-bytes": ["1G"],
    "--images": ["other/images"],
    "--labels": ["other/labels"],
    "--output": ["elsewhere"],
    "--resume": [],
    "--from": ["elsewhere"],
    "--replay": ["elsewhere"],
    "--trust": [],
    "--quiet": [],
    "--log-file": ["log.txt"],
    "--plan-only": [],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    SyntheticCells(2, (40, 36), num_cells=4).write(folder)
    SyntheticCells(2, (40, 36), num_cells=4, seed=1).write(folder / "other")
    (folder / "split.json").write_text('{"train": ["cells_000"], "val": ["cells_001"]}')
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A bundle with a checkpoint; that it is no real one is never looked at here."""
    output = tmp_path_factory.mktemp("begun") / "out"
    assert main(["init", str(output), *files(data)]) == 0
    (output / "models/resume").mkdir()
    (output / "models/resume/checkpoint.pt").touch()
    return output


def files(data: Path, part: str = ".") -> list[str]:
    return ["--images", f"{data}/{part}/images", "--labels", f"{data}/{part}/labels"]


@pytest.mark.parametrize("option", TRAIN, ids=lambda option: option.name)
def test_every_option_is_applied_or_refused_when_resumed(
    option: Option,
    data: Path,
    begun: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr("unet_med.cli.train._train", lambda _, settings: runs.append(settings))
    monkeypatch.chdir(data)
    configs = {path: path.read_text() for path in (begun / "configs").glob("*.json")}
    words = ["train", *files(data), "--output", str(begun), "--resume"]
    code = main([*words, option.name, *OTHER[option.name]])
    said = capsys.readouterr()
    changed = {path.name for path, text in configs.items() if path.read_text() != text}
    for path, text in configs.items():
        path.write_text(text)
    if option.resumed in ("same", "data"):
        assert (code, runs, changed) == (2, [], set())
        assert "begun with" in said.err
        assert option.resumed == "data" or option.name in said.err
    elif option.id:
        assert code == 0
        assert changed >= {"plan.json", "train.json"}
        assert runs[0]["resume"] is True
    elif option.name == "--plan-only":
        assert (code, runs, changed) == (0, [], set())
        assert "label_kind" in said.out
    elif option.name == "--output":  # another folder, in which nothing was begun
        assert (code, "resume" in runs[0], changed) == (0, False, set())
    else:
        assert (code, runs[0]["resume"], changed) == (0, True, set())
        own = ("--device", "--cache", "--max-bytes", "--resume", "--quiet", "--log-file", "--trust")
        assert option.name in own


def test_what_it_was_begun_with_may_be_said_again(
    data: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr("unet_med.cli.train._train", lambda _, settings: runs.append(settings))
    same = ["--preset", "modern", "--label-kind", "instances", "--dims", "2", "--seed", "0"]
    same += ["--features", "16", "32", "64", "128", "256", "--validation", "0.1"]
    words = ["train", *files(data), "--output", str(begun), "--resume", "--label-kind", "auto"]
    assert main([*words, *same, "--classes", "2"]) == 0
    assert len(runs) == 1


@pytest.mark.parametrize(
    "asked",
    [
        ["--scale", "1/3"],
        ["--scale", "1"],
        ["--element-size", "0.5", "--pixel-size", "0.25"],
        ["--modality", "phase"],
        ["--fold", "1/2"],
        ["--validation", "0.3", "--seed", "3", "--tile-size", "64"],
        ["--label-kind", "mask", "--class-names", "background", "cell"],
        ["--label-kind", "mask", "--class-names", "1=cell"],
    ],
    ids=" ".join,
)
def test_the_same_command_goes_on(
    asked: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr("unet_med.cli.train._train", lambda _, settings: runs.append(settings))
    output = tmp_path / "out"
    assert main(["init", str(output), *files(data), *asked]) == 0
    (output / "models/resume").mkdir()
    (output / "models/resume/checkpoint.pt").touch()
    assert main(["train", *files(data), "--output", str(output), "--resume", *asked]) == 0
    assert runs[0]["resume"] is True


def test_every_option_of_a_plan_says_what_it_sets() -> None:
    configs = Path(__file__).resolve().parents[1] / "configs"
    train = json.loads((configs / "train.json").read_text(encoding="utf-8"))
    for option in PLAN:
        elsewhere = option.name in ("--images", "--labels", "--device", "--max-bytes", "--trust")
        assert elsewhere == (option.id is None), option.name
        assert option.id is None or option.id.split("::")[0] in train
        assert option.resumed is not None
    given = argparse.Namespace(epochs=3, label_kind="auto", channel=1, config=["sparse"])
    assert config_ids(given) == {"epochs": 3}


@pytest.mark.parametrize(
    "option", [o for o in PREDICT if o.blocks is not None], ids=lambda option: option.name
)
def test_options_of_predict_without_effect_are_refused(
    option: Option, begun: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = [] if "action" in option.keywords else ["1/2"] if option.name == "--shard" else ["1"]
    output = tmp_path / ("results" if option.blocks else "out.ome.zarr")
    words = ["predict", f"{data}/images/cells_000.tif", "--bundle", str(begun)]
    assert main([*words, "--output", str(output), option.name, *value]) == 2
    assert f"{option.name} has no effect" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("option", ["--threads", "--workers", "--tile", "--block"])
def test_numbers_of_things_are_at_least_one(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("0", "-1"):
        with pytest.raises(SystemExit) as ended:
            main(["predict", "a.tif", "--bundle", "b", "--output", "c.zarr", option, number])
        assert ended.value.code == 2
        assert f"argument {option}: {number} is less than 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--minutes", "0", "0 is not above 0"),  # it trained for the ten that nobody had asked for
        ("--minutes", "-1", "-1 is not above 0"),
        ("--minutes", "nan", "nan is not above 0"),
        ("--epochs", "0", "0 is less than 1"),
        ("--features", "0", "0 is less than 1"),
    ],
)
def test_a_training_of_nothing_is_refused(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--images", "a", "--labels", "b", "--output", "c", option, value])
    assert ended.value.code == 2
    assert f"argument {option}: {said}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--sample", "0.5"], ["--seed", "1"]])
def test_options_of_verify_alone(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", "status", str(tmp_path / "out.ome.zarr"), *words]) == 2
    assert f"{words[0]} has no effect without verify" in capsys.readouterr().err


def test_init_without_images_plans_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "out"), "--epochs", "3"]) == 2
    assert "--epochs has no effect without --images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_command_has_an_option_twice() -> None:
    build_parser(COMMANDS)  # argparse refuses it
    names = [command.name for command in COMMANDS]
    assert len(names) == len(set(names)) == 13


def test_the_help_of_a_command_says_what_it_does_with_an_example_and_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = build_parser(COMMANDS)
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            parser.parse_args([command.name, "--help"])
        said = capsys.readouterr().out
        assert sentence(command.help) in " ".join(said.split())
        assert f"\nexample:\n  {command.example}\n\nexit code: 0 done, 2 wrong input" in said
        assert parser.parse_args(command.example.split()[1:]).command == command.name
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "Begin with: doctor, train, predict" in capsys.readouterr().out


def test_the_help_of_train_has_headings_and_first_what_every_training_wants(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    parts = re.split(r"^([\w ,]+):$", capsys.readouterr().out, flags=re.MULTILINE)
    listed = {name: re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)
              for name, text in zip(parts[1::2], parts[2::2], strict=True)}  # fmt: skip
    assert listed["options"] == [
        "--images", "--labels", "--output", "--preset", "--minutes", "--epochs", "--seed",
        "--resume", "--plan-only",
    ]  # fmt: skip
    assert listed["what label values mean"] == [
        "--label-kind", "--unknown", "--classes", "--class-names",
    ]  # fmt: skip
    assert listed["start from a trained bundle"] == ["--from", "--replay", "--trust"]
    assert sum(map(len, listed.values())) == len(TRAIN)


def test_the_name_alone_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert "train on your own annotated images" in said
    assert "Begin with: doctor, train, predict" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "a", "--minuts", "1"], "unrecognized arguments: --minuts 1; --minutes?"),
        (["--images", "a", "--minuts=1"], "unrecognized arguments: --minuts=1; --minutes?"),
        (["--images", "a", "labels/"], "unrecognized arguments: labels/; --labels?"),
        (["--images", "a", "b"], "unrecognized arguments: b"),
        ([], "the following arguments are required: --images"),
    ],
)
def test_a_wrong_word_is_told_in_a_sentence_with_what_may_be_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", *words])
    assert ended.value.code == 2
    told = f"unet-med train: error: {said}\nsee unet-med train --help\n"
    assert capsys.readouterr().err == told


def test_a_state_at_the_old_place_is_said_to_be_moved(
    begun: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(begun, tmp_path / "old"))
    (old / "models/resume/checkpoint.pt").rename(old / "models/checkpoint.pt")
    assert main(["train", *files(data), "--output", str(old), "--resume"]) == 2
    assert "is where earlier versions kept what to resume from: move it to" in (
        capsys.readouterr().err
    )
