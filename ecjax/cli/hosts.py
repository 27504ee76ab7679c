"""Several processes at work on one command, on one host or on several: how they find each other."""

import os

import jax


def join() -> None:
    """Join the other processes, before JAX computes anything.

    The environment says who they are: JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID, or variables of a launcher that JAX knows, such as SLURM or Open MPI.

    Raises:
        ValueError: If it does not say, or the others are not there.
    """
    try:
        n, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        jax.distributed.initialize(num_processes=int(n) if n else None, process_id=int(number) if number else None)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"`--distributed`: the processes did not find each other ({error}). Give each the same command and "
            "JAX_COORDINATOR_ADDRESS=host:port (of process 0), JAX_NUM_PROCESSES=n, JAX_PROCESS_ID=0 ... n - 1; under "
            "SLURM or Open MPI they are not needed."
        ) from error
