"""The 2015 U-Net as MONAI components.

Importing this package loads neither torch nor MONAI and registers nothing;
submodules load on first use (PEP 562).
"""

from __future__ import annotations

import getpass
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from unet_med.first_use import on_first_use

__version__ = "0.1.0"

_SUBMODULES = (
    "bundle",
    "data",
    "deformation",
    "engines",
    "export",
    "folds",
    "geometry",
    "handlers",
    "inferers",
    "instances",
    "losses",
    "memory",
    "metrics",
    "napari_widget",
    "networks",
    "planning",
    "report",
    "scoring",
    "segmentation",
    "transforms",
    "volumes",
    "weights",
    "workflows",
)
_NAMES = {"Segmenter": "segmentation"}  # name: its module

if TYPE_CHECKING:  # the same names; a checker reads no table
    from unet_med import bundle as bundle
    from unet_med import data as data
    from unet_med import deformation as deformation
    from unet_med import engines as engines
    from unet_med import export as export
    from unet_med import folds as folds
    from unet_med import geometry as geometry
    from unet_med import handlers as handlers
    from unet_med import inferers as inferers
    from unet_med import instances as instances
    from unet_med import losses as losses
    from unet_med import memory as memory
    from unet_med import metrics as metrics
    from unet_med import napari_widget as napari_widget
    from unet_med import networks as networks
    from unet_med import planning as planning
    from unet_med import report as report
    from unet_med import scoring as scoring
    from unet_med import segmentation as segmentation
    from unet_med import transforms as transforms
    from unet_med import volumes as volumes
    from unet_med import weights as weights
    from unet_med import workflows as workflows
    from unet_med.segmentation import Segmenter as Segmenter
else:

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(f"{__name__}.{name}")
        return on_first_use(__name__, _NAMES, name)


def __dir__() -> list[str]:
    return sorted([*_SUBMODULES, *_NAMES, "__version__"])


def _name_user() -> None:
    """Name the user where the system knows a number alone, as in `docker run --user 1000`.

    MONAI asks for the name when it is imported, and fails where there is none.
    """
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):  # on Windows; until Python 3.12, and since 3.13
        os.environ["USER"] = "user"
        if sys.platform != "win32":
            os.environ["USER"] = f"uid_{os.getuid()}"  # as torch has it


_name_user()
