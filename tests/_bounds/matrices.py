"""Matrices whose non-negative rank is known."""

import itertools

import numpy as np
from scipy.linalg import block_diag


def polygon(n):
    """Slack matrix of the regular n-gon."""
    distances = np.cos(np.pi / n) - np.cos(np.pi * (1 + 2 * np.arange(n)) / n)
    distances[[0, -1]] = 0
    return np.array([np.roll(distances, i) for i in range(n)])


def line_distances(n):
    """Squared distances of n points on a line: of rank 3."""
    return np.subtract.outer(np.arange(n), np.arange(n)).astype(float) ** 2


def cube(d):
    """Slack matrix of the d-dimensional cube."""
    vertices = np.array(list(itertools.product([0.0, 1.0], repeat=d)))
    return np.vstack([vertices.T, 1 - vertices.T])


def nested_rectangles(a, b):
    """Of a rectangle of sides 2 a and 2 b in the square [-1, 1]^2.

    The non-negative rank is 3 where a triangle fits between them, which is where
    ``(1 + a) (1 + b) <= 2``, and 4 elsewhere.
    """
    vertices = np.array([[a, b], [a, -b], [-a, b], [-a, -b]])
    return np.hstack([1 - vertices, 1 + vertices])


def disjointness(n):
    """Unique disjointness: of all pairs of subsets of n things."""
    sets = np.array(list(itertools.product([0, 1], repeat=n)))
    return (1.0 - sets @ sets.T) ** 2


#: Name, matrix, and non-negative rank.
KNOWN = (
    [
        (f"{n}-gon", polygon(n), rank)
        for n, rank in zip(range(3, 9), (3, 4, 5, 5, 6, 6), strict=True)
    ]
    + [(f"{d}-cube", cube(d), 2 * d) for d in (2, 3, 4)]
    + [(f"line of {n}", line_distances(n), n) for n in (3, 4)]
    + [(f"complement of the {n}-identity", 1 - np.eye(n), n) for n in (3, 4, 5, 6)]
    + [
        (f"rectangles {a}, {b}", nested_rectangles(a, b), rank)
        for a, b, rank in ((0.2, 0.2, 3), (0.4, 0.4, 3), (0.5, 0.33, 3), (0.9, 0.9, 4))
    ]
    + [
        ("identity", np.eye(5), 5),
        ("triangle", np.tril(np.ones((6, 6))), 6),
        ("5-gon and 6-gon", block_diag(polygon(5), polygon(6)), 10),
        ("pyramid over the 6-gon", block_diag(polygon(6), 1), 6),
        ("disjointness of 2", disjointness(2), 4),
        ("ones", np.ones((4, 7)), 1),
        ("zeros", np.zeros((3, 2)), 0),
    ]
)
