"""CuPy's names as card.py uses them, on host memory: what is launched, where and with what is written to a log.

`make()` gives a module. Its rules are CuPy's: an argument is an array or a NumPy scalar (None would reach the driver
as a missing argument, so it is refused here), a launch goes to the current stream or into the recording on it,
and the default stream cannot be recorded. `test_stub__has_the_names_of_cupy` compares names with an installed CuPy.
"""

from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class Memory:
    """One allocation, host memory that plays the card's."""

    def __init__(self, values, device=0):
        self.values, self.device = values, device


def unwrap(x):
    if isinstance(x, (list, tuple)):
        return type(x)(map(unwrap, x))
    return x.values if isinstance(x, ndarray) else x


def wrap(x):
    if isinstance(x, tuple):
        return tuple(map(wrap, x))
    return ndarray(np.asarray(x)) if isinstance(x, (np.ndarray, np.generic)) else x


class ndarray:
    """NumPy's calls dispatch to it, as to CuPy's; nothing turns it into an array of the host unasked."""

    def __init__(self, values, device=0):
        self.values, self.device = values, SimpleNamespace(id=device)
        self.flags, self.data = values.flags, SimpleNamespace(ptr=values.ctypes.data)
        self.dtype, self.shape, self.ndim, self.size = values.dtype, values.shape, values.ndim, values.size

    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return wrap(getattr(ufunc, method)(*map(unwrap, inputs), **options))

    def __array_function__(self, function, types, args, options):
        return wrap(function(*unwrap(args), **{key: unwrap(value) for key, value in options.items()}))

    def __getitem__(self, key):
        return wrap(self.values[key])

    @property
    def __cuda_array_interface__(self):
        return {"version": 3, "data": (self.data.ptr, False)}

    def __len__(self):
        return self.shape[0]

    def __bool__(self):
        return bool(self.values)

    def reshape(self, *shape):
        return ndarray(self.values.reshape(*shape))

    def astype(self, dtype):
        return ndarray(self.values.astype(dtype))

    def all(self):
        return wrap(self.values.all())


class Function:
    """A kernel: `static` bytes of shared memory, 48 KiB of dynamic ones until more are asked for."""

    def __init__(self, stub, path, name):
        self.stub, self.path, self.name = stub, path, name
        self.shared_size_bytes, self.max_dynamic_shared_size_bytes = stub.static, 49152

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert isinstance(args, tuple) and all(isinstance(a, (ndarray, np.generic)) for a in args)
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        values = tuple(a.data.ptr if isinstance(a, ndarray) else (a.dtype.name, a.item()) for a in args)
        self.stub.put_on(self.stub.current(), (self.name, grid, block, values, shared_mem))


class Graph:
    def __init__(self, stub, launches):
        self.stub, self.launches = stub, launches

    def launch(self, stream=None):
        self.stub.log.append(("graph", stream.ptr, len(self.launches)))
        for one in self.launches:
            self.stub.put_on(stream, one)


def make(devices=1, capability="90", shared_limit=232_448, static=0):
    stub = ModuleType("cupy")
    stub.log, stub.static, stub.allocated = [], static, 0
    stack = []

    class Stream:
        null = None

        def __init__(self, null=False, non_blocking=False, ptr=None):
            stub.streams = getattr(stub, "streams", 0) + 1
            self.ptr, self.recorded = stub.streams * 16 if ptr is None else ptr, None

        @classmethod
        def from_external(cls, owner):
            version, ptr = owner.__cuda_stream__()
            return cls(ptr=ptr)

        def __enter__(self):
            stack.append(self)
            return self

        def __exit__(self, *error):
            stack.pop()

        def begin_capture(self):
            assert self.ptr != 0, "the default stream cannot be recorded"
            self.recorded = []

        def end_capture(self):
            recorded, self.recorded = self.recorded, None
            return Graph(stub, recorded)

        def is_capturing(self):
            return self.recorded is not None

    class Device:
        attributes = {"MaxSharedMemoryPerBlockOptin": shared_limit, "MultiProcessorCount": 132}
        compute_capability = capability

        def __init__(self, ordinal):
            self.id = ordinal

    class RawModule:
        def __init__(self, *, path):
            self.path = Path(path)
            assert self.path.read_bytes().startswith(b"\x7fELF")
            stub.log.append(("load", self.path.name))

        def get_function(self, name):
            return Function(stub, self.path, name)

    def get_device_count():
        if devices is None:
            raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        return devices

    def put_on(stream, launch):
        if stream.recorded is not None:
            stream.recorded.append(launch)
        else:
            stub.log.append((*launch, stream.ptr))

    def from_dlpack(x):
        return ndarray(x.memory.values, x.memory.device)

    def asarray(x):
        if isinstance(x, np.ndarray):
            return ndarray(x.copy())
        x.__cuda_array_interface__  # noqa: B018  the owner may refuse
        return ndarray(x.memory.values, x.memory.device)

    def empty(shape, dtype):
        stub.allocated += 1
        return ndarray(np.zeros(shape, dtype))

    Stream.null = Stream(ptr=0)
    stub.current = lambda: stack[-1] if stack else Stream.null
    stub.put_on, stub.ndarray, stub.RawModule, stub.RawKernel = put_on, ndarray, RawModule, Function
    stub.from_dlpack, stub.asarray, stub.empty = from_dlpack, asarray, empty
    stub.asnumpy = lambda x: x.values.copy()
    stub.ascontiguousarray = lambda x: ndarray(np.ascontiguousarray(x.values), x.device.id)
    stub.cuda = SimpleNamespace(
        Stream=Stream,
        ExternalStream=type("ExternalStream", (), {}),
        Graph=Graph,
        Device=Device,
        get_current_stream=stub.current,
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=get_device_count, getDevice=lambda: 0
        ),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
    )
    return stub
