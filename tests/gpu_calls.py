"""Every public function of the two GPU backends with good arguments, and what may be done to an argument.

CALLS(dtype, N) is name -> Call; a call runs on any backend, its arrays put where that backend keeps them.
"""

import dataclasses
from typing import Any

import numpy as np
from cupy_host import moved
from strict_device import StrictDevice, StrictTyped

import ebm_ref
from ebm_fast import cupy_raw, numba_cuda
from ebm_fast.cupy_raw import device as cupy_device
from ebm_fast.numba_cuda import device as numba_device
from ebm_ref.descent_specs import AdamDescent, GradientDescent, LookAheadDescent, NesterovDescent
from ebm_ref.specs import SGLD

DTYPES = (np.float32, np.float64)
BACKENDS = {  # module, its `on`, a device whose arrays are not NumPy's
    "cupy_raw": (cupy_raw, cupy_device.on, StrictDevice),
    "numba_cuda": (numba_cuda, numba_device.on, StrictTyped),
}
ENERGIES = {
    "ConvEnergy": {"shape": (5, 4, 2), "channels": (4, 8), "strides": (1, 2), "residual": True, "max_groups": 2},
    "DeepConvEnergy": {"shape": (4, 4, 2), "channels": (2, 4), "blocks": (1, 1), "max_groups": 2},
    "MLPEnergy": {"shape": (4, 2), "hidden": (5, 3), "layer_norm": True},
}
METHODS = {"energy": "", "grad_x": "", "energy_and_grad_x": "", "grad_theta": "w", "grad_theta_along": "v", "hvp": "v"}
FIELDS = {
    "MLPField": {"shape": (4, 2), "hidden": (5, 3)},
    "ConvField": {"shape": (4, 4, 2), "channels": (2, 4), "max_groups": 2},
}
FIELD_METHODS = {"field": "", "field_jvp": "v", "field_vjp": "g", "field_grad_theta": "g"}
FIELD_METHODS |= {"field_grad_theta_along": "ghv"}
RULES = {"gradient": GradientDescent(0.1), "nesterov": NesterovDescent(0.1), "adam": AdamDescent(0.1)}
RULES["look ahead"] = LookAheadDescent(0.1)
LABELS = ("chains", "key")  # of the host, or of the device: what they say is read before a launch


@dataclasses.dataclass(frozen=True)
class Call:
    """function(**args), of the module or of `energy` (kind, fields)."""

    function: str
    args: dict[str, Any]
    energy: str = ""

    def arrays(self):
        """The names of the arrays among the arguments; theta's are theta/name."""
        names = [name for name, a in self.args.items() if isinstance(a, np.ndarray)]
        return names + [f"theta/{name}" for name in self.args.get("theta", ())]

    def get(self, name):
        return self.args["theta"][name[6:]] if name.startswith("theta/") else self.args[name]

    def with_array(self, name, a):
        new = {"theta": self.args["theta"] | {name[6:]: a}} if name.startswith("theta/") else {name: a}
        return dataclasses.replace(self, args=self.args | new)

    def changed(self, change, names=None):
        """The call with `change` done to each array, or to those of `names`."""
        call = self
        for name in self.arrays() if names is None else names:
            call = call.with_array(name, change(self.get(name)))
        return call

    def run(self, module, put=lambda a: a, get=lambda a: a):
        """Name -> array of the results, and of the slots that are written."""
        args = {name: placed(a, put) for name, a in self.args.items()}
        built = made(module, self.energy) if self.energy else None
        owner = module if built is None or self.function.endswith("_run") else built
        if owner is not built and built is not None:
            args = {"energy": built, **args}
        result = flat(getattr(owner, self.function)(**args))
        if "slots" in args:
            result["slots"] = args["slots"]
        on_device = {name for name, a in result.items() if hasattr(a, "shape")} - {"1.t"}  # Adam's count is the host's
        return {name: get(a) if name in on_device else a for name, a in result.items()}

    def names(self):
        """What it asks of the module."""
        return {*self.energy.split(), *(() if self.energy and not self.function.endswith("_run") else (self.function,))}

    def possible(self, module):
        """Whether the module has all of that."""
        return self.names() <= {*module.__all__}


def made(module, kind):
    """An energy or a field of that module by the name of its class; an energy on a field, by FieldEnergy and its."""
    kind, _, of = kind.partition(" ")
    if of:
        return getattr(module, kind)(made(module, of), "dot")
    return getattr(module, kind)(**(ENERGIES | FIELDS)[kind])


def placed(a, put):
    if isinstance(a, dict):
        return {name: placed(item, put) for name, item in a.items()}
    return put(a) if isinstance(a, np.ndarray) else a


def flat(result):
    if isinstance(result, dict):
        return dict(result)
    if isinstance(result, tuple):
        return {f"{i}.{name}": a for i, item in enumerate(result) for name, a in flat(item).items()}
    if dataclasses.is_dataclass(result):
        shown = {name: getattr(result, name) for name in ("energy", "grad_norm", "alive", "nonfinite")}
        return shown | result.extra
    return {"": result}


def run_on(backend, call):
    """The results on that backend, as NumPy's arrays."""
    module, on, kind = BACKENDS[backend]
    dev = kind()
    with on(dev):
        return call.run(module, dev.put_as_it_is, dev.get)


