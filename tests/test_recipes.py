"""The recipes of docs/how-to/recipes.md are followed, and every command in the docs is one."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom")
from dicom_images import write_series

from unet_med.cli import main
from unet_med.cli.option import build_parser
from unet_med.cli.options import COMMANDS
from unet_med.data import save_image

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)(?: [^\n]*)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STUB = 'unet-med() { printf "%s\\0" "$@"; printf "\\n"; }\ndocker() { :; }\napptainer() { :; }\n'
TINY = ["--features", "2", "4", "--epochs", "1", "--device", "cpu"]


def shell_blocks(text: str) -> list[str]:
    return [block for language, block in FENCE.findall(text) if language in ("", "shell")]


def commands_in(page: Path) -> list[list[str]]:
    """Words of each `unet-med` command in the shell blocks of a page, of a pipe the first part."""
    found = []
    for block in shell_blocks(page.read_text(encoding="utf-8")):
        text = re.sub(r"(^|\s)#.*$", "", block.replace("\\\n", " "), flags=re.MULTILINE)
        lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&<>()\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
        words = [word.replace("$", "1") for word in lexer]
        ends = [k for k, word in enumerate(words) if re.fullmatch(r"[;|&<>()\n]+", word)]
        for begin, end in zip([0, *(k + 1 for k in ends)], [*ends, len(words)], strict=True):
            if words[begin:end][:1] == ["unet-med"] and end > begin + 1:
                found.append(words[begin + 1 : end])
    return found


ALL = {page: commands_in(page) for page in PAGES}


def test_there_are_commands() -> None:
    assert sum(map(len, ALL.values())) > 50


@pytest.mark.parametrize("page", [page for page in PAGES if ALL[page]], ids=lambda page: page.name)
def test_every_command_in_the_docs_is_one(page: Path) -> None:
    for words in ALL[page]:
        build_parser(COMMANDS).parse_args(words)  # it ends the program where it is none


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_options_within_sentences_are_those_of_their_command(name: str) -> None:
    known = {each.name for c in COMMANDS if c.name == name for each in c.options} | {"--help"}
    inline = re.compile(rf"`unet-med {name}\b([^`]*)`")
    used = {
        (page.name, word)
        for page in PAGES
        for rest in inline.findall(page.read_text(encoding="utf-8"))
        for word in re.findall(r"(?<!\S)--[a-z-]+", rest)
    }
    assert [each for each in sorted(used) if each[1] not in known] == []


def sections() -> dict[str, str]:
    """Shell block of each recipe, by its heading."""
    text = (ROOT / "docs/how-to/recipes.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    found = zip(parts[::2], parts[1::2], strict=True)
    return {name: "\n".join(shell_blocks(part)) for name, part in found}


def python_in(page: str, heading: str) -> str:
    """The block of Python below a heading of a page."""
    text = (ROOT / "docs/how-to" / page).read_text(encoding="utf-8")
    return next(code for name, code in FENCE.findall(text.split(heading)[1]) if name == "python")


def words_of(block: str, **environment: str) -> list[list[str]]:
    """What bash gives to `unet-med`, command by command, with a block run as it stands."""
    done = subprocess.run(
        ["bash", "-eu", "-c", STUB + block],
        capture_output=True, text=True, check=True, env={"HOME": "/", "PWD": "/", **environment},
    )  # fmt: skip
    return [line.split("\0")[:-1] for line in done.stdout.splitlines() if line]


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny data in each layout, under the names of the page."""
    folder = tmp_path_factory.mktemp("recipes")
    rng = np.random.default_rng(0)

    def put(name: str, *, label: bool = False) -> None:
        voxels = rng.integers(0, 99, (16, 16, 16)).astype(np.uint8)
        voxels = (np.indices(voxels.shape)[0] > 6).astype(np.uint8) if label else voxels
        save_image(folder / name, voxels, np.eye(4), "mm", has_channels=False)

    for case in ("a", "b"):
        anat = f"bids/sub-{case}/ses-1/anat/sub-{case}"
        for ending in ("T1w", "T2w", "dseg"):
            put(f"{anat}_{ending}.nii.gz", label=ending == "dseg")
        put(f"Task04_Hippocampus/imagesTr/{case}.nii.gz")
        put(f"Task04_Hippocampus/labelsTr/{case}.nii.gz", label=True)
        for part in ("Tr", "Ts"):
            for channel in ("0000", "0001"):
                put(f"Dataset007_Brain/images{part}/{case}_{channel}.nii.gz")
            put(f"Dataset007_Brain/labels{part}/{case}.nii.gz", label=True)
        number = "ab".index(case)
        for part in ("cohort", "new"):
            volume, series = rng.integers(0, 99, (16, 16, 16)), f"1.2.826.7.{number + 1}"
            write_series(folder / "dicom" / part / case, volume, series=series)
    put("Task04_Hippocampus/imagesTs/c.nii.gz")
    trained = [{"image": f"imagesTr/{c}.nii.gz", "label": f"labelsTr/{c}.nii.gz"} for c in "ab"]
    listed = {"training": trained, "test": ["imagesTs/c.nii.gz"]}
    (folder / "Task04_Hippocampus/dataset.json").write_text(json.dumps(listed))
    (folder / "Dataset007_Brain/dataset.json").write_text(
        '{"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "tumour": 1}, '
        '"numTraining": 2, "file_ending": ".nii.gz"}'
    )
    for case in "ab":
        label = np.indices((16, 16, 16))[0] > 6
        affine = np.diag([-0.7, -0.8, 1.5, 1.0])
        affine[:3, 3] = [31.25, -12.5, -88.125]
        save_image(folder / f"dicom/labels/{case}.nii.gz", label, affine, "mm", has_channels=False)
    return folder


