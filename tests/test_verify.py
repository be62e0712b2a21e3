"""The kit itself: right functions pass, planted bugs fail, budgets are neither blind nor jumpy."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import planted
import pytest

import ebm_ref
from ebm_fast import extras, verify
from ebm_fast.verify import laws, misuse, naive, naive_noise, problems
from ebm_fast.verify.case import Case, export, lay
from ebm_fast.verify.close import EXACT, MULTIPLES, Failure, compare, references
from ebm_fast.verify.judge import judge, search
from ebm_ref.contracts import EbmError, MissingExtraError, RangeError

PLANTED = [
    ("langevin_step", planted.langevin.step_noise_too_loud),
    ("langevin_step", planted.langevin.step_climbs),
    ("langevin_step", planted.langevin.step_clips_the_move),
    ("langevin_step", planted.langevin.step_box_before_noise),
    ("langevin_step", planted.langevin.step_noise_in_the_gradient),
    ("langevin_step", planted.langevin.step_clip_shrinks_small),
    ("langevin_step", planted.langevin.step_norm_of_the_batch),
    ("langevin_step", planted.langevin.step_norm_before_clip),
    ("langevin_step", planted.langevin.step_replaces_nan),
    ("langevin_step", planted.langevin.step_in_place),
    ("langevin_step", planted.langevin.step_widens),
    ("langevin_step", planted.langevin.step_norm_of_squares),
    ("langevin_step", planted.langevin.step_hands_back_its_input),
    ("langevin_step", planted.langevin.step_in_half_precision),
    ("langevin_step", planted.langevin.step_in_single),
    ("langevin_jitter", planted.langevin.jitter_unboxed),
    ("langevin_run", planted.langevin.run_same_noise),
    ("langevin_run", planted.langevin.run_seed_plus_step),
    ("langevin_run", planted.langevin.run_by_position),
    ("langevin_run", planted.langevin.run_one_order),
    ("langevin_run", planted.langevin.run_replaces_nan),
    ("langevin_run", planted.langevin.run_stops_together),
    ("langevin_run", planted.langevin.run_one_step_more),
    ("langevin_run", planted.langevin.run_half_a_step),
    ("langevin_run", planted.langevin.run_forgets_the_stream),
    ("langevin_run", planted.langevin.run_revives),
    ("noise_philox", planted.noise.philox_with_a_digit_off),
    ("noise_philox", planted.noise.philox_of_nine_rounds),
    ("noise_philox", planted.noise.philox_of_the_first_counter),
    ("noise_index", planted.noise.index_by_remainder),
    ("noise_index", planted.noise.index_in_double),
    ("noise_index", planted.noise.index_up_to_n),
    ("noise_permutation", planted.noise.permutation_turns_equals_round),
    ("noise_permutation", planted.noise.permutation_of_a_heap),
    ("noise_permutation", planted.noise.permutation_is_the_rank),
    ("noise_permutation", planted.noise.permutation_with_gaps),
    ("noise_bits", planted.noise.bits_one_block_each),
    ("noise_bits", planted.noise.bits_half_the_key),
    ("noise_bits", planted.noise.bits_by_position),
    ("noise_bits", planted.noise.bits_step_in_the_seed),
    ("noise_bits", planted.noise.bits_short_rows),
    ("noise_uniform", planted.noise.uniform_may_be_zero),
    ("noise_normal", planted.noise.normal_swapped),
    ("noise_normal", planted.noise.normal_half_circle),
    ("buffer_draw", planted.buffer.draw_mask_from_index),
    ("buffer_draw", planted.buffer.draw_leaves_out_the_tail),
    ("buffer_draw", planted.buffer.draw_from_empty_slots),
    ("buffer_draw", planted.buffer.draw_jitters_the_old),
    ("buffer_draw", planted.buffer.draw_restarts_at_a_tie),
    ("buffer_push", planted.buffer.push_first_wins),
    ("buffer_push", planted.buffer.push_from_slot_zero),
    ("buffer_push", planted.buffer.push_reservoir_off_by_one),
    ("conv2d_forward", planted.layers.conv_pads_both_sides),
    ("conv2d_forward", planted.layers.conv_flips_the_filter),
    ("conv2d_forward", planted.layers.conv_forgets_the_bias),
    ("conv2d_forward", planted.layers.conv_reads_past_strides),
    ("conv2d_forward", planted.layers.conv_in_single),
    ("conv2d_backward", planted.layers.backward_flips_dw),
    ("conv2d_backward", planted.layers.backward_leaves_out_the_last_row),
    ("conv2d_backward", planted.layers.backward_averages),
    ("group_norm_forward", planted.layers.norm_unbiased),
    ("group_norm_forward", planted.layers.norm_without_eps),
    ("group_norm_forward", planted.layers.norm_eps_outside),
    ("group_norm_forward", planted.layers.norm_one_pass),
    ("group_norm_forward", planted.layers.norm_interleaves_groups),
    ("group_norm_forward", planted.layers.norm_over_the_batch),
    ("group_norm_backward", planted.layers.norm_backward_fixed_statistics),
    ("group_norm_backward", planted.layers.norm_backward_forgets_the_slope),
    ("mlp_energy", planted.energies.MeanOverBatch),
    ("mlp_energy", planted.energies.ColumnEnergy),
    ("mlp_energy", planted.energies.AscentGradient),
    ("mlp_energy", planted.energies.NoisyEnergy),
    ("mlp_energy", planted.energies.HalfCurvature),
    ("mlp_energy", planted.energies.CentredBatch),
    ("mlp_energy", planted.energies.FirstTile),
    ("conv_energy", planted.energies.SumPool),
    ("conv_energy", planted.energies.IgnoresWeights),
    ("deep_conv_energy", planted.energies.LeavesOutTheSkip),
    ("deep_conv_energy", planted.energies.NormOfChannels),
]
SINGLE_ONLY = ("step_widens", "step_norm_of_squares")  # right in float64: wide enough, or the input itself is


@pytest.mark.parametrize(("name", "wrong"), PLANTED, ids=[wrong.__name__ for _, wrong in PLANTED])
def test_check__rejects_planted_bug(name, wrong):
    dtype = np.float32 if wrong.__name__ in SINGLE_ONLY else np.float64
    report = verify.check(wrong, name, dtype=dtype, cases=100)
    assert report.status == "fail"
    assert wrong.__name__ in report.why and name in report.why
    with pytest.raises(Failure):
        report.raise_if_failed()
    with pytest.raises(Failure):  # the case that it hands over does fail
        judge(report.case, wrong, dtype=dtype)


def test_planted__scaffolds_are_right_but_for_their_bug():
    """With the right address the same scaffold passes: it is the planted line that fails."""

    def right(energy, theta, x0, K, update, seed, step=0, chains=None, stream=7):
        def address(k, ids):
            return seed, step + k, ids

        return planted.langevin.run_with(energy, theta, x0, K, update, seed, step, chains, stream, address=address)

    assert verify.check(right, "langevin_run", dtype=np.float64, cases=15).status == "pass"
    assert verify.check(planted.langevin.step_right, "langevin_step", cases=50).status == "pass"


# ------------------------------------------------------------------------------------------- laws

BROKEN_LAWS = [
    (laws.chains_have_addresses, "noise_bits", planted.noise.bits_by_position),
    (laws.words_are_known, "noise_philox", planted.noise.philox_with_a_digit_off),
    (laws.counters_are_their_own, "noise_philox", planted.noise.philox_of_the_first_counter),
    (laws.every_index_has_its_share, "noise_index", planted.noise.index_by_remainder),
    (laws.every_index_has_its_share, "noise_index", planted.noise.index_up_to_n),
    (laws.each_number_stands_once, "noise_permutation", planted.noise.permutation_with_gaps),
    (laws.words_are_in_order, "noise_permutation", planted.noise.permutation_turns_equals_round),
    (laws.words_are_in_order, "noise_permutation", planted.noise.permutation_is_the_rank),
    (laws.uniforms_are_positive, "noise_uniform", lambda *args, dtype: np.zeros((len(args[3]), args[4]), dtype)),
    (laws.no_noise_is_descent, "langevin_step", planted.langevin.step_climbs),
    (laws.stays_in_the_box, "langevin_step", planted.langevin.step_box_before_noise),
    (laws.nan_is_not_hidden, "langevin_step", planted.langevin.step_replaces_nan),
    (laws.no_steps_return_the_start, "langevin_run", planted.langevin.run_one_step_more),
    (laws.steps_add_up, "langevin_run", planted.langevin.run_same_noise),
    (laws.chains_are_their_own, "langevin_run", planted.langevin.run_by_position),
    (laws.sick_chains_stop, "langevin_run", planted.langevin.run_stops_together),
    (laws.every_slot_is_drawn, "buffer_draw", planted.buffer.draw_leaves_out_the_tail),
    (laws.restarts_are_fresh, "buffer_draw", planted.buffer.draw_jitters_the_old),
    (laws.two_pushes_are_one, "buffer_push", planted.buffer.push_from_slot_zero),
    (laws.last_of_equals_wins, "buffer_push", planted.buffer.push_first_wins),
    (laws.conv2d_is_adjoint, "conv2d_backward", planted.layers.backward_flips_dw),
    (laws.group_norm_is_adjoint, "group_norm_backward", planted.layers.norm_backward_fixed_statistics),
    (laws.group_norm_is_standard, "group_norm_forward", planted.layers.norm_unbiased),
    (laws.samples_are_their_own, "mlp_energy", planted.energies.CentredBatch),
    (laws.gradients_are_slopes, "mlp_energy", planted.energies.HalfCurvature),
    (laws.gradients_are_slopes, "mlp_energy", planted.energies.AscentGradient),
]


@pytest.mark.parametrize(("law", "name", "wrong"), BROKEN_LAWS, ids=[law.__name__ for law, _, _ in BROKEN_LAWS])
def test_law__fails_without_any_oracle_s_result(law, name, wrong):
    """Each law alone, with no result compared to the oracle's, rejects a planted bug and lets the oracle pass."""

    def trial(fn):
        def judge_by_law(case):
            budget = references(case, np.float64)[1]
            with np.errstate(all="ignore"):
                law(laws.Trial(case, fn, ebm_ref, case.run(fn), budget, np.float64))
            return 0.0

        return search(name, np.float64, judge_by_law, 40, 0).failure

    assert law in laws.LAWS[name]
    assert str(trial(wrong)).startswith("law: ")
    assert trial(getattr(ebm_ref, export(name))) is None


