"""Lists of images and labels: pairs by name, and planes of stacks.

A data list is MONAI's: one dictionary an item, `{"image": path, "label": path}`, a list of paths
for an image whose channels are files, and `"slice": k` if a 2-D network reads one plane of a stack.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med.data.cases import Case, files_of, shown
from unet_med.data.changed_results import as_predicted
from unet_med.data.channels import group_channels
from unet_med.data.entries import Item
from unet_med.data.folder_files import (
    NO_LABELS,
    RECORD,
    image_files,
    other_than_labels,
    without_labels,
    without_results,
)
from unet_med.data.formats import stem
from unet_med.data.list_file import declared_count, is_list, read_list
from unet_med.data.pairing import pair_by_name
from unet_med.data.planned_pairs import pairs_of_plan

if TYPE_CHECKING:
    from unet_med.data.file_reader import FileReader
    from unet_med.data.grids import Grid

Images = str | Path | Sequence[Any]

HELD_OUT = "held out"  # ends the note on what a data list itself validates on


@dataclass(frozen=True)
class Listing:
    """What was found, and how.

    Attributes:
        items: a data list.
        notes: in words, what a user may want to know: the section of a list, endings of names.
    """

    items: list[Item]
    notes: tuple[str, ...] = ()


def find_images(
    images: Images,
    stacks: bool = False,
    *,
    reader: FileReader | None = None,
    channels: int = 1,
    orientation: str | None = None,
) -> list[Item]:
    """List images: of a folder, a file, a sequence of these, or a MONAI data list (JSON).

    In a folder, hidden files, labels and results of a prediction are passed over. Of a data list,
    `test` is taken, else `validation`, else `training`.

    Args:
        images: folder, image file, sequence of them, or a `.json` data list; a sequence within
            a sequence is one image, its files the channels.
        stacks: make one item of each plane of a multi-plane file (for 2-D networks).
        reader: counts those planes; `AutoReader` by default.
        channels: of an image; files `x_0000`, `x_0001` are those of one, if all names say so.
        orientation: in which the planes of a volume are counted; None: in its file's own.

    Returns:
        Items `{"image": path}`, in the order of their names; with `stacks`
        `{"image": path, "slice": k}`.

    Raises:
        FileNotFoundError: a path is missing.
        ValueError: a folder without images, or a data list that cannot be read.
    """
    items = look_for_images(images, channels).items
    return split_stacks(items, reader, orientation) if stacks else items


def find_pairs(
    images: str | Path,
    labels: str | Path | None = None,
    stacks: bool = False,
    *,
    reader: FileReader | None = None,
    orientation: str | None = None,
    plan: str | Path | None = None,
) -> list[Item]:
    """Pair images with labels of the same name.

    Where no names are equal, names such as `case_0000` are channels of a label's `case`, and
    labels may have one ending more, such as `_mask`. Of a data list, `training` and `validation`
    are taken, or `test` where there is nothing else.

    Args:
        images: a folder, one file, or a MONAI data list (JSON) with `image` and `label`.
        labels: a folder with labels of matching names, or the one label file;
            not needed for a data list, nor where labels lie beside their images.
        stacks: make one item of each plane of a multi-plane file (for 2-D networks).
        reader: counts the planes of the images; `AutoReader` by default.
        orientation: in which the planes of a volume are counted; None: in its file's own.
        plan: of a bundle, whose pairs are taken by name where there are no images.

    Returns:
        Items `{"image": path, "label": path}`, in the order of their names; those of a list's
        `validation` have `"section": "validation"` too.

    Raises:
        FileNotFoundError: a path is missing.
        ValueError: an image without a label, two labels of one name, or with `stacks` a label
            of more or fewer planes; names the file.
    """
    if plan and not Path(images).exists():
        known = pairs_of_plan(images, plan, stacks=stacks, orientation=orientation)
        if known:
            return known
    items = look_for_pairs(images, labels).items
    return split_stacks(items, reader, orientation) if stacks else items


def look_for_images(images: Images, channels: int = 1) -> Listing:
    """What `find_images` finds, and how."""
    if is_list(images):
        path = Path(images)  # type: ignore[arg-type]
        sections = read_list(path)
        section = next(name for name in ("test", "validation", "training") if name in sections)
        items = [{k: v for k, v in item.items() if k != "label"} for item in sections[section]]
        return Listing(items, (_about(path, section, sections),))
    files, passed_over = _without_predicted(_cases(images), one=isinstance(images, str | Path))
    single = [case for case in files if isinstance(case, str)]
    cases = group_channels(single, channels) if len(single) == len(files) else files
    apart = [case for case in cases if isinstance(case, str)]
    said = f"{len(apart)} file(s) lack other channels of their case, such as {shown(apart[:1])}"
    notes = (said,) if 0 < len(apart) < len(cases) and len(single) == len(files) else ()
    return Listing([{"image": case} for case in cases], (*passed_over, *notes))


def look_for_pairs(images: str | Path, labels: str | Path | None = None) -> Listing:
    """What `find_pairs` finds, and how."""
    found = _look_for_pairs(Path(images), None if labels is None else Path(labels))
    for item in found.items:
        if os.path.realpath(item["label"]) in map(os.path.realpath, files_of(item["image"])):
            raise ValueError(
                f"{item['label']} is image and label at once: keep images and labels in two "
                "folders, files of one pair under one name, or list the pairs in a data list; "
                "labels beside their images, such as a_mask.tif, are found without --labels"
            )
    return _without_own_answers(found, named=labels is not None or is_list(images))


def _without_own_answers(found: Listing, *, named: bool) -> Listing:
    """Say which labels are results of a prediction that nobody has changed.

    A network would learn its own faults from them.

    Args:
        found: images and labels.
        named: whether somebody named the labels; none are taken that only lie beside the images.

    Raises:
        ValueError: all labels are results, or one that nobody named.
    """
    labels = dict.fromkeys(item["label"] for item in found.items)
    results = as_predicted(labels)
    if not results:
        return found
    said = f"{len(results)} label(s) are what a prediction wrote, such as {Path(results[0]).name}"
    if named and len(results) < len(labels):
        return replace(found, notes=(*found.notes, f"{said}: are they right as they are?"))
    raise ValueError(
        f"{said}, and nobody has changed them, so a network would learn its own faults: correct "
        f"them, or copy those that are right to a folder without {RECORD}, named with --labels"
    )


def _look_for_pairs(images: Path, labels: Path | None) -> Listing:
    found = _of_list(images) if is_list(images) else None
    if found and all("label" in item for item in found.items):
        return found
    if labels is None and found is None and (beside := _of_one_folder(images)):
        return beside
    if labels is None:
        other = ", or put labels beside their images under an ending such as a_mask.tif"
        is_folder = found is None and images.is_dir()
        left = other_than_labels(images) if is_folder else ""
        raise ValueError(
            f"{images} names no labels: give a folder of labels as well"
            + (other if is_folder else "")
            + (f"; it holds {left}" if left else "")
        )
    if found is None and images.is_file() and labels.is_file():
        return Listing([{"image": str(images), "label": str(labels)}])
    items = found.items if found else [{"image": case} for case in _cases(images)]
    return _paired(items, image_files(labels), found.notes if found else ())


def names_labels(images: str | Path) -> bool:
    """Whether these are a data list whose items name their labels."""
    return is_list(images) and all("label" in item for item in _of_list(Path(images)).items)


def share_of(items: Sequence[Item], rank: int, ranks: int) -> list[Item]:
    """Share of one process in the validation: every `ranks`-th item.

    Together the shares are all items, each once, and MONAI's metrics gather the results. With
    fewer items than processes each process validates all of them: a process without items
    would stop, and the mean over equal copies is the same.

    Args:
        items: all items, in order.
        rank: number of this process, from 0 on.
        ranks: number of processes.
    """
    return list(items[rank::ranks] if len(items) >= ranks else items)


def _cases(images: Images) -> list[Case]:
    """Case of each image of a folder, a file, or a sequence of these and of files of one image."""
    if isinstance(images, (str, Path)):
        return [str(path) for path in _images_in(Path(images))]
    cases: list[Case] = []
    for entry in images:
        if isinstance(entry, (str, Path)):
            cases += _cases(entry)
        else:
            cases.append(files_of(entry))
    return cases


def _without_predicted(files: list[Case], *, one: bool) -> tuple[list[Case], tuple[str, ...]]:
    """Leave out results among files, as a shell's `*.tif` lists them, and say so.

    Args:
        files: of images.
        one: they are of one folder, which is done with, or somebody named one file.
    """
    results = [] if one else as_predicted(case for case in files if isinstance(case, str))
    if not results or len(results) == len(files):
        return files, ()
    first = Path(results[0]).name
    note = f"{len(results)} file(s) are results of a prediction, and passed over, such as {first}"
    return [case for case in files if case not in results], (note,)


def _images_in(path: Path) -> list[Path]:
    files = image_files(path)
    return files if files == [path] else without_results(files, path)


def _of_list(path: Path) -> Listing:
    """Training and validation of a data list."""
    sections = read_list(path)
    if not (training := sections.get("training", [])):
        section = next(iter(sections))
        return Listing(sections[section], (_about(path, section, sections),))
    held = [{**item, "section": "validation"} for item in sections.get("validation", [])]
    notes = [_about(path, "training", sections)]
    if (count := declared_count(path)) not in (None, len(training)):
        notes.append(f"it says that there are {count} (numTraining)")
    if held:
        notes.append(f"{len(held)} of its 'validation' {HELD_OUT}")
    elif len({str(item.get("fold")) for item in training}) > 1:
        notes.append(f"one of its folds {HELD_OUT}")
    return Listing(training + held, tuple(notes))


def _about(path: Path, section: str, sections: dict[str, list[Item]]) -> str:
    return f"{len(sections[section])} image(s) of {section!r} of {path.name}"


def _of_one_folder(folder: Path) -> Listing | None:
    """Labels beside the images, named after them: `a.tif`, `a_mask.tif`; None: there are none."""
    files = image_files(folder)
    images = without_labels(files)
    if len(images) == len(files):
        return None
    items, known = [{"image": str(path)} for path in images], set(images)
    labels = [path for path in files if path not in known and not stem(path).endswith(NO_LABELS)]
    return _paired(items, labels) if labels else None


def _paired(items: Sequence[Item], labels: Iterable[Path], notes: Sequence[str] = ()) -> Listing:
    found = pair_by_name([item["image"] for item in items], [str(path) for path in labels])
    more = items if len(found.pairs) == len(items) else [{}] * len(found.pairs)
    paired = [
        {**item, "image": image, "label": label}
        for item, (image, label) in zip(more, found.pairs, strict=True)
    ]
    said = [found.how] if found.how else []
    if found.spare:
        count, first = len(found.spare), Path(found.spare[0]).name
        said.append(f"{count} label(s) without an image are left out, such as {first}")
    return Listing(paired, (*notes, *said))


def split_stacks(
    items: Sequence[Item], reader: FileReader | None, orientation: str | None
) -> list[Item]:
    """One item a plane, as `SelectSliced` takes it; files of one plane stay as they are."""
    from unet_med.data.label_reader import LabelReader
    from unet_med.data.orientation import turn_towards

    split: list[Item] = []
    for item in items:
        grid = _grid(item["image"], reader)
        if "label" in item:
            label = _grid(item["label"], LabelReader(images=reader))
            _require_same_planes(item, grid.shape, label.shape)
        planes = turn_towards(grid, orientation).sides(grid.sides)[2]
        split += [item] if planes == 1 else [{**item, "slice": k} for k in range(planes)]
    return split


def _require_same_planes(item: Item, image: Sequence[int], label: Sequence[int]) -> None:
    planes, others = ((*shape, 1)[2] for shape in (image, label))
    if planes != others and sorted(image) != sorted(label):  # axes in another order are turned
        raise ValueError(
            f"image {shown(item['image'])} has {planes} plane(s), its label "
            f"{shown(item['label'])} has {others}: each plane needs its own"
        )


def _grid(case: Case, reader: FileReader | None) -> Grid:
    """From the headers of an image's files."""
    from unet_med.data.auto_reader import AutoReader
    from unet_med.data.grids import Grid

    files = [Path(file) for file in files_of(case)]
    volume = (reader or AutoReader()).open_channels(files, header_only=True)
    return Grid.of(volume, shown(case))
