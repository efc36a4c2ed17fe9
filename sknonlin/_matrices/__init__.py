"""Stacks of matrices from any array, their products, and samples of their rows."""
