"""One self-contained HTML page about a segmentation: images, scores and origin."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med.data.cases import shown
from unet_med.data.checksum import sha256
from unet_med.data.plane_kind import PLANES
from unet_med.planes import JOINED
from unet_med.report import panels
from unet_med.report.case_files import Reading
from unet_med.report.cases import Case, load_case, pixel_size_text, size_text
from unet_med.report.differences import DIFFERENCES
from unet_med.report.meanings import explained
from unet_med.report.objects import OBJECTS
from unet_med.report.provenance import RECORD, now, read_record
from unet_med.report.scores import headline, number, score_chips, score_rows, shown_first
from unet_med.report.table import ScoreTable
from unet_med.report.training import (
    describe_training,
    listed_versions,
    read_settings,
    uncalibrated,
)
from unet_med.transforms.confidence import CONFIDENCE

Record = Mapping[str, Any]

NO_SCORES = ScoreTable((), ())
OBJECT_MEANINGS = {
    "correct": "found, overlap (IoU) above 0.5",
    "inexact": "found, but the outline is far off",
    "split": "one came out as several",
    "merged": "several came out as one",
    "missed": "a true object that was not found",
    "false": "found where there is none",
}
CLASS_MEANINGS = {
    "correct": "the right class",
    "missed": "an object's pixel that was not found",
    "false": "found where there is none",
    "wrong class": "found as another class",
}


def html_report(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    pictures: int = 12,
    scores: ScoreTable | None = None,
) -> Path:
    """Write one page about a folder of results, or about a trained bundle.

    The page holds its pictures, needs no network and no script, and follows the
    reader's light or dark mode. The folder holds what `unet-med predict` wrote; with the scores
    of `unet-med evaluate` the page has scores and errors. A folder with such a folder `results`
    in it, as `unet-med demo` makes, works too.

    Args:
        folder: of the results, or of the bundle.
        path: where the page goes; `report.html` in the folder by default.
        pictures: images to show, those of the worst first score first.
        scores: of the results.

    Returns:
        The path.

    Raises:
        FileNotFoundError: the folder is missing.
        ValueError: it has neither `record.json` nor `configs/train.json`, a result does
            not fit its image, or `pictures` is negative.
    """
    from unet_med.data.atomic import atomic_write

    if pictures < 0:
        raise ValueError(f"{pictures} pictures: show 0 or more")
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist")
    results = next((f for f in (root, root / "results") if (f / RECORD).is_file()), None)
    if results is not None:
        content = _of_results(results, read_record(results), pictures, scores or NO_SCORES)
    elif (root / "configs" / "train.json").is_file():
        content = _of_bundle(root)
    else:
        raise ValueError(
            f"{root} holds no {RECORD}, which `unet-med predict` leaves beside its results, and "
            "no configs/train.json, which makes a bundle: name such a folder"
        )
    target = Path(path) if path else root / "report.html"
    with atomic_write(target) as beside:
        beside.write_text(_render(content), encoding="utf-8")
    return target


def _of_results(results: Path, record: Record, pictures: int, table: ScoreTable) -> dict[str, Any]:
    images, truths = record["images"], table.about.get("truth", {})
    bundle = _bundle_of(record)
    reading = _reading(record, bundle, table.about)
    ordered = least_confident_first(images)
    names = shown_first(ordered, table)[:pictures]
    cases = [load_case(n, images[n], results, _file(truths.get(n)), reading) for n in names]
    classes = reading.kind == "classes"
    kinds, meanings = (DIFFERENCES, CLASS_MEANINGS) if classes else (OBJECTS, OBJECT_MEANINGS)
    return {
        "kind": "Segmentation report",
        "heading": f"{results.absolute().parent.name} / {results.name}",
        "lead": _lead(record, reading),
        "notes": _notes(record, table),
        "headline": headline(table),
        "columns": table.columns,
        "meanings_of_scores": explained(table.columns),
        "rows": score_rows(table),
        "interval": table.interval,
        "chips": _chips(images, table),
        "counts": _total(cases) if len(cases) == len(images) else {},
        "cases": cases,
        "shown": _about_shown(len(names), images, table, reading),
        "legend": [(name, kinds[name]) for name in meanings],
        "classes": classes,
        "class_key": panels.class_key(record["settings"]) if classes else [],
        "meanings": meanings if any(case.errors for case in cases) else {},
        "doubt": _doubt(bundle),
        "training": {**describe_training(bundle), "preview": None} if bundle else None,
        "provenance": _provenance(record),
        "files": [_file_row(entry) for entry in ordered.values()],
    }


def least_confident_first(images: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a record in this order; those in which nothing was found come last."""

    def rank(name: str) -> tuple[bool, float]:
        value = images[name].get(CONFIDENCE)
        return value is None, value or 0.0

    return {name: images[name] for name in sorted(images, key=rank)}


def _chips(images: Mapping[str, Any], table: ScoreTable) -> dict[str, dict[str, str]]:
    scores = score_chips(table)
    sure = {n: {CONFIDENCE: number(e[CONFIDENCE])} for n, e in images.items() if CONFIDENCE in e}
    return {name: {**scores.get(name, {}), **sure.get(name, {})} for name in images}


def _of_bundle(root: Path) -> dict[str, Any]:
    training = describe_training(root)
    return {
        "kind": "Training report",
        "heading": root.absolute().name,
        "lead": "A bundle that was trained; results of it have a page of their own.",
        "training": training,
        "provenance": {"bundle": str(root.absolute())},
    }


