"""The card's runtime on a stub of CuPy: what is adopted, what is refused, what is launched, where and with what."""

import sys

import numpy as np
import pytest
import stub_cupy

from ebm_fast.cupy_raw import card as card_module
from ebm_fast.cupy_raw import nvrtc, source
from ebm_fast.cupy_raw.card import Card, why_no_card
from ebm_fast.cupy_raw.device import current, launch, on, stream_of
from ebm_fast.cupy_raw.source import build_defines, kernel
from ebm_fast.verify import access
from ebm_fast.verify.host_build import host_device
from ebm_ref.contracts import BackendError, DTypeError, RangeError

CUBIN = b"\x7fELF and the rest"
BITS = ("noise.cu", "noise_bits", "float32")


@pytest.fixture(autouse=True)
def compiled(tmp_path, monkeypatch):
    """Every build is a cubin of its own name, made without NVRTC."""
    made = []

    def cubin_path(file, defines, arch):
        made.append((file, defines, arch))
        path = tmp_path / f"{file}-{len(made)}.cubin"
        path.write_bytes(CUBIN)
        return path

    monkeypatch.setattr(nvrtc, "cubin_path", cubin_path)
    monkeypatch.setattr(nvrtc, "load", lambda: None)
    card_module._cupy.cache_clear()
    yield made
    card_module._cupy.cache_clear()


@pytest.fixture
def stub():
    return stub_cupy.make()


@pytest.fixture
def device(stub):
    return Card(stub, 0)


class Dlpack:
    """A tensor of another library, as PyTorch and JAX speak: DLPack, on the CPU (1), a card (2), managed (13)."""

    def __init__(self, values, kind=2, ordinal=0):
        self.memory, self.kind = stub_cupy.Memory(values, ordinal), kind

    def __dlpack_device__(self):
        return self.kind, self.memory.device


class Interface:
    """An array of another library, as Numba speaks."""

    def __init__(self, values, ordinal=0, error=None):
        self.memory, self.error = stub_cupy.Memory(values, ordinal), error

    @property
    def __cuda_array_interface__(self):
        if self.error is not None:
            raise self.error
        return {"version": 3}


class Both(Dlpack, Interface):
    @property
    def __cuda_array_interface__(self):
        raise AssertionError("DLPack orders the streams; it comes first")


def numbers(*shape):
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


# ------------------------------------------------------------------------------------------- arrays


def test_array__of_cupy_is_itself(stub, device):
    x = stub.empty((2, 3), np.float32)
    assert device.array("x", x) is x


@pytest.mark.parametrize("wrap", [Dlpack, Interface, Both, lambda values: Dlpack(values, kind=13)])
def test_array__of_another_library_shares_its_memory(device, wrap):
    values = numbers(2, 3)
    a = device.array("x", wrap(values))
    assert device.address(a) == values.ctypes.data and a.shape == (2, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.uint32])
def test_array__leaves_the_dtype_to_the_caller(device, dtype):
    assert device.array("x", Dlpack(np.ones(3, dtype))).dtype == dtype


@pytest.mark.parametrize("wrap", [stub_cupy.ndarray, Dlpack])
def test_array__with_gaps_is_copied_on_the_card(device, wrap):
    values = numbers(4, 6)[:, ::2]
    a = device.array("x", wrap(values))
    assert a.flags.c_contiguous and device.address(a) != values.ctypes.data
    assert np.array_equal(device.get(a), values)


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (numbers(3), "numpy.ndarray"),
        (np.float32(1), "numpy.float32"),
        ([1.0], "list"),
        (Dlpack(numbers(3), kind=1), "test_card.Dlpack"),
        (None, "NoneType"),
    ],
)
def test_array__on_the_host_is_refused(device, x, found):
    with pytest.raises(DTypeError, match=f"theta: expected an array on the CUDA device, found {found}; copy it with"):
        device.array("theta", x)


