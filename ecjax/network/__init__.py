"""Networks as records: activations, layers, the forward pass, moves that keep the function, files."""
