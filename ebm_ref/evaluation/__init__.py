"""How good a trained model is: separation of distributions, and fidelity of samples."""
