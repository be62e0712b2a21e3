"""A valid call of every public name of ebm_ref.samplers."""

from __future__ import annotations

import numpy as np
from calls_objectives import (
    AT,
    BOX,
    FAR,
    FIELD,
    FLOW,
    MLP,
    OTHER,
    ROWS,
    STEPS,
    STUDENT,
    THETA,
    THETA_F,
    THETA_FLOW,
    UPDATE,
    XI,
    X,
)
from input_breaks import ANY_SHAPE, AXIS, GOES_ON, MORE, OWNER, Call, passing

import ebm_ref
from ebm_ref import (
    PSGLD,
    ULA,
    AdamDescent,
    AdaptationState,
    Augmentation,
    GradientDescent,
    NesterovDescent,
    RobbinsMonro,
    Stream,
    class_gaussians,
)

U, BITS, CHAINS, Y = np.full(4, 0.5), np.arange(4, dtype=np.uint32), np.arange(4), np.array([0, 1, 0, 1])
SLOTS, FIT = np.zeros((6, 2)), class_gaussians(X, Y, 2, 0.1)
E, G = MLP.energy_and_grad_x(THETA, X)
RUN = {"theta": THETA, "x0": X, "K": 2, "chains": CHAINS} | AT
DRAWN = {"backend": ebm_ref, "energy": MLP}
REJECTED = "a proposal that is not finite is rejected and counted, never refused"


def moves(**rest):
    return lambda: {"x": X, "g": G, "xi": XI} | rest


