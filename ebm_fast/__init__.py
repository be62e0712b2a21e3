"""The functions of ebm_ref, fast: one backend a module, each checked against the oracle."""
