"""Describe the training of a bundle: settings, curves, and a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med.bundle import read_plan
from unet_med.bundle.files import weights_file
from unet_med.data.atomic import read_json
from unet_med.data.checksum import sha256
from unet_med.planning.learned import Learned, planes_named
from unet_med.planning.objects import FITTED, LEAST
from unet_med.planning.words import levels
from unet_med.report.chart import curve_svg
from unet_med.report.curve import losses_and_scores
from unet_med.report.folds import describe_folds
from unet_med.report.more_images import PICTURE, describe_more_images
from unet_med.report.panels import address
from unet_med.report.provenance import TRAINING, read_record

Row = dict[str, float]

LATER = ("probabilities", "weights now, SHA-256")  # facts that the end of a training still changes


def describe_training(bundle: Path) -> dict[str, Any]:
    """Facts, curves and preview of a bundle, as the page takes them."""
    settings = read_settings(bundle)
    history = read_history(bundle / "models" / "learning_curve.csv")
    return {
        "facts": training_facts(bundle, settings, history),
        "folds": describe_folds(bundle),
        "more_images": describe_more_images(bundle),
        "score_by_images": _picture(bundle / PICTURE),
        "curves": _curves(history),
        "preview": _picture(bundle / "models" / "preview.png"),
    }


def read_settings(bundle: Path) -> dict[str, Any]:
    """`configs/train.json` of a bundle; empty where there is none."""
    path = bundle / "configs" / "train.json"
    content: dict[str, Any] = read_json(path) if path.is_file() else {}
    return content


def read_history(table: Path) -> list[Row]:
    """Rows of a learning curve; what an epoch did not measure is left out of its row."""
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def training_facts(
    bundle: Path, settings: Mapping[str, Any], history: Sequence[Row]
) -> dict[str, str]:
    """What a bundle was trained on and with, by the names of the facts."""
    record = read_record(bundle / "models", TRAINING)
    weights = weights_file(bundle)
    facts = {
        "preset": settings.get("preset"),
        "features": listed(settings.get("features") or "the preset's"),
        "poolings": levels(settings.get("pool")),
        "kernels": levels(settings.get("kernel_size")),
        "dimensions": settings.get("spatial_dims"),
        "labels are": settings.get("label_kind"),
        "tile, px": listed(settings.get("tile_size")),
        "seed": settings.get("seed"),
        "epochs": f"{history[-1]['epoch']:g}" if history else None,
        "minutes": f"{history[-1]['minutes']:.1f}" if history else None,
        **_data(bundle, settings),
        "scores of held-out images": record.get("validated"),
        "trained with": listed_versions(record.get("versions", {})),
        "trained on": record.get("device"),
        "precision": record.get("precision"),
        "finished": record.get("finished"),
        "weights now, SHA-256": sha256(weights) if weights else None,
    }
    return {name: str(fact) for name, fact in facts.items() if fact not in (None, "")}


def listed(value: Any, between: str = ", ") -> str:
    """Several values in a row, or the only one; empty for None."""
    if isinstance(value, list | tuple):
        return between.join(map(str, value))
    return "" if value is None else str(value)


def _picture(file: Path) -> str | None:
    """A PNG file as a `data:` address."""
    return address(file.read_bytes(), "png") if file.is_file() else None


def _data(bundle: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the network was trained on: by the plan, else as the config says."""
    plan = read_plan(bundle)
    data = plan.get("data")
    if not data:
        return {"images": settings.get("images"), "labels": settings.get("labels")}
    found = {
        "images": f"{len(data['cases'])} file(s) in {data['images']}",
        "labels": data["labels"],
    }
    return {
        **found,
        "validation": _about_validation(plan),
        "probabilities": _about_probabilities(plan),
    }


def uncalibrated(bundle: Path) -> str | None:
    """Why a bundle's probabilities may be off what they say; None: they are not, or who knows."""
    plan = read_plan(bundle)
    return _uncalibrated(plan) if plan else None


def _about_probabilities(plan: Mapping[str, Any]) -> str:
    """How far they are from what they say, or why that is not known."""
    return _uncalibrated(plan) or str(plan["ids"]["calibration"]["reason"])


def _uncalibrated(plan: Mapping[str, Any]) -> str | None:
    ids = plan.get("ids", {})
    if "calibration" in ids:
        return None
    if _taught(plan):
        return "not calibrated: held-out images taught the weights that it starts from"
    held = sum(len(planes_named(each)) for each in _held(plan))
    if held < LEAST:
        return (
            "not calibrated: that takes three held-out images or more (train --folds K holds out "
            "all of them)"
        )
    if any(entry["reason"].startswith(FITTED) for entry in ids.values()):
        return "not calibrated: it was trained by an unet-med that did not do so yet; train it anew"
    return f"not calibrated: nothing was fitted to its {held} held-out images, as its log says why"


def _about_validation(plan: Mapping[str, Any]) -> str | None:
    """What the scores of the held-out images can and cannot tell."""
    split, held = plan.get("split") or {}, _held(plan)
    if not split:
        return None
    if split.get("seen") and plan.get("folds"):
        return "on images that are learned from as well: the folds have the score"
    if not held:
        return "on what is learned from: it says nothing of other images"
    if taught := _taught(plan):
        return (
            f"{len(held)} image(s), of which {taught} taught {plan['source']['name']}, from whose "
            "weights it starts: their score flatters"
        )
    scored = "(train --folds K scores them all)"
    images = len({str(each["image"]) for each in held})
    if images == 1 and (planes := sum(len(planes_named(each)) for each in held)) > 1:
        return f"{planes} planes of one stack: they are alike, and say little of others {scored}"
    if images == 1:
        return f"one image: no interval, and little about others {scored}"
    return f"{images} images: few, so their score varies {scored}"


def _taught(plan: Mapping[str, Any]) -> int:
    """How many held-out images taught the weights that the training starts from."""
    return Learned.of(plan.get("source", {})).count(_held(plan))


def _held(plan: Mapping[str, Any]) -> list[Any]:
    """Entries of the split that are held out, and not learned from as well."""
    split = plan.get("split") or {}
    return [each for each in split.get("validation", []) if each not in split["training"]]


def _curves(history: Sequence[Row]) -> list[dict[str, Any]]:
    """Losses in one drawing, scores in another."""
    return [
        {"svg": curve_svg(history, group), "names": [n.replace("_", " ") for n in group]}
        for group in losses_and_scores(history)
        if group
    ]


def listed_versions(versions: Mapping[str, str]) -> str:
    """`torch 2.13.0, monai 1.6.1`."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
