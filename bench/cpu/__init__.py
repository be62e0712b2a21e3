"""numba_cpu against its peers on the same processors, every stack in a process of its own.

cases     what is timed, and its nominal arithmetic
oracle    what a stack must answer before it is timed: the float64 oracle's answers, and how near is near enough
stacks    who is timed: ours and the variants of each peer, and how a worker of each is started
backends, torch_stack, jax_stack, numpy_stack, start    how they do it
worker    one stack and one case in one process, which does what it is told on stdin
memory    the most that a process has held
quiet     a timing is thrown away where other processes were at work
compare   the driver: one stack at a time, in turns, A B C A B C ...
rows      rows, the CSV, and the README's table
"""
