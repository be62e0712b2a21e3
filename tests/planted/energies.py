"""Wrong networks: each inherits the oracle's energy and overrides what is planted."""

import numpy as np

import ebm_ref


class MeanOverBatch(ebm_ref.MLPEnergy):
    """The gradient of the batch mean in the place of each sample's own."""

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        return E, g / x.dtype.type(len(x))


class ColumnEnergy(ebm_ref.MLPEnergy):
    """E as (N, 1)."""

    def energy(self, theta, x):
        return super().energy(theta, x)[:, None]


class AscentGradient(ebm_ref.MLPEnergy):
    """grad_theta with the sign of the log-density."""

    def grad_theta(self, theta, x, w):
        return super().grad_theta(theta, x, -w)


class NoisyEnergy(ebm_ref.MLPEnergy):
    """Dropout left on: two calls differ."""

    def energy(self, theta, x):
        return super().energy(theta, x) * np.random.default_rng().integers(1, 1000)


class HalfCurvature(ebm_ref.MLPEnergy):
    """The Taylor coefficient of order 2 in the place of the derivative of order 2."""

    def hvp(self, theta, x, v):
        return super().hvp(theta, x, v) / 2


class FirstTile(ebm_ref.MLPEnergy):
    """Samples beyond the first 64 are left out."""

    def grad_theta(self, theta, x, w):
        return super().grad_theta(theta, x[:64], w[:64])


class CentredBatch(ebm_ref.MLPEnergy):
    """Batch statistics in the energy: samples see their neighbours."""

    def energy(self, theta, x):
        E = super().energy(theta, x)
        return E - E.mean()


class SumPool(ebm_ref.ConvEnergy):
    """mean pooled as sum."""

    def __init__(self, **fields):
        super().__init__(**(fields | {"pool": "sum"}))


class IgnoresWeights(ebm_ref.ConvEnergy):
    """grad_theta of the mean, whatever w says."""

    def grad_theta(self, theta, x, w):
        return super().grad_theta(theta, x, np.full_like(w, 1 / len(w)))


class LeavesOutTheSkip(ebm_ref.DeepConvEnergy):
    """Residual blocks whose 1x1 convolution adds nothing, forwards or backwards."""

    def _without(self, theta):
        return {name: 0 * a if ".skip." in name else a for name, a in theta.items()}

    def forward(self, theta, x):
        return super().forward(self._without(theta), x)

    def backward(self, theta, tape, dy):
        return super().backward(self._without(theta), tape, dy)


class NormOfChannels(ebm_ref.DeepConvEnergy):
    """A norm for each channel, whatever max_groups says."""

    def __init__(self, **fields):
        super().__init__(**(fields | {"max_groups": max(fields["channels"])}))
