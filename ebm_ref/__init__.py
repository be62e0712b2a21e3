"""Energy-based models in readable NumPy: the textbook and the oracle.

p(x) = exp(-E(x)) / Z. E is low on data, x is (N, *shape), theta a dict of named arrays. This module is a backend:
every public name below is here too, and a twin is a function of the same name in another backend.

Read in this order:

    contracts     what every room agrees on: streams, errors, the Energy protocol, Buffer, ChainInfo
    specs         the settings of every network and of the two Langevin updates, ULA and SGLD; descent_specs: of descent
    layers/       linear conv2d group_norm layer_norm activations pool dropout residual logsumexp: forward, backward;
                  spectral_norm: of a weight
    jet           truncated Taylor series that behave like arrays: derivatives of derivatives from the same code
    fields/       vectors f(x) and their products with the Jacobian: mlp_field conv_field; field_specs: their settings;
                  held_field: any with a time as one more input; label_field: with labels, and guidance by them;
                  compose: sums; equilibrium_field: what equilibrium matching learns of known data; flow_map: where x
                  is after a time h; base.py is the protocol
    energies/     quadratic gaussian_mixture double_well ring rbm, then mlp conv deep_conv; base.py is the protocol;
                  classifier_energy: a network with one output a class; compose, multi_scale: sums of energies;
                  noise_conditional: any with a noise level as one more input; boltzmann: a potential at a
                  temperature; field_energy: x . f(x) or the norm of a field; repulsion: copies that push each other
                  apart; precision_energy: any network in short numbers
    noise         random numbers that have an address (seed, stream, step, chain, element)
    samplers/     langevin: K noisy gradient steps; buffer: chains that outlive a training step; mala, hmc: with
                  rejection; adaptation: their step size; annealed: a ladder of noise; preconditioned; descent: no noise
                  unrolled: chains remembered and differentiated; augment: moves between training steps
                  class_buffer: a buffer in blocks, one a class, and Gaussian starts; jempp: moves along one gradient
                  heated: descent on a potential that turns into Langevin dynamics; flow: a velocity integrated, and a
                  one-step student before a chain
    objectives/   contrastive: CD and PCD with the energy regulariser
                  score_matching: exact and sliced; denoising: of one noise level and of many
                  maximum_likelihood: exact negatives; nce, ranking_nce: data told from noise (contrast_noise)
                  energy_matching, em_step: one potential for transport and for the law; coupling: pairs in a batch
                  improved_contrastive: theta sees where its chain ends (neighbours); penalties: slopes of E
                  equilibrium_matching: a field, or the gradient of an energy, that vanishes at the data
                  classify: losses of logits; jem, jem_step: classify and generate with one network; balance: its rules
                  flow_matching: velocities; projection: the potential of one; distill, distill_step: one-step students
    optim         SGD, Adam, norm clip, average of parameters, learning rate schedule
    train         the loop; methods, flow_methods: a row for each method; recipe: settings; job: what a run holds;
                  state: what it carries, as arrays
    evaluation/   log_z, ais: the normaliser, exact or bracketed; bits_per_dim; gap; scores, ood: outliers; calibration,
                  robustness, probe: of classifiers; features, fidelity: samples against data;
                  intrinsic_dimension: flat directions
    diagnostics   gap, effective sample size, split R-hat, alarms
    precision     short numbers emulated: formats and rounding; rounded: arrays whose every result is rounded
    toys          two-dimensional data, most with a closed-form density

NumPy and the standard library, nothing else. A file opens with its equations and their source.
"""

