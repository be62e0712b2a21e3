"""Layers, each a forward and a backward, for arrays and for truncated Taylor series alike."""

from .activations import (
    activation_backward,
    activation_forward,
    gelu_backward,
    gelu_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sigmoid,
    silu_backward,
    silu_forward,
    softplus_backward,
    softplus_forward,
    tanh_backward,
    tanh_forward,
)
from .conv2d import conv2d_backward, conv2d_extent, conv2d_forward
from .dropout import dropout_backward, dropout_forward
from .group_norm import group_norm_backward, group_norm_forward
from .layer_norm import layer_norm_backward, layer_norm_forward
from .linear import linear_backward, linear_forward
from .logsumexp import logsumexp_backward, logsumexp_forward
from .pool import (
    mean_pool_backward,
    mean_pool_forward,
    pool_backward,
    pool_forward,
    sum_pool_backward,
    sum_pool_forward,
)
from .residual import residual_backward, residual_forward
from .spectral_norm import (
    spectral_norm_backward,
    spectral_norm_forward,
    spectral_norm_grads,
    spectral_norm_iterate,
    spectral_norm_start,
    spectral_norm_theta,
)
from .upsample import upsample_backward, upsample_forward

__all__ = [
    "activation_backward",
    "activation_forward",
    "conv2d_backward",
    "conv2d_extent",
    "conv2d_forward",
    "dropout_backward",
    "dropout_forward",
    "gelu_backward",
    "gelu_forward",
    "group_norm_backward",
    "group_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_backward",
    "linear_forward",
    "logsumexp_backward",
    "logsumexp_forward",
    "mean_pool_backward",
    "mean_pool_forward",
    "pool_backward",
    "pool_forward",
    "relu_backward",
    "relu_forward",
    "residual_backward",
    "residual_forward",
    "sigmoid",
    "silu_backward",
    "silu_forward",
    "softplus_backward",
    "softplus_forward",
    "spectral_norm_backward",
    "spectral_norm_forward",
    "spectral_norm_grads",
    "spectral_norm_iterate",
    "spectral_norm_start",
    "spectral_norm_theta",
    "sum_pool_backward",
    "sum_pool_forward",
    "tanh_backward",
    "tanh_forward",
    "upsample_backward",
    "upsample_forward",
]