@pytest.mark.parametrize("x", [Dlpack(numbers(3), ordinal=1), stub_cupy.ndarray(numbers(3), 1)])
def test_array__on_another_card_is_refused(device, x):
    with pytest.raises(DTypeError, match="x: expected an array on CUDA device 0, found one on 1"):
        device.array("x", x)


def test_array__says_why_its_owner_does_not_share_it(device):
    with pytest.raises(DTypeError, match="x: expected an array that can be shared, .*Interface: requires grad"):
        device.array("x", Interface(numbers(3), error=BufferError("requires grad")))


def test_put_and_get__copy(device):
    table = numbers(5)
    a = device.put(table)
    back = device.get(a)
    assert device.address(a) != table.ctypes.data and np.array_equal(back, table)
    assert device.address(a) != back.ctypes.data
    assert device.empty((2, 0), np.float64).shape == (2, 0)


# ----------------------------------------------------------------------------------------- launches


def bits(stub, shared=0, grid=(2, 3), block=64):
    """A launch of noise_bits as its launcher would write it."""
    out = stub.empty((2, 4), np.uint32)
    words = (np.uint32(1), np.uint32(2**32 - 1), np.uint32(3), np.uint32(4))
    launch(kernel(*BITS), grid, block, (out, None, np.int32(2), np.int64(2**40), *words), shared)
    return out


def launches(stub):
    return [entry for entry in stub.log if entry[0] not in ("load", "graph")]


def test_launch__passes_sizes_stream_and_arguments_of_exact_type(stub, device):
    with on(device), stub.cuda.Stream() as stream:
        out = bits(stub, shared=100)
    name, grid, block, values, shared, where = launches(stub)[0]
    assert (name, grid, block, shared, where) == ("noise_bits", (2, 3, 1), (64, 1, 1), 100, stream.ptr)
    words = [("uint32", 1), ("uint32", 2**32 - 1), ("uint32", 3), ("uint32", 4)]
    assert values == (out.data.ptr, (np.dtype(np.uintp).name, 0), ("int32", 2), ("int64", 2**40), *words)


def test_launch__compiles_each_build_once_for_the_card_s_architecture(stub, device, compiled):
    with on(device):
        bits(stub)
        bits(stub)
        launch(kernel("noise.cu", "noise_bits", "float64"), 1, 1, ())
    assert compiled == [("noise.cu", build_defines(dtype, 0), "sm_90a") for dtype in ("float32", "float64")]
    assert len(launches(stub)) == 3 and len([e for e in stub.log if e[0] == "load"]) == 2


def test_launch__loads_a_build_once_for_all_its_kernels(stub, device):
    with on(device):
        for name in ("noise_bits", "noise_index"):
            launch(kernel("noise.cu", name, "float32"), 1, 1, ())
    assert [entry[0] for entry in stub.log] == ["load", "noise_bits", "noise_index"]


def test_launch__is_on_the_default_stream_where_nothing_is_said(stub, device):
    with on(device):
        bits(stub)
    assert launches(stub)[0][-1] == 0


@pytest.mark.parametrize("argument", [3, 1.0, True, np.zeros(3), "x"])
def test_launch__refuses_an_argument_of_no_exact_type(stub, device, argument):
    with on(device), pytest.raises(DTypeError, match="argument 1 of noise_bits: expected an array on the card"):
        launch(kernel(*BITS), 1, 1, (None, argument))
    assert launches(stub) == []


def test_launch__raises_the_shared_memory_a_block_may_have_once(stub, device):
    with on(device):
        for shared in (49152, 200_000, 100_000):
            bits(stub, shared)
    assert [entry[4] for entry in launches(stub)] == [49152, 200_000, 100_000]
    assert device._kernels[kernel(*BITS)].function.max_dynamic_shared_size_bytes == 200_000


def test_launch__says_what_the_card_s_shared_memory_is():
    stub = stub_cupy.make(capability="86", shared_limit=101_376, static=1024)
    with on(Card(stub, 0)), pytest.raises(RangeError, match="shared of noise_bits: expected at most 101376 .* 101377"):
        bits(stub, shared=101_376 - 1023)
    assert launches(stub) == []


