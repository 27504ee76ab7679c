"""What a column is worth in a least squares fit: the rise of the loss where the others have to make good for it."""

import numpy as np
from jaxtyping import Float


def cost_of_leaving_out(
    weights: Float[np.ndarray, "fan_out columns"], inverse: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, " columns"]:
    """The rise of the sum of squares for each column, the weights of all others being fitted anew.

    Args:
        weights: The fit's, a row for each output.
        inverse: Diagonal of the inverse of the columns' Gram matrix G, in the units of the weights.

    Returns:
        |a_i|² / (G⁻¹)_ii: the least of (a - a')ᵀ G (a - a') over all a' with a'_i = 0, summed over the outputs.
    """
    return np.sum(weights**2, axis=0) / inverse