@pytest.mark.parametrize(
    ("recipe", "results"),
    [
        ("A BIDS tree", "bids-results/sub-a_mask.nii.gz bids-results/sub-b_mask.nii.gz"),
        ("The Medical Segmentation Decathlon", "msd-results/c_mask.nii.gz"),
        ("nnU-Net", "brain-results/a_mask.nii.gz brain-results/b_mask.nii.gz"),
        ("DICOM", "dicom-results/a_mask.nii.gz dicom-results/a_seg.dcm dicom-results/b_seg.dcm"),
    ],
)
def test_a_layout_is_trained_on_and_predicted(
    recipe: str,
    results: str,
    cohorts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(cohorts)
    if recipe == "A BIDS tree":
        exec(python_in("recipes.md", "## A BIDS tree"), {})
    for words in words_of(sections()[recipe]):
        if "--minutes" in words:  # a test has fewer
            at = words.index("--minutes")
            del words[at : at + 2]
        more = TINY if words[0] == "train" else ["--device", "cpu"] * (words[0] == "predict")
        assert main([*words, *more]) == 0
    assert [name for name in results.split() if not (cohorts / name).is_file()] == []
    if recipe == "DICOM":
        (cohorts / "results").symlink_to("dicom-results")
        exec(python_in("dicom.md", "## Read it back"), {})
        assert "[(1, 'foreground')]" in capsys.readouterr().out


def test_nnunet_is_scored_by_the_images_that_its_fold_holds_out(
    cohorts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cohorts)
    splits = cohorts / "nnUNet_preprocessed/Dataset007_Brain/splits_final.json"
    splits.parent.mkdir(parents=True)
    splits.write_text('[{"train": ["a"], "val": ["b"]}]')
    exec(python_in("recipes.md", "## Compare with nnU-Net"), {})
    (cohorts / "fold_0/validation").mkdir(parents=True)
    shutil.copy("Dataset007_Brain/labelsTr/b.nii.gz", "fold_0/validation/b.nii.gz")
    *_, ours, nnunet = words_of(sections()["Compare with nnU-Net"])
    assert [ours[0], *nnunet[:3]] == ["evaluate", "evaluate", "fold_0/validation", "held.json"]
    assert main(nnunet) == 0
    with open("nnunet.csv", newline="") as file:
        rows = [(row["row"], row["case"], row["Dice"]) for row in csv.DictReader(file)]
    assert rows[0] == ("case", "b", "1.0")
    assert ("mean", "1.0") in {(row, dice) for row, _, dice in rows}


def test_the_jobs_of_an_array_do_each_image_once(cohorts: Path) -> None:
    shards = []
    for job in range(16):
        environment = {"SLURM_ARRAY_TASK_ID": str(job), "SLURM_ARRAY_TASK_COUNT": "16"}
        (words,) = words_of(sections()["A SLURM array"], **environment)
        shards.append(build_parser(COMMANDS).parse_args(words).shard)
    assert shards == [f"{job}/16" for job in range(16)]
