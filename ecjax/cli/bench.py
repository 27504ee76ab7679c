"""`ecjax bench`: a door to the benchmarks, which stand beside the package in its source tree."""

import importlib
from collections.abc import Sequence

# Those with a command line of their own; `python -m benchmarks --list` says what each is for.
BENCHMARKS = (
    *("synthetic", "recovery", "phases", "throughput", "scaling", "gpu", "paper_images"),
    *("cluster_speed", "cluster_large", "noise_study"),
)


def bench(arguments: Sequence[str]) -> int:
    """Hand everything after the name to that benchmark's own command line.

    Raises:
        ValueError: If there is no such benchmark, or no source tree.
    """
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        print(f"usage: ecjax bench NAME [OPTIONS]\n\nBenchmarks: {', '.join(BENCHMARKS)}.")
        print("ecjax bench NAME --help explains one, python -m benchmarks --list says what each is for.")
        return 0
    if name not in BENCHMARKS:
        raise ValueError(f"`bench` has {', '.join(BENCHMARKS)}; got {name!r}. Try: ecjax bench synthetic --help")
    try:
        module = importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] != "benchmarks":
            raise
        raise ValueError(
            f"`bench`: benchmarks/{name} comes with ecjax's source tree and is not on Python's path. Get the source, "
            f"and there run pip install --editable . (or python -m benchmarks.{name})."
        ) from missing
    return module.main(rest)
