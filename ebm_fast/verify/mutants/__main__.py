"""`python -m ebm_fast.verify.mutants` prints the kill matrix as the README has it."""

from . import kill_matrix, markdown

print(markdown(kill_matrix()))
