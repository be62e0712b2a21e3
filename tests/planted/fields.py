"""Wrong fields and energies on them: each inherits the oracle's and overrides what is planted."""

import numpy as np

import ebm_ref


class TransposedJacobian(ebm_ref.MLPField):
    """J' in the place of J, where f is like x."""

    def field_jvp(self, theta, x, v):
        f, along = super().field_jvp(theta, x, v)
        return (f, super().field_vjp(theta, x, v)) if self.out_shape == self.shape else (f, along)


class SecondOrderForgotten(ebm_ref.MLPField):
    """The gradient of g . f alone: that of h . (J v) is left out."""

    def field_grad_theta_along(self, theta, x, g, h, v):
        return super().field_grad_theta(theta, x, g)


class MeanOverBatch(ebm_ref.MLPField):
    """Gradients of the batch mean."""

    def field_grad_theta(self, theta, x, g):
        return super().field_grad_theta(theta, x, g / x.dtype.type(len(x)))


class ForgetsTheLastBias(ebm_ref.ConvField):
    """f without out.b, whose gradient is there all the same."""

    def field(self, theta, x):
        return super().field(theta, x) - theta["out.b"]

    def field_jvp(self, theta, x, v):
        f, along = super().field_jvp(theta, x, v)
        return f - theta["out.b"], along


class EveryOtherPixel(ebm_ref.ConvField):
    """J' g is 0 at every other pixel of a map that is halved."""

    def field_vjp(self, theta, x, g):
        dx = super().field_vjp(theta, x, g)
        if len(self.channels) > 1:
            dx[:, ::2, ::2] = 0
        return dx


class RawField(ebm_ref.FieldEnergy):
    """f itself, which is no gradient, in the place of grad_x (x . f)."""

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        return (E, self.field.field(theta, x)) if self.head == "dot" else (E, g)

    def grad_x(self, theta, x):
        return self.energy_and_grad_x(theta, x)[1]


class NormWithoutHalf(ebm_ref.FieldEnergy):
    """f . f in the place of f . f / 2, in the energy alone."""

    def energy(self, theta, x):
        E = super().energy(theta, x)
        return E if self.head == "dot" else 2 * E

    def energy_and_grad_x(self, theta, x):
        return self.energy(theta, x), super().energy_and_grad_x(theta, x)[1]


class OtherSign(ebm_ref.FieldEnergy):
    """norm_below as norm."""

    def energy(self, theta, x):
        E = super().energy(theta, x)
        return np.abs(E) if self.head == "norm_below" else E