def test_launch__names_the_kernel_that_the_driver_refuses(stub, device, monkeypatch):
    def refuse(*args, **options):
        raise stub_cupy.CUDADriverError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")

    monkeypatch.setattr(stub_cupy.Function, "__call__", refuse)
    with on(device), pytest.raises(BackendError, match=r"noise_bits \(noise.cu.*OUT_OF_RESOURCES \(grid \(2, 3, 1\)"):
        bits(stub)


# ------------------------------------------------------------------------------------------ streams


class Foreign:
    def __cuda_stream__(self):
        return 0, 4096


def test_stream_of__launches_on_the_caller_s_stream(stub, device):
    own = stub.cuda.Stream()
    with on(device):
        for stream in (None, own, Foreign(), 8192):
            with stream_of(stream):
                bits(stub)
        bits(stub)
    assert [entry[-1] for entry in launches(stub)] == [0, own.ptr, 4096, 8192, 0]


@pytest.mark.parametrize("stream", ["default", True, 1.0, np.zeros(2)])
def test_stream_of__refuses_what_is_no_stream(device, stream):
    with on(device), pytest.raises(DTypeError, match="stream: expected a CUDA stream, its address or None, found "):
        stream_of(stream)


def test_stream_of__on_the_host_build_is_none():
    with on(host_device()):
        with stream_of(None):
            pass
        with pytest.raises(DTypeError, match="stream: expected None, because the host build has no streams, found int"):
            stream_of(0)


# ------------------------------------------------------------------------------------------- graphs


@pytest.mark.parametrize("times", [0, 1, 2, 3, 60])
def test_repeat__launches_the_body_as_often_as_it_says(stub, device, times):
    calls = []

    def body():
        calls.append(stub.current().ptr)
        for name in "ab":
            device.launch(kernel(*BITS), (1, 1, 1), (ord(name), 1, 1), (), 0)

    with stub.cuda.Stream() as stream:
        device.repeat(times, body)
    done = launches(stub)
    assert [entry[2][0] for entry in done] == [ord("a"), ord("b")] * times
    assert {entry[-1] for entry in done} <= {stream.ptr}
    assert len(calls) == min(times, 2) and calls[:1] in ([], [stream.ptr])
    assert len([e for e in stub.log if e[0] == "graph"]) == (times - 1 if times > 2 else 0)
    assert not times > 2 or calls[1] not in (0, stream.ptr)


def test_repeat__compiles_before_it_records(stub, device):
    device.repeat(5, lambda: device.launch(kernel(*BITS), (1, 1, 1), (1, 1, 1), (), 0))
    assert [entry[0] for entry in stub.log] == ["load", "noise_bits"] + ["graph", "noise_bits"] * 4


def test_repeat__inside_a_recording_joins_it(stub, device):
    with stub.cuda.Stream() as stream:
        stream.begin_capture()
        device.repeat(5, lambda: device.launch(kernel(*BITS), (1, 1, 1), (1, 1, 1), (), 0))
        graph = stream.end_capture()
    assert len(graph.launches) == 5 and [entry for entry in stub.log if entry[0] != "load"] == []


@pytest.mark.parametrize("what", ["empty", "put", "get"])
def test_repeat__refuses_a_body_that_allocates_or_waits(stub, device, what):
    x, wanted = stub.empty((2,), np.float32), {"empty": ((3,), np.float32), "put": (numbers(2),)}
    with pytest.raises(BackendError, match=f"card: {what} while a graph is being recorded"):
        device.repeat(3, lambda: getattr(device, what)(*wanted.get(what, (x,))))
    assert device.empty((3,), np.float32).shape == (3,)  # and the card can be used afterwards
    assert not stub.current().is_capturing()


# ----------------------------------------------------------------------------- the backend's launchers