def test_check_cd__sees_a_step_too_many():
    assert laws.contrastive.check_cd(ebm_ref, np.float64)[1] == 16
    wrong = SimpleNamespace(**(vars(ebm_ref) | {"langevin_run": planted.langevin.run_one_step_more}))
    with pytest.raises(Failure, match="CD without steps has loss 0"):
        laws.contrastive.check_cd(wrong, np.float64)


# ------------------------------------------------------------------------------------------ check


def test_check__failure_names_all_that_is_needed():
    report = verify.check(planted.langevin.step_climbs, "langevin_step", dtype=np.float32)
    for word in ("langevin_step", "step_climbs", "float32", "result[", "budget", "expected", "eta="):
        assert word in report.why
    assert report.case.args["x"].size == 1  # shrunk to one sample of one element
    assert report.worst > 1
    assert "fail" in str(report)


def test_check__is_deterministic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (
        verify.check(planted.langevin.step_clips_the_move, "langevin_step", cases=40, seed=3) for _ in range(2)
    )
    assert first.rows == second.rows
    assert list(tmp_path.iterdir()) == []


def test_check__seed_and_cases_decide_what_is_drawn():
    def drawn(cases, seed):
        seen = []
        found = search("langevin_jitter", np.float64, lambda case: seen.append(case.describe()) or 0.0, cases, seed)
        assert found.cases == len(seen) <= cases
        return seen

    assert drawn(20, 1) == drawn(20, 1)
    assert drawn(20, 1) != drawn(20, 2)
    assert len(drawn(40, 1)) > 20


