"""Who may import whom, read from the sources: an oracle that a kernel can call is not an oracle."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for room in ("ebm_ref", "ebm_fast") for path in (ROOT / room).rglob("*.py"))
FLOOR = ("contracts", "specs", "field_specs", "descent_specs", "jet", "noise", "precision", "rounded", "trunk")
LEVELS = {name: 0 for name in FLOOR} | {"layers": 1, "fields": 2, "energies": 3, "samplers": 4, "objectives": 5}
LEVELS |= {
    "optim": 5,
    "diagnostics": 5,
    "evaluation": 5,
    "toys": 5,
    "methods": 5,
    "flow_methods": 5,
    "method": 5,
    "job": 5,
    "recipe": 5,
    "recipe_checks": 5,
    "regularise": 5,
    "state": 5,
    "train_checks": 6,
    "train": 6,
    "": 7,
}
THROUGH_THE_PROTOCOL = ("samplers", "objectives", "optim", "diagnostics")
SHARED = ("ebm_ref.contracts", "ebm_ref.specs", "ebm_ref.field_specs", "ebm_ref.descent_specs")
COMPILERS = {"numba_cpu": ("numba", "llvmlite"), "numba_cuda": ("numba",), "cupy_raw": ("cupy", "cuda")}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree, module, is_package):
    """Every dotted name that a source imports: `from a import b` is both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def uses_numpy_random(tree):
    names = [
        f"{n.value.id}.{n.attr}" for n in ast.walk(tree) if isinstance(n, ast.Attribute) and hasattr(n.value, "id")
    ]
    return any(name in ("np.random", "numpy.random") for name in names)


def forbidden(module, name):
    """Why `module` may not import `name`, or None."""
    top, room = name.split(".")[0], module.split(".")[0]
    mine = (module.split(".") + [""])[1]
    theirs = (name.split(".") + [""])[1]
    if top in sys.stdlib_module_names:
        return None
    if room == "ebm_ref":
        if top not in ("numpy", "ebm_ref") or name.startswith("numpy.random"):
            return "ebm_ref imports NumPy (not numpy.random) and the standard library only"
        if top == "numpy" or mine == theirs:
            return None
        if mine in FLOOR:
            return None if theirs in FLOOR else "the ground floor imports the ground floor only"
        if mine in THROUGH_THE_PROTOCOL and theirs in ("layers", "fields", "energies"):
            return f"{mine} see energies through the protocol"
        if theirs in LEVELS and LEVELS[mine] < LEVELS[theirs]:
            return f"{mine} is below {theirs}"
        return None
    if theirs in ("verify", "app") and top == "ebm_fast" and mine not in (theirs, "app"):
        return f"{theirs} is not imported by the rooms below"
    if mine in ("verify", "app"):
        ours = top in ("numpy", "ebm_ref", "ebm_fast")
        return None if ours else "extras come through ebm_fast.extras.require"
    if top == "numpy":
        return None
    if mine in COMPILERS:
        if top in COMPILERS[mine] or name.startswith(SHARED):
            return None
        own = theirs in (mine, "scalar", "checks", "extras")
        return None if top == "ebm_fast" and own else "not among its rooms"
    if mine == "" and theirs == "driver":
        return None
    if mine in ("", "checks", "extras"):
        rooms = SHARED if mine == "checks" else ("ebm_ref.contracts",)
        return None if name.startswith(rooms) else f"imports {' and '.join(rooms)} only"
    return f"{mine} imports NumPy only"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports__stay_in_their_rooms(path):
    tree, module = ast.parse(path.read_text()), module_of(path)
    names = imports(tree, module, path.name == "__init__.py")
    broken = [f"{name}: {why}" for name in names if (why := forbidden(module, name))]
    assert broken == []
    assert not (module.startswith("ebm_ref") and uses_numpy_random(tree)), "ebm_ref draws by address only"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ebm_ref.layers.conv2d", "scipy.signal"),
        ("ebm_ref.noise", "numpy.random.default_rng"),
        ("ebm_ref.noise", "ebm_ref.layers.conv2d"),
        ("ebm_ref.layers.linear", "ebm_ref.energies.base"),
        ("ebm_ref.fields.base", "ebm_ref.energies.base"),
        ("ebm_ref.samplers.langevin", "ebm_ref.energies.mlp_energy"),
        ("ebm_ref.samplers.descent", "ebm_ref.fields.base"),
        ("ebm_ref.objectives.contrastive", "ebm_ref.train.train"),
        ("ebm_ref.train", "ebm_fast.backend"),
        ("ebm_fast.scalar", "ebm_ref.contracts"),
        ("ebm_fast.checks", "ebm_ref.noise.noise_bits"),
        ("ebm_fast.checks", "numba"),
        ("ebm_fast.numba_cpu.noise", "ebm_ref.noise.noise_bits"),
        ("ebm_fast.numba_cpu.noise", "ebm_ref"),
        ("ebm_fast.numba_cpu.noise", "ebm_fast.cupy_raw"),
        ("ebm_fast.numba_cpu.noise", "ebm_fast.verify"),
        ("ebm_fast.verify.naive", "ebm_fast.app.main"),
        ("ebm_fast.verify.judge", "hypothesis"),
        ("ebm_fast.app.plots", "matplotlib.pyplot"),
        ("ebm_fast", "numba"),
        ("ebm_fast", "ebm_fast.checks"),
        ("ebm_fast.driver", "ebm_ref.contracts"),
        ("ebm_fast.checks", "ebm_fast.driver"),
        ("ebm_fast.cupy_raw.card", "ebm_fast.numba_cuda"),
        ("ebm_fast.cupy_raw.card", "ebm_fast.verify.sass"),
        ("ebm_fast.cupy_raw.card", "numba"),
    ],
)
def test_imports__rule_refuses(module, name):
    assert forbidden(module, name)


GUARD = """
import sys
sys.path.insert(0, {root!r})
class Guard:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ({allowed}) and top not in sys.stdlib_module_names:
            raise ImportError(f"{{name}} is neither NumPy nor the standard library")
sys.meta_path.insert(0, Guard())
"""


def run_guarded(allowed, code):
    script = GUARD.format(root=str(ROOT), allowed=", ".join(map(repr, allowed)) + ",") + code
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # threads that wait for a busy core cost more than they save
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=env)


def test_ebm_ref__needs_numpy_alone():
    walk = "import importlib, pkgutil, ebm_ref\n"
    walk += "for m in pkgutil.walk_packages(ebm_ref.__path__, 'ebm_ref.'): importlib.import_module(m.name)\n"
    walk += "print(len([m for m in sys.modules if m.startswith('ebm_ref')]))"
    done = run_guarded(["numpy", "ebm_ref"], walk)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_ebm_ref__trains_an_energy_with_numpy_alone():
    done = run_guarded(["numpy", "ebm_ref"], (ROOT / "examples" / "train_2d.py").read_text())
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("AUROC of held-out data against noise:")[1].split()[0]) > 0.9


def test_ebm_fast__import_is_light():
    done = run_guarded(["numpy", "ebm_ref", "ebm_fast"], "import ebm_fast\nprint(ebm_fast.BACKENDS)")
    assert done.returncode == 0, done.stderr
    assert "ebm_ref" in done.stdout


def test_guard__refuses_what_it_should():
    done = run_guarded(["numpy", "ebm_ref", "ebm_fast"], "import ebm_fast.numba_cpu")
    assert done.returncode != 0 and "neither NumPy nor the standard library" in done.stderr