class Tensor(Dlpack):
    """A tensor of PyTorch: its dtype is not NumPy's, so nothing may be asked of it before it is adopted."""

    def __init__(self, values):
        super().__init__(values)
        self.dtype, self.shape, self.ndim = f"torch.{values.dtype}", values.shape, values.ndim
        self.__cuda_array_interface__ = {"version": 2, "data": (values.ctypes.data, False)}


@pytest.mark.parametrize("library", ["cupy", "torch"])
@pytest.mark.parametrize("call", access.CALLS, ids=lambda call: call.__name__)
def test_launchers__take_arrays_of_the_card_and_of_other_libraries(stub, device, monkeypatch, library, call):
    if library == "torch":
        monkeypatch.setattr(access, "put", Tensor)
    with on(device):
        call()
    assert launches(stub)


def test_launchers__launch_every_kernel(stub, device):
    with on(device):
        for call in access.CALLS:
            call()
    launched = {entry[0] for entry in launches(stub)}
    assert launched == {name for file in source.ORDERS for name in source.kernel_names(file)}


# ---------------------------------------------------------------------------------- finding the card


def test_card__is_cupy_s_current_device(monkeypatch):
    stub = stub_cupy.make(capability="103")
    monkeypatch.setitem(sys.modules, "cupy", stub)
    assert why_no_card() is None
    assert current() is current() and current().arch == "sm_100"
    with on(object.__new__(Card)):
        assert current() is not card_module.card()


@pytest.mark.parametrize(
    ("devices", "why"),
    [(None, "no CUDA driver that works, or no card: cudaError"), (0, "the CUDA driver finds no card")],
)
def test_card__without_a_driver_or_a_device_says_so(monkeypatch, devices, why):
    monkeypatch.setitem(sys.modules, "cupy", stub_cupy.make(devices=devices))
    assert why in why_no_card()
    with pytest.raises(BackendError, match=why):
        current()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ModuleNotFoundError("No module named 'cupy'", name="cupy"), r'pip install "ebm-oracle\[cuda13\]"'),
        (ImportError("libcudart.so.13: cannot open"), "CuPy is installed but does not import: libcudart.so.13"),
    ],
)
def test_card__without_cupy_says_so(monkeypatch, error, why):
    def refuse(name):
        raise error

    monkeypatch.setattr("ebm_fast.extras.import_module", refuse)
    with pytest.raises(BackendError, match=why):
        current()


def test_card__without_nvrtc_says_so(monkeypatch):
    def refuse():
        raise BackendError("NVRTC is not there")

    monkeypatch.setitem(sys.modules, "cupy", stub_cupy.make())
    monkeypatch.setattr(nvrtc, "load", refuse)
    assert why_no_card() == "NVRTC is not there"


def test_card__that_is_too_old_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", stub_cupy.make(capability="75"))
    assert why_no_card() == "card: expected compute capability 8.0 or newer, found 7.5"
    with pytest.raises(BackendError, match="found 7.5"):
        current()


def test_stub__has_the_names_of_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: its names are not compared with the stub's")
    stub = stub_cupy.make()
    names = [name for name in vars(stub) if not name.startswith("_")]
    own = {"log", "static", "allocated", "streams", "current", "put_on", "cuda"}
    assert [name for name in names if name not in own and not hasattr(cupy, name)] == []
    assert [name for name in vars(stub.cuda) if not hasattr(cupy.cuda, name)] == []
    for name in ("runtime", "driver"):
        assert [n for n in vars(getattr(stub.cuda, name)) if not hasattr(getattr(cupy.cuda, name), n)] == []
    methods = ("begin_capture", "end_capture", "is_capturing", "from_external", "__enter__", "__exit__")
    assert all(hasattr(cupy.cuda.Stream, name) for name in methods)
    assert all(hasattr(cupy.RawKernel, name) for name in ("shared_size_bytes", "max_dynamic_shared_size_bytes"))
    assert all(hasattr(cupy.ndarray, name) for name in ("device", "flags", "data")) and hasattr(
        cupy.cuda.Graph, "launch"
    )
