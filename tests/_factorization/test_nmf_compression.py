"""From how many rows components are learned."""

import torch

from sknonlin._factorization.nmf_compression import rows_that_fit
from sknonlin._running.memory import limited


def test_fewer_rows_are_drawn_where_the_memory_is_short():
    settings = {"ranks": [1, 8], "dtype": torch.float64, "device": "cpu"}
    assert rows_that_fit(4000, 256, **settings) == 4000
    assert 500 < rows_that_fit(4000, 16_384, **settings) < 4000
    with limited(1e-6):
        assert rows_that_fit(4000, 256, **settings) == 16
        assert rows_that_fit(None, 256, **settings) == 16
