"""Energy-based models in readable NumPy: the textbook and the oracle."""