def test_check__refuses_unknown_names():
    with pytest.raises(RangeError, match="langevin_stepp"):
        verify.check(planted.langevin.step_right, "langevin_stepp")
    with pytest.raises(RangeError, match="dtype"):
        verify.check(planted.langevin.step_right, "langevin_step", dtype=np.float16)
    with pytest.raises(RangeError, match="twins"):
        verify.run(["numba_gpu"])
    with pytest.raises(RangeError, match="functions"):
        verify.run(["naive"], ["langevin"])


def test_check__reports_an_exception_as_a_failure():
    def crashes(x, xi, sigma, box=None):
        raise IndexError("off the end")

    report = verify.check(crashes, "langevin_jitter", cases=3)
    assert report.status == "fail" and "raised IndexError: off the end" in report.why


# -------------------------------------------------------------------------------------------- run


def test_run__rows_are_plain_records():
    rows = verify.run(["naive"], ["noise_bits", "conv_energy", "buffer_push"], ["float32"], cases=3)
    assert [(row.function, row.status) for row in rows] == [
        ("noise_bits", "pass"),
        ("conv_energy", "skip"),
        ("buffer_push", "pass"),
    ]
    assert "naive has no ConvEnergy" in rows[1].why
    assert len(verify.format_rows(rows).splitlines()) == 4
    keys = {"function", "twin", "dtype", "cases", "worst", "status", "why", "build"}
    assert all(set(json.loads(json.dumps(asdict(row)))) == keys for row in rows)


