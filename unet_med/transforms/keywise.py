"""Base of the dictionary versions of array transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import ensure_tuple_rep


class KeywiseTransform(MapTransform):
    """Apply one array transform to every key.

    Args:
        keys: entries to transform.
        rule: the array transform.
        allow_missing_keys: no error when a key is absent.
        output_keys: where the results go; one, or one a key; None: they replace the entries.
    """

    def __init__(
        self,
        keys: KeysCollection,
        rule: Transform,
        *,
        allow_missing_keys: bool = False,
        output_keys: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.rule: Transform = rule
        self.output_keys = self.keys
        if output_keys is not None:
            self.output_keys = ensure_tuple_rep(output_keys, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform every key."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            d[output_key] = self.rule(d[key])
        return d
