"""What counts as exact, how sure a network is the teacher, and how the two compare."""
