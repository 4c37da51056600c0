"""Probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from unet_med.transforms.keywise import KeywiseTransform
from unet_med.transforms.tensors import Label, require_probabilities, tensor_of


class Calibrate(Transform):
    """Temperature scaling of probabilities, with a bias for each class where one is given.

    `softmax(log(p) / temperature + bias)`: where `p` is a softmax of logits `z`, that of
    `z / temperature + bias` (Guo et al. 2017, On calibration of modern neural networks). Of two
    classes it is monotone: what was more likely stays so.

    Args:
        temperature: above 1 it takes confidence, below 1 it adds some.
        bias: one a class, added to the logarithms, for which `temperature` alone has no room: a
            network that was trained with weights sees some class too often. None: none.

    Raises:
        ValueError: the temperature is not positive.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own convention

    def __init__(self, temperature: float = 1.0, bias: Sequence[float] | None = None) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature {temperature}: it must be above 0; 1 changes nothing")
        self.temperature = temperature
        self.bias = None if bias is None else tuple(bias)

    @property
    def is_neutral(self) -> bool:
        """Whether it changes nothing."""
        return self.temperature == 1 and not any(self.bias or ())

    def __call__(self, probabilities: Label) -> Label:
        """Calibrate `(K, *S)`; what is neutral gives the probabilities themselves, no copy.

        Raises:
            ValueError: there are not as many classes as biases, or these are logits.
        """
        scores = convert_to_tensor(tensor_of(probabilities), track_meta=False)
        if self.bias is not None and len(self.bias) != len(scores):
            raise ValueError(f"{len(self.bias)} biases for {len(scores)} classes")
        if self.is_neutral and scores.is_floating_point():
            return probabilities
        require_probabilities(scores)
        scaled = logarithm(scores) / self.temperature
        if self.bias is not None:
            bias = torch.as_tensor(self.bias, dtype=scaled.dtype, device=scaled.device)
            scaled = scaled + bias.view(-1, *[1] * (scaled.ndim - 1))
        found = scaled.softmax(dim=0)
        return convert_to_dst_type(found, probabilities, dtype=scaled.dtype)[0]


class Calibrated(KeywiseTransform):
    """Dictionary version of `Calibrate`.

    Args:
        keys: probabilities, `(K, *S)`.
        temperature: see `Calibrate`.
        bias: likewise.
        allow_missing_keys: no error when a key is absent.
        output_keys: where the results go; one, or one a key; None: they replace the entries.
    """

    backend = Calibrate.backend
    rule: Calibrate

    def __init__(
        self,
        keys: KeysCollection,
        temperature: float = 1.0,
        bias: Sequence[float] | None = None,
        *,
        allow_missing_keys: bool = False,
        output_keys: str | Sequence[str] | None = None,
    ) -> None:
        rule = Calibrate(temperature, bias)
        super().__init__(keys, rule, allow_missing_keys=allow_missing_keys, output_keys=output_keys)


def logarithm(probabilities: torch.Tensor) -> torch.Tensor:
    """Finite also of what has been rounded to 0; of integers in float32."""
    exact = probabilities if probabilities.is_floating_point() else probabilities.float()
    return exact.clamp_min(torch.finfo(exact.dtype).tiny).log()


CalibrateD = CalibrateDict = Calibrated