def calls(dtype, N=3, K=2):
    rng = np.random.default_rng(1)

    def x(*shape):
        return rng.standard_normal(shape).astype(dtype)

    key = np.array([1, 2], np.uint32)
    words, ids = rng.integers(0, 2**32, N, np.uint32), np.arange(N) + 7
    address = {"seed": 2**40 + 1, "stream": 7, "step": 3, "chains": ids, "D": 6}
    image = {"x": x(N, 5, 4, 2), "w": x(3, 2, 2, 8), "stride": 2}
    norm = {"x": x(N, 5, 4), "gamma": x(4), "groups": 2}
    push = {"slots": x(4, 4, 2), "filled": 4, "ptr": 4, "x": x(N, 4, 2)}
    found = {
        "philox": Call("noise_philox", {"counter": np.repeat(words, 4).reshape(N, 4), "key": key}),
        "bits": Call("noise_bits", address),
        "uniform": Call("noise_uniform", address | {"dtype": dtype}),
        "normal": Call("noise_normal", address | {"dtype": dtype}),
        "index": Call("noise_index", {"bits": words, "n": 9}),
        "permutation": Call("noise_permutation", {"seed": 1, "stream": 2, "step": 3, "n": N}),
        "step": Call("langevin_step", {"x": x(N, 4, 2), "g": x(N, 4, 2), "xi": x(N, 4, 2), "eta": 0.1, "sigma": 0.2}
                     | {"clip": 0.9, "clip_norm": 0.5, "box": (-1.0, 1.0)}),
        "jitter": Call("langevin_jitter", {"x": x(N, 4, 2), "xi": x(N, 4, 2), "sigma": 0.2}),
        "draw": Call("buffer_draw", {"slots": x(4, 4, 2), "filled": 4, "bits": words, "u": rng.random(N)}
                     | {"fresh": x(N, 4, 2), "rho": 0.5}),
        "push in_place": Call("buffer_push", push | {"policy": "in_place", "idx": np.arange(N) % 4}),
        "push fifo": Call("buffer_push", push | {"policy": "fifo"}),
        "push reservoir": Call("buffer_push", push | {"policy": "reservoir", "bits": words}),
        "conv2d": Call("conv2d_forward", image | {"b": x(8)}),
        "conv2d back": Call("conv2d_backward", image | {"dy": x(N, 3, 2, 8)}),
        "norm": Call("group_norm_forward", norm | {"beta": x(4)}),
        "coupling": Call("coupling_cost", {"x0": x(3, 4, 2) * (N > 0), "x1": x(3, 4, 2) * (N > 0)}),
        "repulsion": Call("repulsion", {"x": x(N, 3, 2), "tau": 0.1, "sigma": 0.7}),
        "norm back": Call("group_norm_backward", norm | {"dy": x(N, 5, 4)}),
    }  # fmt: skip
    for kind, fields in ENERGIES.items():
        shapes = getattr(ebm_ref, kind)(**fields).theta_shapes()
        theta = {name: 0.5 * x(*shape) for name, shape in shapes.items()}
        more = {"x": x(N, *fields["shape"]), "v": x(N, *fields["shape"]), "w": x(N)}
        for method, extra in METHODS.items():
            args = {"theta": theta, "x": more["x"]} | ({extra: more[extra]} if extra else {})
            found[f"{kind} {method}"] = Call(method, args, kind)
        for order in ("noise_first", "gradient_first"):
            args = {"theta": theta, "x0": more["x"], "K": K, "update": SGLD(0.1, 0.2, order=order), "seed": 5}
            found[f"{kind} {order}"] = Call("langevin_run", args | {"chains": ids}, kind)
    found |= field_calls(x, N, K)
    return found


def field_calls(x, N, K):
    """Of each field, of an energy on one, and descents on them. x: shape -> numbers."""
    found = {}
    for kind, fields in FIELDS.items():
        field = getattr(ebm_ref, kind)(**fields)
        theta = {name: 0.5 * x(*shape) for name, shape in field.theta_shapes().items()}
        more = {name: x(N, *fields["shape"]) for name in "xvgh"} | {"w": x(N)}
        for method, names in FIELD_METHODS.items():
            args = {"theta": theta, "x": more["x"]} | {name: more[name] for name in names}
            found[f"{kind} {method}"] = Call(method, args, kind)
        for method, names in METHODS.items():
            args = {"theta": theta, "x": more["x"]} | {name: more[name] for name in names}
            found[f"FieldEnergy {kind} {method}"] = Call(method, args, f"FieldEnergy {kind}")
        for name, rule in RULES.items():
            args = {"theta": theta, "x0": more["x"], "K": K, "rule": rule, "g_min": 0.2}
            found[f"{kind} {name}"] = Call("descent_run", args, kind)
            found[f"FieldEnergy {kind} {name}"] = Call("descent_run", args, f"FieldEnergy {kind}")
    return found


def with_gaps(a):
    """The same numbers with others between them."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1] + 1), a.dtype)
    view = wide[..., 1::2]
    view[...] = a
    assert a.size < 2 or not view.flags.c_contiguous
    return view


def off_by_one(a):
    """The same numbers, one element after a boundary of 16 bytes."""
    return moved(a) if a.size else a