def test_run__takes_a_module_and_holds_it_to_the_oracle_s_errors():
    rows = verify.run([naive], ["langevin_jitter"], ["float64"], cases=3)
    assert rows[0].status == "pass" and rows[0].twin == "naive"
    with pytest.raises(Failure, match="expected ShapeError"):
        misuse.check_misuse("conv2d_forward", naive.conv2d_forward, naive)


@pytest.mark.parametrize("function", misuse.MISUSE)
def test_misuse__oracle_refuses_each_with_a_typed_error(function):
    case, bads = misuse.MISUSE[function]
    oracle = getattr(ebm_ref, export(function))
    assert misuse.refusal(case, oracle, ebm_ref) is None
    for bad in bads:
        found = misuse.refusal(misuse.misused(case, bad), oracle, ebm_ref)
        assert found is not None and issubclass(found, EbmError), bad


def test_extras__names_the_extra(monkeypatch):
    with pytest.raises(MissingExtraError, match=r'pip install "ebm-oracle\[verify\]"'):
        extras.require("hypothesis_that_is_absent.strategies", "verify")
    assert extras.require("json.decoder", "verify").__name__ == "json.decoder"


def test_extras__a_half_installed_extra_names_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_part_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="a_part_that_is_absent, which half_installed needs, is not installed"):
        extras.require("half_installed", "verify")


# ---------------------------------------------------------------------------------------- problems


@pytest.mark.parametrize("function", problems.PROBLEMS)
def test_problems__draw_awkward_cases_that_the_oracle_takes(function):
    seen = []
    search(function, np.float32, lambda case: seen.append(case) or 0.0, 60, 0)
    sizes = {size for case in seen for _, a in case.arrays() for size in a.shape}
    for case in seen:
        outputs = case.run(getattr(ebm_ref, export(function)))
        assert outputs and all(value is not None for value in outputs.values())
        sizes |= {*getattr(outputs.get("result"), "shape", ())}
    layouts = [a.flags.c_contiguous for case in seen for _, a in case.arrays()]
    assert {*layouts} == {True, False} or function.startswith("noise")
    assert sizes & {15, 16, 17, 31, 33, 63, 65} and 1 in sizes


