"""How good a trained model is: its normaliser, likelihood, outliers, classes, robustness, features and samples."""

from .ais import Transition, ais_backward, ais_forward, ais_reverse_run, ais_run, beta_ladder
from .ais_result import AISResult, Bracket, ais_result, log_z_bracket, nll_bracket
from .bases import Base, BernoulliBase, GaussianBase, NormalBase, TemperedEnergy, UniformBase
from .bits_per_dim import bits_per_dim, bits_per_dim_run, dequantise
from .calibration import Reliability, Temperature, brier, ece, nll, reliability, temperature_fit
from .classifier import Classifier
from .estimate import Estimate, estimate_log_mean_exp, estimate_mean, weights_ess
from .features import (
    feature_load,
    feature_unit_norm,
    frechet_feature,
    frechet_gaussian,
    inception_style_score,
    mmd_rbf,
    rbf_kernel,
)
from .fidelity import precision_recall
from .gap import energy_gap, energy_gap_ema
from .intrinsic_dimension import hessian_eigenvalues, intrinsic_dimension
from .log_z import Quadrature, log_z_enumeration, log_z_quadrature
from .mirrored import MirroredBase, MirroredEnergy, fold
from .ood import aupr, aupr_in, aupr_out, auroc, auroc_estimate, fpr_at_tpr
from .probe import Probe, probe_accuracy, probe_logistic, probe_logits, probe_ridge
from .refined import RefinedClassifier
from .robustness import Attack, pgd_gradient, pgd_run, pgd_start, pgd_step, robust_accuracy
from .scores import (
    mutate,
    mutate_run,
    score_energy,
    score_field_norm,
    score_grad_norm,
    score_likelihood_ratio,
    score_max_softmax,
    score_typicality,
)
from .sliced import sliced_wasserstein
from .transitions import FlipTransition, HMCTransition, MALATransition, ais_tune

__all__ = [
    "AISResult",
    "Attack",
    "Base",
    "BernoulliBase",
    "Bracket",
    "Classifier",
    "Estimate",
    "FlipTransition",
    "GaussianBase",
    "HMCTransition",
    "MALATransition",
    "MirroredBase",
    "MirroredEnergy",
    "NormalBase",
    "Probe",
    "Quadrature",
    "RefinedClassifier",
    "Reliability",
    "Temperature",
    "TemperedEnergy",
    "Transition",
    "UniformBase",
    "ais_backward",
    "ais_forward",
    "ais_result",
    "ais_reverse_run",
    "ais_run",
    "ais_tune",
    "aupr",
    "aupr_in",
    "aupr_out",
    "auroc",
    "auroc_estimate",
    "beta_ladder",
    "bits_per_dim",
    "bits_per_dim_run",
    "brier",
    "dequantise",
    "ece",
    "energy_gap",
    "energy_gap_ema",
    "estimate_log_mean_exp",
    "estimate_mean",
    "feature_load",
    "feature_unit_norm",
    "fold",
    "fpr_at_tpr",
    "frechet_feature",
    "frechet_gaussian",
    "hessian_eigenvalues",
    "inception_style_score",
    "intrinsic_dimension",
    "log_z_bracket",
    "log_z_enumeration",
    "log_z_quadrature",
    "mmd_rbf",
    "mutate",
    "mutate_run",
    "nll",
    "nll_bracket",
    "pgd_gradient",
    "pgd_run",
    "pgd_start",
    "pgd_step",
    "precision_recall",
    "probe_accuracy",
    "probe_logistic",
    "probe_logits",
    "probe_ridge",
    "rbf_kernel",
    "reliability",
    "robust_accuracy",
    "score_energy",
    "score_field_norm",
    "score_grad_norm",
    "score_likelihood_ratio",
    "score_max_softmax",
    "score_typicality",
    "sliced_wasserstein",
    "temperature_fit",
    "weights_ess",
]
