"""A valid call of every public name of ebm_ref.evaluation, and the file that one of them reads."""

from __future__ import annotations

import numpy as np
from calls_objectives import (
    BOX,
    CLASSIFIER,
    FAR,
    FIELD,
    LOGITS,
    MLP,
    OTHER,
    ROWS,
    THETA,
    THETA_C,
    THETA_F,
    UPDATE,
    XI,
    X,
    Y,
)
from input_breaks import ANY_SHAPE, APART, AXIS, GOES_ON, MORE, Call, passing

import ebm_ref
from ebm_ref.evaluation import (
    MALATransition,
    NormalBase,
    ais_reverse_run,
    ais_run,
    log_z_bracket,
    pgd_run,
    probe_ridge,
)

P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
BETAS, MOVE = (0.0, 0.5, 1.0), MALATransition(0.1)
ANNEALED = {"backend": ebm_ref, "energy": MLP, "theta": THETA, "base": NormalBase(), "betas": BETAS, "seed": 1}
PIXELS, OFFSETS = np.arange(8, dtype=np.int64).reshape(4, 2), np.ones((4, 2), np.int64)
ATTACK = pgd_run(ebm_ref, CLASSIFIER, THETA_C, X, Y, 0.1, 0.05, 1, 0)
PROBE = probe_ridge(X, Y, 3, 1.0)
FORWARD = ais_run(N=4, transition=MOVE, **ANNEALED)
REVERSE = ais_reverse_run(x=X, transition=MOVE, exact=True, **ANNEALED)
BRACKET = log_z_bracket(FORWARD, REVERSE)
NOT_FINITE = "draws that are not finite give an estimate that is not finite, and says so"
THEIR_CLASSES = "how many classes there are is known with the logits"
SPREAD = np.array([[1.0, 0.2], [0.2, 1.0]])


def scores(*names):
    pair = (ROWS, ROWS[::-1].copy())
    return Call(lambda: dict(zip(names, pair, strict=True)), rows=names, passes=passing(APART, *names, whats=MORE))


