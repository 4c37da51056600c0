"""Losses against Eq. 1 written pixel by pixel, and against torch's and MONAI's own."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.losses import DiceLoss
from simulated_cuda import is_simulated
from simulated_cuda.counting import Counts
from torch.nn import BCEWithLogitsLoss
from torch.nn import functional as F
from torch.testing import assert_close

from unet_med.losses import (
    BorderWeightedCrossEntropyLoss,
    OnLabel,
    SumLoss,
    WeightedCrossEntropyLoss,
    center_crop,
)

SHAPE = (2, 6, 7)


@pytest.fixture
def batch(rng):
    """Float64 logits of 3 classes, labels with ignored pixels, weights with zeros."""
    logits = torch.from_numpy(rng.normal(size=(SHAPE[0], 3, *SHAPE[1:])))
    label = torch.from_numpy(rng.choice([0, 1, 2, 255], size=(SHAPE[0], 1, *SHAPE[1:])))
    weight = torch.from_numpy(rng.choice([0.0, 0.5, 1.0, 11.0], size=label.shape))
    return logits, label, weight


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.float16])
@pytest.mark.parametrize(
    "loss", [WeightedCrossEntropyLoss(), SumLoss([WeightedCrossEntropyLoss()])]
)
def test_weights_of_any_type_leave_the_classes_alone(batch, dtype, loss):
    """A mask of what counts is the commonest weight; it holds neither class 2 nor 255."""
    logits, label, weight = batch
    weight = (weight > 0.5).to(dtype)
    assert_close(loss(logits, label, weight), loss(logits, label, weight.double()))


def test_a_batch_of_nothing_has_no_loss():
    logits = torch.zeros(0, 2, 4, 4, requires_grad=True)
    assert WeightedCrossEntropyLoss("sum")(logits, torch.zeros(0, 1, 4, 4)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
@pytest.mark.parametrize(
    "loss", [WeightedCrossEntropyLoss(), OnLabel(DiceLoss(softmax=True, to_onehot_y=True))]
)
def test_one_hot_targets_are_no_labels_with_weights(loss, dtype):
    """As MONAI's `AsDiscrete(to_onehot=2)` makes them: background, and foreground."""
    label = torch.tensor([[[[0, 1, 1, 0]]]])
    one_hot = torch.cat([1 - label, label], dim=1).to(dtype)
    with pytest.raises(ValueError, match=r"one-hot.*give argmax"):
        loss(torch.zeros(1, 2, 1, 4), one_hot)
    loss(torch.zeros(1, 2, 1, 4), label, 1 - label)  # said to be so
    nothing = torch.cat([torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4)], dim=1)
    loss(torch.zeros(1, 2, 1, 4), nothing)  # a tile of background, each pixel of weight 1


@pytest.mark.gpu
@pytest.mark.parametrize("make", [WeightedCrossEntropyLoss, lambda: OnLabel(BCEWithLogitsLoss())])
def test_a_gpu_is_waited_for_until_a_batch_is_not_one_hot(make):
    """Of a tile of background, each pixel of weight 1, that cannot be said yet."""
    label = torch.tensor([[[[0, 1, 1, 0]]]], device="cuda").float()
    one_hot, packed = torch.cat([1 - label, label], 1), torch.cat([label, 3 + label], 1)
    nothing = torch.cat([0 * label, 1 + 0 * label], dim=1)
    loss, logits = make(), torch.zeros(1, 2 - isinstance(make(), OnLabel), 1, 4, device="cuda")
    loss(logits, nothing)
    with pytest.raises(ValueError, match=r"one-hot.*give argmax"):
        loss(logits, one_hot)
    loss(logits, packed)
    if is_simulated():
        with Counts() as counts:
            loss(logits, packed)
        assert not counts.waits, counts.waits


def test_a_tensor_without_values_has_a_loss_without_one():
    """As counters of operations use them."""
    loss = WeightedCrossEntropyLoss()
    logits, target = (torch.zeros(1, 2, 4, 4, device="meta") for _ in range(2))
    assert loss(logits, target).is_meta


