"""Distances to the two nearest instances, and the weight maps made of them.

Ronneberger et al. 2015, section 3, equation 2: `w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))`;
`border_weight_map` is the second term and `class_weight_map` the first.

Every map is an array or a tensor of shape `(*S)` or, channel first, `(1, *S)`; what
comes back is of the same kind, shape and device. `border_weight_map` and `class_weight_map` of
a CUDA tensor are computed where it is, the others on the CPU.
"""

from __future__ import annotations

from unet_med.weights.distances import two_nearest
from unet_med.weights.maps import border_weight_map, class_weight_map, falk_weight_map

__all__ = ["border_weight_map", "class_weight_map", "falk_weight_map", "two_nearest"]
