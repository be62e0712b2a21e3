"""Digits by energy flow: Energy Matching and Equilibrium Matching against the demo's model by PCD.

Equilibrium Matching learns a field without an energy, or an energy made of a field, and samples by descent from
N(0, I); Energy Matching learns a potential V, first by transport alone, then jointly with the contrast, and samples
by Langevin steps on the ramp of the temperature. The last image of either is cut to [-1, 1], where PCD's chains live
all the time. Judged as the demo is: precision and recall (k = 5, 20 principal components) of 1,000 samples against
1,000 training digits, Frechet distance of the features of a classifier, 500 against 500.

Then, for one field: quality against evaluations with and without a stop on |f| < g_min (`flow_nfe.py`), and a student
that needs one evaluation, with the share of its teacher's recall that it keeps.

`missed` holds the bars; `python -m bench flow_digits` says of each seed what was not reached.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast import backend as load_backend
from ebm_fast.app.data import Dataset, labelled_load
from ebm_fast.app.evaluate import REAL, SAMPLES, choose
from ebm_fast.app.fidelity import classes, fidelity
from ebm_ref.contracts import Array, Params, Stream, flat_size

from .flow_nfe import nfe_rows, nfe_write, quality_of
from .recipe import train_recipe
from .table import RESULTS, Row, machine

SEEDS = (0, 1, 2)
BAR_STUDENT = 0.7  # share of the teacher's recall
FIGURES = ("precision", "recall", "frechet_feature")


@dataclass(frozen=True)
class EqM:
    """head: "field", or of FieldEnergy   coupled: x and e paired at least cost within a batch, not drawn apart

    scale, a: of the target   eta, K: GradientDescent, K evaluations a sample.
    """

    head: str = "field"
    coupled: bool = True
    channels: tuple[int, ...] = (32, 64, 128)
    steps: int = 3000
    batch: int = 64
    lr: float = 2e-3
    warmup: int = 100
    clip: float = 5.0
    decay: float = 0.999
    scale: float = 4.0
    a: float = 0.8
    eta: float = 0.01
    K: int = 40


@dataclass(frozen=True)
class EM:
    """steps: of transport   joint: of both, at lr_joint with `positives` data in the contrast   T, dt: of samples.

    start_scale: the last layer's start is that many times theta_init's: V must fall by |x1 - x0|^2 on its way.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    strides: tuple[int, ...] = (1, 2, 2)
    max_groups: int = 8
    start_scale: float = 100.0
    steps: int = 6000
    batch: int = 64
    lr: float = 2e-3
    warmup: int = 100
    clip: float = 5.0
    decay: float = 0.999
    joint: int = 150
    lr_joint: float = 3e-4
    warmup_joint: int = 10
    decay_joint: float = 0.95
    positives: int = 64
    terms: ebm_ref.EMTerms = ebm_ref.EMTerms(tau=0.01, s_star=1.0, weight=0.05, K=75, dt=0.02, cutoff=0.8)
    T: float = 2.0
    dt: float = 0.02


@dataclass(frozen=True)
class Student:
    """pairs: how many starts the teacher is run from, once   steps: of the regression of its ends."""

    channels: tuple[int, ...] = (32, 64, 128)
    pairs: int = 8192
    steps: int = 4000
    batch: int = 64
    lr: float = 2e-3
    warmup: int = 100
    clip: float = 5.0
    decay: float = 0.999


def start(backend: ModuleType, shape: tuple[int, ...], n: int, seed: int) -> Array:
    """(n, *shape) of N(0, I)."""
    xi: Array = backend.noise_normal(seed, Stream.SAMPLE_START, 0, np.arange(n), flat_size(shape), np.float32)
    return xi.reshape((n, *shape))


def batches(backend: ModuleType, data: Array, n: int, seed: int) -> Iterator[Array]:
    """n data without repeats, a step at a time."""
    step = 0
    while True:
        yield data[backend.noise_permutation(seed, Stream.DATA_INDEX, step, len(data))[:n]]
        step += 1


def assign_of(backend: ModuleType) -> Callable[[Array], Array]:
    """The backend's assignment of least cost, or the reference's."""
    assign: Callable[[Array], Array] = getattr(backend, "coupling_assign", ebm_ref.coupling_assign)
    return assign


def fit(theta: Params, step_of: Callable[[Params, int], Params], steps: Iterable[int], numbers: Any) -> Params:
    """The moving average of theta over Adam's steps, with a clipped gradient and a cosine of the learning rate."""
    steps = list(steps)
    ema, optimizer = ebm_ref.ema_init(theta), ebm_ref.adam_init(theta)
    for i, step in enumerate(steps):
        grads, _ = ebm_ref.clip_global_norm(step_of(theta, step), numbers.clip)
        lr = ebm_ref.schedule_value(i, len(steps), numbers.lr, numbers.warmup, "cosine")
        theta, optimizer = ebm_ref.adam_step(theta, grads, optimizer, lr)
        ema = ebm_ref.ema_step(ema, theta, min(numbers.decay, (1 + i) / (10 + i)))
    return ema


