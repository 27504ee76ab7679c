"""How often 150 synthetic teachers are recovered, by problem, expansion and method.

    python -m benchmarks.synthetic                                      # 600 trials: hours
    python -m benchmarks.synthetic --expansion 4 --workers 2 --budget 60
    python -m benchmarks.synthetic --d-in 2 4 --width 8 --seeds 0 1 2 --method ours paper
    python -m benchmarks.synthetic --table --markdown

Every finished trial is a file of its own in the results folder: a killed run goes on where it was when the same command
is given again, and several processes or machines share the work with --part. `docs/synthetic.md` says how the problems
are defined and how to read the tables.
"""

from .commands import main as main
