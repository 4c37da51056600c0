"""What answers in napari to the options of the command line that a message names."""

from __future__ import annotations

import re

OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
HERE = "; here, "
_STACK = 'say what "a stack is"'
FIELDS = {
    "--label-kind": "say what *labels are*",
    "--dims": "give volumes their pixel size and unit and add them again, or add their planes",
    "--planes": "planes are one volume where the layer says in a unit of length how far apart they "
    "lie (layer.scale and layer.units in napari's console)",
    "--minutes": "set *minutes*",
    "--from": "press *Train*, which begins anew",
    "--axes": _STACK,
    "--channel": "*Split Stack* or *Split RGB* in the layer's menu parts channels: choose one",
    "--pixel-size": 'write it in napari\'s console: layer.scale, and layer.units = "um"',
}


def in_napari(text: str) -> str:
    """A message, and after it what its options are here; those without a field are named.

    >>> in_napari("say --label-kind mask")
    'say --label-kind mask; here, say what *labels are*'
    """
    named = list(dict.fromkeys(OPTION.findall(text)))
    if not named or HERE in text:
        return text
    answers = [FIELDS[option] for option in named if option in FIELDS]
    if other := [option for option in named if option not in FIELDS]:
        has = "has no field" if len(other) == 1 else "have no fields"
        answers.append(f"{', '.join(other)} {has}: the command line takes the same folders")
    return f"{text}{HERE}{'; '.join(answers)}"
