"""Let every Python of a run see what a machine with a GPU has at least, and none of the rest.

Such a machine may have torch, MONAI and what these need, but not all that this package needs for
its formats and products. With `PYTHONPATH=tests/bare` what is named here is not found, by programs
that a test starts either, as if it were not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

ABSENT = {
    *("SimpleITK", "imagecodecs", "fire", "roifile"),
    *("zarr", "numcodecs", "distributed", "dask", "yaozarrs", "ome_types"),
    *("pydicom", "highdicom", "bioio", "bioio_czi", "bioio_nd2", "bioio_lif", "pylibCZIrw"),
    *("bioimageio", "jsonschema", "hatchling", "surface_distance", "mlflow"),
    *("napari", "npe2", "napari_tiff", "batchgenerators", "elasticdeform", "torchio"),
}


class Bare(PathFinder):
    """Python's own finder, which finds nothing of what is absent."""

    @classmethod
    def find_spec(cls, fullname: str, *args: Any, **options: Any) -> ModuleSpec | None:
        if fullname.partition(".")[0] in ABSENT:
            return None
        return super().find_spec(fullname, *args, **options)

    @classmethod
    def find_distributions(cls, *args: Any, **options: Any) -> Iterator[Any]:
        """What `importlib.metadata` knows, among it a plug-in of zarr for pytest."""
        from importlib.metadata import MetadataPathFinder  # whose backport takes PathFinder's away

        found = MetadataPathFinder.find_distributions(*args, **options)
        return (each for each in found if each.name.replace("-", "_") not in ABSENT)


sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
