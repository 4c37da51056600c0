"""The weights of a tensor on its own device, which a CPU is too, against transforms and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import border_weights_by_transforms
from skimage import io, measure
from strategies import instance_maps, pixel_sizes

from unet_med.weights import border_weight_map, class_weight_map, device
from unet_med.weights.device import border_terms, class_weights_of


@given(labels=instance_maps(max_side=(40, 20, 9)), data=st.data())
def test_border_terms_are_equation_2_for_each_item(labels, data):
    w0, sigma = data.draw(st.sampled_from([10.0, 1.0])), data.draw(st.sampled_from([1.5, 5.0]))
    spacing = data.draw(pixel_sizes(labels.ndim))
    batch = np.stack([labels, np.flip(labels), np.zeros_like(labels)])
    terms = border_terms(torch.from_numpy(batch), w0, sigma, spacing)
    assert terms.dtype == torch.float32
    for term, item in zip(terms.numpy(), batch, strict=True):
        expected = border_weights_by_transforms(item, w0, sigma, spacing)
        np.testing.assert_allclose(term, expected, atol=1e-5)


@pytest.mark.parametrize("largest", [200, 2**30, 2**40])  # 32-bit keys, 64-bit keys
@pytest.mark.parametrize("spacing", [None, (1.0, 0.7)])
def test_numbers_of_any_size(rng, largest, spacing):
    cells = measure.label(rng.random((40, 50)) < 0.05, connectivity=1)
    numbers = np.concatenate([[0], rng.permutation(cells.max()) + largest - cells.max()])
    labels = numbers[cells]
    terms = border_terms(torch.from_numpy(labels)[None], 10.0, 3.0, spacing)
    expected = border_weight_map(cells, 10.0, 3.0, spacing)
    np.testing.assert_allclose(terms[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("most", [1, 900])  # one row at a time; some, and a rest
def test_a_part_of_the_rows_at_a_time_is_the_whole(rng, monkeypatch, most):
    cells = torch.from_numpy(measure.label(rng.random((2, 7, 11)) < 0.1, connectivity=1))
    whole = border_terms(cells, 10.0, 2.0, (1.0, 0.7))
    monkeypatch.setattr(device, "MOST_CANDIDATES", most)
    torch.testing.assert_close(border_terms(cells, 10.0, 2.0, (1.0, 0.7)), whole, rtol=0, atol=0)


@pytest.mark.data
def test_border_terms_of_real_membranes(shared):
    cells = measure.label(io.imread(shared / "data/isbi2012/label/0.png") > 0, connectivity=1)
    terms = border_terms(torch.from_numpy(cells)[None], 10.0, 5.0)
    np.testing.assert_allclose(terms[0].numpy(), border_weight_map(cells), atol=1e-5)


@pytest.mark.parametrize("labels", [torch.zeros(2, 0, 4), torch.full((1, 3, 4), -1)])
def test_nothing_to_keep_apart(labels):
    assert border_terms(labels, 10.0, 5.0).eq(0).all()
    assert border_terms(torch.tensor([[1, 0, 2]]), 0.0, 5.0).eq(0).all()


@given(
    labels=instance_maps(max_side=(20, 9, 5)),
    classes=st.integers(1, 4),
    ignore=st.sampled_from([255, 0]),
)
def test_class_weights_are_numpys(labels, classes, ignore):
    label = np.where(labels < 0, ignore, labels % classes)
    for table in (None, np.arange(1.0, classes + 1)):
        weights = class_weights_of(torch.from_numpy(label), classes, table, ignore)
        given_table = None if table is None else table.tolist()
        expected = class_weight_map(label, classes, given_table, ignore)
        np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)
        assert weights.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: border_terms(x + 0.5, 10.0, 5.0), r"label value 0\.5 is not a whole number"),
        (lambda x: border_terms(x * torch.nan, 10.0, 5.0), r"label value nan is not a whole"),
        (lambda x: border_terms(x, 10.0, 0.0), r"border sigma 0\.0; it must be positive"),
        (lambda x: border_terms(x, -1.0, 5.0), r"border weight -1\.0; it must be 0 or more"),
        (lambda x: border_terms(x, 1.0, 5.0, (1, 1, 1)), r"spacing \[1\.0, 1\.0, 1\.0\] for"),
        (lambda x: class_weights_of(x + 1, 2, None, 255), r"class 2 in a label of 2 classes"),
        (lambda x: class_weights_of(x - 1, 2, None, 255), r"class -1 in a label"),
    ],
)
def test_errors_say_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.tensor([[0.0, 1.0, 1.0]]))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(40, 50), (1, 40, 50), (1, 9, 20, 22)])
def test_gpu_equals_cpu(rng, shape):
    cells = torch.from_numpy(measure.label(rng.random(shape) < 0.05, connectivity=1))
    # distances are whole numbers until the root; the exponential's last digits are a device's own
    torch.testing.assert_close(border_weight_map(cells.cuda()).cpu(), border_weight_map(cells))
    mask = (cells > 0).long()
    torch.testing.assert_close(class_weight_map(mask.cuda()).cpu(), class_weight_map(mask))