CALLS = {
    "AdamDescent": Call(lambda: {"eta": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}),
    "AdaptationState": Call(lambda: {"eps_step": 0.1, "n": 1, "rate": 0.5}),
    "Augmentation": Call(lambda: {"shift": 1, "flip": True, "sigma": 0.1}),
    "Band": Call(lambda: {"every": 10, "low_rate": 0.6, "high_rate": 0.8, "up": 1.1, "down": 1.2}),
    "ClassGaussians": Call(lambda: {"mean": np.zeros((2, 2)), "factor": np.stack([np.eye(2)] * 2), "shape": (2,)}),
    "GradientDescent": Call(lambda: {"eta": 0.1}),
    "LookAheadDescent": Call(lambda: {"eta": 0.1, "mu": 0.3}),
    "Multiplicative": Call(lambda: {"target": 0.6, "decay": 0.9, "up": 1.02, "down": 0.98, "low": 1e-4, "high": 0.5}),
    "NesterovDescent": Call(lambda: {"eta": 0.1, "mu": 0.3}),
    "PSGLD": Call(lambda: {"eps_step": 0.1, "beta": 0.9, "lam": 0.1, "gamma": True}),
    "RobbinsMonro": Call(lambda: {"target": 0.6, "c": 2.0, "n0": 10.0, "kappa": 0.75}),
    "adaptation_rate": Call(lambda: {"log_ratio": ROWS}, rows=("log_ratio",), passes=passing(REJECTED, "log_ratio")),
    "adaptation_start": Call(lambda: {"eps_step": 0.1, "rate": 0.5}),
    "adaptation_step": Call(lambda: {"rule": RobbinsMonro(0.6), "state": AdaptationState(0.1), "rate": 0.5}),
    "annealed_run": Call(
        lambda: (
            {"backend": ebm_ref, "energies": [MLP, MLP], "sigma": (1.0, 0.5), "T": 2, "eps_step": 0.1, "done": 0} | RUN
        ),
        rows=("x0", "chains"),
        empty=True,
    ),
    "annealed_steps": Call(lambda: {"sigma": (1.0, 0.5), "eps_step": 0.1}),
    "augment": Call(
        lambda: {"x": X, "u": np.full((4, 3), 0.5), "xi": XI, "augmentation": Augmentation(sigma=0.1), "box": BOX},
        rows=("x", "u", "xi"),
        empty=True,
        passes=passing(GOES_ON, "x", "u", "xi"),
    ),
    "augment_run": Call(
        lambda: (
            {"backend": ebm_ref, "x": X, "augmentation": Augmentation(sigma=0.1), "box": BOX, "chains": CHAINS} | AT
        ),
        rows=("x", "chains"),
        empty=True,
        passes=passing(GOES_ON, "x") | passing(ANY_SHAPE, "x", whats=AXIS),
    ),
    "buffer_draw": Call(
        lambda: {"slots": SLOTS, "filled": 5, "bits": BITS, "u": U, "fresh": X, "rho": 0.1},
        rows=("bits", "u", "fresh"),
        empty=True,
        passes=passing(OWNER, "slots", "fresh", "u") | passing("a slot more", "slots", whats=MORE),
    ),
    "buffer_push": Call(
        lambda: {"slots": SLOTS.copy(), "filled": 6, "ptr": 6, "x": X, "policy": "in_place", "idx": Y, "bits": None},
        rows=("x", "idx"),
        empty=True,
        passes=passing(OWNER, "slots", "x") | passing("a slot more", "slots", whats=MORE),
    ),
    "buffer_push, reservoir": Call(
        lambda: (
            {"slots": SLOTS.copy(), "filled": 6, "ptr": 6, "x": X, "policy": "reservoir", "idx": None} | {"bits": BITS}
        ),
        rows=("x", "bits"),
        empty=True,
        passes=passing(OWNER, "slots", "x") | passing("no longer full", "slots", whats=MORE),
    ),
    "buffer_start": Call(
        lambda: (
            {"M": 6, "shape": (2,), "start": "data_noise", "seed": 1, "box": BOX, "data": X, "sigma": 0.1}
            | {"samples": None, "policy": "in_place", "dtype": np.float64}
        ),
        rows=("data",),
    ),
    "buffer_start, samples": Call(
        lambda: (
            {"M": 6, "shape": (2,), "start": "samples", "seed": 1, "box": BOX, "data": None, "sigma": 0.1}
            | {"samples": X, "policy": "fifo", "dtype": np.float64}
        ),
        rows=("samples",),
    ),
    "class_block": Call(lambda: {"M": 6, "classes": 2}),
    "class_buffer_draw": Call(
        lambda: {"slots": SLOTS, "idx": Y, "u": U, "fresh": X, "rho": 0.1},
        rows=("idx", "u", "fresh"),
        empty=True,
        passes=passing(OWNER, "slots", "fresh", "u") | passing("a slot more", "slots", whats=MORE),
    ),
    "class_buffer_index": Call(lambda: {"bits": BITS, "y": Y, "M": 6, "classes": 2}, rows=("bits", "y"), empty=True),
    "class_buffer_start": Call(lambda: {"M": 6, "gaussians": FIT, "seed": 1, "box": BOX}),
    "class_gaussian_draw": Call(
        lambda: {"gaussians": FIT, "y": Y, "xi": XI, "box": BOX},
        rows=("y", "xi"),
        empty=True,
        passes=passing(GOES_ON, "xi"),
    ),
    "class_gaussians": Call(
        lambda: {"x": X, "y": Y, "classes": 2, "ridge": 0.1},
        rows=("x", "y"),
        passes=passing(ANY_SHAPE, "x", whats=AXIS),
    ),
    "descent_point": Call(
        lambda: {"rule": NesterovDescent(0.1), "x": X, "state": {"velocity": XI}}, passes=passing(GOES_ON, "x")
    ),
    "descent_run": Call(
        lambda: (
            {"energy": MLP, "theta": THETA, "x0": X, "K": 2, "rule": NesterovDescent(0.1), "g_min": 0.1}
            | {"state": {"velocity": XI}}
        )
    ),
    "descent_run, of plain descent": Call(
        lambda: (
            {"energy": MLP, "theta": THETA, "x0": X, "K": 2, "rule": GradientDescent(0.1), "g_min": 0.1}
            | {"state": None}
        ),
        rows=("x0",),
        empty=True,
    ),
    "descent_run, of a field": Call(
        lambda: (
            {"energy": FIELD, "theta": THETA_F, "x0": X, "K": 2, "rule": GradientDescent(0.1), "g_min": 0.1}
            | {"state": None}
        ),
        rows=("x0",),
        empty=True,
    ),
    "descent_start": Call(
        lambda: {"rule": AdamDescent(0.1), "x": X},
        rows=("x",),
        empty=True,
        passes=passing(GOES_ON, "x") | passing(ANY_SHAPE, "x", whats=AXIS),
    ),
    "descent_step": Call(
        lambda: {"rule": NesterovDescent(0.1), "x": X, "g": G, "state": {"velocity": XI}},
        passes=passing(GOES_ON, "x", "g"),
    ),
    "energy_target": Call(lambda: {"eta": 0.1, "gap": 0.5, "kappa": 0.1, "low": 0.01, "high": 1.0}, signed=("gap",)),
    "heated_run": Call(
        lambda: (
            DRAWN
            | RUN
            | {"dt": 0.1, "tau": 0.2, "s_star": 0.8, "stream": int(Stream.CHAIN_NOISE), "box": BOX, "scheme": "heun"}
            | {"hot": False, "done": 7}
        ),
        rows=("x0", "chains"),
        empty=True,
    ),
    "heated_temperature": Call(lambda: {"s": 0.9, "tau": 0.1, "s_star": 0.8}),
    "hessian_diagonal": Call(lambda: {"energy": MLP, "theta": THETA, "x": X}, rows=("x",), empty=True),
    "hmc_adapt": Call(
        lambda: DRAWN | RUN | {"L": 2, "rule": RobbinsMonro(0.6), "state": AdaptationState(0.1)}, rows=("x0", "chains")
    ),
    "hmc_leapfrog": Call(
        lambda: {"energy": MLP, "theta": THETA, "x": X, "p": XI, "g": G, "h": 0.1, "L": 2},
        rows=("x", "p", "g"),
        empty=True,
        passes=passing(REJECTED, "p", "g"),
    ),
    "hmc_log_ratio": Call(
        lambda: {"E": E, "E_new": ROWS, "p": XI, "p_new": FAR},
        rows=("E", "E_new", "p", "p_new"),
        empty=True,
        passes=passing(REJECTED, "E", "E_new", "p", "p_new"),
    ),
    "hmc_run": Call(lambda: DRAWN | RUN | {"h": 0.1, "L": 2}, rows=("x0", "chains"), empty=True),
    "hmc_step": Call(
        lambda: {"energy": MLP, "theta": THETA, "x": X, "E": E, "g": G, "p": XI, "u": U, "h": 0.1, "L": 2},
        rows=("x", "E", "g", "p", "u"),
        empty=True,
        passes=passing(REJECTED, "E", "g", "p", "u"),
    ),
    "jempp_run": Call(
        lambda: (
            DRAWN
            | {"theta": THETA, "x0": X, "M": 2, "N": 2, "update": UPDATE, "chains": CHAINS}
            | AT
            | {"stream": int(Stream.CHAIN_NOISE)}
        ),
        rows=("x0", "chains"),
        empty=True,
    ),
    "langevin_clip_backward": Call(
        lambda: {"g": G, "u": XI, "clip": 0.5, "clip_norm": 0.5},
        rows=("g", "u"),
        empty=True,
        passes=passing(GOES_ON, "g", "u"),
    ),
    "langevin_jitter": Call(
        lambda: {"x": X, "xi": XI, "sigma": 0.1, "box": BOX},
        rows=("x", "xi"),
        empty=True,
        passes=passing(GOES_ON, "x", "xi"),
    ),
    "langevin_run": Call(
        lambda: {"energy": MLP, "update": ULA(0.1), "stream": int(Stream.CHAIN_NOISE)} | RUN,
        rows=("x0", "chains"),
        empty=True,
    ),
    "langevin_step": Call(
        moves(eta=0.1, sigma=0.1, clip=0.5, clip_norm=0.5, box=BOX),
        rows=("x", "g", "xi"),
        empty=True,
        passes=passing(GOES_ON, "x", "g", "xi"),
    ),
    "mala_adapt": Call(
        lambda: DRAWN | RUN | {"rule": RobbinsMonro(0.6), "state": AdaptationState(0.1)}, rows=("x0", "chains")
    ),
    "mala_log_ratio": Call(
        lambda: {"E": E, "E_new": ROWS, "g": G, "g_new": FAR, "xi": XI, "eps_step": 0.1},
        rows=("E", "E_new", "g", "g_new", "xi"),
        empty=True,
        passes=passing(REJECTED, "E", "E_new", "g", "g_new", "xi"),
    ),
    "mala_propose": Call(
        moves(eps_step=0.1), rows=("x", "g", "xi"), empty=True, passes=passing(GOES_ON, "x", "g", "xi")
    ),
    "mala_run": Call(lambda: DRAWN | RUN | {"eps_step": 0.1}, rows=("x0", "chains"), empty=True),
    "mala_step": Call(
        lambda: {"energy": MLP, "theta": THETA, "x": X, "E": E, "g": G, "xi": XI, "u": U, "eps_step": 0.1},
        rows=("x", "E", "g", "xi", "u"),
        empty=True,
        passes=passing(REJECTED, "E", "g", "xi", "u"),
    ),
    "metropolis_step": Call(
        lambda: {"log_ratio": ROWS, "u": U, "old": (X, E, G), "new": (OTHER, E, G)},
        passes=passing(REJECTED, "log_ratio", "u"),
    ),
    "psgld_run": Call(
        lambda: DRAWN | RUN | {"update": PSGLD(0.1, gamma=True), "V": X**2}, rows=("x0", "chains", "V"), empty=True
    ),
    "psgld_step": Call(
        moves(V=X**2, update=PSGLD(0.1, gamma=True), h=FAR),
        rows=("x", "g", "V", "xi", "h"),
        empty=True,
        passes=passing(GOES_ON, "x", "g", "V", "xi", "h"),
    ),
    "unrolled_backward": Call(
        lambda: {"energy": MLP, "theta": THETA, "steps": STEPS, "u": XI, "update": ULA(0.1), "to_start": True}
    ),
    "unrolled_run": Call(lambda: DRAWN | RUN | {"update": UPDATE}, rows=("x0", "chains"), empty=True),
    "flow_run": Call(
        lambda: {"time_field": FLOW, "theta": THETA_FLOW, "x0": X, "K": 2, "scheme": "heun", "start": 0.0, "end": 1.0},
        rows=("x0",),
        empty=True,
    ),
    "student_run": Call(
        lambda: (
            {"flow_map": STUDENT, "energy": MLP, "theta_energy": THETA, "h": 0.5, "update": UPDATE, "backend": ebm_ref}
            | RUN
            | {"theta": THETA_FLOW}
        ),
        rows=("x0", "chains"),
        empty=True,
    ),
}
