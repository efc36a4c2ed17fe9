"""Checks of labels and ranks, fits that are undone, and where warnings point."""

import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sknonlin
from sknonlin import ActivationNonlinearity
from sknonlin._memorization.training import warn_of_few_samples
from sknonlin._running.validation import (
    auto_ranks,
    check_ranks,
    positions,
    undone_on_error,
    warn_user,
)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 200), [1, 2, 3, 4, 6, 8, 11, 16, 23, 32]),
        ((100, 8), [1, 2, 3, 4, 6]),
        ((1, 9), [1]),
    ],
)
def test_automatic_ranks_stay_below_the_matrix(shape, expected):
    assert auto_ranks(min(shape)) == expected
    scorer = ActivationNonlinearity().fit(np.ones(shape))
    assert scorer.ranks_.tolist() == expected


@pytest.mark.parametrize(
    "ranks", [3, np.int64(3), (3,), np.array([3]), torch.tensor([3]), range(3, 4)]
)
def test_ranks_become_a_list_of_integers(ranks):
    checked = check_ranks(ranks)
    assert checked == [3]
    assert type(checked[0]) is int


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 33])
def test_automatic_ranks_are_ranks(limit):
    assert check_ranks(auto_ranks(limit)) == auto_ranks(limit)


def test_positions_among_known_labels_in_any_order():
    known = np.array(["dog", "cat", "fish"])
    assert positions(np.array(["fish", "dog", "dog"]), known, "").tolist() == [2, 0, 0]
    with pytest.raises(ValueError, match=r"no \['ant', 'bee'\] in \['dog', 'cat'"):
        positions(np.array(["bee", "dog", "ant"]), known, "no {unknown} in {known}")


def change(found, error=None):
    with undone_on_error(found):
        found.changed, found.added = 2, 3
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_an_error_ends_is_undone(error):
    found = SimpleNamespace(kept=0, changed=1)
    with pytest.raises(error):
        change(found, error)
    assert vars(found) == {"kept": 0, "changed": 1}
    change(found)
    assert vars(found) == {"kept": 0, "changed": 2, "added": 3}


@pytest.mark.parametrize(
    "warn", [lambda: warn_user("few"), lambda: warn_of_few_samples(np.arange(2), [0, 0, 1])]
)
def test_a_warning_points_outside_of_the_package(warn):
    with pytest.warns(UserWarning, match="few") as caught:
        warn()
    assert caught[0].filename == __file__


def test_a_folder_whose_name_begins_alike_is_outside_of_it(tmp_path):
    folder = f"{pathlib.Path(sknonlin.__file__).parent}_experiments/run.py"
    code = compile("warn_user('few')", folder, "exec")
    with pytest.warns(UserWarning, match="few") as caught:
        exec(code, {"warn_user": warn_user})
    assert caught[0].filename == folder