@pytest.mark.parametrize("seed", problems.noise.TIES)
def test_problems__equal_words_do_occur(seed):
    words = ebm_ref.noise_bits(seed, ebm_ref.contracts.Stream.DATA_INDEX, 0, np.zeros(1, int), problems.noise.TIED)
    assert len(np.unique(words)) == problems.noise.TIED - 1


def test_lay__keeps_values_and_hides_poison():
    x = np.arange(6.0).reshape(2, 3)
    for layout in ("C", "F", "strided", "reversed", "inside"):
        assert np.array_equal(lay(x, layout), x)
    assert np.isnan(lay(x, "strided").base).sum() == 6
    assert lay(x, "reversed").strides[0] < 0


# ------------------------------------------------------------------------------------------- close


def one_conv(dtype):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 5, 5, 3)), rng.standard_normal((3, 3, 3, 4))
    args = {"x": x.astype(dtype), "w": w.astype(dtype), "b": np.zeros(4, dtype)}
    return Case("conv2d_forward", args, {"stride": 2, "padding": "SAME"})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_close__budget_is_a_few_roundings(dtype):
    """A budget is above a rounding of the result and far below what a wrong term would do."""
    want, budget = references(one_conv(dtype), dtype)
    relative = budget["result"] / np.abs(want["result"]).max()
    unit = np.finfo(dtype).eps
    assert relative.min() > unit and relative.max() < 300 * unit


