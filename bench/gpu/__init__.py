"""One call for a machine with a CUDA card: what is there, is it right, is it clean, how fast, and why.

    make gpu                     or   python -m bench.gpu [--only STAGE ...] [--quick] [--out DIR]

Eight stages, each in a process of its own with a limit of its own, 560 seconds in all. Every measurement is appended
at once to `gpu.jsonl`, so that a stage that is killed keeps what it had. Nothing is installed or fetched, and no
setting of the card is touched. Without a card the plan runs to its end too: what needs none is done, and the rest is
skipped with the reason. Not yet run on a card.
"""
