"""MONAI transforms for arrays and for dictionaries."""

from unet_med.transforms.augmenting import Augmenting
from unet_med.transforms.calibrate import Calibrate, Calibrated
from unet_med.transforms.chains import compose
from unet_med.transforms.check import CheckPaird, DropIgnoredd, SelectSliced
from unet_med.transforms.compare import (
    CompareWithTrainingD,
    CompareWithTrainingd,
    CompareWithTrainingDict,
)
from unet_med.transforms.confidence import Confidenced
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
from unet_med.transforms.grey import (
    RandGreyValue,
    RandGreyValueD,
    RandGreyValued,
    RandGreyValueDict,
)
from unet_med.transforms.grid import (
    ReorientToMatchD,
    ReorientToMatchd,
    ReorientToMatchDict,
)
from unet_med.transforms.instances import (
    ClassesFromProbabilities,
    ClassesFromProbabilitiesD,
    ClassesFromProbabilitiesd,
    ClassesFromProbabilitiesDict,
    InstancesFromLogits,
    InstancesFromLogitsD,
    InstancesFromLogitsd,
    InstancesFromLogitsDict,
    LabelInstances,
    LabelInstancesD,
    LabelInstancesd,
    LabelInstancesDict,
    SeparateInstances,
    SeparateInstancesD,
    SeparateInstancesd,
    SeparateInstancesDict,
)
from unet_med.transforms.orientation import OrientD, Orientd, OrientDict
from unet_med.transforms.rare import RarePlacesD, RarePlacesd, RarePlacesDict
from unet_med.transforms.rois import ScoreObjectsD, ScoreObjectsd, ScoreObjectsDict
from unet_med.transforms.save import (
    SaveImageResultD,
    SaveImageResultd,
    SaveImageResultDict,
)
from unet_med.transforms.save import SaveSegmentationd as SaveSegmentationd  # of earlier bundles
from unet_med.transforms.size import ElementSize, ElementSizeD, ElementSized, ElementSizeDict
from unet_med.transforms.standardize import Standardize, Standardized
from unet_med.transforms.weighing import Weighing
from unet_med.transforms.weights import (
    BorderWeightMap,
    BorderWeightMapD,
    BorderWeightMapd,
    BorderWeightMapDict,
    ClassWeightMap,
    ClassWeightMapD,
    ClassWeightMapd,
    ClassWeightMapDict,
    FalkWeightMap,
    FalkWeightMapD,
    FalkWeightMapd,
    FalkWeightMapDict,
    Foreground,
    ForegroundD,
    Foregroundd,
    ForegroundDict,
)

__all__ = [
    "Augmenting",
    "BorderWeightMap",
    "BorderWeightMapD",
    "BorderWeightMapDict",
    "BorderWeightMapd",
    "Calibrate",
    "Calibrated",
    "CheckPaird",
    "ClassWeightMap",
    "ClassWeightMapD",
    "ClassWeightMapDict",
    "ClassWeightMapd",
    "ClassesFromProbabilities",
    "ClassesFromProbabilitiesD",
    "ClassesFromProbabilitiesDict",
    "ClassesFromProbabilitiesd",
    "CompareWithTrainingD",
    "CompareWithTrainingDict",
    "CompareWithTrainingd",
    "Confidenced",
    "DropIgnoredd",
    "ElementSize",
    "ElementSizeD",
    "ElementSizeDict",
    "ElementSized",
    "FalkWeightMap",
    "FalkWeightMapD",
    "FalkWeightMapDict",
    "FalkWeightMapd",
    "Foreground",
    "ForegroundD",
    "ForegroundDict",
    "Foregroundd",
    "InstancesFromLogits",
    "InstancesFromLogitsD",
    "InstancesFromLogitsDict",
    "InstancesFromLogitsd",
    "LabelInstances",
    "LabelInstancesD",
    "LabelInstancesDict",
    "LabelInstancesd",
    "OrientD",
    "OrientDict",
    "Orientd",
    "RandElasticDeform",
    "RandElasticDeformD",
    "RandElasticDeformDict",
    "RandElasticDeformd",
    "RandGreyValue",
    "RandGreyValueD",
    "RandGreyValueDict",
    "RandGreyValued",
    "RandTileCrop",
    "RandTileCropD",
    "RandTileCropDict",
    "RandTileCropd",
    "RarePlacesD",
    "RarePlacesDict",
    "RarePlacesd",
    "ReorientToMatchD",
    "ReorientToMatchDict",
    "ReorientToMatchd",
    "SaveImageResultD",
    "SaveImageResultDict",
    "SaveImageResultd",
    "ScoreObjectsD",
    "ScoreObjectsDict",
    "ScoreObjectsd",
    "SelectSliced",
    "SeparateInstances",
    "SeparateInstancesD",
    "SeparateInstancesDict",
    "SeparateInstancesd",
    "Standardize",
    "Standardized",
    "Weighing",
    "compose",
]