def _render(content: Mapping[str, Any]) -> str:
    import jinja2

    from unet_med import __version__

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unet_med.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    given = {"css": css, "gradient": panels.heat_gradient(), "version": __version__, "made": now()}
    return environment.get_template("page.html.jinja").render(**given, **content)


def _bundle_of(record: Record) -> Path | None:
    """The bundle that made the results, if it is still there."""
    weights = (record.get("weights") or {}).get("file")
    places = list(Path(weights).parents)[1:3] if weights else []  # those of folds lie deeper
    return next((p for p in places if (p / "configs" / "train.json").is_file()), None)


def _doubt(bundle: Path | None) -> str:
    """What the map of uncertainty shows."""
    off = bundle is not None and uncalibrated(bundle) is not None
    return "chance to be wrong, not calibrated" if off else "chance to be wrong"


def _reading(record: Record, bundle: Path | None, about: Mapping[str, Any]) -> Reading:
    settings = record["settings"]
    trained = read_settings(bundle) if bundle else {}
    weights = trained.get("weigh", {}).get("border", {}).get("class_weights")
    return Reading(
        kind=about.get("label_kind") or settings.get("label_kind", "instances"),
        by_plane=settings.get("spatial_dims") == 2,
        planes=about.get("planes"),
        min_size=settings.get("min_size", 0),
        grow=settings.get("grow", 0),
        seeded=settings.get("threshold") is not None,
        w0=trained.get("w0", 10.0),
        sigma=trained.get("sigma", 5.0),
        class_weights=tuple(weights) if weights else None,
        choice=settings.get("choice", {}),
        orientation=settings.get("orientation"),
        unknown=about.get("unknown"),
        truth_choice={**settings.get("choice", {}), **about.get("choice", {})},
    )


def _file(entry: Mapping[str, str] | None) -> str | None:
    """File of the truth, if it is still there."""
    return entry["file"] if entry and Path(entry["file"]).exists() else None


def _lead(record: Record, reading: Reading) -> str:
    count = len(record["images"])
    what = {"mask": "a mask", "classes": "classes", "instances": "instances"}[reading.kind]
    preset = record["settings"].get("preset")
    by = f" by a U-Net of preset {preset}" if preset else ""
    return (
        f"{count} image{'s' * (count != 1)} segmented into {what}{by}, {record['finished'][:10]}."
    )


def _notes(record: Record, table: ScoreTable) -> list[str]:
    """What a reader must know before believing the page."""
    notes = []
    weights = record.get("weights")
    if weights is None:
        notes.append("The record names no weights: what made these results is not known.")
    elif not Path(weights["file"]).is_file():
        notes.append(f"The weights are no longer at {weights['file']}.")
    elif sha256(weights["file"]) != weights["sha256"]:
        notes.append(
            f"{weights['file']} has changed since: the training below is not that of these results."
        )
    notes += table.remarks()
    notes += [f"{row.case} has no scores: {row.note}" for row in table.left]
    for kind, files in (("truth", "truth"), ("result", "results")):
        notes += _changed(kind, table.about.get(files, {}))
    if not table.rows:
        notes.append("No truth: nothing here says how good the results are.")
    return notes


def _changed(kind: str, files: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Which files of a table are no longer what was scored, so that the scores are of others."""
    for name, entry in files.items():
        if not Path(entry["file"]).exists():
            yield f"The {kind} of {name} is no longer at {entry['file']}."
        elif sha256(entry["file"]) != entry["sha256"]:
            yield f"The {kind} of {name} has changed since it was scored."


def _total(cases: Sequence[Case]) -> dict[str, int]:
    total = Counter[str]()
    for case in cases:
        total.update(case.counts)
    return total


def _about_shown(count: int, images: Mapping[str, Any], table: ScoreTable, reading: Reading) -> str:
    order = f", those with the worst {table.columns[0]} first" if table.columns else ""
    if not table.columns and any(CONFIDENCE in entry for entry in images.values()):
        order = ", the least confident first"
    parts = [f"{count} of {len(images)} shown{order}."]
    stacks = [entry for entry in images.values() if len(entry["shape"]) == 4]
    kinds = {reading.planes or entry.get(PLANES) for entry in stacks}
    if stacks and reading.by_plane and kinds != {JOINED}:
        but = ", or of the volume where they go through planes" * (JOINED in kinds)
        parts.append(
            f"Of a volume the plane with the most errors; objects are those of each plane{but}."
        )
    elif stacks and reading.kind == "classes":
        parts.append("Of a volume the plane with the most errors.")
    elif stacks:
        parts.append("Of a volume the plane with the most errors; objects are those of the volume.")
    return " ".join(parts)


def _provenance(record: Record) -> dict[str, str]:
    weights = record.get("weights") or {}
    settings = {k: v for k, v in record["settings"].items() if v not in (None, {})}
    settings |= settings.pop("choice", {})
    facts = {
        "finished": record["finished"],
        "took": f"{record['seconds']:.1f} s",
        "device": record["device"],
        "versions": listed_versions(record["versions"]),
        "settings": ", ".join(f"{k} {v}" for k, v in settings.items()),
        "weights": weights.get("file", "not known"),
        "weights then, SHA-256": weights.get("sha256", "not known"),
    }
    return facts


def _file_row(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": shown(entry.get("files", entry["file"])),
        "size": size_text(entry),
        "pixel_size": pixel_size_text(entry),
        "confidence": number(entry.get(CONFIDENCE)),
        "sha256": entry["sha256"],
    }
