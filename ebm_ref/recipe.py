"""The recipe of a training run: every setting, its default and its interval, in one place.

A recipe is flat, and one for all methods. A field that the method does not read must stay at its default: an option
that does nothing is an error that names the methods which read it (METHODS in methods.py holds who reads what).

The chain's fields K, eta, sigma, clip, clip_norm, order and box are read by every method: cd, pcd, jem and icd train
with such chains, the others sample with them once they are trained.

Du & Mordatch 2019 (arXiv:1903.08689) use eta = 10, sigma = 0.005, clip = 0.01, which is a temperature
sigma^2 / (2 eta) of 1e-6: a noisy optimiser. The defaults here sample at 0.0045 and need no clip.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from .contracts import Buffer, RangeError, check_choice, check_count, check_flag, check_number
from .descent_specs import Descent
from .methods import METHODS
from .objectives import (
    EMTerms,
    EquilibriumTarget,
    ICDTerms,
    JEMTerms,
    denoising_ladder,
    smoothing_level,
)
from .optim import SCHEDULES, schedule_value
from .recipe_checks import check_balance, check_fields, check_flow
from .samplers import AdamDescent, Augmentation, GradientDescent, LookAheadDescent, NesterovDescent
from .specs import SGLD, Box

STARTS = ("uniform", "data_noise", "class_gaussians")
NOISES = ("gaussian", "uniform")
DIRECTIONS = ("rademacher", "gaussian", "sphere")


@dataclass(frozen=True)
class Recipe:
    """How to train, every field checked. `box` bounds data noise, chains and uniform starts alike."""

    method: str = "pcd"  # one of METHODS
    batch: int = 128  # data, and chains, per step
    K: int = 60  # chain steps
    eta: float = 0.1  # chain step size
    sigma: float = 0.03  # chain noise; the temperature is sigma^2 / (2 eta)
    clip: float | None = None  # bound of each element of grad_x
    clip_norm: float | None = None  # bound of each sample's |grad_x|
    order: str = "gradient_first"
    box: Box | None = (-1.0, 1.0)
    alpha: float = 0.1  # energy regulariser
    sigma_data: float = 0.005  # data noise
    rho: float = 0.05  # buffer: probability that a chain restarts
    M: int = 8192  # buffer: slots
    policy: str = "in_place"  # buffer: in_place, fifo or reservoir
    start: str = "uniform"  # buffer: where chains start and restart, uniform in the box, data_noise, class_gaussians
    level: float = 0.3  # noise added to data: dsm learns the density of such data; conditional_nce contrasts them
    levels: int = 1  # dsm: noise levels, more than one trains E(x, sigma) on a ladder from level_high to level
    level_high: float = 1.0  # dsm: the highest of several levels
    projections: int = 1  # ssm: directions of each datum
    directions: str = "rademacher"  # ssm: their law
    variance_reduced: bool = True  # ssm: |g|^2 for (v . g)^2
    noise: str = "gaussian"  # nce: what data are told from, gaussian fitted to them or uniform in the box
    noise_floor: float = 1e-3  # nce: variance that gaussian noise has in every direction beside the data's
    nu: int = 1  # nce: noise samples for each datum
    cells: int = 64  # ml: cells of the box along each axis
    w_x: float = 1.0  # jem: weight of -log p(x)
    w_yx: float = 1.0  # jem: weight of -log p(y | x)
    w_xy: float = 0.0  # jem: weight of -log p(x | y)
    w_mi: float = 0.0  # jem: weight of the mutual information of x and y
    conditional: bool = False  # jem: each chain moves on the energy of one class
    inner: int = 1  # jem: moves along each gradient of a chain
    balance: str | None = None  # jem: weight, steps or energy_target; how negatives that lag behind are balanced
    K_max: int | None = None  # jem: chain steps at most, with balance = steps
    delta: float = 0.0  # jem: energy by which negatives may lag behind, with balance = steps
    kappa: float = 0.01  # jem: |log(eta' / eta)| of a step, with balance = energy_target
    eta_low: float = 1e-3  # jem: the smallest eta that energy_target goes to
    eta_high: float = 10.0  # jem: the largest
    burn_in: int | None = None  # jem: steps that energy_target moves eta in; from then on eta is frozen
    labelled: int | None = None  # jem: data whose classes are used, drawn from all by address; None = all of them
    ridge: float = 1e-4  # jem: variance added in every direction to the Gaussians of start = class_gaussians
    kappa_opt: float = 1.0  # icd: weight of the frozen energy where a chain ends
    kappa_ent: float = 0.3  # icd: weight of the log distance to the nearest of the references
    references: int = 100  # icd: buffer samples to be near to
    depth: int = 1  # icd: steps of the chain that are differentiated, K for all
    augment_shift: int = 0  # icd: rows and columns at most by which an image from the buffer is moved
    augment_flip: bool = False  # icd: half of the images from the buffer are turned around
    augment_sigma: float = 0.0  # icd: noise added to what comes from the buffer
    transport_steps: int = 0  # em: first steps, of transport alone
    lr_joint: float | None = (
        None  # em: lr once the contrast has set in, where warmup and schedule begin again; None = lr
    )
    ema_joint: float | None = None  # em: ema_decay from there on; None = ema_decay
    start_scale: float = 1.0  # em, projection: what the last layer begins with is so many times theta_init's
    s_star: float = 1.0  # em: time where the negatives' noise sets in, and the last t of transport
    contrast: float = 1e-3  # em: weight of mean V(data) - mean V(negatives)
    trim: float = 0.0  # em: part of the negatives, those of highest V, that is left out
    clamp: float | None = None  # em: the contrast's part of the loss does not fall below -clamp
    cutoff: float = 1.0  # em: transport counts 1 up to this t, then less and less, 0 at t = 1
    clip_transport: float | None = None  # em: bound of each sample's residual
    coupling: str = "independent"  # em, eqm: which noise goes with which datum, or optimal: the nearest in the batch
    time: float = 3.0  # em, projection: time in which samples are drawn, from noise, of which 1 is transport
    target: str = "truncated"  # eqm: how the field's length falls to 0 at the data: linear, truncated or piecewise
    target_a: float = 0.8  # eqm: where it begins to fall
    target_b: float = 1.0  # eqm: with target = piecewise, its length at the noise
    target_scale: float = 4.0  # eqm: its length
    descent: str = "gd"  # eqm: how samples are drawn, in at most K steps: gd, look_ahead, nesterov or adam
    mu: float = 0.3  # eqm: with descent = look_ahead or nesterov, the momentum
    g_min: float = 0.0  # eqm: a sample stops where the field is shorter
    lesson: str = "trajectory"  # student: trajectory, lagrangian or eulerian
    pairs: int = 4096  # student: with lesson = trajectory, starts from which the teacher is run, once
    horizon: float = 1.0  # student: the longest time that it goes at once, in the teacher's descent
    gp: float = 0.0  # weight of the gradient penalty mean (|grad_x E(x)| - gp_target)^2 of the batch's data
    gp_target: float = 0.0  # with gp: 0 flattens the energy at the data, 1 gives it slopes of one there
    smoothing: float = 0.0  # noise added to data at the first step, which falls to none in a straight line
    smoothing_until: float = 0.85  # with smoothing: the part of the steps that has such noise
    spectral_norm: bool = False  # the energy is evaluated at w / |W u| for each weight w; u moves once a step
    optimizer: str = "adam"
    lr: float = 1e-4
    beta1: float = 0.0  # adam: decay of the first moment; sgd: momentum
    beta2: float = 0.999  # adam: decay of the second moment
    max_grad_norm: float | None = None
    ema_decay: float = 0.999
    warmup: int = 0  # steps
    schedule: str = "constant"
    steps: int = 2000  # in all; the cosine ends there

    def __post_init__(self) -> None:
        check_choice("method", self.method, tuple(METHODS))
        check_choice("start", self.start, STARTS)
        check_choice("policy", self.policy, Buffer.POLICIES)
        check_choice("directions", self.directions, DIRECTIONS)
        check_choice("noise", self.noise, NOISES)
        check_choice("optimizer", self.optimizer, ("adam", "sgd"))
        check_choice("schedule", self.schedule, SCHEDULES)
        for name in ("batch", "K", "M", "steps", "levels", "projections", "nu", "cells", "inner", "pairs"):
            check_count(name, getattr(self, name), low=1)
        check_count("warmup", self.warmup, low=0)
        check_number("gp", self.gp, low=0.0)
        for name in ("spectral_norm", "augment_flip"):
            check_flag(name, getattr(self, name))
        if self.steps * self.chain_moves > 2**32:
            raise RangeError(
                f"steps: expected steps * K <= 2^32, the chain steps that have addresses, found {self.steps}"
            )
        for name in ("alpha", "sigma_data", "lr", "noise_floor"):
            check_number(name, getattr(self, name), low=0.0)
        check_number("level", self.level, low=0.0, open_low=True)
        check_number("rho", self.rho, low=0.0, high=1.0)
        for name in ("beta1", "beta2", "ema_decay"):
            check_number(name, getattr(self, name), low=0.0)
            if getattr(self, name) >= 1:
                raise RangeError(f"{name}: expected a number in [0, 1), found {getattr(self, name)}")
        if self.max_grad_norm is not None:
            check_number("max_grad_norm", self.max_grad_norm, low=0.0, open_low=True)
        check_fields(self)
        check_balance(self)
        check_flow(self)
        self.update()  # checks eta, sigma, the clips, box and order
        self.terms(), self.icd_terms()  # check the weights
        self.sigmas()  # checks the ladder
        self.em_terms(), self.equilibrium_target(), self.rule()  # check the fields of energy flow
        smoothing_level(0, self.steps, self.smoothing, self.smoothing_until)  # checks both

    @property
    def tau(self) -> float:
        """The temperature sigma^2 / (2 eta) of the chains' law."""
        return self.sigma**2 / (2 * self.eta)

    @property
    def chain_moves(self) -> int:
        """The moves that a chain may make in one training step; chain steps are numbered by it."""
        return (self.K_max or self.K) * self.inner

    def using(self, method: str) -> Recipe:
        """This recipe for another method: what that one does not read goes back to its default."""
        check_choice("method", method, tuple(METHODS))
        kept = METHODS[method].fields
        unread: dict[str, Any] = {field.name: field.default for field in fields(self) if field.name not in kept}
        return replace(self, **unread | {"method": method})

    def update(self, eta: float | None = None) -> SGLD:
        """The chain's update. eta: the one that a state carries, None = the recipe's."""
        return SGLD(self.eta if eta is None else eta, self.sigma, self.clip, self.clip_norm, self.box, self.order)

    def terms(self) -> JEMTerms:
        """The weights of jem's loss."""
        return JEMTerms(self.w_x, self.w_yx, self.w_xy, self.w_mi, self.alpha)

    def icd_terms(self) -> ICDTerms:
        """The weights of icd's loss."""
        moves = {name: getattr(self, f"augment_{name}") for name in ("shift", "flip", "sigma")}
        augmentation = Augmentation(**moves)  # checks them
        return ICDTerms(
            self.alpha,
            self.kappa_opt,
            self.kappa_ent,
            self.references,
            depth=self.depth,
            augmentation=augmentation if any(moves.values()) else None,
        )

    def sigmas(self) -> tuple[float, ...]:
        """The noise levels of dsm, from high to low."""
        return (self.level,) if self.levels == 1 else denoising_ladder(self.level_high, self.level, self.levels)

    def rates(self, step: int) -> tuple[float, float]:
        """The learning rate and the decay of the average at a step; each phase of em has its own schedule."""
        cut = self.transport_steps
        if not 0 < cut < self.steps:
            return schedule_value(step, self.steps, self.lr, self.warmup, self.schedule), self.ema_decay
        if step < cut:
            return schedule_value(step, cut, self.lr, self.warmup, self.schedule), self.ema_decay
        lr = self.lr if self.lr_joint is None else self.lr_joint
        decay = self.ema_decay if self.ema_joint is None else self.ema_joint
        return schedule_value(step - cut, self.steps - cut, lr, self.warmup, self.schedule), decay

    def em_terms(self) -> EMTerms:
        """The numbers of energy matching; tau is the recipe's temperature."""
        tau = self.tau if self.method == "em" else 1.0
        rest = (self.trim, self.clamp, self.cutoff, self.clip_transport)
        return EMTerms(tau, self.s_star, self.contrast, self.K, self.eta if self.method == "em" else 1.0, *rest)

    def equilibrium_target(self) -> EquilibriumTarget:
        """c(gamma) of equilibrium matching."""
        return EquilibriumTarget(self.target, self.target_a, self.target_b, self.target_scale)

    def rule(self) -> Descent:
        """The descent that draws samples of equilibrium matching."""
        if self.descent in ("look_ahead", "nesterov"):
            return (LookAheadDescent if self.descent == "look_ahead" else NesterovDescent)(self.eta, self.mu)
        return GradientDescent(self.eta) if self.descent == "gd" else AdamDescent(self.eta)
