"""The sections [data] and [run] of a configuration, and the kinds of energies of [energy]."""

from __future__ import annotations

from dataclasses import dataclass

from ebm_fast import BACKENDS
from ebm_ref.contracts import RangeError, check_choice, check_count, check_number
from ebm_ref.field_specs import ConvFieldSpec, MLPFieldSpec
from ebm_ref.specs import ConvSpec, DeepConvSpec, MLPSpec, NetworkSpec

FIELDS: dict[str, type[NetworkSpec]] = {"MLPField": MLPFieldSpec, "ConvField": ConvFieldSpec}
ENERGIES: dict[str, type[NetworkSpec]] = {
    "MLPEnergy": MLPSpec,
    "ConvEnergy": ConvSpec,
    "DeepConvEnergy": DeepConvSpec,
    **FIELDS,
}
TABULAR = {"breast_cancer": 2, "wine": 3, "iris": 3}  # and the number of their classes
DATASETS = ("digits", "mnist5k", "toy2d", *TABULAR)


@dataclass(frozen=True)
class DataConfig:
    """Where the data come from: a named set, or your own file when `path` is given."""

    name: str = "digits"
    path: str = ""  # .npy or .npz: (n, D) vectors, (n, H, W) or (n, H, W, C) images; uint8, or floats in the box
    sha256: str = ""  # of that file; a run fills it in, and refuses another file from then on
    key: str = ""  # the array of an .npz that holds several
    toy: str = "two_moons"  # of the set toy2d
    n: int = 10_000  # points drawn of the set toy2d
    normal: int = 0  # of breast_cancer, wine, iris: the class that is normal; the others are anomalies
    split: int = 0  # of breast_cancer, wine, iris: which of the permutations holds a fifth of the normal class out

    def __post_init__(self) -> None:
        check_choice("name", self.name, DATASETS)
        check_count("n", self.n, low=2)
        check_count("split", self.split, low=0, high=2**32 - 1)
        if self.name in TABULAR:
            check_count("normal", self.normal, low=0, high=TABULAR[self.name] - 1)
        for key in ("normal", "split"):
            if self.name not in TABULAR and getattr(self, key) != 0:
                raise RangeError(f"{key}: {self.name} does not read it, {', '.join(TABULAR)} would")


@dataclass(frozen=True)
class RunSettings:
    """How the run is carried out: seed, backend, dtype, init; what is measured on the way; what divergence leads to."""

    seed: int = 0
    backend: str = "auto"
    chains: str = "auto"  # backend that draws chains and evaluates once trained; auto = see energies.py
    dtype: str = "float32"
    until: int = 0  # stop after this step (--steps); 0 = train.steps, where a schedule ends
    init: str = ""  # run folder whose parameters this run starts from, or that projection and student learn from
    save_every: int = 100  # steps between checkpoints
    auroc_every: int = 0  # steps between AUROCs of held-out data against auroc_set; 0 = none
    auroc_set: str = "uniform"  # one of the sets that the summary has AUROCs of
    rollback: int = 0  # how often, at most, training that diverges goes back to the last checkpoint
    rollback_factor: float = 0.5  # what lr is multiplied by each time
    rollback_gap: float | None = None  # an |energy gap| beyond it is divergence too
    report: bool = True  # curves.png and report.html at the end (needs the extra `plot`)

    def __post_init__(self) -> None:
        check_count("seed", self.seed, low=0, high=2**64 - 1)
        check_choice("dtype", self.dtype, ("float32", "float64"))
        check_choice("chains", self.chains, ("auto", *BACKENDS))
        for name in ("until", "auroc_every", "rollback"):
            check_count(name, getattr(self, name), low=0)
        check_count("save_every", self.save_every, low=1)
        check_number("rollback_factor", self.rollback_factor, low=0.0, high=1.0, open_low=True)
        if self.rollback_gap is not None:
            check_number("rollback_gap", self.rollback_gap, low=0.0, open_low=True)
        for switch, name in (
            ("auroc_every", "auroc_set"),
            ("rollback", "rollback_factor"),
            ("rollback", "rollback_gap"),
        ):
            if getattr(self, switch) == 0 and getattr(self, name) != getattr(type(self), name):
                raise RangeError(f"{name}: nothing reads it while {switch} is 0, found {getattr(self, name)!r}")
