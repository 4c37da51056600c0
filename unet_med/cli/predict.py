"""`unet-med predict`: images in, masks and instances out."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med import bundle
from unet_med.bundle.literals import itself
from unet_med.bundle.trust import require_trust
from unet_med.cli.extras import require
from unet_med.cli.kept_sizes import sources_of, warn_of_kept
from unet_med.cli.options import PREDICT, choice_of, refuse_without_effect
from unet_med.cli.output import check_folder
from unet_med.cli.saying import LEFT, result, say, warn
from unet_med.cli.shard import images_of, shard_of
from unet_med.cli.wanted import outputs_of, settings_of
from unet_med.data.cases import Files, as_template, files_of, one_place, result_name
from unet_med.data.datalist import look_for_images
from unet_med.data.formats import NIFTI, OME_ZARR, PICTURE, TIFF, format_at, format_of, stem
from unet_med.devices import choose_device
from unet_med.errors import befalls_all, one_line, user_error

SHOWN = 10  # images in the line that does the same with MONAI

if TYPE_CHECKING:
    from unet_med.handlers.skipped_failures import Fault


def run(args: argparse.Namespace) -> int:
    """Segment images with a trained bundle and say where the results are.

    Returns:
        0, or 3 where some images were set aside.
    """
    folder = bundle.find_trained(args.bundle)
    args.bundle = str(folder)  # a name is looked up once
    if not args.trust:
        require_trust(folder)
    shard = shard_of(args.shard)
    whole, in_blocks = split_by_size(args)
    refuse_without_effect(args, by_blocks=bool(in_blocks))
    if args.planes and _inference(folder).get("spatial_dims") == 3:
        raise ValueError(
            f"--planes {args.planes} has no effect: the network of {folder.name} takes volumes, in "
            "which objects always go through planes; leave it out"
        )
    if args.uncertainty:
        _require_known(folder, {"calibration": "--uncertainty"})
        _say_if_uncalibrated(folder)
    if outputs_of(args) == ["mask"] and _inference(folder).get("label_kind") == "instances":
        say("masks alone, in which objects that touch are one; --instances numbers the objects")
    options = vars(args)
    if shard is not None and not _is_file(args.output):  # a shard of images, not of blocks
        mine = images_of(shard, [*whole, *(image for image, _ in in_blocks)])
        keys = {tuple(files_of(image)) for image in mine}
        whole = [image for image in whole if tuple(files_of(image)) in keys]
        in_blocks = [pair for pair in in_blocks if (pair[0],) in keys]
        options = {**options, "shard": None}
        if not mine:
            say(f"no image is left for --shard {args.shard}")
    if args.pixel_size:
        chosen = [*whole, *(image for image, _ in in_blocks)]
        warn_of_kept(sources_of(chosen, choice_of(args)))
    if not in_blocks:
        return _summarize(*_whole(args, folder, whole), args.output) if whole else 0
    if _is_file(args.output):
        _by_blocks(options, *in_blocks[0])
        return 0
    return _one_by_one(args, folder, whole, in_blocks, options)


def split_by_size(args: argparse.Namespace) -> tuple[list[Files], list[tuple[str, str]]]:
    """Which images are segmented whole, and which block by block, each with its output.

    Block by block go: every OME-Zarr, as image and as output; a TIFF that takes more than half of
    the free memory; and the image of a TIFF as output where `_reason_for_blocks` has one.

    Raises:
        ValueError: several images for one file, two of one name, or a file that is not written.
    """
    if _is_file(args.output) and (reason := _reason_for_blocks(args)):
        if len(args.images) != 1:
            raise ValueError(f"{len(args.images)} images given; {args.output} is made of one")
        if args.fail_fast:
            raise ValueError(
                "--fail-fast has no effect block by block, where there is one image and every "
                "failure ends the run: leave it out"
            )
        require("zarr", f"--output {args.output}, block by block because of {reason},")
        return [], [(args.images[0], args.output)]
    images = _images(args)
    if _is_mask(args.output):
        _check_mask(args, images)
        return images, []
    single = [path for path in images if isinstance(path, str)]
    choice = choice_of(args)
    large = [path for path in single if _is_zarr(path) or _is_large(path, choice)]
    names = {path: _name(path, args) + "_mask" for path in large}
    suffixes = {path: ".ome.zarr" if _is_zarr(path) else ".tif" for path in large}
    outputs = [str(Path(args.output) / f"{names[path]}{suffixes[path]}") for path in large]
    whole = [path for path in images if not (isinstance(path, str) and path in names)]
    return whole, list(zip(large, outputs, strict=True))


def _reason_for_blocks(args: argparse.Namespace) -> str | None:
    """Why an output that is a file is made block by block; None: it is written as others are."""
    image, output = args.images[0], Path(args.output.rstrip("/"))
    given = [each.name for each in PREDICT if each.blocks and each.given(args) is not None]
    reasons = {
        "its format": format_of(output) is not TIFF or _is_zarr(image),
        "its job": output.with_name(f"{stem(output)}.ome.zarr.job").is_dir(),
        "--shard": args.shard,
        **dict.fromkeys(given, True),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    return reason or (None if _fits(image, choice_of(args)) else "the image's size")


def _by_blocks(options: Mapping[str, Any], image: str, output: str) -> None:
    from unet_med.cli import blocks

    blocks.run(argparse.Namespace(**{**options, "images": [image], "output": output}))


def _one_by_one(
    args: argparse.Namespace,
    folder: Path,
    whole: list[Files],
    in_blocks: Sequence[tuple[str, str]],
    options: Mapping[str, Any],
) -> int:
    """Segment whole images, then those that take longer; one that fails is set aside.

    Raises:
        ValueError: not one could be segmented.
    """
    from unet_med.handlers.skipped_failures import Fault, report_faults, require_any_segmented

    count, faults = _whole(args, folder, whole, all_may_fail=True) if whole else (0, [])
    total = count + len(in_blocks)
    seen = [files_of(_absolute(image))[0] for image in whole]
    place = Path(args.output).absolute()
    try:
        for image, output in in_blocks:
            try:
                _by_blocks(options, image, output)
            except Exception as error:
                if args.fail_fast or not _is_of_one(error):
                    raise
                faults.append(Fault(str(Path(image).absolute()), one_line(error)))
            seen.append(str(Path(image).absolute()))
            count += 1
    finally:  # an error that ends the run leaves what was set aside before
        if total > 1 or place.is_dir():
            report_faults(place, faults, seen, count)
    require_any_segmented(faults, count)
    if args.job_only and not faults:
        return 0
    return _summarize(count, faults, args.output)


def _is_of_one(error: Exception) -> bool:
    """Whether an error is of one image, whose output may be there already; see `befalls_all`."""
    return isinstance(user_error(error), FileExistsError) or not befalls_all(error)


def _whole(
    args: argparse.Namespace, folder: Path, images: list[Files], *, all_may_fail: bool = False
) -> tuple[int, list[Fault]]:
    """Segment images that fit into memory, with MONAI's evaluator; how many, what was set aside."""
    if args.dicom_seg:
        _check_dicom_seg(folder, images)
    if args.rois:
        _require_known(folder, {"rois": "--rois"})
    weights = bundle.find_weights(folder)
    output = Path(args.output).absolute()
    check_folder(output.parent if _is_mask(args.output) else args.output)
    settings: dict[str, Any] = {
        "images": [_absolute(image) for image in images],
        "output_dir": output,
        "outputs": outputs_of(args),
    }
    if args.device:  # else as the bundle says
        settings["device"] = f"$torch.device('{choose_device(args.device)}')"
    if _is_mask(args.output):
        own = stem(output)
        name = itself(as_template(own.removesuffix("_mask") or own))
        settings |= {"output_dir": output.parent, "result_file": output, "result_name": name}
    elif args.name:
        settings["result_name"] = itself(args.name)
    settings |= settings_of(args)
    if weights.suffix != ".pt":
        settings.setdefault("checkpoint", weights.absolute())  # an ensemble has its own
    settings |= {"fail_fast": True} if args.fail_fast else {}
    settings |= {"skip_done": True} if args.resume else {}
    options = {"skip_done": "--resume", "result_file": f"--output {args.output}"}
    options |= {"result_name": "--name", "members": "--ensemble", "precision": "--precision"}
    options |= {"planes": "--planes", "scale": "--object-width"}
    _require_known(folder, {id: name for id, name in options.items() if id in settings})
    workflow = bundle.load_workflow(folder, "inference", settings, trust=args.trust)
    todo = len(workflow.evaluator.data_loader.dataset)
    if todo < len(images):
        say(
            f"{len(images) - todo} of {len(images)} images skipped: the same weights and settings "
            "have done them"
        )
    if not todo:
        return 0, []
    try:
        workflow.run()
    except Exception:
        if not all_may_fail or len(_faults(workflow)) < todo:
            raise
    say(_with_monai(folder, settings))  # not first: it is long, and few need it
    return todo, _faults(workflow)


