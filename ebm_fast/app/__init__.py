"""The command line `ebm` and what it needs: config, data, run folder, checkpoint, evaluation, pictures, report."""
