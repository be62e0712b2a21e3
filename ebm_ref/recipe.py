"""The recipe of a training run: every setting, its default and its interval, in one place.

Du & Mordatch 2019 (arXiv:1903.08689) use eta = 10, sigma = 0.005, clip = 0.01, which is a temperature
sigma^2 / (2 eta) of 1e-6: a noisy optimiser. The defaults here sample at 0.0045 and need no clip.
"""

from __future__ import annotations

from dataclasses import dataclass

from .contracts import Buffer, RangeError, check_choice, check_count, check_number
from .optim import SCHEDULES
from .specs import SGLD, Box


@dataclass(frozen=True)
class Recipe:
    """How to train, every field checked. `box` bounds data noise, chains and uniform starts alike."""

    method: str = "pcd"  # pcd: chains live in a buffer; cd: chains start at the data
    batch: int = 128  # data and chains per step
    K: int = 60  # chain steps
    eta: float = 0.1  # chain step size
    sigma: float = 0.03  # chain noise; the temperature is sigma^2 / (2 eta)
    clip: float | None = None  # bound of each element of grad_x
    clip_norm: float | None = None  # bound of each sample's |grad_x|
    order: str = "gradient_first"
    box: Box | None = (-1.0, 1.0)
    alpha: float = 0.1  # energy regulariser
    sigma_data: float = 0.005  # data noise
    rho: float = 0.05  # pcd: probability that a chain restarts
    M: int = 8192  # pcd: buffer slots
    policy: str = "in_place"  # pcd: in_place, fifo or reservoir
    start: str = "uniform"  # pcd: where chains start and restart, uniform in the box or data_noise
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
        check_choice("method", self.method, ("pcd", "cd"))
        check_choice("start", self.start, ("uniform", "data_noise"))
        check_choice("policy", self.policy, Buffer.POLICIES)
        check_choice("optimizer", self.optimizer, ("adam", "sgd"))
        check_choice("schedule", self.schedule, SCHEDULES)
        for name in ("batch", "K", "M", "steps"):
            check_count(name, getattr(self, name), low=1)
        check_count("warmup", self.warmup, low=0)
        if self.steps * self.K > 2**32:
            raise RangeError(
                f"steps: expected steps * K <= 2^32, the chain steps that have addresses, found {self.steps}"
            )
        for name in ("alpha", "sigma_data", "lr"):
            check_number(name, getattr(self, name), low=0.0)
        check_number("rho", self.rho, low=0.0, high=1.0)
        for name in ("beta1", "beta2", "ema_decay"):
            check_number(name, getattr(self, name), low=0.0)
            if getattr(self, name) >= 1:
                raise RangeError(f"{name}: expected a number in [0, 1), found {getattr(self, name)}")
        if self.max_grad_norm is not None:
            check_number("max_grad_norm", self.max_grad_norm, low=0.0, open_low=True)
        if self.method == "pcd" and self.start == "uniform" and self.box is None:
            raise RangeError("box: uniform starts need (low, high), found None; give a box or start from data_noise")
        self.update()  # checks eta, sigma, the clips, box and order

    def update(self) -> SGLD:
        """The chain's update."""
        return SGLD(self.eta, self.sigma, self.clip, self.clip_norm, self.box, self.order)
