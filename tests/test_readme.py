"""The README's examples run as written."""

import pathlib
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

mpl.use("Agg")

README = pathlib.Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize(
    ("number", "printed"),
    [(0, r"test_memorization.*train_memorization"), (1, r"torch.Size\(\[1797, 50\]\)")],
)
def test_the_example_runs(number, printed, capsys):
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[number]
    with torch.random.fork_rng():
        exec(compile(code, str(README), "exec"), {})
    assert re.search(printed, capsys.readouterr().out, re.DOTALL)
    plt.close("all")
