"""Bounds of the non-negative rank, each of them proved."""
