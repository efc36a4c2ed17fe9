"""What learning asks of the data, so that it can be answered wherever the data are.

Learning is written as a generator that yields what it needs of the rows, a :class:`Fold`
over all of them or a :class:`Take` of some, and is sent the answer.
"""

import math
from typing import NamedTuple

import torch

from sknonlin._memory import affordable, in_parts

LEARNING_SHARE = 0.75  # of the memory, for the matrices learned from together
CACHED_BYTES = 2**25  # of them that a processor learns from fastest


class Fold(NamedTuple):
    """A reduction of all rows, as :meth:`MatrixStack.fold` takes it.

    The functions can be pickled; what they return are tensors, or tuples of them.
    """

    function: object
    combine: object
    width: int = 0
    description: str = "rows"

    def of(self, stack):
        """Answer from a :class:`MatrixStack`."""
        return stack.fold(*self)


class Take(NamedTuple):
    """Chosen rows, (n_matrices, m) on the CPU; None for all."""

    index: torch.Tensor | None = None

    def of(self, stack):
        """Answer from a :class:`MatrixStack`."""
        return stack.rows() if self.index is None else stack.take(self.index)


def run(steps, stack):
    """Run a generator to its end on the rows of a stack, and return its result."""
    answers = [None]  # given away, so that learning alone holds them
    while True:
        try:
            request = steps.send(answers.pop())
        except StopIteration as end:
            return end.value
        answers.append(request.of(stack))


def learn_in_parts(make_steps, stack, matrix_bytes, n_rows=None):
    """Learn from all matrices of a stack, as many together as the memory or cache holds.

    Parameters
    ----------
    make_steps : callable
        Of a stack and its number of true rows; returns the generator.
    stack : MatrixStack
    matrix_bytes : int
        Memory that one matrix takes.
    n_rows : list of int, default=None
        True rows of every matrix, where the others are zeros that pad it.

    Returns
    -------
    errors : tensor of shape (n_matrices, n_ranks)
    components : list of tensors of shape (n_matrices, k, n_features)
    n_iter : tensor of shape (n_matrices, n_ranks)
    """
    results = []

    def learn(matrices):
        part = stack.part(matrices)
        steps = make_steps(part, n_rows if n_rows is None else n_rows[matrices])
        results.append(run(steps, part))

    step = affordable(
        matrix_bytes,
        share=LEARNING_SHARE,
        most=CACHED_BYTES // matrix_bytes if stack.device.type == "cpu" else math.inf,
        device=stack.device,
    )
    in_parts(learn, stack.n_matrices, step)
    if len(results) == 1:
        return results[0]
    errors, components, n_iter = zip(*results, strict=True)
    components = [torch.cat(parts) for parts in zip(*components, strict=True)]
    return torch.cat(errors), components, torch.cat(n_iter)


def add(first, second):
    """Sum two tensors, or two tuples of them."""
    if isinstance(first, torch.Tensor):
        return first + second
    return tuple(a + b for a, b in zip(first, second, strict=True))
