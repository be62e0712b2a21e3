"""A valid call of every public name of ebm_ref.objectives, and what records are."""

from __future__ import annotations

import numpy as np
from derivatives import random_theta
from input_breaks import ANY_SHAPE, APART, AXIS, GOES_ON, MORE, Call, passing

import ebm_ref
from ebm_ref import (
    SGLD,
    ULA,
    Augmentation,
    ClassifierEnergy,
    EMTerms,
    EquilibriumTarget,
    FieldEnergy,
    FlowMap,
    GaussianNoise,
    ICDTerms,
    JEMTerms,
    MLPEnergy,
    MLPField,
    NoiseConditionalEnergy,
    TimeField,
    buffer_start,
    coupling_assign,
    unrolled_run,
)

RNG = np.random.default_rng(12)
BOX, UPDATE = (-2.0, 2.0), SGLD(0.1, 0.1, box=(-2.0, 2.0))
MLP = MLPEnergy((2,), (4,))
CLASSIFIER = ClassifierEnergy(MLP, 3)
LEVELS = NoiseConditionalEnergy(MLPEnergy((3,), (4,)), 0.1, 1.0)
THETA, THETA_C, THETA_L = (random_theta(energy, RNG) for energy in (MLP, CLASSIFIER, LEVELS))
WITH_Z = THETA | {"log_z": np.zeros(1)}
X, OTHER, XI, FAR = (RNG.uniform(-1, 1, (4, 2)) for _ in range(4))
ROWS, MANY, Y = RNG.normal(size=4), RNG.normal(size=(4, 3, 2)), np.array([0, 1, 2, 0])
UNIT = np.array([0.1, 0.4, 0.7, 1.0])
LOGITS, SAME = RNG.normal(size=(4, 3)), np.eye(4, dtype=bool)
NOISE = GaussianNoise((2,), np.zeros(2), np.eye(2), np.eye(2))
STEPS = unrolled_run(ebm_ref, MLP, THETA, OTHER, 1, ULA(0.1), 8)[1]
SIGMAS = (1.0, 0.3, 0.1)
FLOW, STUDENT = TimeField(MLPField((3,), (4,), out_channels=2)), FlowMap(MLPField((3,), (4,), out_channels=2), 2.0)
THETA_FLOW, T = random_theta(FLOW, RNG), np.array([0.0, 0.3, 0.6, 1.0])
AT = {"seed": 3, "step": 2}
FIELD = MLPField((2,), (4,))
THETA_F = random_theta(FIELD, RNG)
EQM = {"x": X, "e": XI, "gamma": UNIT, "target": EquilibriumTarget("piecewise")}
GRADS = {"a": np.ones(2), "b": np.ones(3)}

DRAWS_NOTHING = passing(
    "it draws nothing", "seed", "step", whats=("a fraction", "a text", "a truth", "below 0")
)  # of steps that have these arguments because every step has them


def buffer(policy="in_place"):
    return buffer_start(6, (2,), seed=1, box=BOX, policy=policy, dtype=np.float64)


def on(energy, theta, **rest):
    return lambda: {"energy": energy, "theta": theta} | rest


def step(energy, theta, **rest):
    return lambda: {"backend": ebm_ref, "energy": energy, "theta": theta, "x": X} | AT | rest


def taught(**rest):
    return lambda: {"flow_map": STUDENT, "theta": THETA_FLOW, "velocity": np.negative} | rest


