"""Losses of logits: each with its gradient in the logits, which is all that backpropagation needs.

    log_softmax          log P_k = F_k - logsumexp_j F_j,   P = softmax F
    cross_entropy        L = -mean_i log P_i[y_i],          dL/dF_i = (P_i - onehot(y_i)) / N
    mutual_information   I = H(mean_i P_i) - mean_i H(P_i) = mean_i KL(P_i | mean P)
                         dI/dF_ik = (1/N) P_ik (log(P_ik / mean P_k) - KL(P_i | mean P))

I is the information that x carries about y under the model: 0 <= I <= log C, 0 where all P_i are equal (so for a batch
of one: it says nothing, and its gradient is 0) and log C where the P_i are one-hot and the classes balanced. It is the
logarithm of the inception score. Its estimate from N samples is bounded by log N too.

Every logarithm is of a sum of exponentials with the largest taken out, so that no P of 0 meets log 0. Logits that are
not finite give what is not finite.

Source: Bridle 1990 (softmax and its cross entropy); Bridle, Heading & MacKay 1992, Unsupervised classifiers, mutual
information and phantom targets (I); Sustek et al. 2023, arXiv:2303.04187 (I as a regulariser of a JEM).
Level: of logits only. Twins: none; any array that answers NumPy's calls. Labels are NumPy's, on the host.
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, ShapeError, check_array, check_labels


def log_softmax(logits: Array) -> Array:
    """log P_k = F_k - logsumexp_j F_j. logits: (N, C), returns (N, C). Raises ShapeError, DTypeError."""
    check_array("logits", logits, ndim=2)
    shifted = logits - np.max(logits, axis=1, keepdims=True)  # (N, C)
    log_p: Array = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return log_p


def one_hot(y: Array, logits: Array) -> Array:
    """[y_n = c] in the logits' dtype, an array like them. y: (N,) NumPy integers, returns (N, C).

    Raises ShapeError, DTypeError, RangeError.
    """
    check_array("logits", logits, ndim=2)
    check_labels("y", y, logits.shape[1], logits.shape[0])
    chosen = np.equal.outer(y, np.arange(logits.shape[1])).astype(logits.dtype)  # (N, C)
    return np.asarray(chosen, like=logits)


def cross_entropy(logits: Array, y: Array) -> tuple[Array, Array]:
    """L = -mean_i log P_i[y_i] and dL/dF_i = (P_i - onehot(y_i)) / N.

    logits: (N, C), N >= 1   y: (N,) NumPy integers in [0, C)   returns L (), dL/dF (N, C).
    Raises ShapeError, DTypeError, RangeError.
    """
    check_logits(logits)
    hot = one_hot(y, logits)  # (N, C)
    log_p = log_softmax(logits)  # (N, C)
    loss: Array = -np.mean(np.sum(hot * log_p, axis=1))  # ()
    return loss, (np.exp(log_p) - hot) / logits.shape[0]  # (N, C)


def mutual_information(logits: Array) -> tuple[Array, Array]:
    """I = mean_i KL(P_i | mean P) and dI/dF_ik = (1/N) P_ik (log(P_ik / mean P_k) - KL(P_i | mean P)).

    logits: (N, C), N >= 1   returns I (), dI/dF (N, C); both 0 for N = 1. Raises ShapeError, DTypeError.
    """
    check_logits(logits)
    N = logits.shape[0]
    log_p = log_softmax(logits)  # (N, C)
    p = np.exp(log_p)  # (N, C)
    top = np.max(log_p, axis=0, keepdims=True)  # (1, C)
    log_mean = top + np.log(np.mean(np.exp(log_p - top), axis=0, keepdims=True))  # (1, C)
    ratio = log_p - log_mean  # (N, C)  log(P / mean P)
    kl = np.sum(p * ratio, axis=1, keepdims=True)  # (N, 1)
    information: Array = np.mean(kl)  # ()
    return information, p * (ratio - kl) / N  # (N, C)


def check_logits(logits: Array) -> None:
    """Raise unless `logits` is (N, C) with N, C >= 1."""
    check_array("logits", logits, ndim=2)
    if logits.shape[0] == 0 or logits.shape[1] == 0:
        raise ShapeError(f"logits: expected at least one sample and one class, found shape {tuple(logits.shape)}")
