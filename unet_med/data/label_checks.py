"""Refuse what can be no label, and labels from which nothing can be learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unet_med.data.labels import MAX_CLASSES, PICTURE, LabelSummary
from unet_med.instances import UNKNOWN


def check_labels(labels: Iterable[LabelSummary], names: Sequence[str]) -> None:
    """Refuse what cannot be a label: pictures, masks with smeared edges.

    Raises:
        ValueError: names the file, and what it looks like.
    """
    for label, name in zip(labels, names, strict=True):
        count = len(label.values)
        if label.values[0] < UNKNOWN:
            raise ValueError(
                f"label {name} holds the value {label.values[0]:g}: labels are 0 and above, and -1 "
                "marks ignored pixels (--unknown says another value); is it an image, such as a CT?"
            )
        if label.wrapped:
            raise ValueError(
                f"label {name} holds each of 1 to 255 in 8 bits, and more objects than that: the "
                "numbers above 255 began anew at 0; export it with 16 bits"
            )
        if label.smeared:
            raise ValueError(
                f"label {name} looks like a mask with smeared edges: most of its pixels are near "
                f"0 or near {label.values[-1]}, with {count} values in all; JPEG or resampling "
                "does that: export it anew as PNG or TIFF (resample with nearest), or threshold it"
            )
        if count > MAX_CLASSES and label.unlike > PICTURE:
            raise ValueError(
                f"label {name} looks like a picture: it holds {count} values, most of them in "
                f"scattered pixels ({label.unlike:.0%} of whose neighbours differ); are images "
                "and labels swapped, or one folder?"
            )


def require_objects(labels: Sequence[LabelSummary], names: Sequence[str]) -> None:
    """Refuse a set of labels from which nothing can be learned.

    Raises:
        ValueError: no label holds anything besides 0, or all hold one value and no other.
    """
    if not any((label.values > 0).any() for label in labels):
        raise ValueError(
            f"no label holds anything besides 0 ({listed(list(names))}): nothing can be learned "
            "from them; export them anew, or name the right folder"
        )
    known = set().union(*(label.values.tolist() for label in labels)) - {UNKNOWN}
    if len(known) == 1:
        raise ValueError(
            f"every pixel that somebody annotated is {known.pop():g} ({listed(list(names))}): "
            "nothing can be learned from that; annotate background too, as 0, or name the right "
            "folder"
        )


def about_sharpened(labels: Iterable[LabelSummary], names: Iterable[str]) -> str | None:
    """Which labels are masks whose smeared edges were cut at half, in words; None: none is."""
    found = [name for label, name in zip(labels, names, strict=True) if label.sharpened]
    if not found:
        return None
    return (
        f"{len(found)} label(s) are masks whose edges JPEG or resampling smeared, such as "
        f"{found[0]}: read as black and white, cut at half"
    )


def listed(items: Sequence[object]) -> str:
    """The first few items.

    >>> listed([1, 2]), listed(range(9))
    ('1, 2', '0, 1, 2, ...')
    """
    return ", ".join(map(str, items[:3])) + (", ..." if len(items) > 3 else "")
