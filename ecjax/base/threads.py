"""How many threads a recovery has."""

from contextlib import AbstractContextManager, nullcontext


def one_blas_thread() -> AbstractContextManager:
    """JAX's Cholesky on a CPU is OpenBLAS, whose threads, from some 128 unknowns on, fight those of XLA.

    Measured on two cores with 161 parameters, one student: 50 Levenberg-Marquardt steps in 0.1 s with one thread and in
    up to 5 s with two. Does nothing where threadpoolctl is not installed, as on accelerator machines.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(limits=1, user_api="blas")
