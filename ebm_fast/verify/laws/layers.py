"""Laws of the layers: a backward pass is the adjoint of its forward."""

from __future__ import annotations

import numpy as np

import ebm_ref

from .trial import Trial, law, total, within


def conv2d_is_adjoint(t: Trial) -> None:
    """<dy, conv(x; w, b)> = <dx, x> + <db, b> = <dw, w> + <db, b>, for b of ones."""
    x, w, dy = (t.args[name] for name in ("x", "w", "dy"))
    b = np.ones(w.shape[3], x.dtype)
    y = t.partner("conv2d_forward")(x, w, b, **t.case.options)
    size = ebm_ref.conv2d_forward(*(np.abs(a.astype(np.float64)) for a in (x, w, b)), **t.case.options)
    slack = 8 * float(np.finfo(t.dtype).eps) * (w[..., 0].size + 1) ** 0.5 * total(np.abs(dy), size) + 1e-30
    left, bias = total(dy, y), total(t.got["db"], b)
    for name, other in (("dx", x), ("dw", w)):
        allowed = slack + total(t.budget[name], np.abs(other)) + float(t.budget["db"].sum())
        within(f"<dy, y> = <{name}, {name[1]}> + <db, b>", left, total(t.got[name], other) + bias, allowed)


def group_norm_is_adjoint(t: Trial) -> None:
    """sum dx = 0 in each group (a shift changes nothing), <dgamma, gamma> = <dy, y>, db = sum dy."""
    x, gamma, dy, groups = (t.args[name] for name in ("x", "gamma", "dy", "groups"))
    shape = (len(x), -1, groups, x.shape[-1] // groups)
    sums = t.got["dx"].astype(np.float64).reshape(shape).sum(axis=(1, 3))
    law("dx of a group adds up to 0", "dx", sums, np.zeros_like(sums), t.budget["dx"].reshape(shape).sum(axis=(1, 3)))
    y = t.partner("group_norm_forward")(x, gamma, np.zeros_like(gamma), groups, **t.case.options)
    allowed = total(t.budget["dgamma"], np.abs(gamma)) * 2 + 1e-30
    within("<dy, y> = <dgamma, gamma>", total(dy, y), total(t.got["dgamma"], gamma), allowed)
    bias = dy.astype(np.float64).reshape(-1, dy.shape[-1]).sum(axis=0)
    law("dbeta = sum dy", "dbeta", t.got["dbeta"], bias, t.budget["dbeta"])


def group_norm_is_standard(t: Trial) -> None:
    """gamma = 1, beta = 0: each group has mean 0, and mean square var / (var + eps)."""
    x, gamma, groups = (t.args[name] for name in ("x", "gamma", "groups"))
    y = t.again(gamma=np.ones_like(gamma), beta=np.zeros_like(gamma))["result"].astype(np.float64)
    shape = (len(x), -1, groups, x.shape[-1] // groups)
    values = x.astype(np.float64).reshape(shape)
    var, y = values.var(axis=(1, 3)), y.reshape(shape)
    eps = t.case.options.get("eps", 1e-5)
    doubt = np.abs(values).max(axis=(1, 3)) / np.sqrt(var + eps) + 1
    slack = 8 * float(np.finfo(t.dtype).eps) * (y.shape[1] * y.shape[3]) ** 0.5 * doubt
    law("each group has mean 0", "mean", y.mean(axis=(1, 3)), np.zeros_like(slack), slack)
    size = np.sqrt((y**2).mean(axis=(1, 3)))
    law("each group has mean square var / (var + eps)", "rms", size, np.sqrt(var / (var + eps)), slack)
