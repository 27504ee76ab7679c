"""Lattice reduction: short integer combinations of given integer vectors.

Source: A. K. Lenstra, H. W. Lenstra, L. Lovász, Factoring polynomials with rational coefficients, Math. Ann. 261
    (1982). Floating point: C. P. Schnorr, M. Euchner, Lattice basis reduction, Math. Program. 66 (1994). Signs from
    sums: M. J. Coster and others, Improved low-density subset sum algorithms, Comput. Complexity 2 (1992).
"""

import numpy as np
from jaxtyping import Float, Int

_LOVASZ = 0.99  # 1 would reduce most, and may take forever
_REDUCED = 0.51  # size of a coefficient that rounding may leave
_PASSES = 50  # over one vector; a large coefficient is right in its leading digits only, so that some are needed
# Bits a dimension by which the shortest vectors that mean nothing are longer than they would be of the signs alone:
# they are 2^5 times that long, and reduction finds none that is more than 1.02^dimensions times too long.
_APART = 5.0
_MOST_BITS = 48  # so that every number is a float64, too


def reduced(basis: Int[np.ndarray, "vectors dimensions"]) -> Int[np.ndarray, "vectors dimensions"]:
    """Another basis of the same lattice, whose vectors are short and nearly orthogonal.

    Args:
        basis: Independent vectors, entries up to 2^48.
    """
    b, n = basis.copy(), len(basis)
    unit = np.zeros(basis.shape)  # orthonormal, of the same span as the first so many vectors
    along = np.zeros((n, n))  # b = along @ unit

    def settle(k: int) -> None:
        """Take from vector k what it has of those before, as far as integers can."""
        for _ in range(_PASSES):
            share = (unit[:k] @ b[k]) / along.diagonal()[:k]
            if not (np.abs(share) > _REDUCED).any():
                break
            for j in range(k - 1, -1, -1):
                times = np.rint(share[j])
                if times:
                    b[k] -= int(times) * b[j]
                    share[: j + 1] -= times * along[j, : j + 1] / along.diagonal()[: j + 1]
        along[k, :k] = unit[:k] @ b[k]
        rest = b[k] - along[k, :k] @ unit[:k]
        rest -= (unit[:k] @ rest) @ unit[:k]  # once more: the first time rounding is that of the whole vector
        along[k, k] = np.linalg.norm(rest)
        unit[k] = rest / along[k, k]

    settle(0)
    k = 1
    while k < n:
        settle(k)
        if along[k, k] ** 2 + along[k, k - 1] ** 2 >= _LOVASZ * along[k - 1, k - 1] ** 2:
            k += 1
            continue
        b[[k - 1, k]] = b[[k, k - 1]]
        settle(k - 1)
        k = max(1, k - 1)
    return b


def signs_of_sum(
    parts: Float[np.ndarray, "equations n"], total: Float[np.ndarray, " equations"]
) -> Float[np.ndarray, " n"] | None:
    """The signs with which some vectors add up to a given one, be they many more than they have entries.

    Each entry is one equation between real numbers. That many digits agree by chance is unlikely, so that they say more
    than one sign each: 8 equations of 40 bits have 64 signs.

    Args:
        parts: The vectors, as columns, known to 2^(-5 (n + 1) / equations) of the largest entry.
        total: What they add up to.

    Returns:
        +1 and -1, or None if no short vector is one of signs.
    """
    m, n = parts.shape
    bits = min(_MOST_BITS, int(np.ceil(_APART * (n + 1) / m)))
    whole = np.concatenate([parts, -total[:, None]], axis=1).T
    scaled = np.rint(whole * 2.0**bits / np.abs(whole).max()).astype(np.int64)
    short = reduced(np.concatenate([np.eye(n + 1, dtype=np.int64), scaled], axis=1))
    for vector in short[np.argsort(np.linalg.norm(short.astype(float), axis=1))]:
        if (np.abs(vector[: n + 1]) == 1).all():
            return (vector[:n] * vector[n]).astype(float)
    return None
