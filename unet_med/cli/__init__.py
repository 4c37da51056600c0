"""The `unet-med` command: thin doors to the bundle.

This module only reads arguments and reports errors; each command lives in a
module of its own, which is imported when it runs, so that `--help` needs
neither torch nor MONAI.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from unet_med import __version__
from unet_med.bundle import override_names
from unet_med.data.protection import budget
from unet_med.errors import one_line, user_error

PRESETS = ("modern", "paper2015", "release2015", "falk2019", "cicek2016")
REPEAT_SECONDS = 1.0  # see `_terminable`
CHOICES = ("series", "time", "channel")  # of an image, in files that hold several
READING = (*CHOICES, "pixel_size")  # what a user says of the files


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; `sys.argv` by default.

    Returns:
        Exit code: 0 done, 2 it cannot be done (one sentence on stderr), 3 done but for some
        images that were set aside, 130 stopped by ^C, 143 stopped by SIGTERM.
    """
    args = _parser().parse_args(argv)
    try:
        with _terminable(), budget(getattr(args, "max_bytes", None)):
            command = importlib.import_module(f"unet_med.cli.{args.command.replace('-', '_')}")
            code: int | None = command.run(args)
    except KeyboardInterrupt as stop:
        reason, number = stop.args if len(stop.args) == 2 else ("stopped", 130)
        print(f"\nunet-med: {reason}", file=sys.stderr)
        return int(number)
    except Exception as error:
        if user_error(error) is None:
            raise
        print(f"unet-med: error: {one_line(error)}", file=sys.stderr)
        return 2
    return code or 0


def choice_of(args: argparse.Namespace) -> dict[str, Any]:
    """Which image of files that hold several, and its pixel size, as arguments of a reader."""
    chosen = {name: getattr(args, name, None) for name in READING}
    return {name: value for name, value in chosen.items() if value is not None}


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind what runs, as ^C does, so that nothing half-written stays behind.

    What a signal raises is lost where it comes while a finaliser runs, or a callback from C: so
    it is raised again, every `REPEAT_SECONDS`, until it is on its way out.
    """
    stopped_by = signal.SIGINT

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_by
        if number != signal.SIGALRM:
            stopped_by = signal.Signals(number)
            signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS, REPEAT_SECONDS)
        elif _is_stopping(sys.exc_info()[1]):
            return
        raise KeyboardInterrupt("stopped", 128 + stopped_by)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_stopping(error: BaseException | None) -> bool:
    """Whether an exception that is being dealt with goes back to a signal."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unet-med",
        description="The 2015 U-Net for microscopy and medical images, as a MONAI bundle.",
    )
    parser.add_argument("--version", action="version", version=f"unet-med {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_train,
        _add_predict,
        _add_job,
        _add_evaluate,
        _add_report,
        _add_init,
        _add_inspect,
        _add_export,
        _add_doctor,
    ):
        add(commands)
    return parser


Commands = argparse._SubParsersAction  # what add_subparsers returns; argparse has no public name