DRAWS_ONLY = passing("it reads the shape and dtype", "x", whats=("NaN", "inf", "an axis more"))
CHAIN = {"K": 2, "update": UPDATE, "sigma_data": 0.1, "box": BOX}
COST, TIMES = RNG.uniform(size=(4, 4)), RNG.uniform(size=4)
PAIR = {"x0": XI, "x1": X, "t": TIMES}
CONTRAST = {"x_pos": OTHER, "x_neg": FAR, "weight": 2.0, "trim": 0.3, "clamp": 0.5}
EM = EMTerms(0.1, 0.8, 2.0, 2, 0.1, 0.3, 0.5, 0.8, 1.0)
CALLS = {
    "EMTerms": Call(
        lambda: (
            {"tau": 0.1, "s_star": 0.8, "weight": 2.0, "K": 2, "dt": 0.1, "trim": 0.3, "clamp": 0.5, "cutoff": 0.8}
            | {"clip": 1.0}
        )
    ),
    "EquilibriumTarget": Call(lambda: {"kind": "piecewise", "a": 0.8, "b": 1.5, "scale": 4.0}),
    "GaussianNoise": Call(lambda: {"shape": (2,), "mean": np.zeros(2), "L": np.eye(2), "inverse": np.eye(2)}),
    "ICDTerms": Call(
        lambda: (
            {"alpha": 0.1, "kappa_opt": 1.0, "kappa_ent": 0.3, "references": 5, "floor": 1e-3, "depth": 1}
            | {"samples": 2, "augmentation": Augmentation(sigma=0.1)}
        )
    ),
    "JEMTerms": Call(lambda: {"w_x": 1.0, "w_yx": 1.0, "w_xy": 0.1, "w_mi": 0.1, "alpha": 0.1}),
    "UniformNoise": Call(lambda: {"shape": (2,), "box": BOX}),
    "balance_ratio": Call(lambda: {"g_pos": GRADS, "g_neg": GRADS}),
    "balance_reached": Call(
        lambda: {"energy_pos": 0.0, "energy_neg": 1.0, "delta": 0.5},
        signed=("energy_pos", "energy_neg", "delta"),
        passes=passing("NaN is not reached", "energy_pos", "energy_neg"),
    ),
    "cd_step": Call(step(MLP, THETA, alpha=0.1, **CHAIN), rows=("x",)),
    "conditional_nce": Call(on(MLP, THETA, x=X, x_near=OTHER, log_ratio=ROWS), rows=("x", "x_near", "log_ratio")),
    "conditional_nce_step": Call(step(MLP, THETA, sigma=0.3), rows=("x",)),
    "contrastive": Call(
        on(MLP, THETA, x_pos=X, x_neg=OTHER, alpha=0.1),
        rows=("x_pos", "x_neg"),
        passes=passing(APART, "x_pos", "x_neg", whats=MORE),
    ),
    "coupling_assign": Call(lambda: {"cost": COST}),
    "coupling_cost": Call(lambda: {"x0": XI, "x1": X}, rows=("x0", "x1")),
    "coupling_exact": Call(lambda: {"cost": COST}),
    "coupling_permutation": Call(lambda: {"assign": coupling_assign, "x0": XI, "x1": X}, rows=("x0", "x1")),
    "coupling_sort": Call(lambda: {"x0": XI[:, :1].copy(), "x1": X[:, :1].copy()}, rows=("x0", "x1")),
    "cross_entropy": Call(lambda: {"logits": LOGITS, "y": Y}, rows=("logits", "y"), passes=passing(GOES_ON, "logits")),
    "denoising": Call(on(MLP, THETA, x=X, xi=XI, sigma=0.3), rows=("x", "xi")),
    "denoising_ladder": Call(lambda: {"high": 1.0, "low": 0.1, "L": 4}),
    "denoising_levels": Call(
        on(LEVELS, THETA_L, x=X, xi=XI, idx=np.array([0, 1, 2, 0]), sigmas=SIGMAS, weights=(1.0, 1.0, 1.0)),
        rows=("x", "xi", "idx"),
    ),
    "dsm_step": Call(step(MLP, THETA, sigma=0.3), rows=("x",)),
    "em_step": Call(
        step(MLP, THETA, x_pos=OTHER, terms=EM, assign=coupling_assign, box=BOX),
        rows=("x", "x_pos"),
        passes=passing(APART, "x", "x_pos", whats=MORE),
    ),
    "energy_contrast": Call(
        on(MLP, THETA, **CONTRAST), rows=("x_pos", "x_neg"), passes=passing(APART, "x_pos", "x_neg", whats=MORE)
    ),
    "energy_matching": Call(
        on(MLP, THETA, w=TIMES, clip=1.0, **PAIR, **CONTRAST),
        rows=("x0", "x1", "t", "x_pos", "x_neg", "w"),
        passes=passing(APART, "x_pos", "x_neg", whats=MORE),
    ),
    "flow_weight": Call(lambda: {"t": TIMES, "cutoff": 0.8}, rows=("t",), empty=True),
    "eqm_explicit": Call(on(FieldEnergy(FIELD), THETA_F, **EQM), rows=("x", "e", "gamma")),
    "eqm_implicit": Call(lambda: {"field": FIELD, "theta": THETA_F} | EQM, rows=("x", "e", "gamma")),
    "eqm_step": Call(
        lambda: (
            {"backend": ebm_ref, "model": FIELD, "theta": THETA_F, "x": X, "target": EQM["target"]}
            | AT
            | {"assign": coupling_assign}
        ),
        rows=("x",),
    ),
    "gaussian_noise_fit": Call(lambda: {"x": X, "floor": 0.1}, rows=("x",), passes=passing(ANY_SHAPE, "x", whats=AXIS)),
    "gradient_penalty": Call(on(MLP, THETA, x=X, target=1.0, weight=0.5), rows=("x",)),
    "hsm_step": Call(step(MLP, THETA, chunk=2), rows=("x",), passes=DRAWS_NOTHING),
    "icd_step": Call(
        lambda: step(MLP, THETA, buffer=buffer(), terms=ICDTerms(references=3), rho=0.1, start="uniform", **CHAIN)(),
        rows=("x",),
    ),
    "improved_contrastive": Call(
        on(MLP, THETA, x_pos=X, x_neg=OTHER, steps=STEPS, update=ULA(0.1), reference=FAR, terms=ICDTerms(), same=SAME),
        rows=("x_pos",),
        passes=passing("only the first chains are differentiated", "x_neg", whats=MORE),
    ),
    "jem": Call(
        on(
            CLASSIFIER,
            THETA_C,
            terms=JEMTerms(w_xy=0.5),
            x_pos=X,
            x_neg=OTHER,
            x_lab=XI,
            y=Y,
            x_neg_y=FAR,
            balance_weight=True,
        ),
        rows=("x_pos", "x_neg", "x_lab", "y", "x_neg_y"),
        passes=passing(APART, "x_pos", "x_neg", whats=MORE),
    ),
    "jem_batch": Call(
        lambda: {"n": 9, "labelled": np.array([0, 3, 5]), "batch": 2} | AT,
        passes=passing("any number of labels", "labelled", whats=MORE),
    ),
    "jem_step": Call(
        lambda: step(
            CLASSIFIER,
            THETA_C,
            x_lab=OTHER,
            y=Y,
            buffer=buffer(),
            terms=JEMTerms(w_xy=0.5),
            rho=0.1,
            start="uniform",
            conditional=True,
            inner=2,
            balance="steps",
            delta=0.1,
            K_max=4,
            kappa=0.1,
            eta_bounds=(0.01, 1.0),
            **CHAIN,
        )(),
        rows=("x", "x_lab", "y"),
        signed=("delta",),
        passes=passing(APART, "x", whats=MORE),
    ),
    "log_softmax": Call(lambda: {"logits": LOGITS}, rows=("logits",), empty=True, passes=passing(GOES_ON, "logits")),
    "maximum_likelihood": Call(on(MLP, THETA, x_pos=X, points=FAR, w=np.ones(4)), rows=("x_pos",)),
    "ml_step": Call(step(MLP, THETA, points=FAR, w=np.ones(4)), rows=("x",), passes=DRAWS_NOTHING),
    "multi_dsm_step": Call(step(LEVELS, THETA_L, sigmas=SIGMAS, weights=(1.0, 1.0, 1.0)), rows=("x",)),
    "mutual_information": Call(lambda: {"logits": LOGITS}, rows=("logits",), passes=passing(GOES_ON, "logits")),
    "nce": Call(
        on(MLP, WITH_Z, x_pos=X, x_neg=OTHER, log_noise_pos=ROWS, log_noise_neg=ROWS, nu=1.0),
        rows=("x_pos", "x_neg", "log_noise_pos", "log_noise_neg"),
    ),
    "nce_split": Call(
        lambda: {"theta": {"log_z": np.zeros(1)} | THETA},
        passes=passing("it knows log_z alone", "theta", whats=("a name more",)),
    ),
    "nce_start": Call(on(MLP, THETA, x_neg=X, log_noise_neg=ROWS), rows=("x_neg", "log_noise_neg")),
    "nce_step": Call(step(MLP, WITH_Z, noise=NOISE, nu=2), rows=("x",)),
    "nearest_neighbour": Call(lambda: {"x": X, "reference": FAR, "same": SAME}, rows=("x", "same"), empty=True),
    "neighbour_entropy": Call(lambda: {"x": X}, rows=("x",), passes=passing(ANY_SHAPE, "x", whats=AXIS)),
    "neighbour_spread": Call(lambda: {"x": X, "reference": FAR, "floor": 1e-3, "same": SAME}, rows=("x", "same")),
    "one_hot": Call(
        lambda: {"y": Y, "logits": LOGITS},
        rows=("y", "logits"),
        empty=True,
        passes=passing("it reads their shape and dtype", "logits"),
    ),
    "pcd_step": Call(
        lambda: step(MLP, THETA, buffer=buffer(), alpha=0.1, rho=0.1, start="uniform", **CHAIN)(), rows=("x",)
    ),
    "quadrature_grid": Call(lambda: {"box": BOX, "n": 3, "D": 2, "dtype": np.float64}),
    "ranking_nce": Call(
        on(MLP, THETA, x_pos=X, x_neg=MANY, log_noise_pos=ROWS, log_noise_neg=RNG.normal(size=(4, 3))),
        rows=("x_pos", "x_neg", "log_noise_pos", "log_noise_neg"),
    ),
    "ranking_nce_step": Call(step(MLP, THETA, noise=NOISE, K=2), rows=("x",)),
    "score_matching": Call(on(MLP, THETA, x=X, chunk=2), rows=("x",)),
    "score_matching_sliced": Call(
        on(MLP, THETA, x=X, v=MANY.transpose(1, 0, 2).copy(), variance_reduced=False),
        ("x",),
        passes=passing("a direction more", "v", whats=MORE),
    ),
    "smooth_data": Call(
        lambda: {"backend": ebm_ref, "x": X, "level": 0.1, "box": BOX} | AT,
        rows=("x",),
        empty=True,
        passes=passing(ANY_SHAPE, "x", whats=AXIS),
    ),
    "smoothing_level": Call(lambda: {"step": 2, "steps": 9, "smoothing": 0.5, "until": 0.5}),
    "ssm_step": Call(step(MLP, THETA, projections=2, kind="sphere", variance_reduced=False), rows=("x",)),
    "transport": Call(on(MLP, THETA, w=TIMES, clip=1.0, **PAIR), rows=("x0", "x1", "t", "w")),
    "distill_step": Call(
        lambda: taught(backend=ebm_ref, N=4, lesson="lagrangian", eta=0.3, still=0.5)() | AT,
    ),
    "eulerian": Call(taught(x=X, h=T), rows=("x", "h")),
    "eulerian, one h": Call(taught(x=X, h=0.5), rows=("x",)),
    "flow_draw": Call(lambda: {"backend": ebm_ref, "x": X} | AT, rows=("x",), passes=DRAWS_ONLY),
    "flow_matching": Call(
        lambda: {"time_field": FLOW, "theta": THETA_FLOW, "x0": X, "x1": OTHER, "t": T}, rows=("x0", "x1", "t")
    ),
    "flow_point": Call(
        lambda: {"x0": X, "x1": OTHER, "t": T}, rows=("x0", "x1", "t"), empty=True, passes=passing(GOES_ON, "x0", "x1")
    ),
    "flow_step": Call(lambda: {"backend": ebm_ref, "time_field": FLOW, "theta": THETA_FLOW, "x": X} | AT, rows=("x",)),
    "lagrangian": Call(taught(x=X, h=T), rows=("x", "h")),
    "progressive": Call(taught(theta_target=THETA_FLOW, x=X, eta=0.5, level=1), rows=("x",)),
    "projection": Call(on(MLP, THETA, x=X, v=OTHER, w=np.ones(4)), rows=("x", "v", "w")),
    "projection_fourier": Call(
        lambda: {"v": np.zeros((4, 3, 2)), "period": 1.0}, passes=passing("an axis of any length", "v", whats=MORE)
    ),
    "projection_step": Call(step(MLP, THETA, time_field=FLOW, theta_field=THETA_FLOW), rows=("x",)),
    "student_draw": Call(
        lambda: {"backend": ebm_ref, "flow_map": STUDENT, "N": 4, "still": 0.5, "dtype": np.float64} | AT
    ),
    "student_pairs": Call(
        lambda: (
            {"backend": ebm_ref, "flow_map": STUDENT, "velocity": np.negative, "N": 4, "eta": 0.5, "seed": 3}
            | {"dtype": np.float64, "box": BOX}
        )
    ),
    "teacher_run": Call(
        lambda: {"velocity": np.negative, "x0": X, "eta": 0.1, "N": 2, "box": BOX},
        rows=("x0",),
        empty=True,
        passes=passing(ANY_SHAPE, "x0", whats=AXIS),
    ),
    "teacher_velocity": Call(lambda: {"teacher": MLP, "theta": THETA}),
    "trajectory_regression": Call(
        lambda: {"flow_map": STUDENT, "theta": THETA_FLOW, "x0": X, "x_end": OTHER, "h": T}, rows=("x0", "x_end", "h")
    ),
    "trajectory_step": Call(
        lambda: {"backend": ebm_ref, "flow_map": STUDENT, "theta": THETA_FLOW, "pairs": (X, OTHER), "N": 4} | AT
    ),
}
