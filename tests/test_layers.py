"""Every layer's backward: the transpose of its derivative, for arrays and for Jets."""

import numpy as np
import pytest
from derivatives import along, close

from ebm_ref import layers
from ebm_ref.jet import Jet, jet_coefficient, jet_seed
from ebm_ref.specs import ACTIVATIONS

RNG = np.random.default_rng(2)
U = RNG.uniform(size=(3, 5))


def normal(*shape):
    return RNG.normal(size=shape)


def conv2d_case(image, kernel, stride, padding):
    """(x, w, b) with C = 2 and O = 3, and both passes at that stride and padding."""
    return (
        (normal(2, *image, 2), normal(*kernel, 2, 3), normal(3)),
        lambda x, w, b: layers.conv2d_forward(x, w, b, stride, padding),
        lambda x, w, b, dy: layers.conv2d_backward(x, w, dy, stride, padding),
    )


def unary(x, forward, backward):
    return (x,), forward, lambda x, dy: (backward(x, dy),)


# name -> arguments, forward(*arguments) -> y, backward(*arguments, dy) -> one cotangent per argument
CASES = {
    "linear": (
        (normal(4, 3), normal(3, 5), normal(5)),
        layers.linear_forward,
        lambda x, w, b, dy: layers.linear_backward(x, w, dy),
    ),
    "conv2d-same": conv2d_case((5, 4), (3, 3), 1, "SAME"),
    "conv2d-same-even": conv2d_case((5, 6), (2, 4), 2, "SAME"),
    "conv2d-same-gaps": conv2d_case((7, 5), (1, 2), 3, "SAME"),
    "conv2d-valid": conv2d_case((6, 5), (3, 2), 2, "VALID"),
    "group_norm": (
        (normal(2, 3, 2, 6), normal(6), normal(6)),
        lambda x, gamma, beta: layers.group_norm_forward(x, gamma, beta, 3),
        lambda x, gamma, beta, dy: layers.group_norm_backward(x, gamma, dy, 3),
    ),
    "group_norm-one_group": (
        (normal(3, 4), normal(4), normal(4)),
        lambda x, gamma, beta: layers.group_norm_forward(x, gamma, beta, 1, eps=0.1),
        lambda x, gamma, beta, dy: layers.group_norm_backward(x, gamma, dy, 1, eps=0.1),
    ),
    "layer_norm": (
        (normal(3, 5), normal(5), normal(5)),
        layers.layer_norm_forward,
        lambda x, gamma, beta, dy: layers.layer_norm_backward(x, gamma, dy),
    ),
    "residual": (
        (normal(3, 5), normal(3, 5)),
        layers.residual_forward,
        lambda y, skip, dz: layers.residual_backward(dz),
    ),
    "upsample": unary(normal(2, 3, 2, 4), layers.upsample_forward, lambda x, dy: layers.upsample_backward(dy)),
    "logsumexp": unary(normal(3, 5), layers.logsumexp_forward, layers.logsumexp_backward),
    "logsumexp-axis": unary(
        normal(3, 5), lambda x: layers.logsumexp_forward(x, 0), lambda x, dy: layers.logsumexp_backward(x, dy, 0)
    ),
    "dropout": unary(
        normal(3, 5),
        lambda x: layers.dropout_forward(x, U, 0.3, False),
        lambda x, dy: layers.dropout_backward(dy, U, 0.3, False),
    ),
}
for kind in ("mean", "sum"):
    CASES[f"pool-{kind}"] = unary(
        normal(2, 3, 4, 2),
        lambda x, kind=kind: layers.pool_forward(x, kind),
        lambda x, dy, kind=kind: layers.pool_backward(x, dy, kind),
    )
for name in ACTIVATIONS:
    CASES[f"activation-{name}"] = unary(
        2 * normal(4, 5),
        lambda x, name=name: layers.activation_forward(x, name),
        lambda x, dy, name=name: layers.activation_backward(x, dy, name),
    )


@pytest.mark.parametrize("name", CASES)
def test_backward__is_the_derivative(name):
    args, forward, backward = CASES[name]
    dy = np.random.default_rng(3).normal(size=forward(*args).shape)
    cotangents = backward(*args, dy)
    for i, (arg, cotangent) in enumerate(zip(args, cotangents, strict=True)):
        assert cotangent.shape == arg.shape
        v = np.random.default_rng(4).normal(size=arg.shape)
        wanted = along(lambda a, i=i: (dy * forward(*args[:i], a, *args[i + 1 :])).sum(), arg, v)
        close((cotangent * v).sum(), wanted, 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_backward__is_the_adjoint_of_the_jet(name):
    """<dy, J v> = <J' dy, v>: J v from a Jet through forward, J' dy from backward."""
    args, forward, backward = CASES[name]
    rng = np.random.default_rng(5)
    dy = rng.normal(size=forward(*args).shape)
    cotangents = backward(*args, dy)
    v = rng.normal(size=args[0].shape)
    y = forward(jet_seed(args[0], v, 1), *args[1:])
    close((dy * jet_coefficient(y, 1)).sum(), (cotangents[0] * v).sum(), 1e-13)


@pytest.mark.parametrize("name", CASES)
def test_backward__carries_jets_in_x_and_dy(name):
    """d/ds and d^2/ds^2 / 2 of backward(x + s v, dy + s d) by differences of the plain backward."""
    args, _, backward = CASES[name]
    rng, h = np.random.default_rng(6), 1e-3
    dy = rng.normal(size=CASES[name][1](*args).shape)
    v, d = rng.normal(size=args[0].shape), rng.normal(size=dy.shape)
    found = backward(jet_seed(args[0], v, 2), *args[1:], jet_seed(dy, d, 2))

    def at(s):
        return backward(args[0] + s * v, *args[1:], dy + s * d)

    points = [at(s * h) for s in (-2, -1, 0, 1, 2)]
    for i, jet in enumerate(found):
        assert isinstance(jet, Jet)
        f = [p[i] for p in points]
        np.testing.assert_array_equal(jet_coefficient(jet, 0), f[2])
        close(jet_coefficient(jet, 1), (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * h), 1e-8)
        close(jet_coefficient(jet, 2), (16 * (f[3] + f[1]) - (f[4] + f[0]) - 30 * f[2]) / (24 * h * h), 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_layers__keep_float32(name):
    args, forward, backward = CASES[name]
    args = tuple(a.astype(np.float32) for a in args)
    y = forward(*args)
    assert y.dtype == np.float32
    assert all(a.dtype == np.float32 for a in backward(*args, y))


@pytest.mark.parametrize("name", CASES)
def test_layers__leave_their_arguments_alone(name):
    args, forward, backward = CASES[name]
    before = [a.copy() for a in args]
    y = forward(*args)
    dy = np.ones_like(y)
    backward(*args, dy)
    for a, b in zip(args, before, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(dy, 1.0)
