"""`unet-med train`: from a folder of images and labels to a trained bundle."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import bundle
from unet_med.cli import PRESETS, choice_of, overrides, resuming
from unet_med.cli.device import choose_device
from unet_med.cli.output import check_folder

Array = np.ndarray[Any, Any]

CPU_FEATURES = {2: [16, 32, 64, 128, 256], 3: [8, 16, 32, 64]}  # by spatial dims: minutes, not days
DEFAULT_MINUTES = 10.0
TILES_PER_EPOCH = 64  # at least, so that validation does not dominate small sets


@dataclass(frozen=True)
class Survey:
    """What the images and labels say about themselves."""

    count: int
    shape: tuple[int, ...]  # of the largest image, px
    in_channels: int
    spatial_dims: int
    label_kind: str
    out_channels: int
    stacks: bool
    min_size: int  # of an instance, px
    spatial_unit: str


def run(args: argparse.Namespace) -> None:
    """Train, and leave a bundle in `--output`."""
    if args.preset is not None and args.preset not in PRESETS:
        raise ValueError(f"unknown preset {args.preset!r}: one of {', '.join(PRESETS)}")
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:  # torchrun says so
        raise ValueError(
            f"{processes} processes, and `unet-med train` is one: make a bundle with "
            "`unet-med init`, then `torchrun ... -m monai.bundle run --config_file "
            "\"['configs/train.json','configs/multi_gpu_train.json']\"` (how-to/several-gpus.md)"
        )
    files = overrides.find(args)
    device = choose_device(args.device)
    output = Path(args.output)
    check_folder(output)
    on_device = {"device": f"$torch.device('{device}')"}
    if args.resume and any((output / "models").glob("checkpoint*.pt")):
        resuming.prepare(args, output, files)
        _train(output, {"resume": True, **on_device})
        return
    held = overrides.fill_in(args, files)
    resuming.fill_in(args)
    survey = look(args)
    settings = {k: v for k, v in choose(args, survey, device).items() if k not in held}
    settings["overrides"] = [str(path.absolute()) for path in files]
    merged = [*_recipes(args.preset, survey), *files]
    config = bundle.merge_config(bundle.find_bundle() / "configs/train.json", merged, settings)
    if "tile_size" not in held and not args.tile_size:
        settings["tile_size"] = config["tile_size"] = _tile_size(survey, config)
    _describe(args, survey, config)
    begun = args.resume and _begun(output)
    existed = output.exists()
    bundle.copy_bundle(output, over=begun)
    try:
        bundle.write_settings(output, merged, settings)
        _train(output, on_device)
    except BaseException:
        if not begun and not any((output / "models").glob("*.pt")):
            _discard(output, keep_folder=existed)  # nothing half-made stays behind
        raise


def look(args: argparse.Namespace) -> Survey:
    """Read headers, the labels where their values matter, and decide what was left open."""
    from unet_med import data

    pairs = data.find_pairs(args.images, args.labels)
    choice = choice_of(args)
    first = data.load_header(pairs[0]["image"], **choice)
    shapes = [data.load_header(pair["label"]).spatial_shape for pair in pairs]
    zooms = [np.ones(len(shape)) for shape in shapes]
    if args.element_size:
        zooms = [_zoom(pair["image"], args.element_size, choice) for pair in pairs]
    sides = [np.multiply(shape, zoom) for shape, zoom in zip(shapes, zooms, strict=True)]
    volume = len(first.spatial_shape) == 3
    dims = args.dims or (3 if volume and len(pairs) > 1 else 2)
    kind = args.label_kind
    labels = [data.load_image(p["label"]).numpy()[0] for p in pairs] if kind != "mask" else []
    kind = _kind(args, labels) if kind == "auto" or args.classes else kind
    classes = 2
    if kind == "classes":
        classes = data.count_classes(labels, [p["label"] for p in pairs], args.classes)
    return Survey(
        count=sum(shape[2] if dims == 2 and len(shape) == 3 else 1 for shape in shapes),
        shape=tuple(max(map(round, s)) for s in zip(*(s[:dims] for s in sides), strict=True)),
        in_channels=first.array.shape[0] if first.has_channels else 1,
        spatial_dims=dims,
        label_kind=kind,
        out_channels=classes,
        stacks=dims == 2 and volume,
        min_size=_min_size(labels, zooms, dims) if kind == "instances" else 0,
        spatial_unit=first.spatial_unit,
    )


def _zoom(image: str, element_size: list[float], choice: dict[str, Any]) -> Array:
    """Pixels of that size that one pixel of the image becomes along each axis."""
    from unet_med import data

    header = data.load_header(image, **choice)
    if header.spacing_source == "assumed":
        raise ValueError(
            f"{image} does not say its pixel size, so it cannot be brought to --element-size "
            f"{_words(element_size)}: give it with --pixel-size, or save the file with it (in "
            "Fiji: Image > Properties)"
        )
    sizes = element_size if len(element_size) > 1 else element_size * len(header.pixel_size)
    kept = header.pixel_size[len(sizes) :]  # a 2-D network leaves the planes' distance
    return np.divide(header.pixel_size, [*sizes, *kept])


def _kind(args: argparse.Namespace, labels: Sequence[Array]) -> str:
    """What label values mean: classes where their number is given, else as they look."""
    from unet_med import data

    if args.classes and args.label_kind not in ("auto", "classes"):
        raise ValueError(f"--classes is for labels that are classes, these are {args.label_kind}")
    return "classes" if args.classes else data.guess_label_kind(labels)


def _min_size(labels: Sequence[Array], zooms: Sequence[Array], dims: int) -> int:
    """Smallest instance that a prediction keeps: a tenth of the median one, px."""
    from unet_med import data

    sizes = np.concatenate(
        [
            data.instance_sizes(label, dims) * zoom[:dims].prod()
            for label, zoom in zip(labels, zooms, strict=True)
        ]
    )
    return int(np.median(sizes) / 10) if sizes.size else 0


def choose(args: argparse.Namespace, survey: Survey, device: str) -> dict[str, Any]:
    """Settings of the configs: what the user said, and what follows from the images."""
    own_features = None if device.startswith("cuda") else CPU_FEATURES[survey.spatial_dims]
    return {
        "images": str(Path(args.images).absolute()),
        "labels": str(Path(args.labels).absolute()) if args.labels else None,
        "label_kind": survey.label_kind,
        "slice_stacks": survey.stacks,
        "validation_fraction": args.validation,
        "spatial_dims": survey.spatial_dims,
        "element_size": args.element_size,
        "element_unit": survey.spatial_unit if args.element_size else None,
        "in_channels": survey.in_channels,
        "out_channels": survey.out_channels,
        "min_size": survey.min_size,
        "preset": args.preset,
        "features": args.features or own_features,  # None: the preset's
        "seed": args.seed,
        "tiles_per_epoch": max(survey.count, TILES_PER_EPOCH),
        "minutes": args.minutes or (None if args.epochs else DEFAULT_MINUTES),
        "epochs": args.epochs or 100_000,
        **({"tile_size": args.tile_size} if args.tile_size else {}),
        **{f"reader::{name}": index for name, index in choice_of(args).items()},
    }


def _tile_size(survey: Survey, config: dict[str, Any]) -> list[int]:
    """Input side per axis whose output covers the images, within what one step can take."""
    parser, network = bundle.network_of(config)
    valid = getattr(network, "padding", "same") == "valid"
    in_plane = 388 if valid else 192  # 388: the paper's output tile
    limit = in_plane if survey.spatial_dims == 2 else 64
    shape = survey.shape
    if survey.spatial_dims == 2:  # square, so that quarter turns keep the size of a batch
        shape = (max(shape),) * 2
    sides = [min(side, limit) for side in shape]
    if hasattr(network, "input_size_for"):
        return [network.input_size_for(side) for side in sides]
    stride = parser.get_parsed_content("stride") or 1  # a foreign network's config says it
    return [-(-side // stride) * stride for side in sides]


def _recipes(preset: str, survey: Survey) -> list[Path]:
    """Override files that the preset and the kind of images bring with them."""
    names = [preset, *(["volume3d", f"{preset}3d"] if survey.spatial_dims == 3 else [])]
    return [path for path in map(bundle.override_file, names) if path is not None]


def _describe(args: argparse.Namespace, survey: Survey, config: dict[str, Any]) -> None:
    assumed = " (decided from the values)" if args.label_kind == "auto" else ""
    kind = {
        "mask": "a mask, its value besides 0 the foreground",
        "classes": f"{survey.out_channels} classes",
    }
    features = config["features"] or "as the preset"
    print(f"images    {survey.count}, {survey.spatial_dims}-D, {survey.in_channels} channel(s)")
    kept = f"instances; smaller than {survey.min_size} px are dropped from results"
    print(f"labels    {kind.get(survey.label_kind, kept)}{assumed}")
    if args.element_size:
        print(f"pixels    brought to {_words(args.element_size)} {survey.spatial_unit}")
    print(f"network   preset {config['preset']}, features {features}")
    if config["overrides"]:
        print(f"config    with {', '.join(Path(name).stem for name in config['overrides'])}")
    print(f"tile      {config['tile_size']} px")
    minutes, epochs = config["minutes"], config["epochs"]
    budget = f"{minutes:g} minutes" if minutes else f"{epochs} epochs"
    print(f"budget    {budget}")


def _words(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _train(output: Path, settings: dict[str, Any]) -> None:
    print("the same with MONAI:\n  " + bundle.command_line(output, "train", settings), flush=True)
    workflow = bundle.load_workflow(output, "train", settings)
    workflow.run()
    print(f"trained bundle in {output}; use it with")
    print(f"  unet-med predict IMAGE --bundle {output} --output RESULTS")


def _begun(output: Path) -> bool:
    """Whether a training laid its bundle here and got no further: nothing to continue."""
    is_bundle = (output / "configs" / "train.json").is_file()
    return is_bundle and not any((output / "models").glob("*.pt"))


def _discard(output: Path, *, keep_folder: bool) -> None:
    shutil.rmtree(output)
    if keep_folder:
        output.mkdir()
