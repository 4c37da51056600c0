"""Chains of transforms by name, as the configs hold them, composed in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms import Compose

AFTER = "_after_"


def compose(chains: Sequence[Mapping[str, Any]]) -> Compose:
    """All transforms of the chains, one chain after another, as MONAI's `Compose`.

    The transforms of a chain come in the order of the dictionary. The entry `_after_` gives
    others a place: it maps a transform's name to the name that it follows, or to None where it
    comes first. So a config file that is merged over another can insert a transform in the
    middle: `{"augment::noise": {...}, "augment::_after_::noise": "rotate"}`.

    Args:
        chains: transforms by name, and `_after_`.

    Raises:
        TypeError: a chain is not a dictionary.
        ValueError: `_after_` names what the chain does not have, or a circle; or a transform
            is None.

    >>> from monai.transforms import Flipd, Rotate90d, ToTensord
    >>> chain = {"flip": Flipd("x"), "tensor": ToTensord("x"), "turn": Rotate90d("x")}
    >>> [type(t).__name__ for t in compose([{**chain, "_after_": {"turn": "flip"}}]).transforms]
    ['Flipd', 'Rotate90d', 'ToTensord']
    """
    return Compose([chain[name] for chain in chains for name in _names_in_order(chain)])


def _names_in_order(chain: Mapping[str, Any]) -> list[str]:
    """Names of a chain's transforms, each followed by those that `_after_` puts behind it."""
    names = _checked_names(chain)
    after: Mapping[str, str | None] = chain.get(AFTER) or {}
    followers: dict[str | None, list[str]] = {}
    for name, place in after.items():
        for part in (name, place):
            if part is not None and part not in names:
                raise ValueError(
                    f"{name!r} is to follow {place!r}, but the chain has no {part!r}; it has "
                    f"{', '.join(names)} (and not what is disabled)"
                )
        followers.setdefault(place, []).append(name)
    waiting = [*followers.get(None, []), *(name for name in names if name not in after)]
    ordered: list[str] = []
    while waiting:
        name, *rest = waiting
        ordered.append(name)
        waiting = [*followers.get(name, []), *rest]
    if circle := [name for name in names if name not in ordered]:
        raise ValueError(f"{', '.join(circle)} follow one another in a circle: change {AFTER}")
    return ordered


def _checked_names(chain: Mapping[str, Any]) -> list[str]:
    if not isinstance(chain, Mapping):
        raise TypeError(
            f"a chain of transforms is a dictionary, name to transform, not {type(chain).__name__}"
        )
    names = [name for name in chain if name != AFTER]
    if empty := [name for name in names if chain[name] is None]:
        raise ValueError(
            f"transform {empty[0]!r} is null; to leave one out, set its _disabled_ to true"
        )
    return names
