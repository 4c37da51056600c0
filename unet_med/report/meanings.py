"""What each score says, and which way is better: the one place for print, page and docs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HIGHER, LOWER, ZERO, NEITHER = "1 is best", "0 is best", "nearest 0 is best", ""


class Meaning(NamedTuple):
    """What a score says.

    Attributes:
        better: which values are; empty where none is.
        text: half a sentence.
    """

    better: str
    text: str


MEANINGS = {  # by the first words of a column; units and tolerances follow
    "Dice": Meaning(HIGHER, "twice the pixels that result and truth share, over those of both"),
    "IoU": Meaning(HIGHER, "pixels that result and truth share, over those that either has"),
    "HD95": Meaning(LOWER, "distance within which 95 % of each surface lie from the other one"),
    "ASSD": Meaning(LOWER, "mean distance between the surfaces of result and truth"),
    "NSD": Meaning(HIGHER, "share of both surfaces that lie within this distance of the other"),
    "volume": Meaning(NEITHER, "size of the result"),
    "area": Meaning(NEITHER, "size of the result"),
    "true volume": Meaning(NEITHER, "size of the truth"),
    "true area": Meaning(NEITHER, "size of the truth"),
    "relative": Meaning(ZERO, "size of the result over that of the truth, less 1"),
    "pixel error": Meaning(LOWER, "1 less the Dice of pixels, at the best threshold"),
    "Rand error": Meaning(LOWER, "1 less the F-score of pixel pairs that belong to one cell"),
    "warping error": Meaning(LOWER, "share of pixels that merge, split, lose or add cells"),
    "V_Rand": Meaning(HIGHER, "F-score of pixel pairs that belong to one cell, borders thinned"),
    "V_Info": Meaning(
        HIGHER,
        "what result and truth say of each other's cells, borders thinned; 0 if there is one",
    ),
    "SEG": Meaning(HIGHER, "mean IoU of true objects with what covers over half of them, else 0"),
    "DET": Meaning(HIGHER, "1 less the cost of missed, split and false objects"),
    "(SEG+DET)/2": Meaning(HIGHER, "mean of SEG and DET"),
    "AP50": Meaning(HIGHER, "objects that match (IoU 0.5) over matched, missed and false ones"),
    "found": Meaning(NEITHER, "objects of the result"),
    "true": Meaning(NEITHER, "objects of the truth"),
    "matched": Meaning(NEITHER, "pairs of a found and a true object that match (IoU 0.5)"),
    "precision": Meaning(HIGHER, "matched objects over found ones"),
    "recall": Meaning(HIGHER, "matched objects over true ones"),
    "F1": Meaning(HIGHER, "twice the matched objects over found and true ones"),
    "AP75": Meaning(HIGHER, "likewise, at IoU 0.75"),
    "AP50:95": Meaning(HIGHER, "mean of such scores at IoU 0.5, 0.55, ..., 0.95"),
}


def meaning_of(column: str) -> Meaning | None:
    """What the score of a column says; None: nobody wrote it down.

    >>> meaning_of("HD95 mm").better, meaning_of("AP50:95").text[:12]
    ('0 is best', 'mean of such')
    """
    names = (name for name in MEANINGS if column == name or column.startswith(f"{name} "))
    return next((MEANINGS[name] for name in names), None)


def explained(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Columns, each with a line that says what it is and which way is better."""
    known = ((column, meaning_of(column)) for column in columns)
    return [
        (column, f"{found.text}; {found.better}" if found.better else found.text)
        for column, found in known
        if found is not None
    ]