def train_eqm(backend: ModuleType, data: Array, numbers: EqM, seed: int) -> tuple[Any, Params]:
    """(a field, or an energy made of one; averaged parameters)."""
    field = backend.ConvField(data.shape[1:], numbers.channels)
    model = field if numbers.head == "field" else backend.FieldEnergy(field, numbers.head)
    target, drawn = (
        ebm_ref.EquilibriumTarget(a=numbers.a, scale=numbers.scale),
        batches(backend, data, numbers.batch, seed),
    )
    loss_of = ebm_ref.eqm_implicit if numbers.head == "field" else ebm_ref.eqm_explicit

    def step_of(theta: Params, step: int) -> Params:
        x, n = next(drawn), np.arange(numbers.batch)
        e = backend.noise_normal(seed, Stream.FLOW_NOISE, step, n, flat_size(model.shape), x.dtype).reshape(x.shape)
        gamma = backend.noise_uniform(seed, Stream.FLOW_TIME, step, n, 1, x.dtype)[:, 0]  # as eqm_step draws them
        if numbers.coupled:
            x = x[ebm_ref.coupling_permutation(assign_of(backend), e, x)]
        return loss_of(model, theta, x, e, gamma, target)[1]

    return model, fit(ebm_ref.theta_init(model, seed), step_of, range(numbers.steps), numbers)


def train_em(backend: ModuleType, data: Array, numbers: EM, seed: int) -> tuple[Any, Params]:
    """(V, averaged parameters): transport at full weight up to the data, then both parts together."""
    V = backend.ConvEnergy(data.shape[1:], numbers.channels, numbers.strides, max_groups=numbers.max_groups)
    theta, drawn = ebm_ref.theta_init(V, seed), batches(backend, data, numbers.batch + numbers.positives, seed)
    theta["out.w"] = theta["out.w"] * np.float32(numbers.start_scale)

    def step_of(theta: Params, step: int) -> Params:
        x = next(drawn)
        first = step < numbers.steps
        x_pos, terms = (None, replace(numbers.terms, cutoff=1.0)) if first else (x[numbers.batch :], numbers.terms)
        return ebm_ref.em_step(backend, V, theta, x[: numbers.batch], x_pos, terms, seed, step, assign_of(backend))[1]

    theta = fit(theta, step_of, range(numbers.steps), numbers)
    if numbers.joint:
        second = replace(numbers, lr=numbers.lr_joint, warmup=numbers.warmup_joint, decay=numbers.decay_joint)
        theta = fit(theta, step_of, range(numbers.steps, numbers.steps + numbers.joint), second)
    return V, theta


def sample_eqm(backend: ModuleType, model: Any, theta: Params, numbers: EqM, n: int, seed: int) -> Array:
    """(n, *shape) in [-1, 1]: K steps of descent from N(0, I)."""
    rule = ebm_ref.GradientDescent(numbers.eta)
    run = getattr(backend, "descent_run", ebm_ref.descent_run)
    x, _, _ = run(model, theta, start(backend, model.shape, n, seed), numbers.K, rule)
    return cut(x)


def sample_em(backend: ModuleType, V: Any, theta: Params, numbers: EM, n: int, seed: int) -> Array:
    """(n, *shape) in [-1, 1]: Langevin steps from N(0, I) for a time T on the ramp."""
    terms, K = numbers.terms, round(numbers.T / numbers.dt)
    first = (numbers.steps + numbers.joint) * terms.K  # the steps of training come before
    x0 = start(backend, V.shape, n, seed)
    x, _ = ebm_ref.heated_run(backend, V, theta, x0, K, numbers.dt, terms.tau, terms.s_star, seed, first)
    return cut(x)


