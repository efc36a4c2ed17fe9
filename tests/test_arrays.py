import pytest
import torch

from sknonlin._arrays import full_precision


def test_full_precision_is_temporary_also_after_an_error():
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(ZeroDivisionError), full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.is_grad_enabled()
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
