"""The README's example runs as written."""

import pathlib
import re

import torch

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    with torch.random.fork_rng():
        exec(compile(code, str(README), "exec"), {})
    assert "torch.Size([1797, 50])" in capsys.readouterr().out
