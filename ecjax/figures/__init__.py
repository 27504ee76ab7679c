"""A recovery as figures."""
