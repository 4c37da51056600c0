"""MONAI transforms, array and dictionary doors of the layers below."""

from unet_med.transforms.check import CheckPaird, DropIgnoredd, SelectSliced
from unet_med.transforms.standardize import Standardize, Standardized

__all__ = [
    "CheckPaird",
    "DropIgnoredd",
    "SelectSliced",
    "Standardize",
    "Standardized",
]
