"""The README's examples run as written, on a network that a reader would bring."""

import pathlib
import re
import runpy

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from sknonlin.datasets import load_digits, make_noisy_labels
from tests.architectures import skorch_net

mpl.use("Agg")

README = pathlib.Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()
MOST_WORDS = 700


@pytest.fixture(scope="module")
def brought():
    """A trained module, its samples and labels, and a net to train."""
    X, true = load_digits(return_X_y=True)
    names = np.array([f"digit {i}" for i in range(10)])
    codes = make_noisy_labels(true, 0.1, random_state=0)
    net = skorch_net(criterion=nn.CrossEntropyLoss, module__width=128, max_epochs=30)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = net.fit(X, codes).module_
    return {"module": module, "X": X, "y": names[codes], "names": names, "codes": codes}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The network fits")
@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0, r"1\d\d\.\d+ \(\d"),
        (1, r"0\.\d+ \(0\..*0\.\d+ 0\.\d+"),
        (2, ""),
    ],
)
def test_the_example_runs(number, printed, brought, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[number]
    (tmp_path / "example.py").write_text(code)
    given = brought | {"net": skorch_net()}
    if "net.set_params" in code:
        given["y"] = brought["codes"]
    with torch.random.fork_rng():
        found = runpy.run_path("example.py", init_globals=given, run_name="__main__")
    assert re.search(printed, capsys.readouterr().out, re.DOTALL)
    if "better" in found:
        changed = found["better"] != brought["y"]
        assert 100 < changed.sum() < 250
        assert (tmp_path / "review.html").exists()
    plt.close("all")


def test_it_is_short_and_has_two_commands():
    assert len(TEXT.split()) <= MOST_WORDS
    assert len(re.findall(r"```bash\n(.*)\n```", TEXT)) == 2
