"""numba_cpu's fields and the energy on them, where the kit's problems end: whole tiles and a part, fused chains."""

import numpy as np
import pytest
from derivatives import close, random_theta

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref.contracts import DTypeError, NonFiniteError, ShapeError, SmoothnessError
from ebm_ref.specs import SGLD

if why_not("numba_cpu"):
    pytest.skip(why_not("numba_cpu"), allow_module_level=True)
FAST = backend("numba_cpu")
UP = FAST.upsampled
N = 37  # whole tiles of either precision, and a part
FIELDS = {
    "mlp": ("MLPField", {"shape": (3,), "hidden": (17, 8)}),
    "mlp-wider": ("MLPField", {"shape": (2, 3), "hidden": (9,), "out_channels": 4, "activation": "tanh"}),
    "conv": ("ConvField", {"shape": (8, 4, 2), "channels": (8, 6), "max_groups": 2}),
    "conv-deep": ("ConvField", {"shape": (8, 8, 1), "channels": (3, 8, 5), "max_groups": 1, "activation": "softplus"}),
    "conv-flat": ("ConvField", {"shape": (5, 3, 3), "channels": (8,), "out_channels": 1, "kernel": 2}),
    "conv-one": ("ConvField", {"shape": (2, 2, 1), "channels": (4, 4), "kernel": 5, "activation": "gelu"}),
}
ENERGIES = {
    "mlp-dot": ("mlp", "dot"),
    "conv-dot": ("conv", "dot"),
    "conv-norm": ("conv-deep", "norm"),
    "flat-below": ("conv-flat", "norm_below"),
}
EACH = pytest.mark.parametrize("net", FIELDS)
EITHER = pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-11), (np.float32, 1e-3)])


def field_of(module, net, **changes):
    kind, fields = FIELDS[net]
    return getattr(module, kind)(**(fields | changes))


def energy_of(module, name):
    net, head = ENERGIES[name]
    return module.FieldEnergy(field_of(module, net), head)


def draw(field, dtype, count=N):
    """theta, x, v, g, h."""
    rng = np.random.default_rng(11)
    theta = random_theta(field, rng, dtype)
    x, v = (rng.normal(size=(count, *field.shape)).astype(dtype) for _ in range(2))
    g, h = (rng.normal(size=(count, *field.out_shape)).astype(dtype) for _ in range(2))
    return theta, x, v, g, h


def wide(args):
    theta, *arrays = args
    return {name: a.astype(np.float64) for name, a in theta.items()}, *(a.astype(np.float64) for a in arrays)


def results(field, theta, x, v, g, h):
    f, along = field.field_jvp(theta, x, v)
    found = {"field": field.field(theta, x), "f": f, "jvp": along, "vjp": field.field_vjp(theta, x, g)}
    found |= {f"theta {name}": a for name, a in field.field_grad_theta(theta, x, g).items()}
    return found | {f"along {name}": a for name, a in field.field_grad_theta_along(theta, x, g, h, v).items()}


@EACH
@EITHER
def test_field__matches_ref_on_whole_tiles(net, dtype, tol, record_property):
    record_property("twin", "numba_cpu")
    fast, ref = field_of(FAST, net), field_of(ebm_ref, net)
    args = draw(ref, dtype)
    found, wanted = results(fast, *args), results(ref, *wide(args))
    assert list(found) == list(wanted)
    for name, a in found.items():
        assert a.dtype == dtype and a.shape == wanted[name].shape and a.flags.c_contiguous, name
        close(a, wanted[name], tol)


@EACH
def test_field__does_not_depend_on_the_batch_nor_on_threads(net, monkeypatch):
    field = field_of(FAST, net)
    theta, x, *others = draw(field, np.float32)
    whole = results(field, theta, x, *others)
    for n in (1, 5, 20):
        part = results(field, theta, x[9 : 9 + n], *(a[9 : 9 + n] for a in others))
        assert all(np.array_equal(part[name], whole[name][9 : 9 + n]) for name in ("field", "f", "jvp", "vjp"))
    monkeypatch.setenv("EBM_NUM_THREADS", "3")
    again = results(field, theta, x, *others)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_upsampled__is_the_convolution_of_repeated_pixels(kernel, size):
    rng = np.random.default_rng(0)
    H, W = size
    x, w = rng.normal(size=(H, W, 2)), rng.normal(size=(kernel, kernel, 2, 3))
    wanted = ebm_ref.conv2d_forward(x.repeat(2, 0).repeat(2, 1)[None], w, np.zeros(3))[0]
    links, folded = UP.upsampled_links(H, W, kernel), UP.fold(w).reshape(-1, 2, 3)
    found = np.zeros((4 * H * W, 3))
    for q, t, p in links.pairs:
        found[p] += x.reshape(-1, 2)[q] @ folded[t]
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=1e-13)
    assert len(np.unique(links.pairs[:, 1:], axis=0)) == len(np.unique(links.pairs[:, :2], axis=0)) == len(links.pairs)
    dw = rng.normal(size=UP.fold(w).shape)
    assert np.isclose((UP.fold(w) * dw).sum(), (w * UP.unfold(dw, kernel)).sum(), rtol=1e-12)