CALLS = {
    "BernoulliBase": Call(lambda: {"p": 0.3}),
    "FlipTransition": Call(lambda: {"sweeps": 1}),
    "GaussianBase": Call(lambda: {"mu": np.zeros(2), "root": np.eye(2)}),
    "HMCTransition": Call(lambda: {"h": 0.1, "L": 2, "steps": 1}),
    "MALATransition": Call(lambda: {"eps_step": 0.1, "steps": 1}),
    "MirroredBase": Call(lambda: {"box": BOX}),
    "MirroredEnergy": Call(lambda: {"model": MLP, "box": BOX, "T": 0.5}),
    "NormalBase": Call(lambda: {}),
    "RefinedClassifier": Call(
        lambda: {"backend": ebm_ref, "energy": CLASSIFIER, "update": UPDATE, "K": 2, "S": 2, "seed": 1}
    ),
    "TemperedEnergy": Call(lambda: {"model": MLP, "base": NormalBase(), "beta": 0.5}),
    "UniformBase": Call(lambda: {"box": BOX}),
    "ais_backward": Call(lambda: ANNEALED | {"x": X, "transition": MOVE}, rows=("x",)),
    "ais_forward": Call(lambda: ANNEALED | {"x": X, "transition": MOVE}, rows=("x",)),
    "ais_result": Call(
        lambda: (
            {"log_w": ROWS, "acceptance": [0.5, 0.6], "betas": BETAS, "x": X, "sign": 1.0, "bound": "lower"}
            | {"holds": "as it may"}
        ),
        signed=("sign",),
        passes=passing(NOT_FINITE, "log_w", "x")
        | passing("the states are shown, not read", "x", whats=MORE + AXIS)
        | passing("the states are shown, not read", "log_w", whats=MORE)
        | passing("any words", "holds", whats=("another word",)),
    ),
    "ais_reverse_run": Call(lambda: ANNEALED | {"x": X, "transition": MOVE, "exact": False}, rows=("x",)),
    "ais_run": Call(lambda: ANNEALED | {"N": 3, "transition": MOVE, "dtype": np.float64}),
    "ais_tune": Call(lambda: ANNEALED | {"N": 3, "transition": MOVE, "burn": 2, "dtype": np.float64}),
    "aupr": scores("scores_pos", "scores_neg"),
    "aupr_in": scores("scores_in", "scores_out"),
    "aupr_out": scores("scores_in", "scores_out"),
    "auroc": scores("scores_in", "scores_out"),
    "auroc_estimate": scores("scores_in", "scores_out"),
    "beta_ladder": Call(lambda: {"K": 3, "kind": "sigmoid", "rad": 4.0}),
    "bits_per_dim": Call(
        lambda: {"log_p": ROWS, "D": 2, "box": BOX, "levels": 8}, rows=("log_p",), passes=passing(NOT_FINITE, "log_p")
    ),
    "bits_per_dim_run": Call(
        lambda: (
            {"backend": ebm_ref, "energy": MLP, "theta": THETA, "v": PIXELS, "log_z": 0.5, "box": BOX, "seed": 1}
            | {"S": 2, "levels": 8, "dtype": np.float64}
        ),
        rows=("v",),
        signed=("log_z",),
    ),
    "brier": Call(lambda: {"probabilities": P, "y": Y}, rows=("probabilities", "y")),
    "dequantise": Call(
        lambda: {"v": PIXELS, "u": np.full((4, 2), 0.5), "box": BOX, "levels": 8},
        rows=("v", "u"),
        empty=True,
        passes=passing(GOES_ON, "u"),
    ),
    "ece": Call(lambda: {"probabilities": P, "y": Y, "bins": 5}, rows=("probabilities", "y")),
    "energy_gap": scores("energy_pos", "energy_neg"),
    "energy_gap_ema": Call(lambda: {"gaps": ROWS, "decay": 0.9}, rows=("gaps",)),
    "estimate_log_mean_exp": Call(lambda: {"log_w": ROWS}, rows=("log_w",), passes=passing(NOT_FINITE, "log_w")),
    "estimate_mean": Call(lambda: {"x": ROWS}, rows=("x",), passes=passing(NOT_FINITE, "x")),
    "feature_unit_norm": Call(lambda: {"f": X}, rows=("f",), empty=True),
    "fold": Call(
        lambda: {"y": 3 * X, "box": BOX},
        rows=("y",),
        empty=True,
        passes=passing(GOES_ON, "y") | passing(ANY_SHAPE, "y", whats=AXIS),
    ),
    "fpr_at_tpr": Call(
        lambda: {"scores_in": ROWS, "scores_out": ROWS + 1, "tpr": 0.5},
        ("scores_in", "scores_out"),
        passes=passing(APART, "scores_in", "scores_out", whats=MORE),
    ),
    "frechet_feature": Call(lambda: {"a": X, "b": OTHER}, rows=("a", "b"), passes=passing(APART, "a", "b", whats=MORE)),
    "frechet_gaussian": Call(lambda: {"mu_1": np.zeros(2), "S_1": SPREAD, "mu_2": np.ones(2), "S_2": np.eye(2)}),
    "hessian_eigenvalues": Call(lambda: {"energy": MLP, "theta": THETA, "x": X}, rows=("x",), empty=True),
    "inception_style_score": Call(lambda: {"probabilities": P, "splits": 2}, rows=("probabilities",)),
    "intrinsic_dimension": Call(
        lambda: {"energy": MLP, "theta": THETA, "x": X, "threshold": 0.1}, rows=("x",), empty=True
    ),
    "log_z_bracket": Call(lambda: {"forward": FORWARD, "reverse": REVERSE, "end": "mean_log_w"}),
    "log_z_enumeration": Call(
        lambda: {"energy": MLP, "theta": THETA, "values": (0.0, 1.0)},
        passes=passing("any number is a value", "values", whats=("below 0",)),
    ),
    "log_z_quadrature": Call(lambda: {"energy": MLP, "theta": THETA, "box": BOX, "panels": 4, "n": 3}),
    "mmd_rbf": Call(
        lambda: {"a": X, "b": OTHER, "bandwidth": 1.0, "unbiased": False},
        rows=("a", "b"),
        passes=passing(APART, "a", "b", whats=MORE),
    ),
    "mutate": Call(
        lambda: {"v": PIXELS, "u": np.full((4, 2), 0.5), "r": OFFSETS, "mu": 0.5, "levels": 8},
        rows=("v", "u", "r"),
        empty=True,
        passes=passing(GOES_ON, "u"),
    ),
    "mutate_run": Call(
        lambda: {"backend": ebm_ref, "v": PIXELS, "mu": 0.5, "seed": 1, "step": 2, "levels": 8},
        rows=("v",),
        empty=True,
        passes=passing(ANY_SHAPE, "v", whats=AXIS),
    ),
    "nll": Call(lambda: {"logits": LOGITS, "y": Y}, rows=("logits", "y")),
    "nll_bracket": Call(
        lambda: {"energy_data": ROWS, "bracket": BRACKET},
        rows=("energy_data",),
        passes=passing(NOT_FINITE, "energy_data"),
    ),
    "pgd_gradient": Call(
        lambda: {"classifier": CLASSIFIER, "theta": THETA_C, "x": X, "y": Y},
        rows=("x", "y"),
        empty=True,
        late=passing(THEIR_CLASSES, "y", whats=("below", "above")),
    ),
    "pgd_run": Call(
        lambda: (
            {"backend": ebm_ref, "classifier": CLASSIFIER, "theta": THETA_C, "x": X, "y": Y, "eps": 0.1}
            | {"alpha": 0.05, "K": 2, "seed": 1, "norm": "l2", "box": BOX, "starts": 2, "random_start": True}
        ),
        rows=("x", "y"),
        late=passing(THEIR_CLASSES, "y", whats=("below", "above")),
    ),
    "pgd_start": Call(
        lambda: {"clean": X, "u": np.full((4, 1), 0.5), "xi": XI, "eps": 0.1, "norm": "l2", "box": BOX},
        rows=("clean", "u", "xi"),
        empty=True,
        passes=passing(GOES_ON, "clean", "u", "xi"),
    ),
    "pgd_step": Call(
        lambda: {"x": X, "g": FAR, "clean": X, "alpha": 0.05, "eps": 0.1, "norm": "l2", "box": BOX},
        rows=("x", "g", "clean"),
        empty=True,
        passes=passing(GOES_ON, "x", "g", "clean"),
    ),
    "precision_recall": Call(
        lambda: {"real": X, "fake": OTHER, "k": 2},
        rows=("real", "fake"),
        passes=passing(APART, "real", "fake", whats=MORE),
    ),
    "probe_accuracy": Call(lambda: {"probe": PROBE, "features": X, "y": Y}, rows=("features", "y")),
    "probe_logistic": Call(
        lambda: {"features": X, "y": Y, "C": 3, "lam": 0.1, "tol": 1e-6, "steps": 50}, rows=("features", "y")
    ),
    "probe_logits": Call(lambda: {"probe": PROBE, "features": X}, rows=("features",), empty=True),
    "probe_ridge": Call(lambda: {"features": X, "y": Y, "C": 3, "lam": 0.1}, rows=("features", "y")),
    "rbf_kernel": Call(
        lambda: {"a": X, "b": OTHER, "bandwidth": 1.0}, rows=("a", "b"), passes=passing(APART, "a", "b", whats=MORE)
    ),
    "reliability": Call(lambda: {"probabilities": P, "y": Y, "bins": 5}, rows=("probabilities", "y")),
    "robust_accuracy": Call(lambda: {"attack": ATTACK}),
    "score_energy": Call(lambda: {"energy": MLP, "theta": THETA, "x": X}, rows=("x",), empty=True),
    "score_field_norm": Call(lambda: {"field": FIELD, "theta": THETA_F, "x": X}, rows=("x",), empty=True),
    "score_grad_norm": Call(lambda: {"energy": MLP, "theta": THETA, "x": X}, rows=("x",), empty=True),
    "score_likelihood_ratio": Call(
        lambda: {"energy": MLP, "theta": THETA, "energy_bg": MLP, "theta_bg": THETA, "x": X}, rows=("x",), empty=True
    ),
    "score_max_softmax": Call(lambda: {"classifier": CLASSIFIER, "theta": THETA_C, "x": X}, rows=("x",), empty=True),
    "score_typicality": Call(
        lambda: {"energy": MLP, "theta": THETA, "x": X, "mean_energy": 0.5},
        rows=("x",),
        empty=True,
        signed=("mean_energy",),
    ),
    "sliced_wasserstein": Call(
        lambda: {"x": X, "y": OTHER, "directions": np.eye(2)},
        rows=("x", "y"),
        passes=passing(APART, "x", "y", "directions", whats=MORE),
    ),
    "temperature_fit": Call(lambda: {"logits": np.eye(3)[[0, 1, 1, 0]] * 2, "y": Y}, rows=("logits", "y")),
    "weights_ess": Call(lambda: {"log_w": ROWS}, rows=("log_w",), passes=passing(NOT_FINITE, "log_w")),
}