def _faults(workflow: Any) -> list[Fault]:
    """What was set aside; a bundle of an earlier version has no such list."""
    return list(getattr(workflow.evaluator, "faults", []))


def _with_monai(folder: Path, settings: Mapping[str, Any]) -> str:
    """The line that does the same with MONAI, of the first image where there are many."""
    images = settings["images"]
    which = f", the first of {len(images)} images" if len(images) > SHOWN else ""
    shown = {**settings, "images": images[:1] if which else images}
    return f"the same with MONAI{which}:\n  " + bundle.command_line(folder, "inference", shown)


def _summarize(count: int, faults: Sequence[Fault], output: str) -> int:
    """Say what was segmented, and of what was set aside the reasons; return the exit code."""
    if not count:
        result(f"no image was left to do, results in {output}")
        return 0
    if not faults:
        result(f"{count} image(s) segmented, results in {output}")
        return 0
    result(f"{count - len(faults)} of {count} images segmented, results in {output}")
    warn(f"{len(faults)} set aside (listed in {_folder_of(output) / 'failed.json'}):")
    for fault in faults:
        warn(f"  {Path(fault.image).name}: {fault.reason}")
    return LEFT


def _folder_of(output: str) -> Path:
    """Folder that results go to."""
    path = Path(output).absolute()
    return path.parent if _is_mask(output) else path


