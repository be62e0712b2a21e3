"""What training carries from step to step, and the same as a flat dict of arrays, for a file.

state_arrays        theta/NAME, ema/NAME, optimizer/NAME, spectral/NAME, buffer/slots, buffer/filled, buffer/ptr,
                    buffer/policy, step, eta
state_from_arrays   its inverse, to the bit
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .contracts import Array, Buffer, CheckpointError, DTypeError, EbmError, Params, check_count, check_number

ALONE = ("step", "eta")  # arrays without a second name


@dataclass
class TrainState:
    """All that training carries: with it, the recipe, the data and the seed, the rest of a run is determined.

    theta, ema: parameters and their average   optimizer: flat dict of arrays   buffer: None where the method has none
    theta holds log_z (1,) beside the energy's own parameters where the method is nce.
    step: training steps done, and the number of the next one.
    spectral: u (O,) of each weight (..., O) that is normalised, empty without spectral_norm. Then the energy's weights
    are those of acting_theta(state), theta holds what the optimiser moves, and ema averages the weights that act.
    eta: step size of the next step's chains where the recipe's balance is energy_target, else None: the recipe's own.
    """

    theta: Params
    ema: Params
    optimizer: dict[str, Array]
    buffer: Buffer | None
    step: int = 0
    spectral: Params = field(default_factory=dict)
    eta: float | None = None


def state_arrays(state: TrainState) -> dict[str, Array]:
    """The state under the names above.

    The arrays are the state's own, not copies; counters are () int64, the policy its number in Buffer.POLICIES, eta is
    () float64.
    """
    arrays = {f"theta/{name}": y for name, y in state.theta.items()}
    arrays |= {f"ema/{name}": y for name, y in state.ema.items()}
    arrays |= {f"optimizer/{name}": y for name, y in state.optimizer.items()}
    arrays |= {f"spectral/{name}": u for name, u in state.spectral.items()}
    if state.eta is not None:
        arrays["eta"] = np.full((), state.eta, np.float64)
    counters = {"step": state.step}
    if state.buffer is not None:
        arrays["buffer/slots"] = state.buffer.slots
        counters |= {"buffer/filled": state.buffer.filled, "buffer/ptr": state.buffer.ptr}
        counters["buffer/policy"] = Buffer.POLICIES.index(state.buffer.policy)
    return arrays | {name: np.full((), value, np.int64) for name, value in counters.items()}


def state_from_arrays(arrays: dict[str, Array]) -> TrainState:
    """The inverse of state_arrays; copies. Raises CheckpointError when names or counters are not a state's."""
    names = ("theta", "ema", "optimizer", "spectral", "buffer", *ALONE)
    parts: dict[str, dict[str, Array]] = {name: {} for name in names}
    for full, y in arrays.items():
        part, _, name = full.partition("/")
        if part not in parts or bool(name) == (part in ALONE):
            raise CheckpointError(f"state: unknown array {full!r}")
        parts[part][name] = y.copy()
    missing = [name for name in ("theta", "ema", "optimizer", "step") if not parts[name]]
    if missing:
        raise CheckpointError(f"state: missing {', '.join(missing)}")
    if set(parts["theta"]) != set(parts["ema"]):
        raise CheckpointError(
            f"state: expected ema of the names {', '.join(parts['theta'])}, found {', '.join(parts['ema'])}"
        )
    buffer = None
    try:
        if parts["buffer"]:
            filled, ptr, policy = (_counter(parts["buffer"], name) for name in ("filled", "ptr", "policy"))
            check_count("policy", policy, low=0, high=len(Buffer.POLICIES) - 1)
            buffer = Buffer(parts["buffer"]["slots"], filled, ptr, Buffer.POLICIES[policy])
        step = _counter(parts["step"], "")
        check_count("step", step, low=0)
        eta = _step_size(parts["eta"][""]) if parts["eta"] else None
    except KeyError as error:
        raise CheckpointError(f"state: missing array buffer/{error.args[0]}") from error
    except EbmError as error:
        raise CheckpointError(f"state: {error}") from error
    return TrainState(parts["theta"], parts["ema"], parts["optimizer"], buffer, step, parts["spectral"], eta)


def _counter(part: dict[str, Array], name: str) -> int:
    value = part[name]
    if value.shape != () or value.dtype.kind not in "iu":
        raise DTypeError(f"{name or 'step'}: expected an integer, found {value.dtype} of shape {value.shape}")
    return int(value)


def _step_size(value: Array) -> float:
    if value.shape != () or value.dtype != np.float64:
        raise DTypeError(f"eta: expected a float64, found {value.dtype} of shape {value.shape}")
    check_number("eta", float(value), low=0.0, open_low=True)
    return float(value)
