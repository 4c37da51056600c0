"""Which file is the result of which truth: by their names, or as a list of pairs says."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from unet_med.data.atomic import read_json
from unet_med.data.cases import Case, case_name, files_of, same_name
from unet_med.data.checksum import sha256
from unet_med.data.folder_files import FRACTIONS, RESULTS, image_files, without_labels
from unet_med.data.formats import TIFF, format_of, stem
from unet_med.data.list_file import is_list, read_list
from unet_med.data.pairing import label_base
from unet_med.report.provenance import EARLIER, record_of

SECTIONS = ("test", "validation", "training")  # of a data list, in the order they are tried
SHOWN = 3  # truths in the line that says which were chosen
CHANNEL = "_0000"  # which nnU-Net adds to an image's name, and not to its label's

_NUMBERED = re.compile("instances?$", re.IGNORECASE)  # names of labels that number objects


class Truths(NamedTuple):
    """What results are scored against.

    Attributes:
        files: label files by the name of their image.
        said: where they come from, where that is not plain.
        results: the result of each, where a list of pairs names them; None: by their names.
        items: what a list says of each image.
    """

    files: Mapping[str, str]
    said: str | None = None
    results: Mapping[str, str] | None = None
    items: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


def by_name(names: Iterable[str], files: Iterable[Case], what: str, way: str) -> dict[str, Case]:
    """Files, or cases of several, by their names.

    Args:
        names: of each.
        files: of each.
        what: they are, such as `"results"`.
        way: out, where two have one name.

    Raises:
        ValueError: two have one name; names both.
    """
    found: dict[str, Case] = {}
    for name, file in zip(map(same_name, names), files, strict=True):
        if name in found:
            one, other = (", ".join(files_of(each)) for each in (found[name], file))
            raise ValueError(f"two {what} of one name: {one} and {other}; {way}")
        found[name] = file
    return found


def find_results(results: str) -> dict[str, str]:
    """Files of a folder of results, or the one file, by name.

    An OME-Zarr is passed over where its job and the TIFF that was written from it lie beside it.

    Raises:
        ValueError: two of one name, such as `a_mask.tif` and `a_mask.nii.gz`.
    """
    return _by_stem(_without_stores(image_files(results)), "results")


def result_names(images: Sequence[Case], results: str, *, moved: bool = False) -> list[str]:
    """By which names results of images are called, without `_mask` and the like.

    That is as the record of the results has it, which `predict --name` makes other than the files'
    own; else as the files are called.

    Args:
        images: their files.
        results: the folder of results.
        moved: images that lie where the record does not know them are looked for by their hashes.
    """
    record = record_of(results)
    entries = {**(record.get(EARLIER) or {}), **(record.get("images") or {})}
    known = {same_name(name) for name in entries}
    places = {tuple(e.get("files") or [e.get("file")]): name for name, e in entries.items()}
    counts = Counter(entry.get("sha256") for entry in entries.values())
    hashes = {h: name for name, e in entries.items() if counts[h := e.get("sha256")] == 1}

    def name_of(image: Case) -> str:
        own = case_name(image)
        place = tuple(str(Path(file).absolute()) for file in files_of(image))
        if moved and entries and place not in places and same_name(own) not in known:
            with suppress(OSError):  # a list may name images that are not there
                return hashes.get(sha256(files_of(image)), own)
        return places.get(place, own)

    return [name_of(image) for image in images]


def find_truths(
    truth: str, found: Mapping[str, str], results: str, *, objects: bool | None = None
) -> Truths:
    """Labels of a folder, a file, or a data list, by the names of their images.

    Of a data list, the first section of test, validation and training that names labels and
    has a result. In a folder, labels may share an ending, such as `_mask`, that results lack;
    where some are named after other files there, those are their images. Where an image has
    several, such as `_mask` and `_instances`, the one is taken that the results are scored by.

    Args:
        truth: folder, file or data list (JSON).
        found: the results.
        results: the folder of them.
        objects: whether labels that number objects are asked for, or others; None: numbered ones
            if results are.

    Raises:
        ValueError: a data list without labels, two truths of one name, or of one image.
    """
    if is_list(truth):
        return _of_list(Path(truth), found, results)
    files = _by_stem(_labels_among(image_files(truth)), "truths")
    bases: dict[str, list[str]] = {}
    for name in files:
        bases.setdefault(label_base(name) or "", []).append(name)
    if "" in bases or not any(_found(base, found, RESULTS) for base in bases):
        return Truths(files)
    if objects is None:
        objects = any(_found(base, found, ("_instances",)) for base in bases)
    chosen = {base: _one_of(names, base, truth, objects) for base, names in bases.items()}
    several = [base for base, names in bases.items() if len(names) > 1]
    return Truths({b: files[name] for b, name in chosen.items()}, _about(several, chosen))


def read_pairs(path: Path) -> Truths:
    """Results and truths of a list: JSON or CSV with `result`, `truth` and, if told, `case`.

    Files are relative to the list's folder. A case without a name is called as its result is,
    without `_mask` and the like.

    Raises:
        FileNotFoundError: the list is missing.
        ValueError: it is a folder, or no such list, or two cases have one name; names it.
    """
    if path.is_dir():
        raise ValueError(f"--pairs {path} is a folder: name a list of pairs, JSON or CSV")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    results: dict[str, str] = {}
    truths: dict[str, str] = {}
    items: dict[str, Mapping[str, Any]] = {}
    for entry in _entries(path):
        if not entry.get("result") or not entry.get("truth"):
            raise ValueError(
                f"--pairs {path}: {dict(entry)} does not name a result and a truth; each pair is "
                '{"result": FILE, "truth": FILE}, or a row of the columns result,truth'
            )
        name = same_name(str(entry.get("case") or case_of(entry["result"])))
        if name in truths:
            raise ValueError(
                f"--pairs {path}: two cases are called {name}; tell them apart with a name of "
                "their own under 'case'"
            )
        results[name], truths[name] = (str(path.parent / entry[k]) for k in ("result", "truth"))
        items[name] = {"image": truths[name], **entry}
    if not truths:
        raise ValueError(f"--pairs {path} holds no pairs")
    return Truths(truths, f"pairs of {path.name}", results, items)


def case_of(result: str | Path) -> str:
    """Name of the case that a file is the result of: `a_mask.nii.gz` -> `a`."""
    name = stem(result)
    return next((name.removesuffix(end) for end in RESULTS if name.endswith(end)), name)


def match(
    name: str,
    found: Mapping[str, str],
    results: str,
    suffixes: Sequence[str],
    *,
    alone: bool = False,
) -> str:
    """The result of an image.

    Args:
        name: of the image.
        found: files of results by name.
        results: the folder of them, or the one file.
        suffixes: of their names, the first that is there counts.
        alone: whether this is the only truth: one result is then its, whatever it is called.

    Raises:
        ValueError: there is none.
    """
    if alone and len(found) == 1 and Path(results).is_file():
        return next(iter(found.values()))
    if file := _found(name, found, suffixes):
        return file
    if (base := case_of(name)) != name and base in found:
        raise ValueError(
            f"{Path(found[base]).name} is called as the truth of {name} is: RESULTS come first, "
            "then TRUTH; if they do, pair them with --pairs"
        )
    mask = _found(name, found, ("_mask",)) if suffixes[-2] == "_instances" else None
    there = f"; {Path(mask).name} is no such file: predict with --instances" if mask else ""
    raise ValueError(
        f"no result for {name} in {results}: expected a file named {name}{suffixes[-2]}{there}; "
        "results of other names are paired with --pairs"
    )


def _one_of(names: Sequence[str], base: str, truth: str, objects: bool) -> str:
    """The one label of an image, or of several the one whose name says what is wanted.

    Raises:
        ValueError: none or several do; names them.
    """
    if len(names) == 1:
        return names[0]
    wanted = [name for name in names if bool(_NUMBERED.search(name)) == objects]
    if len(wanted) == 1:
        return wanted[0]
    raise ValueError(
        f"{truth} holds {len(names)} labels of {base}: {', '.join(names)}; leave one of them "
        "there, or pair results with truths by --pairs"
    )


def _about(several: Sequence[str], chosen: Mapping[str, str]) -> str | None:
    """Which labels were chosen, where images have several."""
    if not several:
        return None
    names = ", ".join(chosen[base] for base in several[:SHOWN])
    more = f" and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
    return f"truth: {names}{more}, of several labels each; --label-kind chooses others"


def _entries(path: Path) -> list[Mapping[str, str]]:
    if path.suffix.lower() == ".csv":
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return list(csv.DictReader(lines, delimiter=_delimiter(lines)))
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise ValueError(f'--pairs {path} is no list of {{"result": FILE, "truth": FILE}}')
    return content


def _delimiter(lines: Sequence[str]) -> str:
    """What parts the columns; a spreadsheet whose decimals have a comma writes semicolons.

    >>> _delimiter(["case;result;truth"]), _delimiter(["result,truth"])
    (';', ',')
    """
    return ";" if lines and ";" in lines[0] and "," not in lines[0] else ","


def _found(name: str, found: Mapping[str, str], suffixes: Sequence[str]) -> str | None:
    names = (name + channel + suffix for suffix in suffixes for channel in ("", CHANNEL))
    return next((found[each] for each in names if each in found), None)


def _by_stem(files: Sequence[Path], what: str) -> dict[str, str]:
    named = by_name(map(stem, files), map(str, files), what, "leave one of them out")
    return {name: str(file) for name, file in named.items()}


def _labels_among(files: Sequence[Path]) -> list[Path]:
    """Labels that lie beside their images, as for a training; where none do, all but fractions."""
    files = [file for file in files if not stem(file).endswith(FRACTIONS)] or files
    images = set(without_labels(files))
    labels = [file for file in files if file not in images and label_base(stem(file))]
    return labels or list(files)


def _without_stores(files: Sequence[Path]) -> list[Path]:
    """Leave out what a job wrote block by block, and then into the TIFF beside it."""
    written = {stem(file) for file in files if format_of(file) is TIFF}
    return [file for file in files if stem(file) not in written or not Path(f"{file}.job").is_dir()]


def _of_list(path: Path, found: Mapping[str, str], results: str) -> Truths:
    items = {s: [i for i in own if "label" in i] for s, own in read_list(path).items()}
    labelled = [section for section in SECTIONS if items.get(section)]
    if not labelled:
        raise ValueError(f"data list {path} names no labels: give a folder of labels as truth")
    images = {section: [item["image"] for item in items[section]] for section in labelled}
    for moved in (False, True):  # which reads the images
        names = {s: result_names(own, results, moved=moved) for s, own in images.items()}
        scored = [s for s in labelled if _any_found(names[s], found)]
        if scored:
            break
    section = (scored or labelled)[0]
    way = "name results and truths in a list, --pairs FILE"
    named = by_name(names[section], images[section], f"images of {section!r} in {path.name}", way)
    own = dict(zip(named, items[section], strict=True))
    labels = {name: item["label"] for name, item in own.items()}
    return Truths(labels, f"truth: the labels of {section!r} of {path.name}", items=own)


def _any_found(names: Iterable[str], found: Mapping[str, str]) -> bool:
    return any(_found(same_name(name), found, (*RESULTS, "")) for name in names)
