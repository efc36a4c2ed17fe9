"""The README's examples run as written."""

import pathlib
import re
import runpy

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

mpl.use("Agg")

README = pathlib.Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0, r"given.*suggested.*input"),
        (1, r"0\.9\d"),
        (2, r"test_memorization.*train_memorization"),
        (3, r"torch.Size\(\[1797, 50\]\)"),
    ],
)
def test_the_example_runs(number, printed, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[number]
    (tmp_path / "example.py").write_text(code)
    with torch.random.fork_rng():
        runpy.run_path("example.py", run_name="__main__")
    assert re.search(printed, capsys.readouterr().out, re.DOTALL)
    plt.close("all")
