"""Laws of the addressed draws."""

from __future__ import annotations

from .trial import Trial, holds, law


def chains_have_addresses(t: Trial) -> None:
    """A row depends on its chain's id and not on the batch; an element not on how many follow it."""
    chains, D = t.args["chains"], t.args["D"]
    whole = t.got["result"]
    law("chains [b, a] draw what [a, b] draw", "result", t.again(chains=chains[::-1])["result"], whole[::-1])
    law("a shorter row is the beginning of a longer", "result", t.again(D=-(-D // 2))["result"], whole[:, : -(-D // 2)])
    fewer = t.again(chains=chains[: -(-len(chains) // 2)])["result"]
    law("fewer chains are the first of more", "result", fewer, whole[: len(fewer)])


def uniforms_are_positive(t: Trial) -> None:
    u = t.got["result"]
    holds("0 < u <= 1", ((u > 0) & (u <= 1)).all())