def padded(target: torch.Tensor, margin: int, value: float = 255) -> torch.Tensor:
    return F.pad(target, (margin,) * 2 * (target.dim() - 2), value=value)


def soft_jaccard(p: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - intersection / union of a probability and a 0/1 map, both `(B, K, *S)`; mean of them."""
    axes = tuple(range(2, p.dim()))
    both = (p * truth).sum(axes)
    return (1 - both / ((p + truth).sum(axes) - both)).mean()


class TestCenterCrop:
    def test_keeps_the_centre(self):
        target = torch.arange(5 * 7).reshape(1, 1, 5, 7)
        np.testing.assert_array_equal(center_crop(target, [3, 3])[0, 0], target[0, 0, 1:4, 2:5])

    def test_three_axes_and_nothing_to_crop(self):
        target = torch.rand(2, 1, 4, 5, 6)
        assert_close(center_crop(target, [4, 3, 2]), target[:, :, :, 1:4, 2:4], rtol=0, atol=0)
        assert center_crop(target, [4, 5, 6]) is not None

    @pytest.mark.parametrize(
        ("size", "message"),
        [
            ([3, 4], r"target side 6 px against logits side 3 px \(axis 2\).*even number"),
            ([6, 6], r"target side 4 px against logits side 6 px \(axis 3\)"),
            ([6], r"2 spatial axes, the logits have 1"),
        ],
    )
    def test_refuses_what_has_no_centre(self, size, message):
        with pytest.raises(ValueError, match=message):
            center_crop(torch.zeros(1, 1, 6, 4), size)


class TestWeightedCrossEntropy:
    def test_is_equation_1(self, batch):
        logits, label, weight = batch
        energy, total = oracles.weighted_cross_entropy(
            logits.numpy(), label[:, 0].numpy(), weight[:, 0].numpy()
        )
        target = torch.cat([label.double(), weight], dim=1)
        assert WeightedCrossEntropyLoss("sum")(logits, target).item() == pytest.approx(energy)
        assert WeightedCrossEntropyLoss()(logits, target).item() == pytest.approx(energy / total)
        energy_map = WeightedCrossEntropyLoss("none")(logits, target)
        assert energy_map.shape == label.shape
        assert energy_map.sum().item() == pytest.approx(energy)
        assert_close(energy_map[label == 255], torch.zeros_like(weight[label == 255]))

    @given(
        st.integers(2, 5),
        st.lists(st.integers(1, 5), min_size=1, max_size=3),
        st.booleans(),
        st.integers(0, 2**31),
    )
    def test_is_torch_at_weight_one(self, num_classes, shape, packed, seed):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(2, num_classes, *shape, generator=generator, dtype=torch.float64)
        label = torch.randint(num_classes, (2, 1, *shape), generator=generator)
        target = torch.cat([label.double(), torch.ones(2, 1, *shape)], dim=1) if packed else label
        assert_close(
            WeightedCrossEntropyLoss()(logits, target), F.cross_entropy(logits, label[:, 0])
        )

    def test_ignored_pixels_are_torchs_without_a_weight_channel(self, batch):
        logits, label, _ = batch
        assert_close(
            WeightedCrossEntropyLoss()(logits, label),
            F.cross_entropy(logits, label[:, 0], ignore_index=255),
        )

    def test_gradient(self, batch):
        logits, label, weight = batch
        target = torch.cat([label.double(), weight], dim=1)
        logits.requires_grad_()
        for reduction in ("mean", "sum", "none"):
            loss = WeightedCrossEntropyLoss(reduction)
            assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, target), logits)

    def test_crops_label_and_weight_alike(self, batch):
        logits, label, weight = batch
        target = torch.cat([label.double(), weight], dim=1)
        loss = WeightedCrossEntropyLoss()
        assert_close(loss(logits, padded(target, 3)), loss(logits, target), rtol=0, atol=0)

    def test_without_any_weight_nothing_is_learned(self, batch):
        logits, label, weight = batch
        logits.requires_grad_()
        for target in (
            torch.cat([label.double(), 0 * weight], dim=1),
            torch.full_like(label, 255),
        ):
            loss = WeightedCrossEntropyLoss()(logits, target)
            (gradient,) = torch.autograd.grad(loss, logits)
            assert loss.item() == 0
            assert_close(gradient, torch.zeros_like(logits), rtol=0, atol=0)

    def test_nan_weight_of_an_ignored_pixel_does_not_spread(self, batch):
        logits, label, weight = batch
        weight = weight.masked_fill(label == 255, torch.nan)
        loss = WeightedCrossEntropyLoss()(logits, torch.cat([label.double(), weight], dim=1))
        assert loss.isfinite()

    def test_packed_class_numbers_are_exact(self):
        num_classes = 300  # bfloat16 knows no 299
        logits = torch.zeros(1, num_classes, 2)
        logits[0, 299] = 50.0
        target = torch.tensor([[[299.0, 299.0], [1.0, 2.0]]])
        assert WeightedCrossEntropyLoss(ignore_index=-1)(logits, target).item() < 1e-6
        stock = DiceLoss(softmax=True, to_onehot_y=True)  # an empty class costs nothing
        assert OnLabel(stock)(logits.bfloat16(), target).item() < 1e-6

    def test_a_class_can_be_the_ignored_one(self):
        logits = torch.randn(1, 3, 6, 6)
        label = torch.randint(0, 3, (1, 1, 6, 6))
        ones = torch.cat([label.float(), torch.ones(1, 1, 6, 6)], dim=1)
        for target in (label, ones):
            torch.testing.assert_close(
                WeightedCrossEntropyLoss(ignore_index=0)(logits, target),
                F.cross_entropy(logits, label[:, 0], ignore_index=0),
            )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, batch, dtype):
        logits, label, weight = batch
        logits = logits.to(dtype)
        target = torch.cat([label.float(), 1e4 * weight.float()], dim=1)  # energy beyond float16
        for reduction in ("sum", "mean"):
            loss = WeightedCrossEntropyLoss(reduction)(logits, target)
            assert loss.dtype == torch.float32
            assert_close(loss, WeightedCrossEntropyLoss(reduction)(logits.float(), target))

    @pytest.mark.parametrize("value", [3, -1, 254])
    @pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
    def test_names_the_label_that_is_no_class(self, batch, value, dtype):
        logits, label, _ = batch
        label[1, 0, 2, 3] = value
        with pytest.raises(
            ValueError, match=rf"label {value} is no class in 0\.\.\.2 \(255 is ign.*Foregroundd"
        ):
            WeightedCrossEntropyLoss()(logits, label.to(dtype))

    @pytest.mark.parametrize("value", [0.5, torch.nan])
    def test_refuses_interpolated_labels(self, value):
        with pytest.raises(ValueError, match=rf"label {value:g} is no class .*mode 'nearest'"):
            WeightedCrossEntropyLoss()(torch.zeros(1, 2, 3), torch.full((1, 1, 3), value))

    def test_uint8_labels_do_not_wrap(self):
        label = torch.tensor([[[0, 255]]], dtype=torch.uint8)
        with pytest.raises(ValueError, match=r"label 255 is no class in 0\.\.\.1 \(-1 is ignored"):
            WeightedCrossEntropyLoss(ignore_index=-1)(torch.zeros(1, 2, 2), label)

    @pytest.mark.parametrize(
        ("logits", "target", "message"),
        [
            ((1, 1, 4), (1, 1, 4), "logits have 1 channel.*out_channels=2"),
            ((1, 3, 4), (1, 3, 4), r"one channel \(label\) or two .*argmax"),
            ((2, 3, 4), (1, 1, 4), "same batch size"),
            ((1, 3, 4), (1, 4), "0 spatial axes, the logits have 1.*channel axis"),
        ],
    )
    def test_refuses_shapes(self, logits, target, message):
        with pytest.raises(ValueError, match=message):
            WeightedCrossEntropyLoss()(torch.zeros(logits), torch.zeros(target))

    def test_refuses_unknown_reductions(self):
        with pytest.raises(ValueError, match="'average' is unknown; choose 'mean', 'sum' or"):
            WeightedCrossEntropyLoss("average")

    def test_metadata_stays_outside(self, batch):
        logits, label, _ = batch
        loss = WeightedCrossEntropyLoss()(MetaTensor(logits), MetaTensor(label))
        assert type(loss) is torch.Tensor
        assert_close(loss, WeightedCrossEntropyLoss()(logits, label), rtol=0, atol=0)

    @pytest.mark.gpu
    def test_gpu_agrees(self, batch):
        logits, label, weight = batch
        target = torch.cat([label.double(), weight], dim=1)
        loss = WeightedCrossEntropyLoss()
        assert_close(loss(logits.cuda(), target.cuda()).cpu(), loss(logits, target))
        label[0, 0, 0, 0] = 7
        assert loss(logits.cuda(), label.cuda()).isnan()  # to look would make the host wait


class TestBorderWeightedCrossEntropy:
    @pytest.fixture
    def instances(self):
        """Two samples of 12 x 12: three instances and an ignored corner; nothing at all."""
        instances = torch.zeros(2, 1, 12, 12, dtype=torch.int64)
        instances[0, 0, 1:6, 1:5], instances[0, 0, 1:6, 6:9], instances[0, 0, 8:11, 4] = 1, 2, 7
        instances[0, 0, 10:, 10:] = -1
        return instances

    def by_hand(self, instances: np.ndarray, w0: float, sigma: float, spacing: float):
        """Label and weight of one sample `(H, W)`, distances from all pairs of pixels."""
        label = np.where(instances < 0, 255, instances > 0)
        weight = np.zeros(label.shape)
        counted = [k for k in (0, 1) if (label == k).any()]
        for y, x in np.argwhere(label < 2):
            weight[y, x] = (label < 2).sum() / len(counted) / (label == label[y, x]).sum()
            nearest = sorted(
                spacing * np.hypot(*(np.argwhere(instances == i) - (y, x)).T).min()
                for i in np.unique(instances[instances > 0])
            )
            if label[y, x] == 0 and len(nearest) > 1:
                weight[y, x] += w0 * np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
        return label, weight

    @pytest.mark.parametrize(("w0", "sigma", "spacing"), [(10.0, 5.0, None), (3.0, 2.0, 0.5)])
    def test_is_equation_1_with_equation_2(self, rng, instances, w0, sigma, spacing):
        logits = torch.from_numpy(rng.normal(size=(2, 2, 12, 12)))
        label, weight = zip(
            *(self.by_hand(one[0].numpy(), w0, sigma, spacing or 1.0) for one in instances),
            strict=True,
        )
        energy, total = oracles.weighted_cross_entropy(
            logits.numpy(), np.stack(label), np.stack(weight)
        )
        for reduction, expected in (("sum", energy), ("mean", energy / total)):
            loss = BorderWeightedCrossEntropyLoss(w0, sigma, spacing=spacing, reduction=reduction)
            assert loss(logits, instances).item() == pytest.approx(expected, rel=1e-5)
            assert loss(logits, MetaTensor(instances.int())).item() == pytest.approx(
                expected, rel=1e-5
            )

    def test_weighs_before_it_crops(self, rng, instances):
        logits = torch.from_numpy(rng.normal(size=(2, 2, 4, 4)))
        whole = torch.zeros(2, 2, 12, 12, dtype=torch.float64)
        whole[..., 4:8, 4:8] = logits
        expected = BorderWeightedCrossEntropyLoss(reduction="none")(whole, instances)
        cropped = BorderWeightedCrossEntropyLoss(reduction="none")(logits, instances)
        assert_close(cropped, expected[..., 4:8, 4:8], rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("classes", "channels", "message"),
        [
            (3, 1, "logits of 3 classes: .* background and foreground"),
            (2, 2, r"instances of shape \(2, 2, 12, 12\) .* \(B, 1, \*S\)"),
            (2, None, r"instances of shape \(2, 12, 12\)"),
        ],
    )
    def test_refuses_what_are_no_instances_against_background(
        self, instances, classes, channels, message
    ):
        target = instances[:, 0] if channels is None else instances.expand(-1, channels, -1, -1)
        with pytest.raises(ValueError, match=message):
            BorderWeightedCrossEntropyLoss()(torch.zeros(2, classes, 12, 12), target)

    def test_refuses_probabilities(self, instances):
        with pytest.raises(ValueError, match=r"0\.5 is not a whole number"):
            BorderWeightedCrossEntropyLoss()(torch.zeros(2, 2, 12, 12), instances + 0.5)

    @pytest.mark.gpu
    def test_gpu_agrees(self, rng, instances):
        logits = torch.from_numpy(rng.normal(size=(2, 2, 12, 12)))
        loss = BorderWeightedCrossEntropyLoss()
        there, here = loss(logits.cuda(), instances.cuda()).cpu(), loss(logits, instances)
        # weights are float32: the last digits of their exponentials are a GPU's own
        assert_close(there, here, **({} if is_simulated() else {"rtol": 1e-6, "atol": 0}))
        if is_simulated():
            logits, instances = logits.cuda(), instances.int().cuda()
            with Counts() as counts:
                loss(logits, instances)
            assert not counts.waits, counts.waits


class TestOnLabel:
    @pytest.mark.parametrize("options", [{}, {"squared_pred": True}, {"jaccard": True}])
    def test_stock_loss_sees_the_cropped_label(self, batch, options):
        logits, label, weight = batch
        label = label.where(label < 3, 0)
        stock = DiceLoss(softmax=True, to_onehot_y=True, **options)
        target = padded(torch.cat([label.double(), weight], dim=1), 2, value=1)
        assert_close(OnLabel(stock)(logits, target), stock(logits, label))

    def test_monais_jaccard_is_soft_iou(self, batch):
        logits, label, _ = batch
        label = label.where(label < 3, 0)
        stock = DiceLoss(softmax=True, to_onehot_y=True, jaccard=True, smooth_nr=0, smooth_dr=0)
        truth = F.one_hot(label[:, 0], 3).movedim(-1, 1).double()
        assert_close(OnLabel(stock)(logits, label), soft_jaccard(logits.softmax(dim=1), truth))

    def test_ignored_pixels_are_the_stock_losss_to_ignore(self, batch):
        logits, label, _ = batch
        stock = DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255)
        loss = OnLabel(stock)(logits, label)
        changed = torch.where(label == 255, 9.0, logits)
        assert_close(OnLabel(stock)(changed, label), loss)
        with pytest.raises(ValueError, match=r"label 255 is no class .*nothing is ignored.*ignore"):
            OnLabel(DiceLoss(softmax=True, to_onehot_y=True))(logits, label)

    def test_half_precision_is_computed_in_float32(self, batch):
        logits, label, _ = batch
        stock = OnLabel(DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255))
        assert stock(logits.half(), label).dtype == torch.float32


class TestSumLoss:
    def test_binary_cross_entropy_plus_iou(self, rng):
        """Both from torch and MONAI, for a valid network with one output channel."""
        logits = torch.from_numpy(rng.normal(size=(2, 1, 4, 4)))
        label = torch.from_numpy(rng.integers(2, size=(2, 1, 4, 4)))
        jaccard = DiceLoss(sigmoid=True, jaccard=True, smooth_nr=0, smooth_dr=0)
        loss = SumLoss([OnLabel(BCEWithLogitsLoss()), OnLabel(jaccard)])
        p = logits.sigmoid()
        entropy = -torch.where(label == 1, p, 1 - p).log().mean()
        assert_close(loss(logits, padded(label, 2, 0)), entropy + soft_jaccard(p, label.double()))

    def test_weighted_cross_entropy_plus_dice(self, batch):
        logits, label, weight = batch
        target = torch.cat([label.double(), weight], dim=1)
        parts = [
            WeightedCrossEntropyLoss(),
            OnLabel(DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255)),
        ]
        expected = 0.25 * parts[0](logits, target) + 2 * parts[1](logits, target)
        assert_close(SumLoss(parts, weights=[0.25, 2])(logits, target), expected)
        logits.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: SumLoss(parts)(x, target), logits)

    def test_refuses_a_loss_that_would_read_weights_as_a_class(self, batch):
        """MONAI's Dice takes label and weight for two one-hot classes, and says nothing."""
        logits, label, weight = batch
        bare = DiceLoss(softmax=True)
        loss = SumLoss([WeightedCrossEntropyLoss(), bare])
        with pytest.raises(ValueError, match=r"one-hot classes: give OnLabel\(DiceLoss"):
            loss(logits, label, weight)
        with pytest.raises(ValueError, match=r"one-hot classes: give OnLabel\(DiceLoss"):
            loss(logits, torch.cat([label.double(), weight], dim=1))
        alone = SumLoss([DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255)])
        assert_close(alone(logits, label), alone.losses[0](logits, label))

    @pytest.mark.parametrize(("count", "weights"), [(1, [1.0, 2.0]), (0, None)])
    def test_refuses_unequal_lengths(self, count, weights):
        with pytest.raises(ValueError, match="give one weight a loss"):
            SumLoss([BCEWithLogitsLoss()] * count, weights)