def test_upsampled__takes_four_products_where_a_kernel_of_three_takes_nine():
    assert UP.fold(np.ones((3, 3, 1, 1)))[..., 0, 0].tolist() == [
        [1, 2, 2, 1],
        [2, 4, 4, 2],
        [2, 4, 4, 2],
        [1, 2, 2, 1],
    ]
    assert len(UP.upsampled_links(9, 9, 3).pairs) < 4 * (2 * 9) ** 2


@pytest.mark.parametrize("name", ENERGIES)
@EITHER
def test_field_energy__matches_ref_on_whole_tiles(name, dtype, tol, record_property):
    record_property("twin", "numba_cpu")
    fast, ref = energy_of(FAST, name), energy_of(ebm_ref, name)
    theta, x, v, _, _ = draw(ref.field, dtype)
    w = np.random.default_rng(3).normal(size=N).astype(dtype)
    found, wanted = (
        {"E": e.energy(t, x), "dx": e.grad_x(t, x), "hvp": e.hvp(t, x, v)}
        | e.grad_theta(t, x, w)
        | {f"along {key}": a for key, a in e.grad_theta_along(t, x, v).items()}
        for e, (t, x, v, w) in ((fast, (theta, x, v, w)), (ref, wide((theta, x, v, w))))
    )
    assert list(found) == list(wanted)
    for key, a in found.items():
        assert a.dtype == dtype and a.shape == wanted[key].shape, key
        close(a, wanted[key], tol)


@pytest.mark.parametrize("name", ENERGIES)
def test_langevin_run__of_a_field_energy_is_one_program_and_the_oracle_s_chain(name, monkeypatch):
    fast, ref = energy_of(FAST, name), energy_of(ebm_ref, name)
    theta, x, *_ = draw(ref.field, np.float64)
    args = (theta, x, 4, SGLD(0.01, 0.1, clip=0.5, box=(-2.0, 2.0)), 3, 7, np.arange(N) + 2)
    wanted, also = ebm_ref.langevin_run(ref, *args)
    runs, run = [], FAST.program.Program.run
    monkeypatch.setattr(FAST.program.Program, "run", lambda *args: runs.append(1) or run(*args))
    found, info = FAST.langevin_run(fast, *args)
    assert len(runs) == 1 and info.alive.all()
    close(found, wanted, 1e-10)
    close(info.energy, also.energy, 1e-10)


@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_field__of_a_kinked_activation_has_first_derivatives_only(net, activation):
    fast, ref = field_of(FAST, net, activation=activation), field_of(ebm_ref, net, activation=activation)
    theta, x, v, g, h = draw(ref, np.float64)
    for found, wanted in zip(fast.field_jvp(theta, x, v), ref.field_jvp(theta, x, v), strict=True):
        close(found, wanted, 1e-11)
    close(fast.field_vjp(theta, x, g), ref.field_vjp(theta, x, g), 1e-11)
    with pytest.raises(SmoothnessError, match="field_grad_theta_along"):
        fast.field_grad_theta_along(theta, x, g, h, v)
    with pytest.raises(SmoothnessError, match="hvp"):
        FAST.FieldEnergy(fast, "norm").hvp(theta, x, v)


def test_field__refuses_bad_input():
    field = field_of(FAST, "conv-flat")
    theta, x, v, g, h = draw(field, np.float32, 2)
    bad = [
        (lambda: field.field(theta, x[:, :4]), ShapeError, "x"),
        (lambda: field.field(theta, x.astype(np.float64)), DTypeError, "theta"),
        (lambda: field.field(theta | {"out.b": g[0]}, x), ShapeError, "theta"),
        (lambda: field.field_jvp(theta, x, v[:1]), ShapeError, "v"),
        (lambda: field.field_vjp(theta, x, x), ShapeError, "g"),
        (lambda: field.field_vjp(theta, x, g * np.nan), NonFiniteError, "g"),
        (lambda: field.field_grad_theta(theta, x, g.astype(np.float64)), DTypeError, "g"),
        (lambda: field.field_grad_theta_along(theta, x, g, h[:1], v), ShapeError, "h"),
        (lambda: field.field_grad_theta_along(theta, x, g, h, v * np.inf), NonFiniteError, "v"),
        (lambda: FAST.FieldEnergy(field_of(ebm_ref, "mlp")), DTypeError, "field"),
        (lambda: FAST.FieldEnergy(field, "dot"), ShapeError, "field"),
    ]
    for call, error, name in bad:
        with pytest.raises(error, match=f"^{name}"):
            call()