def test_close__budget_follows_cancellation():
    """Terms of 1e6 that cancel may leave an error of their size; without them the same error is a failure."""
    case = one_conv(np.float32)
    loud = case.args["x"].copy()
    loud[..., 0] *= 1e6
    _, budget = references(replace(case, args=case.args | {"x": loud}), np.float32)
    _, quiet = references(case, np.float32)
    assert (budget["result"] > 1e3 * quiet["result"]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compare__draws_the_line_at_the_budget(dtype):
    want, budget = np.array([1.0, -2.0]), np.array([1e-3, 1e-3])
    assert compare("y", np.array([1.0005, -2.0], dtype), want, budget, dtype) == pytest.approx(0.5, rel=1e-3)
    with pytest.raises(Failure, match=r"y\[1\].*budget 0.001") as raised:
        compare("y", np.array([1.0005, -2.002], dtype), want, budget, dtype)
    assert raised.value.ratio == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (np.array([1.0, np.nan]), r"y\[1\]"),
        (np.array([1.0, np.inf]), r"y\[1\]"),
        (np.array([1.0, 2.0], np.float32), "dtype float32"),
        (np.array([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (3.0, "expected shape"),
        (None, "expected shape"),
    ],
)
def test_compare__refuses(got, said):
    with pytest.raises(Failure, match=said):
        compare("y", got, np.array([1.0, 2.0]), np.array([9.0, 9.0]))


def test_compare__decisions_are_exact():
    with pytest.raises(Failure, match="exactly"):
        compare("idx", np.array([3, 4]), np.array([3, 5]), None)
    with pytest.raises(Failure):
        compare("filled", 3, 4, None)
    assert compare("mask", np.array([True]), np.array([True]), None) == 0
    nan = np.array([np.nan, np.inf])
    assert compare("x0", nan.copy(), nan, None) == 0


def test_multiples__each_says_what_it_was_measured_on():
    assert {*MULTIPLES} == {*problems.PROBLEMS} - {*EXACT}
    assert all(len(multiple.measured) > 20 for multiple in MULTIPLES.values())


# ------------------------------------------------------------------------------------ known answers


def test_naive__philox_known_answers():
    """Random123's vectors for philox4x32-10."""
    assert naive_noise.philox((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ones = 0xFFFFFFFF
    assert naive_noise.philox((ones,) * 4, (ones,) * 2) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    digits = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert naive_noise.philox(digits, (0xA4093822, 0x299F31D0)) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


def test_naive__conv2d_by_hand():
    x = np.arange(1.0, 5.0).reshape(1, 4, 1, 1)
    w = np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1)
    b = np.zeros(1)
    assert naive.conv2d_forward(x, w, b, 1, "VALID").ravel().tolist() == [321, 432]
    assert naive.conv2d_forward(x, w, b, 1, "SAME").ravel().tolist() == [210, 321, 432, 43]
    assert naive.conv2d_forward(x, w, b, 2, "SAME").ravel().tolist() == [321, 43]  # the odd zero goes last


# ------------------------------------------------------------------------------------ check_energy


def quadratic(x):
    return 0.5 * (x**2).sum(axis=1)


def identity(x):
    return x.copy()


def test_check_energy__passes_an_energy_of_any_dtype():
    for dtype in (np.float32, np.float64):
        report = verify.check_energy(quadratic, identity, shape=(3,), hvp=lambda x, v: v.copy(), dtype=dtype)
        assert report.status == "pass", str(report)
        assert [row.function for row in report.rows][-1] == "hvp_is_the_slope"


@pytest.mark.parametrize(
    ("energy", "grad_x", "fails"),
    [
        (quadratic, lambda x: -x, "grad_x_is_the_slope"),
        (quadratic, lambda x: x / len(x), "grad_x_is_per_sample"),
        (quadratic, lambda x: 1.01 * x, "grad_x_is_the_slope"),
        (quadratic, lambda x: x[:, :1], "grad_x_is_per_sample"),
        (lambda x: quadratic(x)[:, None], identity, "energy_is_per_sample"),
        (lambda x: quadratic(x).sum(), identity, "energy_is_per_sample"),
        (lambda x: quadratic(x) - quadratic(x).mean(), identity, "energy_is_per_sample"),
        (lambda x: quadratic(x - x.mean(axis=0)), identity, "energy_is_per_sample"),
        (lambda x: quadratic(x) + np.random.default_rng().normal(), identity, "results_repeat"),
        (quadratic, lambda x: np.multiply(x, 1, out=x) * np.nan, "grad_x_is_per_sample"),
        (lambda x: 1 / 0, identity, "energy_is_per_sample"),
    ],
)
def test_check_energy__names_the_broken_property(energy, grad_x, fails):
    report = verify.check_energy(energy, grad_x, shape=(3,))
    assert report.status == "fail"
    assert fails in [row.function for row in report.rows if row.status == "fail"]
    assert len(report.case) in (1, 2, 3, 5, 8)


def test_check_energy__sees_a_changed_input():
    def energy(x):
        x += 1
        return quadratic(x - 1)

    report = verify.check_energy(energy, identity, shape=(3,))
    assert report.status == "fail"


def test_check_energy__theta_and_second_derivatives():
    energy = ebm_ref.MLPEnergy(shape=(2, 2), hidden=(5,))
    rng = np.random.default_rng(0)
    theta = {name: rng.standard_normal(shape) for name, shape in energy.theta_shapes().items()}
    parts = {"shape": (2, 2), "theta": theta}
    report = verify.check_energy(energy.energy, energy.grad_x, hvp=energy.hvp, grad_theta=energy.grad_theta, **parts)
    assert report.status == "pass", str(report)

    def flipped(theta, x, w):
        return {name: -grad for name, grad in energy.grad_theta(theta, x, w).items()}

    report = verify.check_energy(energy.energy, energy.grad_x, grad_theta=flipped, **parts)
    assert [row.function for row in report.rows if row.status == "fail"] == ["grad_theta_is_the_slope"]

    def doubled(theta, x, v):
        return 2 * energy.hvp(theta, x, v)

    report = verify.check_energy(energy.energy, energy.grad_x, hvp=doubled, **parts)
    assert [row.function for row in report.rows if row.status == "fail"] == ["hvp_is_the_slope"]


class Tensor:
    """As much of another library's array as leaves through DLPack: no __array__, and detach and cpu as in PyTorch."""

    __array__ = None

    def __init__(self, values, tracked=True):
        self._values, self._tracked = values, tracked

    def __dlpack__(self, **keywords):
        if self._tracked:
            raise BufferError("cannot export a tensor that is part of a graph")
        return self._values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()

    def detach(self):
        return Tensor(self._values, tracked=False)

    def cpu(self):
        return self

    def energy(self):
        return Tensor(quadratic(self._values))

    def grad(self, sign):
        return Tensor(sign * self._values)


def test_check_energy__takes_tensors_of_another_library():
    def run(sign):
        return verify.check_energy(lambda t: t.energy(), lambda t: t.grad(sign), shape=(3,), to_array=Tensor)

    assert run(1.0).status == "pass", str(run(1.0))
    assert run(-1.0).status == "fail"


def test_check_energy__runs_on_pytorch():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1)).double()

    def energy(x):
        return model(x)[:, 0]

    def grad_x(x):
        x = x.clone().requires_grad_(True)
        return torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]

    assert verify.check_energy(energy, grad_x, shape=(4,), to_array=torch.from_dlpack).status == "pass"
    report = verify.check_energy(energy, lambda x: -grad_x(x), shape=(4,), to_array=torch.from_dlpack)
    assert report.status == "fail"


