"""Laws of the addressed draws."""

from __future__ import annotations

import numpy as np

from .trial import Trial, holds, law

# counter, key and words of philox4x32-10, from Random123 (kat_vectors)
KNOWN = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def words_are_known(t: Trial) -> None:
    """The published answers."""
    for counter, key, words in KNOWN:
        given = {"counter": np.array([counter], np.uint32), "key": np.array(key, np.uint32)}
        law("the words are Random123's", "result", t.again(**given)["result"], np.array([words], np.uint32))


def counters_are_their_own(t: Trial) -> None:
    """The words of a counter depend on its neighbours no more than on its place; no two counters share them."""
    counter, whole = t.args["counter"].reshape(-1, 4), t.got["result"].reshape(-1, 4)
    back = t.again(counter=counter[::-1])["result"]
    law("counters in reverse order give their words in reverse order", "result", back, whole[::-1])
    holds("other counters have other words", len(np.unique(whole, axis=0)) == len(np.unique(counter, axis=0)))


def every_index_has_its_share(t: Trial) -> None:
    """Index i begins at word ceil(i 2^32 / n), and the word before it gives i - 1: i is reached, n is not."""
    n = t.args["n"]
    first = sorted({0, min(1, n - 1), n // 3, n // 2, n - 1})
    starts = [-(-i * 2**32 // n) for i in first]
    begun = t.again(bits=np.array(starts, np.uint32))["result"]
    law("index i begins at word i 2^32 / n", "result", begun, np.array(first, np.int64))
    ends = np.array([start - 1 for start in (*starts[1:], 2**32)], np.uint32)
    before = np.array([i - 1 for i in (*first[1:], n)], np.int64)
    law("the word before gives the index before", "result", t.again(bits=ends)["result"], before)


def each_number_stands_once(t: Trial) -> None:
    law("a permutation holds each number once", "result", np.sort(t.got["result"]), np.arange(t.args["n"]))


def words_are_in_order(t: Trial) -> None:
    """words[order] rises; where it does not, the numbers do."""
    address = {name: t.args[name] for name in ("seed", "stream", "step")}
    order = t.got["result"]
    words = t.partner("noise_bits")(*address.values(), np.zeros(1, np.int64), t.args["n"])[0][order]
    rises, level = words[1:] > words[:-1], words[1:] == words[:-1]
    holds("the words are in order", (rises | level).all())
    holds("equal words keep their order", (order[1:] > order[:-1])[level].all())


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
