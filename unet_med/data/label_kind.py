"""What the numbers in a set of label images mean: a mask, classes, or a number for each object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from unet_med.data.label_blobs import Blobs, piece_sizes
from unet_med.data.label_checks import listed
from unet_med.data.labels import LOOKED_AT, MAX_CLASSES, LabelSummary, summary_of
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.planes import APART

CUT_APART = 0.2  # of the values that are looked at: so many objects may be in pieces by mistake
FEW = ", each of them one connected piece, as classes or a few objects are"
ALIKE = 3  # files that hold the same values
PIECES = 3  # of one value that is a mask: what something cuts apart has two
SPECK = 0.1  # of the largest piece: what is smaller is none


class UndecidedLabels(ValueError):
    """Values of labels speak for classes as well as for numbers of objects."""


def name_classes(names: Collection[int], values: Iterable[Collection[float] | None]) -> bool:
    """Whether several values have names, and labels hold no others: then they are classes.

    Where names are told, that comes after what the user says the labels are, and before a guess
    from the values.

    Args:
        names: values that have one.
        values: of each label; None: too many to be classes.

    >>> name_classes([1, 2], [{0, 1}, {0, 2, 255}]), name_classes([1, 2], [{0, 3}])
    (True, False)
    """
    known = {0, IGNORED, UNKNOWN, *names}
    return len(names) > 1 and all(own is not None and known.issuperset(own) for own in values)


def is_mask(label: np.ndarray, *, several: bool = False) -> bool:
    """Whether the only positive value of a label is that of many objects, as a mask has it.

    Args:
        label: whole numbers, `(X, Y[, Z])`.
        several: something else says that there are several objects; then two pieces are enough.
            Else it takes three, of a tenth of the largest or more: something may cut one object
            in two, and leave specks.

    >>> is_mask(np.array([[7, 0, 7, 0, 7]])), is_mask(np.array([[7, 0, 7]]))
    (True, False)
    """
    positive = label > 0
    if not positive.any() or np.ptp(label[positive]):
        return False
    sizes = piece_sizes(positive)
    if several:
        return len(sizes) > 1
    return int((sizes >= SPECK * sizes.max()).sum()) >= PIECES


def guess_label_kind(labels: Iterable[np.ndarray | LabelSummary]) -> str:
    """What the numbers in a set of label images mean.

    Values that are one connected blob each are numbers of objects, unless they are the same over
    the files: the same values touch, or they have their own size and place. A few values that
    some files lack are numbers of objects where these are 1 to n in each file, or one is in one
    file alone. Unknown pixels (-1) say nothing; a mask with some is two classes, for strokes of a
    brush are no objects.

    Args:
        labels: label images, any shape, or their summaries; taken one at a time.

    Returns:
        `"mask"`: at most two values in all, or one a file besides 0, of 1 and those from 100 to
        255, as programs write white. `"classes"`:
        a dozen or fewer integers that repeat from image to image (255, the ignore label, aside)
        and are no numbers of objects. Else `"instances"`.

    Raises:
        UndecidedLabels: several are possible; says why, and how to decide it.
    """
    found = [summary_of(label, blobs=k < LOOKED_AT) for k, label in enumerate(labels)]
    values = [set(label.values.tolist()) - {UNKNOWN} for label in found]
    union: set[float] = set().union(*values)
    partly = any(label.values[0] == UNKNOWN for label in found)
    two = all(len(one - {0}) <= 1 for one in values)
    if 0 not in union and 1 < len(union) <= MAX_CLASSES:
        raise UndecidedLabels(
            f"the labels hold {' and '.join(f'{value:g}' for value in sorted(union))} and no 0, "
            "which is background: say --unknown 0 if background is painted too, as 1, or "
            "--label-kind classes"
        )
    if len(union) <= 2 or (two and all(v in (0, 1) or 100 <= v <= 255 for v in union)):
        return "classes" if partly and IGNORED not in union else "mask"
    if not all(float(value).is_integer() and value >= 0 for value in union):
        return "instances"
    classes = [own - {0, IGNORED} for own in values if own - {0, IGNORED}]
    shared = set.intersection(*classes) if classes else set()
    repeated = len(classes) > 1 and len(shared) >= len(set().union(*classes)) / 2
    looked = [one.blobs for one in found[:LOOKED_AT] if one.blobs]
    if not repeated or len(union) > MAX_CLASSES:
        if _in_pieces(looked):
            raise _doubt(union, ", many of them in several pieces each")
        if len(union) > MAX_CLASSES and _same_everywhere(found, classes):
            raise _doubt(shared, ", each of them in every file, and at places of their own")
        if len(union) > MAX_CLASSES and _come_back(found, classes):
            raise _doubt(set().union(*classes), ", most of them in several files, alike in each")
        kind = "instances"
    elif partly:  # an object that is painted in two planes is no blob
        raise _doubt(union, ", and unknown pixels")
    elif len(looked) < len(found[:LOOKED_AT]) or not _are_blobs(looked, shared):
        kind = "classes"
    elif all(label.planes == APART for label in found):  # whose numbers begin anew in each plane
        kind = "instances"
    else:
        kind = _kind_of_blobs(looked, shared, few=len(union) <= 4)
    if kind == "instances" and len(union) <= MAX_CLASSES and (seen := _as_classes(classes, looked)):
        raise _doubt(union, seen)
    return kind


def _doubt(values: Iterable[float], seen: str) -> UndecidedLabels:
    """What is asked where the values speak for classes as well as for objects."""
    return UndecidedLabels(
        f"the labels hold the values {listed(sorted(values))}{seen}: they may be classes or "
        "numbers of objects; say --label-kind classes or --label-kind instances"
    )


def _in_pieces(found: Sequence[Blobs]) -> bool:
    """Whether most values lie in pieces of which none is most of them, as no object does."""
    shares = [share for blobs in found for share in blobs.largest.values()]
    return bool(shares) and 2 * sum(share < 0.5 for share in shares) > len(shares)


def _as_classes(values: Sequence[set[float]], found: Sequence[Blobs]) -> str | None:
    """What a few values that may be missing have of classes; None: nothing.

    Objects are numbered 1 to n. Where some are left out, such as at the image's edge, or numbers
    are those of a movie, the largest of a few is hardly in two files.

    Args:
        values: of each file that holds some.
        found: where they lie in the first files.
    """
    held = Counter(value for own in values for value in own)
    if min(held.values()) > 1 and any(own != set(range(1, len(own) + 1)) for own in values):
        return ", each in two files or more, and not 1 to n in each, as numbers of objects are"
    if _cut_again(_shares(found)):
        return ", one of them in several pieces in most files that hold it"
    return None


def _shares(found: Sequence[Blobs]) -> dict[float, list[float]]:
    """Of each value the share of its largest piece, in each file that holds it."""
    of: dict[float, list[float]] = {}
    for blobs in found:
        for value, share in blobs.largest.items():
            of.setdefault(value, []).append(share)
    return of


def _cut_again(of: dict[float, list[float]]) -> bool:
    """Whether a value is in pieces in most of the files that hold it, two at least."""
    return any(sum(s < 1 for s in own) > max(1, len(own) / 2) for own in of.values())


def _same_everywhere(found: Sequence[LabelSummary], classes: Sequence[set[float]]) -> bool:
    """Whether many values are those of each of several files, and belong to places there.

    Objects are numbered from 1 on, and as many in each image by chance or by design; but one that
    has a number of its own is not at the same place in each.
    """
    shared = classes[0] if classes else set()
    if any(own != shared for own in classes):
        return False
    last = max(shared, default=0)  # counted, not listed: numbers may be as large as 2**40
    if len(shared) != last - (last >= IGNORED):
        return len(classes) >= ALIKE
    holding = [label for label in found if shared <= set(label.values.tolist())]
    places = [each for label in holding if (each := _centres(label, shared)) is not None]
    return len(places) == len(holding) and _own_places(_unlike(places)) > 1


def _come_back(found: Sequence[LabelSummary], classes: Sequence[set[float]]) -> bool:
    """Whether most values are in several files, of which some lack one, and alike in each of them.

    Objects are numbered 1 to n. Where some were left out, those of one number have their place
    along the axis of a scan in common: organs, teeth and the cells of a movie have their size and
    another axis, too. In many files little of a feature that a number explains is significant:
    here it is more than half.
    """
    held = Counter(value for own in classes for value in own)
    again = {value for value, files in held.items() if files > 1}
    if 2 * len(again) < len(held) or all(own == set(range(1, len(own) + 1)) for own in classes):
        return False
    own = [(label, again & set(label.values.tolist())) for label in found]
    tables = [(sorted(values), _centres(label, values)) for label, values in own if values]
    seen = [(values, np.array(table)) for values, table in tables if table is not None]
    if len(seen) < len(tables):
        return False
    which = np.concatenate([values for values, _ in seen])
    # a large number is in large images, and in crowded ones, alone: less what each has in common
    return _alike(which, np.concatenate([table - table.mean(axis=0) for _, table in seen])) > 2


def _alike(which: np.ndarray, features: np.ndarray) -> int:
    """Features that differ more between values than between the files that hold the same one.

    Args:
        which: value of each row; each is in two rows or more.
        features: `(rows, features)`.
    """
    _, row, files = np.unique(which, return_inverse=True, return_counts=True)
    means = np.zeros((len(files), features.shape[1]))
    np.add.at(means, row, features / files[row, None])
    within = ((features - means[row]) ** 2).sum(axis=0) / (len(which) - len(files))
    between = means.var(axis=0, ddof=1) - within * (1 / files).mean()  # without what is chance
    return int((between > within).sum())


def _centres(label: LabelSummary, values: set[float]) -> list[list[float]] | None:
    """Size (logarithm) and centre of each value; None where nobody looked for these."""
    if label.centres is None:
        return None
    own = np.isin(label.values, sorted(values))
    table: list[list[float]] = np.column_stack(
        [np.log(label.counts[own]), label.centres[own]]
    ).tolist()
    return table


def _are_blobs(found: Sequence[Blobs], shared: set[float]) -> bool:
    """Whether each value is one blob in each file, a few aside that something cuts apart.

    Raises:
        UndecidedLabels: some are, and some are not.
    """
    of = _shares(found)
    cut = {value: [share for share in shares if share < 1] for value, shares in of.items()}
    pieces, count = (sum(map(len, each.values())) for each in (cut, of))
    if not pieces:
        return True
    if _cut_again(of) or 2 * pieces >= count:  # a class is in pieces in one file as in another
        return False
    if pieces <= CUT_APART * count and all(share >= 0.5 for each in cut.values() for share in each):
        return True
    raise _doubt(shared, f", {pieces} of {count} times in several pieces")


def _kind_of_blobs(found: Sequence[Blobs], shared: set[float], *, few: bool) -> str:
    """Classes or numbers of objects, where each value is one blob and most repeat.

    Three values or fewer a few cells have as well. A scan numbers these by their place along one
    axis, by chance they differ in another feature, and in a crowd the first lies beside the second
    in each image. Structures of a body have their own places in a volume, or lie beside each other.
    A few of which one is enclosed by another in each image, as a cup by its disc, are no objects.

    Raises:
        UndecidedLabels: what is seen may be chance.
    """
    held = [blobs for blobs in found if shared <= blobs.places.keys()]  # some have none at all
    if not held:
        return "classes"
    ordered = [[blobs.places[value] for value in sorted(shared)] for blobs in held]
    beside = frozenset.intersection(*(blobs.neighbours for blobs in held))
    if few and len(held) > 1 and frozenset.intersection(*(blobs.enclosed for blobs in held)):
        return "classes"
    flat = all(blobs.flat for blobs in found)
    places = _unlike(ordered) if flat and not few else ordered
    own = _own_places(places) if len(shared) > 1 else 0
    if few:
        if own >= (3 if flat else 2) - bool(beside):
            return "classes"
        if own or beside or len(shared) < 2:
            raise _doubt(set().union(*(blobs.places for blobs in found)), FEW)
        return "instances"
    if flat:
        if own > 2 or (own > 1 and beside):  # along one axis a scan numbers objects, too
            raise _doubt(shared, ", each one connected piece, of its own size and place")
        return "instances"
    return "classes" if beside or own > 1 else "instances"


def _unlike(places: Sequence[Sequence[Sequence[float]]]) -> list[Sequence[Sequence[float]]]:
    """Those of different files alone: a copy of a file says nothing more."""
    return list({str(each): each for each in places}.values())


def _own_places(places: Sequence[Sequence[Sequence[float]]]) -> int:
    """Of size and centre along each axis, how many belong to a value, whatever the file.

    Args:
        places: features of each value of each file.

    Returns:
        Features that differ between the values by more than between files (F-test, 1 %).
    """
    from scipy.special import fdtrc  # probability above, of Fisher's F

    table = np.asarray(places)  # (files, values, features)
    files, values, _ = table.shape
    if files < 2:
        return 0
    between = files * table.mean(axis=0).var(axis=0, ddof=1)
    within = table.var(axis=0, ddof=1).mean(axis=0)
    ratio = between / np.maximum(within, 1e-9)
    return int((fdtrc(values - 1, values * (files - 1), ratio) < 0.01).sum())
