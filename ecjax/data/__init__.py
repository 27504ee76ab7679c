"""Queries and answers, and where they come from: teachers, queries, data sets."""
