"""Timings of the twins: each case is validated against the float64 oracle first, then timed beside it."""
