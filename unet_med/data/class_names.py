"""Names of classes: told in words, or by the `labels` of a `dataset.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med.data.labels import MOST_CLASSES
from unet_med.data.list_file import facts_in
from unet_med.instances import IGNORED

SIGNS = ("$", "@", "%")  # of MONAI's configs, which act on what follows
BACKGROUND, FOREGROUND = "background", "foreground"
ClassNames = Mapping[int, str]  # by the value in the files


def names_of(values: Sequence[int], names: Sequence[str] | None = None) -> list[str]:
    """Names of all classes, the background first; where nobody named them, by their values.

    Args:
        values: of the classes in masks, the background first.
        names: of each but the background; None: not named.

    >>> names_of(range(2)), names_of([0, 2, 4])
    (['background', 'foreground'], ['background', 'class 2', 'class 4'])
    """
    own = [FOREGROUND] if len(values) == 2 else [name_of(value) for value in values[1:]]
    return [BACKGROUND, *(names or own)]


def name_of(value: int) -> str:
    """Name of one of several classes that nobody named."""
    return f"class {value}"


def told_names(words: Sequence[str]) -> dict[int, str]:
    """Names as a user tells them.

    Args:
        words: names of the values 1, 2, ...; or `VALUE=NAME`; or one `dataset.json`. A first word
            `background` is passed over.

    Raises:
        ValueError: two names for one value, one name for two, or a file without names.

    >>> told_names(["liver", "spleen"]), told_names(["2=core", "4=rim"])
    ({1: 'liver', 2: 'spleen'}, {2: 'core', 4: 'rim'})
    """
    if len(words) == 1 and words[0].lower().endswith(".json"):
        return _of_file(Path(words[0]))
    names: dict[int, str] = {}
    first = 0 if words[0].lower() == "background" else 1
    for place, word in enumerate(words, first):
        if not place:
            continue
        value, _, name = word.partition("=")
        number, name = (int(value), name) if value.strip().isdecimal() else (place, word)
        if number in names:
            raise ValueError(f"--class-names {' '.join(words)}: two names for the value {number}")
        names[number] = name.strip()
    return checked_names(names, f"--class-names {' '.join(words)}")


def listed_names(path: Path) -> dict[int, str]:
    """Names in the `labels` of a data list; empty where it has none.

    The Decathlon writes `{"1": "liver"}`, nnU-Net `{"liver": 1}`. Background, the label to ignore
    and regions of several values are left out; see `about_regions`.
    """
    names = {value: name for value, name in _pairs(path) if value > 0}
    names = {v: n for v, n in names.items() if n.lower() != "ignore" and v != IGNORED}
    return checked_names(names, f"the labels of {path}")


def listed_unknown(path: Path) -> int | None:
    """The value that a data list calls `ignore`, as nnU-Net does; None: it calls none so."""
    return next((value for value, name in _pairs(path) if name.lower() == "ignore"), None)


def about_regions(path: Path) -> str | None:
    """That a data list names regions of several values, as nnU-Net's may, which are no classes.

    None: it names none.
    """
    values = _labels_in(path).items()
    regions = [str(name) for name, each in values if isinstance(each, list) and len(each) > 1]
    if not regions:
        return None
    return (
        f"{', '.join(regions)} of {path.name} are regions of several values, which are neither "
        "learned nor scored: each value is a class of its own"
    )


def checked_names(names: ClassNames, source: str) -> dict[int, str]:
    """The same names, where each is one and no two classes share one.

    Raises:
        ValueError: an empty name, or two classes of one name.
    """
    for value, name in names.items():
        if not name or name.startswith(SIGNS):
            raise ValueError(
                f"{source}: {name!r} cannot be the name of class {value}: choose one that is not "
                f"empty and does not begin with {' '.join(SIGNS)}"
            )
        if (other := next(v for v, n in names.items() if n == name)) != value:
            raise ValueError(f"{source}: the classes {other} and {value} are both called {name}")
    return dict(names)


def require_alike(one: ClassNames, other: ClassNames, here: str, there: str) -> None:
    """Refuse a name that is another value's there than here, whatever its capitals.

    Args:
        one: names by value.
        other: likewise.
        here: whose `one` are, after "of".
        there: whose `other` are.

    Raises:
        ValueError: names both values.
    """
    values = {name.casefold(): value for value, name in other.items()}
    for value, name in one.items():
        own = values.get(name.casefold(), value)
        if own != value and other.get(value, "").casefold() != name.casefold():
            raise ValueError(
                f"{name} is the class {value} of {here}, and {own} of {there}: number the classes "
                "alike, or say --class-names"
            )


def require_few(values: Iterable[Any]) -> None:
    """Refuse labels of more values than there are classes.

    Raises:
        ValueError: they are too many.
    """
    if len(list(values)) > MOST_CLASSES:
        raise ValueError(
            f"the labels hold more than {MOST_CLASSES} values, too many to be classes: "
            "use --label-kind instances"
        )


def _of_file(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if names := listed_names(path):
        return names
    raise ValueError(f"{path} names no classes under 'labels': write the names themselves")


def _labels_in(path: Path) -> dict[Any, Any]:
    """The `labels` of a data list; empty where there are none."""
    labels = facts_in(path).get("labels")
    return labels if isinstance(labels, dict) else {}


def _pairs(path: Path) -> list[tuple[int, str]]:
    found = [_value_and_name(key, value) for key, value in _labels_in(path).items()]
    return [pair for pair in found if pair]


def _value_and_name(key: Any, value: Any) -> tuple[int, str] | None:
    """One entry of either kind; None: a region of several values, or no entry."""
    if isinstance(value, str) and str(key).strip().isdecimal():
        return int(key), value.strip()
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # a region of one value
    if isinstance(value, int) and not isinstance(value, bool):
        return value, str(key).strip()
    return None