def _add_demo(commands: Commands[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo", help="train on generated cells and segment an image and a volume, in minutes"
    )
    demo.add_argument("--output", default="demo", help="new folder for everything (%(default)s)")
    demo.add_argument("--minutes", type=float, default=2.0, help="training time (%(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="of data and training (%(default)s)")


def _add_train(commands: Commands[argparse.ArgumentParser]) -> None:
    train = commands.add_parser("train", help="train on your own annotated images")
    train.add_argument(
        "--images",
        required=True,
        help="folder of images (TIFF, PNG, NIfTI, ...), one stack, or a MONAI data list (.json)",
    )
    train.add_argument("--labels", help="folder of labels with the same names, or one stack")
    train.add_argument("--output", required=True, help="new folder: the trained bundle")
    train.add_argument(
        "--preset",
        metavar="|".join(PRESETS),
        help="network and training recipe (modern); paper2015 is the paper to the letter",
    )
    train.add_argument(
        "--label-kind",
        choices=("auto", "mask", "classes", "instances"),
        help="what label values mean (auto: decided from the files, and said)",
    )
    train.add_argument(
        "--classes",
        type=int,
        metavar="K",
        help="labels are classes 0 to K-1 (counted in the files)",
    )
    train.add_argument("--features", type=int, nargs="+", help="channels of each level")
    train.add_argument(
        "--dims", type=int, choices=(2, 3), help="2: planes, 3: volumes (decided from the files)"
    )
    train.add_argument(
        "--element-size",
        type=float,
        nargs="+",
        metavar="SIZE",
        help="bring every image to this pixel size, in training and prediction: one number, or one "
        "an axis, in the images' unit (um for TIFF)",
    )
    train.add_argument("--tile-size", type=int, help="side of a training tile, px")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="training time (10, unless --epochs)")
    budget.add_argument("--epochs", type=int, help="passes over the images")
    train.add_argument("--seed", type=int, help="of everything random (0)")
    train.add_argument("--validation", type=float, help="share of images held back (0.1)")
    train.add_argument(
        "--config",
        nargs="+",
        metavar="NAME|FILE",
        help="override files to merge in, in this order: paths of your own, or names, of "
        + ", ".join(override_names()),
    )
    _add_choice(train)
    train.add_argument(
        "--resume",
        action="store_true",
        help="continue what is in --output, exactly where it stopped; with a new --minutes or "
        "--epochs, to that",
    )
    _add_max_bytes(train)
    _add_device(train)


def _add_predict(commands: Commands[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser("predict", help="segment images with a trained bundle")
    predict.add_argument("images", nargs="+", help="images, or folders of them")
    predict.add_argument("--bundle", required=True, help="folder that `unet-med train` made")
    predict.add_argument(
        "--output",
        required=True,
        help="folder for the results; NAME.ome.zarr or NAME.ome.tif: one image, block by block",
    )
    predict.add_argument("--instances", action="store_true", help="also write instance labels")
    predict.add_argument(
        "--probabilities", action="store_true", help="also write class probabilities (float32)"
    )
    _add_choice(predict)
    predict.add_argument(
        "--trust",
        action="store_true",
        help="run a bundle that names what unet-med's own does not (see unet-med inspect)",
    )
    predict.add_argument(
        "--fail-fast", action="store_true", help="end with the first image that fails"
    )
    predict.add_argument(
        "--tta",
        choices=("none", "flips", "rotations"),
        help="average over mirrored or rotated copies (the bundle's own choice)",
    )
    _add_max_bytes(predict)
    _add_device(predict)
    blocks = predict.add_argument_group("block by block, into NAME.ome.zarr or NAME.ome.tif")
    blocks.add_argument("--block", type=int, nargs="+", metavar="PX", help="its sides, [Z] Y X")
    blocks.add_argument("--tile", type=int, help="side of the network's input in a block, px")
    blocks.add_argument("--threads", type=int, help="of each worker (1)")
    blocks.add_argument("--job-only", action="store_true", help="stop before the first block")
    blocks.add_argument("--workers", type=int, help="processes (one a core, or one a GPU)")
    engine = blocks.add_mutually_exclusive_group()
    engine.add_argument(
        "--shard", metavar="I/N", help="every N-th block from the I-th, counted from 0"
    )
    engine.add_argument(
        "--scheduler", metavar="URL", help="tcp://HOST:PORT of a dask cluster, or local"
    )
    blocks.add_argument("--resume", action="store_true", help="do the blocks that are missing")


def _add_job(commands: Commands[argparse.ArgumentParser]) -> None:
    job = commands.add_parser("job", help="look after a prediction that works block by block")
    job.add_argument(
        "action",
        choices=("status", "verify", "finish"),
        help="status: what is done and how long the rest takes; verify: read all blocks back, and "
        "compute some anew with another tile size; finish: number the instances, write the TIFF",
    )
    job.add_argument("output", help="the NAME.ome.zarr or NAME.ome.tif that it writes")
    job.add_argument(
        "--sample", type=float, default=0.01, help="share of blocks to compute anew (%(default)s)"
    )
    job.add_argument("--seed", type=int, default=0, help="of that choice (%(default)s)")


def _add_evaluate(commands: Commands[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="score results against the truth")
    evaluate.add_argument("results", help="folder of results, or one file")
    evaluate.add_argument("truth", help="folder of labels of the same names, or one file")
    evaluate.add_argument(
        "--label-kind",
        default="auto",
        choices=("auto", "mask", "classes", "instances"),
        help="what the truth's values mean (%(default)s)",
    )
    evaluate.add_argument(
        "--metrics",
        choices=("isbi", "ctc", "ap"),
        help="isbi: pixel, Rand and warping error, V_Rand, V_Info; ctc: SEG and DET; ap: average "
        "precision (decided by what the truth's values mean)",
    )
    evaluate.add_argument("--output", help="also write the table here, FILE.json or FILE.csv")
    _add_max_bytes(evaluate)


def _add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report", help="write one HTML page about results, or about a training"
    )
    report.add_argument(
        "folder", help="folder that predict, demo or train left (results, or a bundle)"
    )
    report.add_argument("--truth", help="score the results first: labels of the same names")
    report.add_argument("--output", help="the page, FILE.html (report.html in the folder)")
    report.add_argument(
        "--pictures", type=int, default=12, help="images to show, the worst first (%(default)s)"
    )


def _add_init(commands: Commands[argparse.ArgumentParser]) -> None:
    init = commands.add_parser("init", help="write a fresh bundle to edit and run with MONAI")
    init.add_argument("destination", help="new folder")


def _add_inspect(commands: Commands[argparse.ArgumentParser]) -> None:
    inspect = commands.add_parser(
        "inspect", help="list what a bundle's configs import and evaluate, without doing it"
    )
    inspect.add_argument("bundle", help="folder of the bundle, anybody's")
    inspect.add_argument(
        "--json", action="store_true", help="as a JSON list, every place by itself"
    )


def _add_export(commands: Commands[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="write a trained bundle's network for others")
    export.add_argument("bundle", help="folder that `unet-med train` made")
    export.add_argument(
        "--format",
        required=True,
        choices=("torchscript", "onnx", "bioimageio"),
        help="torchscript: MONAI Deploy and Java readers; onnx: any runtime; bioimageio: a package "
        "of the BioImage Model Zoo",
    )
    export.add_argument("--output", help="file to write (models/model.* of the bundle)")


def _add_doctor(commands: Commands[argparse.ArgumentParser]) -> None:
    commands.add_parser(
        "doctor", help="say what is installed, what this machine offers and what could be added"
    )


def _add_choice(command: argparse.ArgumentParser) -> None:
    for option in CHOICES:
        command.add_argument(
            f"--{option}", type=int, metavar="N", help=f"{option} of TIFFs with several, from 0"
        )
    command.add_argument(
        "--pixel-size",
        type=float,
        nargs="+",
        metavar="UM",
        help="pixel size in um of images whose files do not say it, such as PNG: one, or X Y [Z]",
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", help="cpu, cuda or cuda:N (cuda where there is one, else cpu)")


def _add_max_bytes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-bytes",
        metavar="N",
        help="refuse files that take more memory once decoded, such as 500M or 2G (half of what "
        "is free)",
    )
