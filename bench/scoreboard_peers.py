"""torchebm's losses on the scoreboard: the same network, start, data, budget and judge, in PyTorch.

Needs `pip install torch torchebm`, which no extra brings; without them the board says so and has no such rows.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, Stream

PEERS = {"torchebm_dsm": "dsm", "torchebm_cd": "cd"}  # and the method of ours beside it


def why_not() -> str | None:
    """Why the peers cannot run here; None when they can."""
    missing = [name for name in ("torch", "torchebm") if find_spec(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


def train_peer(peer: str, recipe: ebm_ref.Recipe, start: Params, hidden: tuple[int, ...], data: Array) -> Params:
    """The averaged parameters, under our names, after recipe.steps steps of torchebm's loss from `start`."""
    torch, losses = import_module("torch"), import_module("torchebm.losses")
    torch.manual_seed(0)
    model = _model(torch, start, hidden)
    if peer == "torchebm_dsm":
        loss = losses.DenoisingScoreMatching(model=model, noise_scale=recipe.level)
    else:
        sampler = import_module("torchebm.samplers").LangevinDynamics(model=model, step_size=recipe.eta)
        loss = losses.ContrastiveDivergence(model=model, sampler=sampler, k_steps=recipe.K, energy_reg_weight=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=(recipe.beta1, recipe.beta2))
    points, ema = torch.from_numpy(data), [p.detach().clone() for p in model.parameters()]
    for step in range(recipe.steps):
        bits = ebm_ref.noise_bits(0, Stream.DATA_INDEX, step, np.arange(recipe.batch), 1)[:, 0]
        x = points[torch.from_numpy(ebm_ref.noise_index(bits, len(data)).astype(np.int64))]
        value = loss(x)
        value = value[0] if isinstance(value, tuple) else value  # cd returns its negatives too
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        lr = ebm_ref.schedule_value(step, recipe.steps, recipe.lr, recipe.warmup, recipe.schedule)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        with torch.no_grad():
            for average, p in zip(ema, model.parameters(), strict=True):
                average.lerp_(p, 1 - recipe.ema_decay)
    arrays = [a.numpy() for a in ema]
    return {name: a.T if a.ndim == 2 else a for name, a in zip(start, arrays, strict=True)}  # torch keeps (out, in)


def _model(torch: Any, start: Params, hidden: tuple[int, ...]) -> Any:
    """An MLP with silu and the parameters of `start`, as torchebm wants a model."""
    base = import_module("torchebm.core").BaseModel

    class Network(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            sizes, layers = (2, *hidden), []
            for a, b in zip(sizes[:-1], sizes[1:], strict=True):
                layers += [torch.nn.Linear(a, b), torch.nn.SiLU()]
            self.net = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1))

        def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
            return self.net(x).squeeze(-1)

    model = Network()
    with torch.no_grad():
        for p, a in zip(model.parameters(), start.values(), strict=True):
            p.copy_(torch.from_numpy(np.ascontiguousarray(a.T if a.ndim == 2 else a)))
    return model
