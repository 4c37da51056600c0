"""Every option of `unet-med`, once: the parser, the plan, `--resume` and the docs read this table.

Nothing here needs torch or MONAI, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from unet_med.cli.option import Command, OneOrMore, Option, option

PRESETS = ("modern", "paper2015", "release2015", "falk2019", "cicek2016")
MODALITIES = ("ct", "mr", "fluorescence", "brightfield", "phase", "electron")
PRECISIONS = ("auto", "mixed", "float32", "tf32", "bf16")
NEXT_RULES = ("random", "confidence")  # as `unet_med.segmentation.next_image` has them
LABEL_KINDS = ("auto", "mask", "classes", "instances")
# headings of `--help`
LABELS, NETWORK = "what label values mean", "network and its pixels"
HELD_OUT, START = "what is held out, and scores", "start from a trained bundle"
FILES, MACHINE = "files", "machine and messages"


def fraction(text: str) -> float:
    """A number, also as `1/3`."""
    try:
        return float(Fraction(text))
    except ZeroDivisionError:
        raise ValueError(text) from None


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def above_zero(text: str) -> float:
    """A number above 0."""
    if not (number := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def amount(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if (number := int(text)) < least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return number


_FLAG: dict[str, Any] = {"action": "store_true"}
_NUMBER: dict[str, Any] = {"type": int, "metavar": "N"}
_DEVICE = option(
    "--device",
    "cpu, cuda, cuda:N, mps or xpu (the best that torch sees)",
    resumed="new",
    group=MACHINE,
)
_PRECISION = option(
    "--precision",
    "arithmetic of the network; auto: on a GPU bf16 to train and float32 to predict, on a CPU "
    "float32; mixed: also bf16 to train on a CPU that has instructions for it (mixed to train with "
    "--preset modern, else auto)",
    group=MACHINE,
    id="precision",
    resumed="same",
    choices=PRECISIONS,
)
_MAX_BYTES = option(
    "--max-bytes",
    "refuse files that take more memory once decoded, such as 500M or 2G (half of what is free)",
    group=FILES,
    resumed="new",
    metavar="N",
)
_LOGS = (
    option(
        "--quiet",
        "say nothing but results, warnings and errors",
        group=MACHINE,
        resumed="new",
        **_FLAG,
    ),
    option(
        "--log-file",
        "append all that is said, with times, to FILE",
        group=MACHINE,
        resumed="new",
        metavar="FILE",
    ),
)
_ELSEWHERE = ("overrides", "pretrained", "replay_dir")  # ids that files decide, not words
_UNKNOWN = option(
    "--unknown",
    "label value of pixels that nobody annotated; 0: background is painted too, as 1 (-1, and 255 "
    "among classes, always mean so)",
    group=LABELS,
    id="unknown",
    resumed="same",
    type=int,
    metavar="VALUE",
)
_CHOICE = (
    option(
        "--series",
        "which image, of files that hold several (TIFF, CZI, ...), counted from 0; or the UID of "
        "one DICOM series in a folder",
        group=FILES,
        id="reader::series",
        resumed="same",
        type=lambda text: text if "." in text else int(text),
        metavar="N|UID",
    ),
    *(
        option(
            f"--{name}",
            f"which {name}, of files that hold several ({formats}, ...), counted from 0",
            group=FILES,
            id=f"reader::{name}",
            resumed="same",
            **_NUMBER,
        )
        for name, formats in (("time", "TIFF, CZI"), ("channel", "TIFF, PNG, CZI"))
    ),
    option(
        "--axes",
        "names of the axes of TIFFs that do not say them, such as CYX for channels, YXC, or ZYX",
        group=FILES,
        id="reader::axes",
        resumed="same",
        metavar="AXES",
    ),
    option(
        "--pixel-size",
        "pixel size in um of images whose files do not say it, such as PNG: one, or X Y [Z]",
        group=FILES,
        id="reader::pixel_size",
        resumed="same",
        type=float,
        nargs="+",
        metavar="UM",
    ),
)
_PLANES = option(
    "--planes",
    "planes of a stack, which a 2-D network takes one by one: apart, each is an image with objects "
    "of its own; joined, objects go through planes",
    id="planes",
    choices=("apart", "joined"),
)
_CLASS_NAMES = option(
    "--class-names",
    "names of the classes 1, 2, ..., or VALUE=NAME each, or a dataset.json (as the data list says)",
    group=LABELS,
    id="class_names",
    resumed="same",
    nargs="+",
    metavar="NAME",
)
PLAN = (
    option(
        "--images",
        "folder of images (TIFF, PNG, NIfTI, ...), one stack, or a data list (.json)",
        resumed="data",
    ),
    option(
        "--labels",
        "folder of labels with the same names, or names and an ending (_mask); or one stack",
        resumed="data",
    ),
    option(
        "--preset",
        "network and training recipe (modern); paper2015 is the paper to the letter",
        id="preset",
        resumed="same",
        metavar="|".join(PRESETS),
    ),
    option(
        "--label-kind",
        "what label values mean (auto: decided from the files, and said)",
        group=LABELS,
        id="label_kind",
        resumed="same",
        choices=LABEL_KINDS,
    ),
    _UNKNOWN,
    option(
        "--classes",
        "labels are classes 0 to K-1 (counted in the files)",
        group=LABELS,
        id="out_channels",
        resumed="same",
        type=int,
        metavar="K",
    ),
    _CLASS_NAMES,
    option(
        "--features",
        "channels of each level (those of the preset on a GPU, fewer on a CPU)",
        group=NETWORK,
        id="features",
        resumed="same",
        type=positive,
        nargs="+",
    ),
    option(
        "--dims",
        "2: planes, 3: volumes (decided from the files)",
        group=NETWORK,
        id="spatial_dims",
        resumed="same",
        type=int,
        choices=(2, 3),
    ),
    replace(
        _PLANES,
        help=f"{_PLANES.help} (as the labels number objects, else as each file says: joined where "
        "it states how far apart slices are)",
        resumed="same",
        group=NETWORK,
    ),
    option(
        "--element-size",
        "bring every image to this pixel size, in training and prediction: one number, or one an "
        "axis, in the images' unit (um for TIFF)",
        group=NETWORK,
        id="element_size",
        resumed="same",
        exclusive="pixels",
        type=float,
        nargs="+",
        metavar="SIZE",
    ),
    option(
        "--scale",
        "bring every image to so many times its pixels along each axis, in training and "
        "prediction, whether files say pixel sizes or not: 0.5 or 1/3, or one an axis; 1: its own "
        "(decided from the size of the objects)",
        group=NETWORK,
        id="scale",
        resumed="same",
        exclusive="pixels",
        type=fraction,
        nargs="+",
        metavar="F",
    ),
    option(
        "--modality",
        "how the images were taken, one name, or one a channel (what the data list or DICOM says); "
        "ct is put on one scale, that of the training set's foreground",
        group=NETWORK,
        id="modality",
        resumed="same",
        choices=MODALITIES,
        nargs="+",
    ),
    option(
        "--tile-size",
        "side of a training tile, px: one, or X Y [Z] (decided from the images)",
        group=NETWORK,
        id="tile_size",
        resumed="same",
        type=int,
        nargs="+",
        action=OneOrMore,
        metavar="PX",
    ),
    option(
        "--minutes",
        "training time (10, unless --epochs)",
        id="minutes",
        resumed="new",
        exclusive="budget",
        type=above_zero,
    ),
    option(
        "--epochs",
        "passes over the images",
        id="epochs",
        resumed="new",
        exclusive="budget",
        type=positive,
    ),
    option("--seed", "of everything random (0)", id="seed", resumed="same", type=int),
    option(
        "--validation",
        "share of images held back (0.1; of 24 to 29 images with instances three)",
        group=HELD_OUT,
        id="validation_fraction",
        resumed="same",
        type=float,
    ),
    option(
        "--fold",
        "K/N: hold out the K-th of N parts, counted from 0; K alone: the K-th fold of --split or "
        "of the data list",
        group=HELD_OUT,
        id="fold",
        resumed="same",
        exclusive="parts",
        metavar="K/N",
    ),
    option(
        "--folds",
        "an honest score: in half of the minutes train K more networks, each without one of K "
        "parts of the images, and score each image by the one that has not seen it",
        group=HELD_OUT,
        id="folds",
        resumed="same",
        exclusive="parts",
        type=int,
        metavar="K",
    ),
    option(
        "--learning-curve",
        "what more images would buy: train networks on a quarter and a half of the images of each "
        "fold as well (three folds, unless --folds says), and carry on how the score rises",
        group=HELD_OUT,
        id="learning_curve",
        resumed="same",
        **_FLAG,
    ),
    option(
        "--group",
        "what is never on both sides: a key of the data list, or a regular expression whose first "
        r"bracket names the group in a file's name, such as (sub-\d+)",
        group=HELD_OUT,
        id="group",
        resumed="same",
        metavar="KEY|REGEX",
    ),
    option(
        "--split",
        "what is held out: a file of training and validation, or nnU-Net's splits_final.json",
        group=HELD_OUT,
        id="split_file",
        resumed="data",
        metavar="FILE",
    ),
    option(
        "--from",
        "start from the weights of a trained bundle: its folder, or a model that comes with "
        "unet-med; its network and pixels hold",
        group=START,
        id="pretrained",
        resumed="data",
        metavar="BUNDLE|NAME",
    ),
    option(
        "--replay",
        "folders of the images that the bundle of --from was trained on, or replayed itself: every "
        "other tile comes from them, so that they are not forgotten; none: no tile (looked for in "
        "and beside the bundle, with the new images, and here)",
        group=START,
        id="replay_dir",
        resumed="data",
        nargs="+",
        action=OneOrMore,
        metavar="DIR|none",
    ),
    option(
        "--trust",
        "start from a bundle that names what unet-med's own does not (see unet-med inspect)",
        group=START,
        resumed="new",
        **_FLAG,
    ),
    option(
        "--config",
        "override files to merge in, in this order: paths of your own, or names, of {overrides}",
        group=NETWORK,
        id="overrides",
        resumed="same",
        nargs="+",
        metavar="NAME|FILE",
    ),
    *_CHOICE,
    _MAX_BYTES,
    _PRECISION,
    _DEVICE,
)
TRAIN = (
    replace(PLAN[0], keywords={"required": True}),
    PLAN[1],
    option("--output", "new folder: the trained bundle (not with --plan-only)", resumed="new"),
    *PLAN[2:],
    option(
        "--cache",
        "folder that keeps the images, preprocessed, in files, for later trainings as well (in "
        "memory; where that does not suffice in --output, until the training has finished)",
        group=MACHINE,
        resumed="new",
        metavar="DIR",
    ),
    option(
        "--resume",
        "continue what is in --output, exactly where it stopped; with a new --minutes or "
        "--epochs, to that",
        resumed="new",
        **_FLAG,
    ),
    option(
        "--plan-only",
        "print what is decided for these images, each choice with its reason; write nothing",
        resumed="new",
        **_FLAG,
    ),
    *_LOGS,
)
_TRUTH = (
    option(
        "--label-kind",
        "what the truth's values mean (%(default)s)",
        group=LABELS,
        default="auto",
        choices=LABEL_KINDS,
    ),
    option(
        "--unknown",
        "the truth's value of pixels that nobody annotated, which do not count; see train",
        group=LABELS,
        type=int,
        metavar="VALUE",
    ),
)
_AS_READ = tuple(
    replace(each, id=None, help=f"of the truth: {each.help} (as the results' record says)")
    for each in _CHOICE
    if each.dest in ("time", "axes")
)
_SCORED_PLANES = replace(
    _PLANES, id=None, help=f"{_PLANES.help} (as the results' record says, or their numbers)"
)
_OWN_NAMES = replace(_CLASS_NAMES, id=None, resumed=None)
_OWN_LOGS = tuple(replace(each, resumed=None) for each in _LOGS)
_TRUST = option(
    "--trust",
    "run a bundle that names what unet-med's own does not (see unet-med inspect)",
    **_FLAG,
)
_BLOCKS: dict[str, Any] = {"blocks": True, "group": "block by block"}
PREDICT = (
    option("images", "images, folders of them, or a data list (.json)", nargs="+"),
    option(
        "--bundle",
        "folder that `unet-med train` made, or a model that comes with unet-med",
        required=True,
    ),
    option(
        "--output",
        "folder for the results; or of one image NAME.nii.gz, NAME.nii, NAME.png or NAME.tif for "
        "its mask, with NAME_instances and the like beside it; or NAME.ome.zarr, and NAME.tif of a "
        "large image, block by block",
        required=True,
    ),
    option(
        "--name",
        "template of the results' names, such as {parent}_{stem}: of the file and the folder that "
        "it lies in; {parent2}, {parent3} are further up ({stem})",
        id="result_name",
        metavar="TEMPLATE",
    ),
    option("--instances", "also write instance labels", **_FLAG),
    option("--probabilities", "also write class probabilities (float32)", **_FLAG),
    option(
        "--uncertainty",
        "also write the chance that a pixel's class is wrong, NAME_uncertainty (float32)",
        **_FLAG,
    ),
    option(
        "--rois",
        "also write outlines of the instances, NAME_rois.zip for Fiji and NAME_rois.geojson for "
        "QuPath",
        **_FLAG,
    ),
    option(
        "--dicom-seg",
        "of DICOM series also write the classes as DICOM SEG, NAME_seg.dcm",
        blocks=False,
        **_FLAG,
    ),
    *_CHOICE,
    option(
        "--object-width",
        "width of a typical object in these images, px, where they are of another magnification "
        "than those that the bundle learned from; results keep the images' size",
        id="scale",
        type=above_zero,
        metavar="PX",
    ),
    replace(_PLANES, help=f"{_PLANES.help} (as the bundle or each file says)"),
    _TRUST,
    option("--fail-fast", "end with the first image that fails", **_FLAG),
    option(
        "--tta",
        "average over mirrored or rotated copies (the bundle's own choice)",
        id="tta",
        choices=("none", "flips", "rotations"),
    ),
    option(
        "--ensemble",
        "predict with the mean of the networks that --folds trained",
        **_FLAG,
    ),
    _MAX_BYTES,
    replace(_PRECISION, resumed=None),
    _DEVICE,
    *_LOGS,
    option(
        "--block",
        "sides of a block, px, [Z] Y X",
        type=positive,
        nargs="+",
        metavar="PX",
        **_BLOCKS,
    ),
    option("--tile", "side of the network's input in a block, px", type=positive, **_BLOCKS),
    option("--threads", "threads of each worker process (1)", type=positive, **_BLOCKS),
    option("--job-only", "stop before the first block", **_FLAG, **_BLOCKS),
    option(
        "--workers",
        "processes (one a core as far as memory goes round, or two a GPU)",
        type=positive,
        **_BLOCKS,
    ),
    option(
        "--shard",
        "every N-th image from the I-th, counted from 0; of an output that is a file, every N-th "
        "block",
        exclusive="engine",
        metavar="I/N",
        group="block by block",
    ),
    option(
        "--scheduler",
        "tcp://HOST:PORT of a dask cluster, or local",
        exclusive="engine",
        metavar="URL",
        **_BLOCKS,
    ),
    option(
        "--resume",
        "skip images that the same weights and settings have done; of a prediction block by block, "
        "do the blocks that are missing",
        **_FLAG,
    ),
)
COMMANDS = (
    Command(
        "demo",
        "train on generated cells and segment an image and a volume, in minutes",
        (
            option("--output", "new folder for everything (%(default)s)", default="demo"),
            option("--minutes", "training time (%(default)s)", type=above_zero, default=2.0),
            option("--seed", "of data and training (%(default)s)", type=int, default=0),
        ),
        "unet-med demo --minutes 2",
    ),
    Command(
        "train",
        "train on your own annotated images",
        TRAIN,
        "unet-med train --images images --labels labels --output my-bundle --minutes 10",
    ),
    Command(
        "predict",
        "segment images with a trained bundle",
        PREDICT,
        "unet-med predict new-images --bundle my-bundle --output results --instances",
    ),
    Command(
        "job",
        "look after a prediction that works block by block",
        (
            option(
                "action",
                "status: what is done and how long the rest takes; verify: read all blocks back, "
                "and compute some anew with another tile size; finish: number the instances, "
                "write the TIFF and record.json",
                choices=("status", "verify", "finish"),
            ),
            option("output", "the NAME.ome.zarr or NAME.ome.tif that it writes"),
            option(
                "--sample",
                "share of blocks to compute anew (0.01)",
                needs=("action", "verify"),
                type=float,
            ),
            option("--seed", "of that choice (0)", needs=("action", "verify"), type=int),
            _TRUST,
        ),
        "unet-med job status results/scan.ome.zarr",
    ),
    Command(
        "evaluate",
        "score results against the truth",
        (
            option("results", "folder of results, or one file", nargs="?"),
            option(
                "truth",
                "folder of labels of the same names, one file, or a data list (.json)",
                nargs="?",
            ),
            option(
                "--pairs",
                "in place of both, where names do not match: a list of results and truths, JSON "
                '[{"result": ..., "truth": ..., "case": ...}, ...] or CSV with such columns',
                metavar="FILE",
            ),
            *_TRUTH,
            option(
                "--metrics",
                "clinical: Dice, HD95, ASSD, NSD and volume of each class; isbi: Dice, IoU, pixel, "
                "Rand and warping error, V_Rand, V_Info; ctc: SEG and DET; ap: average precision "
                "(decided by what the truth's values mean, and by the unit of masks)",
                choices=("clinical", "isbi", "ctc", "ap"),
            ),
            option(
                "--tolerance",
                "distance that NSD takes for right, in mm, or in the unit of the files (1)",
                type=float,
                metavar="MM",
            ),
            _OWN_NAMES,
            *_AS_READ,
            _SCORED_PLANES,
            option(
                "--group",
                "what cases share, such as their patient, over which the interval is then: a key "
                "of the data list or of --pairs, or a regular expression; see train",
                metavar="KEY|REGEX",
            ),
            option("--output", "also write the table here, FILE.json or FILE.csv"),
            option(
                "--long",
                "also write the cases as case, class, metric and value, FILE.json or FILE.csv",
                metavar="FILE",
            ),
            _MAX_BYTES,
            *_OWN_LOGS,
        ),
        "unet-med evaluate results truth --output scores.json",
    ),
    Command(
        "measure",
        "sizes, counts and intensities of results, without truth",
        (
            option("results", "folder of results, or one file"),
            option(
                "--images",
                "their images, for intensities: a folder, one file, or a data list (.json)",
            ),
            option(
                "--objects",
                "a row an object of the instances, with place and shape, not a row a class",
                **_FLAG,
            ),
            _OWN_NAMES,
            *(replace(each, id=None, resumed=None, blocks=None) for each in _CHOICE),
            _SCORED_PLANES,
            option("--output", "also write the table here, FILE.json or FILE.csv"),
            option(
                "--long",
                "also write it as case, class, metric and value, FILE.json or FILE.csv",
                metavar="FILE",
            ),
            _MAX_BYTES,
            *_OWN_LOGS,
        ),
        "unet-med measure results --images new-images --objects --output cells.csv",
    ),
    Command(
        "next",
        "say which images to annotate next, and why",
        (
            option(
                "images",
                "images without annotation, folders of them, or a data list (.json)",
                nargs="+",
            ),
            option(
                "--bundle",
                "folder that `unet-med train` made, or a model that comes with unet-med",
                required=True,
            ),
            option("--count", "how many (%(default)s)", type=int, default=5),
            option(
                "--rule",
                "random: to learn from, any in which something is found; confidence: to see where "
                "the bundle fails, of each kind the one that it is least sure of (%(default)s)",
                default=NEXT_RULES[0],
                choices=NEXT_RULES,
            ),
            option("--report", "a page with pictures of them, FILE.html", metavar="FILE"),
            *(replace(each, resumed=None) for each in _CHOICE),
            _TRUST,
            _MAX_BYTES,
            _DEVICE,
            *_LOGS,
        ),
        "unet-med next pool --bundle my-bundle --count 5 --report next.html",
    ),
    Command(
        "report",
        "write one HTML page about results, or about a training",
        (
            option("folder", "folder that predict, demo or train left (results, or a bundle)"),
            option(
                "--truth", "score the results first: labels of the same names", exclusive="scores"
            ),
            *_TRUTH,
            _OWN_NAMES,
            *_AS_READ,
            option(
                "--scores",
                "the table that `unet-med evaluate --output` wrote",
                exclusive="scores",
                metavar="FILE",
            ),
            option("--output", "the page, FILE.html (report.html in the folder)"),
            option(
                "--pictures",
                "images to show, the worst first (%(default)s)",
                type=amount,
                default=12,
            ),
            *_OWN_LOGS,
        ),
        "unet-med report results --truth truth",
    ),
    Command(
        "labels",
        "make label images of outlines (ImageJ, QuPath), or of DICOM SEG",
        (
            option(
                "annotations",
                "folder of .zip, .roi, .geojson or DICOM SEG files that are named as their images; "
                "or one file",
            ),
            option(
                "--images",
                "their images: a folder, one file, or a data list (.json)",
                required=True,
            ),
            option("--output", "folder for the labels", required=True),
            option(
                "--segments",
                "of DICOM SEG, names of the segments that become the classes 1, 2, ...; where they "
                "lie upon each other the later one is above (all, by their numbers)",
                nargs="+",
                metavar="NAME",
            ),
            option("--empty", "images without annotation get a label without objects", **_FLAG),
            *(replace(each, id=None, resumed=None, blocks=None) for each in _CHOICE),
            _MAX_BYTES,
            *_OWN_LOGS,
        ),
        "unet-med labels rois --images images --output labels",
    ),
    Command(
        "init",
        "write a fresh bundle to edit and run with MONAI; with --images planned for them",
        (option("destination", "new folder"), *PLAN),
        "unet-med init my-bundle --images images --labels labels",
    ),
    Command(
        "inspect",
        "list what a bundle's configs import and evaluate, without doing it",
        (
            option(
                "bundle", "folder of the bundle, anybody's, or a model that comes with unet-med"
            ),
            option("--json", "as a JSON list, every place by itself", **_FLAG),
        ),
        "unet-med inspect my-bundle",
    ),
    Command(
        "export",
        "write a trained bundle's network for others",
        (
            option(
                "bundle", "folder that `unet-med train` made, or a model that comes with unet-med"
            ),
            option(
                "--format",
                "pt2: torch alone; onnx: any runtime; bioimageio: a package of "
                "the BioImage Model Zoo; torchscript: MONAI Deploy and Java readers",
                required=True,
                choices=("pt2", "onnx", "bioimageio", "torchscript"),
            ),
            option("--output", "file to write (models/model.* of the bundle)"),
            option(
                "--statistics",
                "of batch normalisation: of each image, which pt2 and onnx alone can hold, or "
                "those recorded in training (as the bundle has it)",
                choices=("image", "training"),
            ),
            _TRUST,
        ),
        "unet-med export my-bundle --format onnx --output model.onnx",
    ),
    Command(
        "doctor",
        "say what is installed, what this machine offers and what could be added",
        (),
        "unet-med doctor",
    ),
)


def config_ids(args: argparse.Namespace) -> dict[str, Any]:
    """What the user chose for a training, by the ids of the configs; files are chosen elsewhere."""
    found = ((each.id, each.given(args)) for each in PLAN)
    return {
        id: value
        for id, value in found
        if id and value is not None and id not in _ELSEWHERE and not id.startswith("reader::")
    }


def choice_of(args: argparse.Namespace) -> dict[str, Any]:
    """Which image of files that hold several, and its pixel size, as arguments of a reader."""
    found = {each.dest: each.given(args) for each in _CHOICE}
    return {name: value for name, value in found.items() if value is not None}


def refuse_without_effect(args: argparse.Namespace, *, by_blocks: bool = False) -> None:
    """Refuse options that do nothing for what is asked.

    Raises:
        ValueError: names the first such option.
    """
    for each in _options_of(args):
        if each.given(args) is None:
            continue
        if each.blocks is True and not by_blocks:
            raise ValueError(
                f"{each.name} has no effect on images that are segmented whole: leave it out, or "
                "give --output NAME.ome.zarr or NAME.ome.tif"
            )
        if each.blocks is False and by_blocks:
            raise ValueError(
                f"{each.name} has no effect on images that are segmented block by block: leave it "
                "out"
            )
        if each.needs and getattr(args, each.needs[0]) != each.needs[1]:
            raise ValueError(f"{each.name} has no effect without {each.needs[1]}: leave it out")


def _options_of(args: argparse.Namespace) -> Iterator[Option]:
    return (o for command in COMMANDS if command.name == args.command for o in command.options)
