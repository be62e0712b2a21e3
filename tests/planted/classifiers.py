"""Wrong classifiers: each inherits the oracle's ClassifierEnergy and overrides what is planted."""

import numpy as np

import ebm_ref
from ebm_ref.energies.classifier_energy import ClassEnergy, logsumexp_backward, logsumexp_forward


class NoMaximum(ebm_ref.ClassifierEnergy):
    """Exponentials of the logits as they are: one that towers is no number."""

    def energy(self, theta, x):
        return -np.log(np.exp(self.logits(theta, x)).sum(axis=1))


class NoLogarithm(ebm_ref.ClassifierEnergy):
    """E = -max F - sum e^(F - max F): the logarithm of the sum is left out."""

    def energy(self, theta, x):
        F = self.logits(theta, x)
        top = F.max(axis=1, keepdims=True)
        return -(top[:, 0] + np.exp(F - top).sum(axis=1))


class SoftmaxOfMinusF(ebm_ref.ClassifierEnergy):
    """The posterior of the energies taken with their sign: the unlikely class weighs most."""

    def backward(self, theta, tape, dy):
        return self.trunk.outputs_backward(theta, tape, logsumexp_backward(-tape.pop(), -dy))


class FixedPosterior(ebm_ref.ClassifierEnergy):
    """hvp = sum_y p(y | x) H_y v: the posterior taken for a constant."""

    def hvp(self, theta, x, v):
        F = self.logits(theta, x)
        P = np.exp(F - logsumexp_forward(F)[:, None])
        weights = P.reshape(*P.shape, *[1] * (x.ndim - 1))
        return sum(weights[:, y] * self.given(y).hvp(theta, x, v) for y in range(self.classes))


class MeanOverClasses(ebm_ref.ClassifierEnergy):
    """-log mean_y e^F in the place of the sum."""

    def energy(self, theta, x):
        return super().energy(theta, x) + x.dtype.type(np.log(self.classes))


class Temperature(ebm_ref.ClassifierEnergy):
    """Logits halved inside the logsumexp, as if T = 2."""

    def energy(self, theta, x):
        return -logsumexp_forward(self.logits(theta, x) / 2)


class NextLabel(ebm_ref.ClassifierEnergy):
    """Labels counted from 1."""

    def given(self, y):
        super().given(y)
        return ClassEnergy(self, (y + 1) % self.classes)


class FirstLabel(ebm_ref.ClassifierEnergy):
    """The label of the first sample for all of them."""

    def given(self, y):
        return ClassEnergy(self, np.full_like(y, y[0]) if isinstance(y, np.ndarray) else y)


class ForwardOnly(ClassEnergy):
    """E(x, y) with the gradient of E(x)."""

    def energy_and_grad_x(self, theta, x):
        return self.energy(theta, x), self.classifier.grad_x(theta, x)


class MarginalSlope(ebm_ref.ClassifierEnergy):
    """The gradient of E(x) handed out for that of E(x, y)."""

    def given(self, y):
        return ForwardOnly(self, y)


class LogitsOfEnergies(ebm_ref.ClassifierEnergy):
    """Energies handed out as logits, and their gradients with them."""

    def logits(self, theta, x):
        return -super().logits(theta, x)

    def logits_backward(self, theta, x, dy):
        return super().logits_backward(theta, x, -dy)


class OneGradientForTwo(ebm_ref.ClassifierEnergy):
    """logits_grad_theta of ones, whatever dy is."""

    def logits_grad_theta(self, theta, x, dy):
        return super().logits_grad_theta(theta, x, np.ones_like(dy))


class FeaturesOfUnitLength(ebm_ref.ClassifierEnergy):
    """Features with a norm of 1, which is not what the last layer sees."""

    def features(self, theta, x):
        h = super().features(theta, x)
        return h / np.linalg.norm(h, axis=1, keepdims=True)
