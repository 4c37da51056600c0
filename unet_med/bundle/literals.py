"""Values as MONAI's config parser takes them: a path is a path, whatever signs are in its name.

MONAI reads `#` and `::` in any string as its separator, and a leading `$`, `@` or `%` as an
expression, a reference or a macro. A string literal within an expression is the one form that
it hands on as it is, from a config file, a command line and Python alike.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

_SYNTAX = ("$", "@", "%")
_SEPARATOR = re.compile("#|::")
_LITERAL = re.compile(r"\$'([^'\\]|\\U[0-9a-f]{8})*'\Z")


def literal(value: Any) -> Any:
    r"""A value in the form that MONAI's parser gives back unchanged.

    Args:
        value: any object. A `Path`, and a string that does not begin with `$`, `@` or `%`, mean
            themselves; a string that does is MONAI's syntax, and stays.

    >>> literal("/cells #1"), literal("$@bundle_root + '/x#y'")
    ("$'/cells \\U000000231'", "$@bundle_root + '/x#y'")
    """
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    if isinstance(value, str) and value.startswith(_SYNTAX):
        return value
    return itself(str(value)) if isinstance(value, (str, PurePath)) else value


def itself(text: str) -> str:
    r"""A string that means itself, also where it begins with `$`, `@` or `%`.

    >>> itself("$v"), itself("v")
    ("$'\\U00000024v'", 'v')
    """
    odd = text.startswith(_SYNTAX) or _SEPARATOR.search(text)
    return f"${quoted(text)}" if odd else text


def quoted(text: str) -> str:
    """A string as a literal of Python, in which MONAI finds nothing to replace."""
    plain = (c if c.isalnum() or c in " /._-+" else f"\\U{ord(c):08x}" for c in text)
    return f"'{''.join(plain)}'"


def is_literal(text: str) -> bool:
    """Whether an expression is one of `literal`: a string, and nothing else."""
    return _LITERAL.match(text) is not None
