"""How good a trained model is: separation of distributions, and fidelity of samples."""

from .fidelity import precision_recall
from .ood import auroc, fpr_at_tpr

__all__ = ["auroc", "fpr_at_tpr", "precision_recall"]
