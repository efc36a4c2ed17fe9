import pytest
import torch

from sknonlin._arrays import in_full_precision


@in_full_precision
def divide_by_zero():
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.is_grad_enabled()
    return 1 / 0


def test_full_precision_is_temporary_also_after_an_error():
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(ZeroDivisionError):
            divide_by_zero()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
