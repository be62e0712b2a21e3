"""Stage 3: the verification kit on the card, and the same numbers three times.

The suite is the one that `ebm verify` runs: the same cases drawn from the same seed, the same budgets and laws. It is
called function by function here, so that a stage that is killed keeps the functions it had finished. Then every
deterministic function runs three times on the same large inputs: the results must be equal to the bit.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from typing import Any

import numpy as np

import ebm_fast

from .calls import arrays_of, calls, refused
from .context import FAIL, PASS, SKIP, Context, Skip

TWINS = ("cupy_raw", "numba_cuda")
CASES, QUICK_CASES, SEED = 30, 5, 0
SLOW = {"conv_energy": 15, "deep_conv_energy": 8}  # cases where the float64 oracle, on one core, takes a second a case
RUNS = 3


def correctness(context: Context) -> None:
    context.need_card()
    context.need("hypothesis")
    context.need("cupy")
    able = []
    for twin in TWINS:
        why = ebm_fast.why_not(twin) if twin in ebm_fast.BACKENDS else f"there is no backend {twin}"
        if why:
            context.row(f"verify {twin}", SKIP, why)
        else:
            able.append(twin)
    if able:
        spawn = multiprocessing.get_context("spawn")  # a CUDA context does not survive a fork
        with ProcessPoolExecutor(2 * len(able), spawn) as pool:
            waiting = {pool.submit(verify_twin, context, twin): f"verify {twin}" for twin in able}
            waiting |= {pool.submit(repeat_twin, context, twin): f"repeat {twin}" for twin in able}
            for done in as_completed(waiting):
                context.part(waiting[done], done.result)


def verify_twin(context: Context, twin: str) -> None:
    """Every function of one twin, a row a dtype; what takes longest comes last."""
    verify = context.need("ebm_fast.verify")
    for function in sorted(verify.FUNCTIONS, key=lambda name: name in SLOW):
        if context.left() < 3:
            context.row(f"verify {twin} {function}", SKIP, "no time left")
            continue
        cases = QUICK_CASES if context.quick else SLOW.get(function, CASES)
        for row in verify.run([twin], functions=[function], cases=cases, seed=SEED):
            values = asdict(row)
            context.row(f"verify {twin} {function}", values.pop("status"), values.pop("why"), **values)


def repeat_twin(context: Context, twin: str) -> None:
    """Every call of calls.py, RUNS times on the same inputs: equal to the bit."""
    module = context.need(f"ebm_fast.{twin}")
    device = context.need(f"ebm_fast.{twin}.device").current()
    for label, call in calls(module, device.put, large=not context.quick).items():
        if context.left() < 3:
            context.row(f"repeat {twin} {label}", SKIP, "no time left")
        else:
            context.part(f"repeat {twin} {label}", repeat, context, twin, label, call, device)


def repeat(context: Context, twin: str, label: str, call: Any, device: Any) -> None:
    try:
        runs = [[host(device, array) for array in arrays_of(call())] for _ in range(RUNS)]
    except Exception as error:
        if refused(label, error):
            raise Skip(str(error)) from error
        raise
    if not runs[0]:
        raise AssertionError("the call returned no array")
    same = all(
        np.array_equal(a.view(np.uint8), b.view(np.uint8))
        for run in runs[1:]
        for a, b in zip(runs[0], run, strict=True)
    )
    context.row(f"repeat {twin} {label}", PASS if same else FAIL, "" if same else "differs from run to run", runs=RUNS)


def host(device: Any, x: Any) -> np.ndarray:
    """The bits on the host, one dimension."""
    got = x if isinstance(x, np.ndarray) else device.get(x)
    return np.atleast_1d(np.ascontiguousarray(got)).reshape(-1)