def quadratic_of(a):
    return lambda x: 0.5 * a * (x**2).sum(axis=1)


@pytest.mark.parametrize(
    ("dtype", "size", "factor", "offset"),
    [(np.float64, 784, 1.001, 0.0), (np.float64, 3, 1.001, 1e6), (np.float32, 7, 1.01, 0.0), (np.float64, 3, 2.0, 1e9)],
)
def test_check_energy__sees_a_gradient_that_is_a_little_wrong(dtype, size, factor, offset):
    def nearly(x):
        g = x.copy()
        g[:, 0] *= dtype(factor)
        return g if size > 7 else x * dtype(factor)

    def shifted(x):
        return quadratic_of(1.0)(x) + dtype(offset)

    assert verify.check_energy(shifted, nearly, shape=(size,), dtype=dtype).status == "fail"
    assert verify.check_energy(shifted, lambda x: x, shape=(size,), dtype=dtype).status == "pass"


def test_check_energy__names_another_dtype():
    report = verify.check_energy(quadratic_of(1.0), lambda x: x.astype(np.float32), shape=(3,))
    assert "grad_x is in the dtype of x" in report.why


def test_check_energy__passes_a_kink():
    assert verify.check_energy(lambda x: np.abs(x).sum(axis=1), np.sign, shape=(3,)).status == "pass"


def test_check_energy__takes_the_parameters_of_pytorch():
    torch = pytest.importorskip("torch")
    theta = {"a": torch.nn.Parameter(torch.arange(1.0, 4.0))}

    def energy(theta, x):
        return 0.5 * (theta["a"] * x**2).sum(dim=1)

    def grad_theta(theta, x, w):
        return {"a": 0.5 * (w[:, None] * x**2).sum(dim=0)}

    parts = {"grad_theta": grad_theta, "theta": theta, "shape": (3,), "to_array": torch.from_dlpack}
    assert verify.check_energy(energy, lambda theta, x: theta["a"] * x, **parts).status == "pass"


def test_check__takes_tensors_that_still_have_a_graph():
    torch = pytest.importorskip("torch")

    def jitter(x, xi, sigma, box=None):
        x, xi = (torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (x, xi))
        return x + sigma * xi if box is None else (x + sigma * xi).clamp(*box)

    verify.check(jitter, "langevin_jitter", cases=10).raise_if_failed()