def _require_known(folder: Path, options: Mapping[str, str]) -> None:
    """Refuse what a bundle of an earlier version would not heed: options, by the id they need."""
    known = _inference(folder)
    for id, option in options.items():
        if id not in known:
            raise ValueError(
                f"{folder} was made by an earlier version, without `{id}` in its inference.json: "
                f"leave out {option}, or take configs/inference.json of `unet-med init`"
            )


def _say_if_uncalibrated(folder: Path) -> None:
    """Say where a map of the chance to be wrong is the network's own opinion."""
    from unet_med.report.training import uncalibrated

    if reason := uncalibrated(folder):
        say(f"NAME_uncertainty is 1 less the network's own probability, {reason}")


def _absolute(image: Files) -> Files:
    files = [str(Path(file).absolute()) for file in files_of(image)]
    return files[0] if isinstance(image, str) else files


def _images(args: argparse.Namespace) -> list[Files]:
    """Files to segment; results are named after them, so no two may share a name."""
    paths: list[str] = args.images
    volumes = [path.rstrip("/") for path in paths if _is_zarr(path)]
    others = [path for path in paths if not _is_zarr(path)]
    images: list[Files] = list(volumes)
    if others:  # one may be a data list
        found = look_for_images(
            others[0] if len(others) == 1 else others, _channels(Path(args.bundle))
        )
        for note in found.notes:
            say(note)
        images += [item["image"] for item in found.items]
    names = Counter(one_place(_name(image, args)) for image in images)
    for image in images:
        if names[one_place(name := _name(image, args))] > 1:
            raise ValueError(
                f"two images are named {name}, one of them {files_of(image)[0]} (upper and lower "
                "case are one): rename one, or "
                "name results after folders too, such as --name {parent}_{stem}"
            )
    return images


def _name(image: Files, args: argparse.Namespace) -> str:
    return result_name(image, args.name) if args.name else result_name(image)


def _is_mask(output: str) -> bool:
    """Whether an output is the file of one mask, or of a format that no result is written in."""
    return format_of(output.rstrip("/")) not in (None, OME_ZARR)


def _check_mask(args: argparse.Namespace, images: Sequence[Files]) -> None:
    """Refuse what one mask in a file cannot be."""
    found = format_of(args.output)
    written = found in (NIFTI, PICTURE, TIFF) and found.written_suffixes
    if not written or not args.output.lower().endswith(written):
        raise ValueError(
            f"--output {args.output}: results are written as .nii.gz, .nii, .tif, .ome.zarr or, of "
            "planes, .png; give one of these, or a folder"
        )
    if len(images) != 1:
        raise ValueError(f"{len(images)} images given; {args.output} is made of one")
    if args.name:
        raise ValueError(f"--name has no effect where {args.output} is the mask: give a folder")
    if Path(args.output).absolute() in [Path(file).absolute() for file in files_of(images[0])]:
        raise ValueError(f"--output {args.output} is the image itself: give another name")


def _channels(folder: Path) -> int:
    """How many the network of a bundle takes; 1 where it does not say so plainly."""
    found = _inference(folder).get("in_channels")
    return found if isinstance(found, int) else 1


def _inference(folder: Path) -> dict[str, Any]:
    """How a bundle predicts, as its file says; empty where there is none."""
    path = folder / "configs" / "inference.json"
    return dict(bundle.load_config(path)) if path.is_file() else {}


def _check_dicom_seg(folder: Path, images: Sequence[Files]) -> None:
    """Refuse to promise a DICOM SEG of what none can be made of, before the work is done."""
    from unet_med.data.dicom_seg import require_classes, require_series

    require("dicom", "--dicom-seg")
    _require_known(folder, {"dicom_seg": "--dicom-seg"})
    require_classes(str(_inference(folder).get("label_kind")))
    for image in images:
        require_series(files_of(image)[0])


def _is_file(output: str) -> bool:
    """Whether an output is one result, not a folder of results."""
    return output.rstrip("/").lower().endswith((".zarr", ".tif", ".tiff"))


def _is_zarr(path: str) -> bool:
    return format_at(path.rstrip("/")) is OME_ZARR


def _is_large(path: str, choice: Mapping[str, Any]) -> bool:
    """Whether a TIFF would take more than half of the free memory, and blocks can be done."""
    return format_of(path) is TIFF and find_spec("zarr") is not None and not _fits(path, choice)


def _fits(path: str, choice: Mapping[str, Any]) -> bool:
    """Whether an image takes no more than half of the free memory; reads its header.

    Args:
        path: of the file.
        choice: which image of several is read, as `choice_of` gives it.
    """
    from unet_med.data import load_header
    from unet_med.memory import holds_whole

    try:
        header = load_header(path, **choice)
    except (OSError, ValueError):
        return True  # it is set aside with its reason, where all images are read
    return holds_whole(header.array.size)
