"""Transforms by name come in the order that their chain says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_med.transforms import compose

LETTERS = "abcdef"


class Step:
    """Appends its name to a text."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, text: str) -> str:
        return text + self.name


def chain(names: str, **after: str | None) -> dict[str, Any]:
    return {"_after_": after, **{name: Step(name) for name in names}}


def order(*chains: dict[str, Any]) -> str:
    composed = compose(chains)
    text = composed("")
    assert text == "".join(step.name for step in composed.transforms)
    return str(text)


@pytest.mark.parametrize(
    ("chains", "expected"),
    [
        ([chain("abc")], "abc"),
        ([{"b": Step("b"), "a": Step("a")}], "ba"),  # `_after_` need not be there
        ([chain("abc"), chain(""), chain("ab")], "abcab"),  # names are those of one chain
        ([chain("abcn", n="a")], "anbc"),
        ([chain("abcn", n=None)], "nabc"),
        ([chain("abcnm", n="a", m="a")], "anmbc"),
        ([chain("abcnm", m="n", n="a")], "anmbc"),
        ([chain("abc", a="b")], "bac"),  # moved, not inserted
        ([chain("abc", c=None, b="c", a="b")], "cba"),
        ([chain("ab", b=None), chain("cd", d=None)], "badc"),
    ],
)
def test_order(chains: list[dict[str, Any]], expected: str) -> None:
    assert order(*chains) == expected


@given(st.permutations(LETTERS))
def test_any_order_can_be_said(names: list[str]) -> None:
    places = dict(zip(names, [None, *names], strict=False))
    assert order(chain(LETTERS, **places)) == "".join(names)


@given(st.permutations(LETTERS), st.sampled_from(LETTERS))
def test_an_insertion_leaves_the_others_as_they_are(names: list[str], place: str) -> None:
    found = order(chain("".join(names) + "n", n=place))
    assert found.replace("n", "") == "".join(names)
    assert found[found.index("n") - 1] == place


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (chain("abc", n="a"), ValueError, "'n' is to follow 'a', but the chain has no 'n'; it has"),
        (chain("abn", n="x"), ValueError, r"no 'x'; it has a, b, n \(and not what is disabled\)"),
        (chain("abc", a="b", b="a"), ValueError, "a, b follow one another in a circle"),
        (chain("abc", c="c"), ValueError, "c follow one another in a circle"),
        ({"a": None}, ValueError, "'a' is null; to leave one out, set its _disabled_ to true"),
        ([Step("a")], TypeError, "is a dictionary, name to transform, not list"),
    ],
)
def test_what_cannot_be_is_refused(wrong: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        compose([wrong])
