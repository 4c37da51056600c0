"""Which label belongs to which image, by the names of their files."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_med.data.cases import SEPARATORS, Case, case_name, same_name, shown
from unet_med.data.channels import channel_cases, require_complete
from unet_med.data.formats import stem

LABEL_WORDS = re.compile(
    "(cp_)?masks?|msk|segs?|segmentations?|labels?|anno(tations?)?|gt|(ground_?)?truth|instances?"
)
IMAGE_WORDS = re.compile(r"\d{4}|ima?ge?s?|im|raw|volumes?")
ANOTHER = f"[{re.escape(SEPARATORS)}]?\\d+"  # ends the name of a second label of an image


class Pairs(NamedTuple):
    """Images with their labels.

    Attributes:
        pairs: files of each image, and its label.
        how: in words, where the names are not equal; else None.
        spare: labels of no image.
    """

    pairs: list[tuple[Case, str]]
    how: str | None
    spare: tuple[str, ...] = ()


def pair_by_name(images: Sequence[Case], labels: Sequence[str]) -> Pairs:
    """Find the label of each image: of its name; of its case's name; of its name and more.

    Names like `case_0000` are channels of a case where the labels are named after the case, and
    else the images' names alone. More is an ending that all labels share, such as `_mask`, or a
    beginning, such as ImageJ's `Mask of `; images may have one as well, `img_1` and `label_1`. Or
    one word anywhere says what each is, `a_image_1` and `a_masks_1`.

    Args:
        images: files of each image.
        labels: candidates; those of no image are spare.

    Raises:
        ValueError: an image without a label, two images or two labels of one name, two endings
            that fit, a second label of an image, or a case that lacks a channel.
    """
    _require_own_names(images)
    by_name = _by_name(labels)
    for way in (_equal, _by_case, _by_endings, _by_beginnings, _by_word):
        if found := way(images, by_name):
            taken = {label for _, label in found.pairs}
            spare = tuple(path for path in labels if path not in taken)
            _require_one_each(taken, spare)
            return found._replace(spare=spare)
    raise _no_label(images, by_name)


def label_base(name: str) -> str | None:
    """A label's name without an ending that says so: `a_mask` -> `a`; None: it has none.

    >>> label_base("cell_1_masks"), label_base("cell_1")
    ('cell_1', None)
    """
    found = re.fullmatch(f"(.+?)[{re.escape(SEPARATORS)}]({LABEL_WORDS.pattern})", name, re.I)
    return found[1] if found else None


def _require_own_names(images: Sequence[Case]) -> None:
    """Refuse images that would share a label: one picture in two formats, say."""
    first: dict[str, Case] = {}
    for image in images:
        if (other := first.setdefault(same_name(case_name(image)), image)) != image:
            raise ValueError(
                f"two images of one name, {shown(other)} and {shown(image)}, would share one "
                "label: remove or rename one"
            )


def _require_one_each(taken: Collection[str], spare: Sequence[str]) -> None:
    """Refuse a second label of an image, `a_mask_1` beside `a_mask`: it holds no background."""
    named = {stem(path): path for path in taken if label_base(stem(path))}
    for path in spare:
        if first := named.get(re.sub(f"{ANOTHER}$", "", stem(path))):
            raise ValueError(
                f"{Path(first).name} and {Path(path).name} are labels of one image: unite them in "
                "one file"
            )


def parts_of(name: str, words: re.Pattern[str]) -> dict[str, str]:
    """What is around a word that says what a file is, and that word.

    >>> parts_of("volume-10", IMAGE_WORDS), parts_of("a_1_masks_2", LABEL_WORDS)
    ({'*-10': 'volume'}, {'a_1_*_2': 'masks'})
    """
    tokens = re.findall(r"[^\W\d_]+|\d+|[\W_]+", name)
    return {
        "".join([*tokens[:k], "*", *tokens[k + 1 :]]): token
        for k, token in enumerate(tokens)
        if token.isalpha() and words.fullmatch(token.lower())
    }


def _by_name(labels: Sequence[str]) -> dict[str, str]:
    by_name: dict[str, str] = {}
    for path in labels:
        if (other := by_name.setdefault(same_name(stem(path)), path)) != path:
            raise ValueError(f"two labels of one name: {other} and {path}")
    return by_name


def _equal(images: Sequence[Case], by_name: Mapping[str, str]) -> Pairs | None:
    names = _names(images)
    if not all(name in by_name for name in names):
        return None
    return Pairs([*zip(images, (by_name[name] for name in names), strict=True)], None)


def _names(images: Sequence[Case]) -> list[str]:
    return [same_name(case_name(image)) for image in images]


def _by_case(images: Sequence[Case], by_name: Mapping[str, str]) -> Pairs | None:
    """Images that are channels of the cases that the labels are named after."""
    cases = _cases(images)
    ending = _label_ending(list(cases), by_name) if cases else None
    if ending is None:
        return None
    require_complete(cases)
    last = max(1 if isinstance(case, str) else len(case) for case in cases.values()) - 1
    how = ["the images' names end in _0000"]
    how = [f"_0000 to _{last:04} of the images' names are the channels of a case"] if last else how
    how += [f"the labels' names end in {ending}"] if ending else []
    return Pairs([(case, by_name[name + ending]) for name, case in cases.items()], "; ".join(how))


def _cases(images: Sequence[Case]) -> dict[str, Case]:
    files = [image for image in images if isinstance(image, str)]
    return (len(files) == len(images) and channel_cases(files)) or {}


def _by_endings(images: Sequence[Case], by_name: Mapping[str, str]) -> Pairs | None:
    """Names that differ in their endings alone: `a_img` and `a_mask`."""
    names = _names(images)
    for image_ending in ("", _image_ending(names)):
        bases = [name.removesuffix(image_ending) for name in names]
        ending = _label_ending(bases, by_name)
        if ending is None or len(set(bases)) < len(bases):
            continue
        ends = {"images": image_ending, "labels": ending}
        how = "; ".join(f"the {what}' names end in {end}" for what, end in ends.items() if end)
        return Pairs([*zip(images, (by_name[b + ending] for b in bases), strict=True)], how)
    return None


def _by_beginnings(images: Sequence[Case], by_name: Mapping[str, str]) -> Pairs | None:
    """Names that differ in their beginnings, of which that of images has no numbers.

    `a` and `mask_a`, or ImageJ's `Mask of a`; `img_1` and `label_1`; `t001` and `man_seg001`.
    """
    names = _names(images)
    for begin in ("", *_beginnings_of(names)):
        rests = [name.removeprefix(begin) for name in names]
        begins = {name.removesuffix(rests[0]) for name in by_name if name.endswith(rests[0])}
        fits = [own for own in begins if all(own + rest in by_name for rest in rests)]
        fits = [own for own in fits if _is_beginning(own, begin, len(names))]
        if len(fits) == 1:
            how = f"the images' names begin with {begin!r}, the labels' with {fits[0]!r}"
            how = how if begin else f"the labels' names begin with {fits[0]!r}"
            found = (by_name[fits[0] + rest] for rest in rests)
            return Pairs([*zip(images, found, strict=True)], how)
    return None


def _by_word(images: Sequence[Case], by_name: Mapping[str, str]) -> Pairs | None:
    """Names that differ in one word, which says what each is: `a_image_1`, `a_masks_1`."""
    labels: dict[str, list[tuple[str, str]]] = {}
    for name in by_name:
        for part, word in parts_of(name, LABEL_WORDS).items():
            labels.setdefault(part, []).append((name, word))
    found, said = [], set()
    for image in images:
        own = parts_of(same_name(case_name(image)), IMAGE_WORDS)
        fits = [(word, *label) for part, word in own.items() for label in labels.get(part, ())]
        if len(fits) != 1:
            return None
        found.append((image, by_name[fits[0][1]]))
        said.add((fits[0][0], fits[0][2]))
    if len(said) > 1 or len({label for _, label in found}) < len(found):
        return None
    word, other = said.pop()
    return Pairs(found, f"the images' names say {word!r} where the labels' say {other!r}")


def _beginnings_of(names: Sequence[str]) -> list[str]:
    """What all names begin with, without digits, up to a separator or to a number."""
    first = names[0]
    letters = len(re.split(r"\d", first, maxsplit=1)[0])
    ends = [k for k in range(1, letters + 1) if first[k - 1] in SEPARATORS]
    if all(name[letters : letters + 1].isdigit() for name in names):
        ends.append(letters)
    begins = [first[:k] for k in dict.fromkeys(ends)]
    return [b for b in begins if all(n.startswith(b) and len(n) > len(b) for n in names)]


def _is_beginning(begin: str, image: str, count: int) -> bool:
    """Whether labels' names may begin so, where those of images begin with `image`.

    If that is empty any word will do, else the last one has to mean labels: `man_seg`, `label_`.
    """
    if not image:
        return begin[-1:] in [*SEPARATORS] and _says_label(begin[:-1], count)
    words = re.split(f"[{re.escape(SEPARATORS)}]", begin.rstrip(SEPARATORS).lower())
    return bool(LABEL_WORDS.fullmatch(words[-1]))


def _image_ending(names: Sequence[str]) -> str:
    """The last word of every name, with what is before it; empty where they differ."""
    word = _last_word(names[0])
    same = word and all(_last_word(name) == word for name in names)
    several = len(names) > 1 and any(map(str.isalpha, word))
    return word if same and (several or IMAGE_WORDS.fullmatch(word[1:].lower())) else ""


def _last_word(name: str) -> str:
    found = re.search(f"(?<=.)[{re.escape(SEPARATORS)}][^{re.escape(SEPARATORS)}]+$", name)
    return found[0] if found else ""


def _label_ending(bases: Sequence[str], by_name: Mapping[str, str]) -> str | None:
    """What follows the image's name in every label's; empty: nothing; None: there is no such.

    Raises:
        ValueError: several fit.
    """
    if all(base in by_name for base in bases):
        return ""
    first = bases[0]
    ends = [name[len(first) :] for name in by_name if name.startswith(first)]
    fits = [end for end in ends if _is_ending(end, len(bases))]
    fits = [end for end in fits if all(base + end in by_name for base in bases)]
    if len(fits) > 1:
        if len({re.sub(f"{ANOTHER}$", "", end) for end in fits}) == 1:
            raise ValueError(_many(first, [by_name[first + end] for end in fits]))
        raise ValueError(
            f"labels of {first} may end in {' or '.join(sorted(fits))}: leave those of one ending"
        )
    return fits[0] if fits else None


def _is_ending(end: str, count: int) -> bool:
    """Whether it parts a name from a word that says something."""
    return end[:1] in [*SEPARATORS] and _says_label(end[1:], count)


def _says_label(word: str, count: int) -> bool:
    """Whether something is said by a word; one pair alone takes one that means labels."""
    return bool(LABEL_WORDS.fullmatch(word.lower())) or (count > 1 and any(map(str.isalpha, word)))


def _no_label(images: Sequence[Case], by_name: Mapping[str, str]) -> ValueError:
    """Names the image that lacks a label where most others have theirs, and what was expected."""
    named = dict(zip(_names(images), images, strict=True))
    cases = _cases(images)
    named = cases if cases.keys() & by_name.keys() else named
    if several := _several(list(named), by_name):
        return ValueError(several)
    if few := _few_by_beginnings(list(named), by_name):
        return ValueError(few)
    image_ending, ending, count = _usual_endings(list(named), by_name)
    wanted = {name: name.removesuffix(image_ending) + ending for name in named}
    name = next((name for name in named if wanted[name] not in by_name), next(iter(named)))
    label, first = wanted[name], shown(named[name])
    near = [other for other in by_name if other.casefold().startswith(label.casefold())]
    near = near or difflib.get_close_matches(label, by_name, 1)
    file = Path(by_name[near[0]] if near else next(iter(by_name.values())))
    suffix = first[len(stem(first)) :] if ", " not in first else ".tif"
    most = f", as {count} of {len(named)} images have labels that end in {ending}" if ending else ""
    return ValueError(
        f"image {first} has no label {'' if ending else 'of the same name '}in {file.parent}: "
        f"expected {label}{suffix}, for example{most}"
        + (f"; the nearest is {file.name}" if near else "")
        + _way_out(sum(label not in by_name for label in wanted.values()), len(wanted))
    )


def _few_by_beginnings(names: Sequence[str], by_name: Mapping[str, str]) -> str:
    """What lacks where names differ in beginnings and some images have a label; else nothing."""
    for begin in _beginnings_of(names):
        rests = {name.removeprefix(begin): name for name in names}
        begins = {name[:k] for name in by_name for k in range(len(name)) if name[k:] in rests}
        for other in sorted(own for own in begins if _is_beginning(own, begin, len(names))):
            if lack := [name for rest, name in rests.items() if other + rest not in by_name]:
                return (
                    f"{len(lack)} of {len(names)} images have no label whose name begins with "
                    f"{other!r}, such as {lack[0]}: annotate them, or move them elsewhere"
                )
    return ""


def _several(names: Sequence[str], by_name: Mapping[str, str]) -> str:
    """What to do where an image has many labels, or a label many images; else nothing."""
    known, own = set(names), names[0]
    of_it = re.compile(
        f"{re.escape(own)}[{re.escape(SEPARATORS)}](({LABEL_WORDS.pattern}){ANOTHER}|\\d+)", re.I
    )
    numbered = [path for name, path in by_name.items() if of_it.fullmatch(name)]
    if len(numbered) > 1:
        return _many(own, numbered)
    for name, path in by_name.items():
        base = label_base(name) or name
        begun = [each for each in names if base != each and base in _beginnings(each)]
        if len(begun) > 1 and base not in known:
            return (
                f"{len(begun)} images begin with the name of the label {Path(path).name}, such as "
                f"{begun[0]}: if they are channels of one image, list them in a data list"
            )
    return ""


def _many(name: str, labels: Sequence[str]) -> str:
    return (
        f"{len(labels)} labels are of the image {name}, such as {Path(labels[0]).name}: put them "
        "into one, with a number for each object"
    )


def _way_out(lacking: int, count: int) -> str:
    if lacking == count:
        return "; name labels as their images, or all with one ending, such as a_mask.tif"
    return f"; {lacking} of {count} images lack theirs: annotate them, or move them elsewhere"


def _usual_endings(names: Sequence[str], by_name: Mapping[str, str]) -> tuple[str, str, int]:
    """Endings of images and labels by which most images have a label, and how many have.

    Without endings where less than half of the images share some.
    """
    best = ("", "", 0)
    for image_ending in dict.fromkeys(("", _image_ending(names))):
        bases = {name.removesuffix(image_ending) for name in names}
        ends = Counter(
            name[len(base) :] for name in by_name for base in _beginnings(name) if base in bases
        )
        for end, count in ends.items():
            if count > best[2] and (not end or _is_ending(end, len(names))):
                best = (image_ending, end, count)
    return best if 2 * best[2] >= max(len(names), 3) else ("", "", 0)


def _beginnings(name: str) -> list[str]:
    """A name, and what lies before each of its separators."""
    return [name, *(name[:k] for k, letter in enumerate(name) if letter in SEPARATORS)]
