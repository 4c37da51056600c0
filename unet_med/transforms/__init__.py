"""MONAI transforms, array and dictionary doors of the layers below."""

from unet_med.transforms.check import CheckPaird, DropIgnoredd, SelectSliced
from unet_med.transforms.crop import (
    RandTileCrop,
    RandTileCropD,
    RandTileCropd,
    RandTileCropDict,
)
from unet_med.transforms.elastic import (
    RandElasticDeform,
    RandElasticDeformD,
    RandElasticDeformd,
    RandElasticDeformDict,
)
from unet_med.transforms.save import (
    SaveSegmentationD,
    SaveSegmentationd,
    SaveSegmentationDict,
)
from unet_med.transforms.standardize import Standardize, Standardized

__all__ = [
    "CheckPaird",
    "DropIgnoredd",
    "RandElasticDeform",
    "RandElasticDeformD",
    "RandElasticDeformDict",
    "RandElasticDeformd",
    "RandTileCrop",
    "RandTileCropD",
    "RandTileCropDict",
    "RandTileCropd",
    "SaveSegmentationD",
    "SaveSegmentationDict",
    "SaveSegmentationd",
    "SelectSliced",
    "Standardize",
    "Standardized",
]
