"""What a network is fitted to, and its derivatives."""