def train_student(
    backend: ModuleType, teacher: Any, theta: Params, numbers: EqM, student: Student, seed: int
) -> tuple[Any, Params]:
    """(FlowMap of horizon eta K, averaged parameters): the regression of the ends of the teacher's descents."""
    H, W, C = teacher.shape
    groups = min(8, student.channels[0] // 2)
    trunk = backend.ConvField((H, W, C + 1), student.channels, max_groups=groups, out_channels=C)
    phi = ebm_ref.FlowMap(trunk, numbers.eta * numbers.K)
    velocity = ebm_ref.teacher_velocity(teacher, theta)
    pairs = ebm_ref.student_pairs(backend, phi, velocity, student.pairs, numbers.eta, seed)

    def step_of(theta: Params, step: int) -> Params:
        return ebm_ref.trajectory_step(backend, phi, theta, pairs, student.batch, seed, step)[1]

    return phi, fit(ebm_ref.theta_init(phi, seed), step_of, range(student.steps), student)


def cut(x: Array) -> Array:
    """x in [-1, 1]."""
    return np.clip(x, -1, 1)


def judge(data: Dataset, chains: Array, seed: int) -> Row:
    """The demo's figures of 1,000 samples, with their errors."""
    real = choose(ebm_ref, data.train, SAMPLES, seed, REAL)
    figures = fidelity(data, real, chains) | classes(data, chains, real)
    names = [*FIGURES, "frechet_feature_se", "classes_covered"]
    return {name: figures[name] for name in names}


def pcd(seed: int) -> Row:
    """The demo's own figures: the digits preset, trained and judged by `ebm train`."""
    with tempfile.TemporaryDirectory() as scratch:
        summary = train_recipe(Path(scratch) / "pcd", [f"run.seed={seed}"])
    return {name: summary[name] for name in FIGURES} | {"seconds": summary["seconds_train"]}


def missed(row: Row, bar: Row) -> list[str]:
    """What a row does not do better than PCD, in words."""
    better = {name: row[name] > bar[name] for name in ("precision", "recall")}
    better["frechet_feature"] = row["frechet_feature"] < bar["frechet_feature"]
    return [f"{name} {row[name]:.3f} against {bar[name]:.3f}" for name, reached in better.items() if not reached]


MODELS = {
    "eqm": EqM(),
    "eqm dot": EqM(head="dot"),
    "eqm norm": EqM(head="norm"),
    "em": EM(),
}


def settings(numbers: Any) -> Row:
    """What a model was made with, in one cell."""
    return {"settings": " ".join(f"{name}={value}" for name, value in asdict(numbers).items()).replace("\n", "")}


def run_model(
    backend: ModuleType, data: Dataset, numbers: EqM | EM, seed: int, n: int = SAMPLES
) -> tuple[Any, Params, Row]:
    """Train and sample one model: (model, averaged parameters, its row)."""
    began = time.perf_counter(), time.process_time()
    of_em = isinstance(numbers, EM)
    model, theta = (train_em if of_em else train_eqm)(backend, data.train, numbers, seed)  # type: ignore[arg-type,operator]
    seconds = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    x = (sample_em if of_em else sample_eqm)(backend, model, theta, numbers, n, seed)  # type: ignore[arg-type,operator]
    nfe = round(numbers.T / numbers.dt) if isinstance(numbers, EM) else numbers.K
    return model, theta, {"nfe": nfe} | judge(data, x, seed) | seconds


def run_student(
    backend: ModuleType,
    data: Dataset,
    teacher: Any,
    theta: Params,
    numbers: EqM,
    row: Row,
    seed: int,
    student: Student = Student(),
    n: int = SAMPLES,
) -> Row:
    """Train and judge the student of one teacher, whose row is `row`."""
    began = time.perf_counter(), time.process_time()
    phi, theta_student = train_student(backend, teacher, theta, numbers, student, seed)
    seconds = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    x = cut(phi.flow(theta_student, start(backend, teacher.shape, n, seed), phi.h_max))
    judged = judge(data, x, seed)
    return {"nfe": 1} | judged | seconds | {"recall_kept": judged["recall"] / max(row["recall"], 1e-9)}


def compare_flows() -> None:
    """Write bench/results/flow_digits.csv, flow_nfe.csv and flow_nfe.png; each row is printed when it is made."""
    backend, data = load_backend("auto"), labelled_load("digits", "float32")
    rows: list[Row] = []

    def keep(row: Row, numbers: Any) -> None:
        rows.append(row | settings(numbers) | {"backend": backend.__name__.split(".")[-1]} | machine())
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        save(rows, RESULTS / "flow_digits.csv")

    for seed in SEEDS:
        bar = pcd(seed)
        for name, numbers in MODELS.items():
            model, theta, row = run_model(backend, data, numbers, seed)
            keep({"seed": seed, "model": name} | row | {f"{what}_pcd": bar[what] for what in FIGURES}, numbers)
            print(f"seed {seed}: {name}: missed: {'; '.join(missed(row, bar)) or 'nothing'}", flush=True)
            if name != "eqm":
                continue
            kept = run_student(backend, data, model, theta, numbers, row, seed)
            keep({"seed": seed, "model": "student of eqm"} | kept, Student())
            verdict = "reached" if kept["recall_kept"] >= BAR_STUDENT else "missed"
            print(f"seed {seed}: student keeps {kept['recall_kept']:.1%} of the recall: {verdict}", flush=True)
            if seed == SEEDS[0]:
                x0 = start(backend, model.shape, SAMPLES, seed)
                nfe_write(nfe_rows(backend, quality_of(data, seed), model, theta, x0, numbers.eta))


def save(rows: list[Row], path: Path) -> None:
    """The rows as they are so far."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