class TestWeightAsAnArgument:
    """`loss(logits, label, weight)` is `loss(logits, target)` with both in the target."""

    @pytest.mark.parametrize(
        "loss",
        [
            WeightedCrossEntropyLoss(),
            OnLabel(DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255)),
            SumLoss([WeightedCrossEntropyLoss("sum"), WeightedCrossEntropyLoss()], [0.5, 2.0]),
        ],
        ids=["weighted", "on label", "sum"],
    )
    def test_is_the_packed_target(self, loss, batch):
        logits, label, weight = batch
        packed = torch.cat([label.double(), weight], dim=1)
        assert_close(loss(logits, label, weight), loss(logits, packed), rtol=0, atol=0)
        assert_close(loss(logits, padded(label, 2), padded(weight, 2)), loss(logits, packed))

    def test_may_be_one_less_the_label(self):
        """Which in a packed target would be foreground beside background."""
        logits = torch.tensor([[[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]])
        label = torch.tensor([[[0, 1, 1]]])
        weight = 1.0 - label
        entropy = WeightedCrossEntropyLoss()
        dice = OnLabel(DiceLoss(softmax=True, to_onehot_y=True))
        of_background = torch.tensor(2.0).log()  # the one pixel that weighs anything
        for loss, expected in (
            (entropy, of_background),
            (dice, dice(logits, label)),
            (SumLoss([entropy, SumLoss([dice])]), of_background + dice(logits, label)),
        ):
            with pytest.raises(ValueError, match="one-hot"):
                loss(logits, torch.cat([label.float(), weight], dim=1))
            assert_close(loss(logits, label, weight), expected)

    def test_matters(self, batch):
        logits, label, weight = batch
        loss = WeightedCrossEntropyLoss()
        assert loss(logits, label, weight) != loss(logits, label)

    def test_refuses_two_weights_and_other_shapes(self, batch):
        logits, label, weight = batch
        packed = torch.cat([label.double(), weight], dim=1)
        for wrong in ((packed, weight), (label, weight[:, 0]), (label, packed)):
            with pytest.raises(ValueError, match=r"label of shape .* give both as \(B, 1, \*S\)"):
                WeightedCrossEntropyLoss()(logits, *wrong)

    def test_of_instances_is_refused(self):
        with pytest.raises(ValueError, match="computes its weights from instances"):
            BorderWeightedCrossEntropyLoss()(torch.zeros(1, 2, 5), *[torch.ones(1, 1, 5)] * 2)
