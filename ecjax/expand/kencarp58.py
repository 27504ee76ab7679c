"""ARK5(4)8L[2]SA2's implicit half: Kennedy and Carpenter's stiffly accurate, L-stable ESDIRK of order five.

Eight stages, the first explicit, gamma = 2/9, an embedded method of order four. It is the solver of the paper's
appendix, which calls it by its name in OrdinaryDiffEq.jl, KenCarp58.

Source: Kennedy and Carpenter, Applied Numerical Mathematics 136 (2019) 183-205, Table 8: gamma, a, b, c and the weights
    of the embedded method, as the fractions printed there. The first guesses of the stages are our own.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import ClassVar

import diffrax as dfx
import numpy as np
import optimistix as optx
from jaxtyping import Float

GAMMA = Fraction(2, 9)
# What stands between the first column, which is a copy of the second, and the diagonal: rows 3 to 7.
_A = (
    (Fraction(2366667076620, 8822750406821),),
    (Fraction(-257962897183, 4451812247028), Fraction(128530224461, 14379561246022)),
    (
        Fraction(-486229321650, 11227943450093),
        Fraction(-225633144460, 6633558740617),
        Fraction(1741320951451, 6824444397158),
    ),
    (
        Fraction(621307788657, 4714163060173),
        Fraction(-125196015625, 3866852212004),
        Fraction(940440206406, 7593089888465),
        Fraction(961109811699, 6734810228204),
    ),
    (
        Fraction(2036305566805, 6583108094622),
        Fraction(-3039402635899, 4450598839912),
        Fraction(-1829510709469, 31102090912115),
        Fraction(-286320471013, 6931253422520),
        Fraction(8651533662697, 9642993110008),
    ),
)
B = (
    Fraction(0),
    Fraction(0),
    Fraction(3517720773327, 20256071687669),
    Fraction(4569610470461, 17934693873752),
    Fraction(2819471173109, 11655438449929),
    Fraction(3296210113763, 10722700128969),
    Fraction(-1142099968913, 5710983926999),
    GAMMA,
)
B_EMBEDDED = (
    Fraction(0),
    Fraction(0),
    Fraction(520639020421, 8300446712847),
    Fraction(4550235134915, 17827758688493),
    Fraction(1482366381361, 6201654941325),
    Fraction(5551607622171, 13911031047899),
    Fraction(-5266607656330, 36788968843917),
    Fraction(1074053359553, 5740751784926),
)
C = (
    Fraction(0),
    Fraction(4, 9),
    Fraction(6456083330201, 8509243623797),
    Fraction(1632083962415, 14158861528103),
    Fraction(6365430648612, 17842476412687),
    Fraction(18, 25),
    Fraction(191, 200),
    Fraction(1),
)
# The whole lower triangle: the second stage goes half explicit, half implicit to 2 gamma; the last one is the solution.
A = (
    (),
    (GAMMA,),
    *((row[0], *row) for row in _A),
    B[:-1],
)


def _guess(stage: int) -> Float[np.ndarray, " earlier"]:
    """Weights that foretell a stage's slope from those before it: a straight line through all of them, least squares.

    Higher polynomials through stages that lie as close as 0.116 and 0 magnify the errors of slopes; stiff ones have
    such errors.
    """
    times = np.array([float(c) for c in C[:stage]])
    basis = np.stack([np.ones_like(times), times])[: min(2, stage)]
    at = np.array([1.0, float(C[stage])])[: len(basis)]
    return at @ np.linalg.pinv(basis.T)


def _floats(row) -> Float[np.ndarray, " stages"]:
    return np.array([float(one) for one in row])


class KenCarp58(dfx.AbstractESDIRK):
    """Order five, L-stable and stiffly accurate, for diffrax; see the module."""

    tableau: ClassVar[dfx.ButcherTableau] = dfx.ButcherTableau(
        a_lower=tuple(map(_floats, A[1:])),
        a_diagonal=_floats((Fraction(0), *[GAMMA] * 7)),
        a_predictor=tuple(_guess(stage) for stage in range(1, 8)),
        b_sol=_floats(B),
        b_error=_floats(b - embedded for b, embedded in zip(B, B_EMBEDDED, strict=True)),
        c=_floats(C[1:]),
    )
    interpolation_cls: ClassVar[Callable[..., dfx.ThirdOrderHermitePolynomialInterpolation]] = (
        dfx.ThirdOrderHermitePolynomialInterpolation.from_k
    )

    root_finder: optx.AbstractRootFinder = dfx.VeryChord(rtol=1e-3, atol=1e-3)
    root_find_max_steps: int = 10

    def order(self, terms) -> int:
        """Of the solution; the embedded method's is one lower."""
        return 5
