"""Let the site show doctests as code: puts what `>>>` begins under a heading of its own."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Adds `Examples:` before the doctests that end a docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = with_heading(obj.docstring.value)


def with_heading(docstring: str) -> str:
    r"""The docstring with its doctests, from the first to the end, as a Google section.

    >>> with_heading("One.\n\n>>> 1\n1")
    'One.\n\nExamples:\n    >>> 1\n    1'
    """
    begin = re.search(r"^>>> ", docstring, re.MULTILINE)
    if begin is None:
        return docstring
    examples = docstring[begin.start() :].splitlines()
    indented = "\n".join(f"    {line}".rstrip() for line in examples)
    return f"{docstring[: begin.start()]}Examples:\n{indented}"
