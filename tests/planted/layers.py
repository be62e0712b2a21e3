"""Wrong convolutions and group norms, forwards and backwards."""

import numpy as np

import ebm_ref


def conv_pads_both_sides(x, w, b, stride=1, padding="SAME"):
    if padding == "VALID":
        return ebm_ref.conv2d_forward(x, w, b, stride, padding)
    top, left = w.shape[0] // 2, w.shape[1] // 2
    x = np.pad(x, ((0, 0), (top, w.shape[0] - 1 - top), (left, w.shape[1] - 1 - left), (0, 0)))
    return ebm_ref.conv2d_forward(x, w, b, stride, "VALID")


def conv_flips_the_filter(x, w, b, stride=1, padding="SAME"):
    return ebm_ref.conv2d_forward(x, w[::-1, ::-1], b, stride, padding)


def conv_forgets_the_bias(x, w, b, stride=1, padding="SAME"):
    return ebm_ref.conv2d_forward(x, w, 0 * b, stride, padding)


def conv_reads_past_strides(x, w, b, stride=1, padding="SAME"):
    raw = np.ndarray(x.shape, x.dtype, x.tobytes("A"))  # memory order taken for index order
    return ebm_ref.conv2d_forward(raw, w, b, stride, padding)


def conv_in_single(x, w, b, stride=1, padding="SAME"):
    return ebm_ref.conv2d_forward(*(a.astype(np.float32) for a in (x, w, b)), stride, padding).astype(x.dtype)


def backward_flips_dw(x, w, dy, stride=1, padding="SAME"):
    dx, dw, db = ebm_ref.conv2d_backward(x, w, dy, stride, padding)
    return dx, dw[::-1, ::-1].copy(), db


def backward_leaves_out_the_last_row(x, w, dy, stride=1, padding="SAME"):
    _, dw, db = ebm_ref.conv2d_backward(x, w, dy, stride, padding)
    cut = dy.copy()
    cut[:, -1] = 0
    return ebm_ref.conv2d_backward(x, w, cut, stride, padding)[0], dw, db


def backward_averages(x, w, dy, stride=1, padding="SAME"):
    dx, dw, db = ebm_ref.conv2d_backward(x, w, dy, stride, padding)
    return dx, dw / x.dtype.type(len(x)), db / x.dtype.type(len(x))


def norm_with(x, gamma, beta, groups, eps, var_of, root_of):
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    z = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    return gamma * (z / root_of(var_of(grouped), eps)).reshape(x.shape) + beta


def biased(t):
    return t.var(axis=(1, 3), keepdims=True)


def norm_unbiased(x, gamma, beta, groups, eps=1e-5):
    def var_of(t):
        m = t.shape[1] * t.shape[3]
        return biased(t) * x.dtype.type(m / max(1, m - 1))

    return norm_with(x, gamma, beta, groups, eps, var_of, lambda var, eps: np.sqrt(var + eps))


def norm_without_eps(x, gamma, beta, groups, eps=1e-5):
    return norm_with(x, gamma, beta, groups, eps, biased, lambda var, eps: np.sqrt(var) + (var == 0))


def norm_eps_outside(x, gamma, beta, groups, eps=1e-5):
    return norm_with(x, gamma, beta, groups, eps, biased, lambda var, eps: np.sqrt(var) + eps)


def norm_one_pass(x, gamma, beta, groups, eps=1e-5):
    def var_of(t):
        mean = t.mean(axis=(1, 3), keepdims=True)
        return np.maximum((t * t).mean(axis=(1, 3), keepdims=True) - mean * mean, 0)

    return norm_with(x, gamma, beta, groups, eps, var_of, lambda var, eps: np.sqrt(var + eps))


def norm_interleaves_groups(x, gamma, beta, groups, eps=1e-5):
    order = np.arange(x.shape[-1]).reshape(-1, groups).T.ravel()
    y = ebm_ref.group_norm_forward(x[..., order], gamma[order], beta[order], groups, eps)
    return y[..., np.argsort(order)]


def norm_over_the_batch(x, gamma, beta, groups, eps=1e-5):
    return ebm_ref.group_norm_forward(x.reshape(1, -1, x.shape[-1]), gamma, beta, groups, eps).reshape(x.shape)


def norm_backward_fixed_statistics(x, gamma, dy, groups, eps=1e-5):
    _, dgamma, dbeta = ebm_ref.group_norm_backward(x, gamma, dy, groups, eps)
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    rstd = 1 / np.sqrt(biased(grouped) + eps)
    return ((dy * gamma).reshape(grouped.shape) * rstd).reshape(x.shape), dgamma, dbeta


def norm_backward_forgets_the_slope(x, gamma, dy, groups, eps=1e-5):
    dx, dgamma, dbeta = norm_backward_fixed_statistics(x, gamma, dy, groups, eps)
    grouped = dx.reshape(len(x), -1, groups, x.shape[-1] // groups)
    return (grouped - grouped.mean(axis=(1, 3), keepdims=True)).reshape(x.shape), dgamma, dbeta