from . import energies, evaluation, fields, layers, objectives, samplers
from .contracts import (
    Array,
    BackendError,
    Buffer,
    ChainInfo,
    CheckpointError,
    ConfigError,
    DataError,
    DTypeError,
    EbmError,
    Energy,
    Energy2,
    Energy3,
    Field,
    HasTheta,
    JetError,
    MissingExtraError,
    NonFiniteError,
    Params,
    RangeError,
    RunFolderError,
    ShapeError,
    Shapes,
    SmoothnessError,
    Stream,
)
from .diagnostics import (
    Alarms,
    diagnostics_gap,
    diagnostics_grad_norms,
    effective_sample_size,
    split_rhat,
)
from .energies import *
from .evaluation import *
from .field_specs import (
    ConvFieldSpec,
    FieldEnergySpec,
    MLPFieldSpec,
)
from .fields import *
from .jet import (
    Jet,
    erf,
    jet_coefficient,
    jet_order,
    jet_seed,
)
from .job import (
    Job,
    energy_theta,
    method_buffer,
    method_theta,
    train_job,
)
from .layers import *
from .method import (
    Method,
)
from .methods import (
    METHODS,
)
from .noise import (
    noise_bits,
    noise_index,
    noise_normal,
    noise_permutation,
    noise_philox,
    noise_uniform,
)
from .objectives import *
from .optim import (
    adam_init,
    adam_step,
    clip_global_norm,
    ema_init,
    ema_step,
    schedule_value,
    sgd_init,
    sgd_step,
)
from .precision import (
    FORMATS,
    Format,
    PrecisionPolicy,
    precision_quantise,
    precision_round,
    precision_round_randomly,
    precision_spacing,
)
from .regularise import (
    acting_theta,
    check_spectral,
    penalised,
    spectral_iterate,
    spectral_names,
    spectral_pull,
    spectral_start,
)
from .rounded import (
    Rounded,
    rounded_array,
)
from .samplers import *
from .specs import (
    SGLD,
    ULA,
    ClassifierSpec,
    ConvSpec,
    DeepConvSpec,
    MLPSpec,
    NetworkSpec,
    Update,
)
from .toys import (
    TOYS,
    TOYS_WITH_DENSITY,
    toy_log_density,
    toy_sample,
)
from .train import (
    Recipe,
    Teacher,
    TrainState,
    check_method,
    state_arrays,
    state_from_arrays,
    train,
    train_start,
    train_step,
)

__all__ = [
    "Alarms",
    "Array",
    "BackendError",
    "Buffer",
    "ChainInfo",
    "CheckpointError",
    "ClassifierSpec",
    "ConfigError",
    "ConvFieldSpec",
    "ConvSpec",
    "DTypeError",
    "DataError",
    "DeepConvSpec",
    "EbmError",
    "Energy",
    "Energy2",
    "Energy3",
    "FORMATS",
    "Field",
    "FieldEnergySpec",
    "Format",
    "HasTheta",
    "Jet",
    "JetError",
    "Job",
    "METHODS",
    "MLPFieldSpec",
    "MLPSpec",
    "Method",
    "MissingExtraError",
    "NetworkSpec",
    "NonFiniteError",
    "Params",
    "PrecisionPolicy",
    "RangeError",
    "Recipe",
    "Rounded",
    "RunFolderError",
    "SGLD",
    "ShapeError",
    "Shapes",
    "SmoothnessError",
    "Stream",
    "TOYS",
    "TOYS_WITH_DENSITY",
    "Teacher",
    "TrainState",
    "ULA",
    "Update",
    "acting_theta",
    "adam_init",
    "adam_step",
    "check_method",
    "check_spectral",
    "clip_global_norm",
    "diagnostics_gap",
    "diagnostics_grad_norms",
    "effective_sample_size",
    "ema_init",
    "ema_step",
    "energy_theta",
    "erf",
    "jet_coefficient",
    "jet_order",
    "jet_seed",
    "method_buffer",
    "method_theta",
    "noise_bits",
    "noise_index",
    "noise_normal",
    "noise_permutation",
    "noise_philox",
    "noise_uniform",
    "penalised",
    "precision_quantise",
    "precision_round",
    "precision_round_randomly",
    "precision_spacing",
    "rounded_array",
    "schedule_value",
    "sgd_init",
    "sgd_step",
    "spectral_iterate",
    "spectral_names",
    "spectral_pull",
    "spectral_start",
    "split_rhat",
    "state_arrays",
    "state_from_arrays",
    "toy_log_density",
    "toy_sample",
    "train",
    "train_job",
    "train_start",
    "train_step",
]
__all__ += layers.__all__
__all__ += fields.__all__
__all__ += energies.__all__
__all__ += samplers.__all__
__all__ += objectives.__all__
__all__ += evaluation.__all__
