"""`unet-med train`: from a folder of images and labels to a trained bundle."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.bundle.exports import about_other_exports
from unet_med.cli import overrides, resuming, starting
from unet_med.cli.output import check_folder
from unet_med.cli.planned import plan_for
from unet_med.cli.saying import result, say
from unet_med.devices import choose_device
from unet_med.planning import DataFolder, Plan, describe, lay_bundle
from unet_med.planning.words import explain
from unet_med.report.provenance import TRAINING, read_record

FEW = 200  # steps from nothing; the scores of the README took some thousands


def run(args: argparse.Namespace) -> None:
    """Plan, lay the bundle in `--output`, and train it with MONAI."""
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:  # torchrun says so
        raise ValueError(
            f"{processes} processes, and `unet-med train` is one: make a bundle with "
            "`unet-med init`, then `torchrun ... -m monai.bundle run --config_file "
            "\"['configs/train.json','configs/multi_gpu_train.json']\"` (how-to/several-gpus.md)"
        )
    files = overrides.find(args)
    device = str(choose_device(args.device))
    output = _output(args)
    settings = {"device": f"$torch.device('{device}')"}
    if args.cache:
        settings["cache_dir"] = os.path.abspath(os.path.expanduser(args.cache))
    if args.resume and output and _can_resume(output):
        _go_on(args, output, files, settings)
        return
    source = starting.source_of(args)
    plan, replay_dir = starting.replayed(plan_for(args, files, device, source), source, args)
    if args.plan_only:
        print(explain(plan))
        return
    assert output is not None
    say(describe(plan))
    place = DataFolder.of(args.images, args.labels)
    settings |= place.settings(plan.data.images, plan.data.labels)
    settings |= {"replay_dir": replay_dir} if replay_dir else {}
    lay = partial(lay_bundle, plan, output, source=source)
    _lay_and_train(lay, output, settings, begun=args.resume and _begun(output))


def _go_on(
    args: argparse.Namespace, output: Path, files: Sequence[Path], settings: Mapping[str, Any]
) -> None:
    """Continue the training that a bundle holds, or say what it was planned as."""
    replay = starting.resumed(args, output)
    names = resuming.prepare(args, output, files, write=not args.plan_only)
    if args.plan_only:
        print(explain(Plan.from_json(bundle.read_plan(output))))
        return
    place = DataFolder.of(args.images, args.labels).settings(*names)
    _train(output, {"resume": True, **place, **settings, **replay})


def _output(args: argparse.Namespace) -> Path | None:
    """The folder of the bundle, which a plan alone does not need."""
    if args.output is None:
        if args.plan_only:
            return None
        raise ValueError("--output is missing: name a new folder, which becomes the trained bundle")
    if not args.plan_only:
        check_folder(Path(args.output))
    return Path(args.output)


def _lay_and_train(
    lay: Callable[..., Path], output: Path, settings: Mapping[str, Any], *, begun: bool
) -> None:
    """Train; where that fails before there are weights, nothing half-made stays behind."""
    existed = output.exists()
    try:
        lay(over=begun)
    except BaseException:
        if not existed and output.exists():  # what was there is not ours to remove
            _discard(output, keep_folder=False)
        raise
    try:
        _train(output, settings)
    except BaseException:
        if not begun and not _is_trained(output):
            _discard(output, keep_folder=existed)
        raise


def _train(output: Path, settings: Mapping[str, Any]) -> None:
    if bundle.read_plan(output).get("folds"):
        from unet_med import folds

        folds.train(output, settings)
    else:
        bundle.load_workflow(output, "train", settings).run()
    if "cache_dir" in settings:
        say(f"{settings['cache_dir']} keeps the images for later trainings; remove it if you like")
    if steps := read_record(output / "models", TRAINING).get("iterations"):
        few = steps < FEW and not bundle.read_plan(output).get("source")
        say(f"steps     {steps}" + ": too few to judge by; give it more minutes" * few)
    threshold = bundle.read_plan(output)["ids"].get("threshold", {})
    if threshold.get("value") is not None:
        say(f"objects   threshold {threshold['value']:g}: {threshold['reason']}")
    calibration = bundle.read_plan(output)["ids"].get("calibration")
    if calibration:
        say(f"probabilities   {calibration['reason']}")
    if other := about_other_exports(output):
        say(other)
    result(f"trained bundle in {output}")
    say("the same with MONAI:\n  " + bundle.command_line(output, "train", settings))
    say(f"use it with\n  {_next_line(output)}")


def _next_line(output: Path) -> str:
    """How the bundle is used; of objects, with them: `unet-med evaluate` asks for theirs."""
    kind = bundle.read_plan(output)["ids"].get("label_kind", {}).get("value")
    objects = " --instances" if kind == "instances" else ""
    folder = shlex.quote(str(output))
    return f"unet-med predict IMAGE --bundle {folder} --output RESULTS{objects}"


def _can_resume(output: Path) -> bool:
    """Whether a training left a state here from which it can go on."""
    models = output / "models"  # earlier versions kept it there: the training says where it goes
    return any(path for part in (models / "resume", models) for path in part.glob("checkpoint*.pt"))


def _begun(output: Path) -> bool:
    """Whether a training laid its bundle here and got no further: nothing to continue."""
    is_bundle = (output / "configs" / "train.json").is_file()
    return is_bundle and not _is_trained(output)


def _is_trained(output: Path) -> bool:
    """Whether there are weights of this training, which may have begun with another's."""
    return (output / "models" / "model.pt").is_file() or _can_resume(output)


def _discard(output: Path, *, keep_folder: bool) -> None:
    shutil.rmtree(output)
    if keep_folder:
        output.mkdir()
