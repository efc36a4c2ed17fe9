"""ActivationNonlinearity: its fits, arrays in and out, and what it refuses."""

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sknonlin import ActivationNonlinearity, nmf_path
from sknonlin.curves import area_under_curve
from tests.conftest import BAD_VALUES, COMPRESSIONS, RANKS, relu_matrix

# Fitting


def test_errors_are_those_of_the_path(activations):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    path = nmf_path(activations, RANKS)
    np.testing.assert_array_equal(scorer.errors_, path.errors)
    np.testing.assert_array_equal(scorer.components_[2], path.components[2])
    assert scorer.nonlinearity_ == area_under_curve(RANKS, path.errors)
    assert scorer.n_iter_ == path.n_iter.max()
    assert 0 < scorer.nonlinearity_ < 1


def test_a_layer_nearer_to_linear_scores_lower():
    scores = [
        ActivationNonlinearity(RANKS).fit(relu_matrix(60, 40, depth)).nonlinearity_
        for depth in (1, 2, 4, 8, 16)
    ]
    assert scores == sorted(scores)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_errors_add_up_from_the_rows(activations, compression):
    scorer = ActivationNonlinearity(RANKS, compression=compression, random_state=0)
    residuals = scorer.fit_transform(activations)
    norms = np.linalg.norm(activations, axis=1)
    total = np.linalg.norm(residuals * norms[:, None], axis=0) / np.linalg.norm(norms)
    # Ablation averages norms over its draws, by row and over the matrix in turn.
    rtol = 2e-2 if compression == "ablation" else 1e-3
    np.testing.assert_allclose(scorer.errors_, total, rtol=rtol)


def test_fitting_again_without_classes_forgets_them(labelled):
    X, y = labelled
    scorer = ActivationNonlinearity(RANKS, by_class=True).fit(X, y)
    scorer.set_params(by_class=False)
    assert scorer.transform(X).shape == (64, 12)
    assert len(scorer.get_feature_names_out()) == 12
    scorer.fit(X)
    assert not hasattr(scorer, "classes_")
    assert scorer.transform(X).shape == (64, 4)


def test_strings_and_booleans_are_classes(labelled):
    X, y = labelled
    names = np.array(["cat", "dog", "fish"])[np.searchsorted([4, 7, 9], y)]
    scorer = ActivationNonlinearity(RANKS, by_class=True).fit(X, names)
    assert scorer.classes_.tolist() == ["cat", "dog", "fish"]
    assert scorer.get_feature_names_out()[4] == "classdog_rank1"
    assert len(ActivationNonlinearity(RANKS, by_class=True).fit(X, y > 4).classes_) == 2


# Arrays in and out


@pytest.mark.parametrize("by_class", [False, True])
def test_torch_in_torch_out(labelled, by_class):
    X, y = labelled
    scorer = ActivationNonlinearity(RANKS, by_class=by_class)
    expected = scorer.fit(X, y)
    tensor = torch.from_numpy(X).requires_grad_()
    fitted = clone(scorer).fit(tensor, torch.from_numpy(y))
    np.testing.assert_array_equal(fitted.errors_, expected.errors_)
    for name in ("transform", "score_samples"):
        result = getattr(fitted, name)(tensor)
        assert isinstance(result, torch.Tensor)
        assert result.device == tensor.device
        assert result.dtype == torch.float64
        assert not result.requires_grad
        np.testing.assert_allclose(result, getattr(expected, name)(X), atol=1e-10)
    assert isinstance(fitted.reconstruct(tensor, 2), torch.Tensor)


def test_fitted_on_one_array_type_scores_another(activations):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    single = torch.from_numpy(activations).float()
    np.testing.assert_allclose(
        scorer.transform(single), scorer.transform(activations), atol=1e-5
    )
    assert scorer.transform(single.half()).dtype == torch.float16


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_sparse_is_as_dense(labelled, by_class, compression):
    X, y = labelled
    scorer = ActivationNonlinearity(
        RANKS, by_class=by_class, compression=compression, random_state=0
    )
    expected = scorer.fit_transform(X, y)
    compressed = sparse.csr_array(X)
    np.testing.assert_allclose(scorer.fit_transform(compressed, y), expected, atol=1e-8)
    np.testing.assert_allclose(
        scorer.reconstruct(compressed, 4, y), scorer.reconstruct(X, 4, y), atol=1e-8
    )


@pytest.mark.parametrize(("library", "frame"), [("pandas", pd), ("polars", pl)])
def test_frames_in_and_out(activations, library, frame):
    X = frame.DataFrame(
        activations,
        **{"columns" if library == "pandas" else "schema": [f"unit{i}" for i in range(40)]},
    )
    scorer = ActivationNonlinearity(RANKS).set_output(transform=library)
    result = scorer.fit_transform(X)
    assert isinstance(result, frame.DataFrame)
    assert list(result.columns) == ["rank1", "rank2", "rank4", "rank8"]
    assert scorer.feature_names_in_[3] == "unit3"
    np.testing.assert_array_equal(
        result, scorer.set_output(transform="default").transform(X)
    )


def test_pickle_and_clone(activations, tmp_path):
    scorer = ActivationNonlinearity(RANKS, tol=1e-3).fit(activations)
    expected = scorer.transform(activations)
    joblib.dump(scorer, tmp_path / "scorer.joblib")
    for copy in (
        pickle.loads(pickle.dumps(scorer)),
        joblib.load(tmp_path / "scorer.joblib"),
    ):
        np.testing.assert_array_equal(copy.transform(activations), expected)
    assert clone(scorer).get_params() == scorer.get_params()
    assert not hasattr(clone(scorer), "errors_")


def test_progress_bars_are_asked_for(activations, capfd):
    ActivationNonlinearity(RANKS, verbose=1).fit_transform(activations)
    assert "NMF path" in capfd.readouterr().err
    ActivationNonlinearity(RANKS).fit_transform(activations)
    assert capfd.readouterr().err == ""


# With the rest of scikit-learn


def test_pipeline_grid_search_and_cross_validation(labelled):
    X, y = labelled
    pipeline = make_pipeline(
        MinMaxScaler(), ActivationNonlinearity(by_class=True), LogisticRegression()
    )
    grid = {"activationnonlinearity__ranks": [[1], [1, 2], (1, 2, 4)]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_params_["activationnonlinearity__ranks"] in ([1], [1, 2], (1, 2, 4))
    assert search.best_score_ > 0.6
    scores = cross_validate(search.best_estimator_, X, y, cv=3, error_score="raise")
    assert (scores["test_score"] > 0.5).all()


def test_union_and_column_transformer(labelled):
    X, y = labelled
    union = FeatureUnion(
        [
            (name, ActivationNonlinearity(RANKS, compression=name, random_state=0))
            for name in COMPRESSIONS
        ]
    )
    assert union.fit_transform(X).shape == (64, 12)
    assert union.get_feature_names_out()[4] == "pca__rank1"
    columns = ColumnTransformer(
        [
            ("first", ActivationNonlinearity([1, 2]), slice(0, 10)),
            ("second", ActivationNonlinearity([1, 3], by_class=True), slice(10, 20)),
        ]
    )
    assert columns.fit_transform(X, y).shape == (64, 2 + 3 * 2)
    assert columns.get_feature_names_out()[-1] == "second__class9_rank3"


# Bad input


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("change", "message"),
    [*BAD_VALUES, (lambda X: X[None], "dim 3|shape")],
)
def test_bad_values_say_so(activations, kind, change, message):
    bad = kind(change(activations))
    with pytest.raises(ValueError, match=message):
        ActivationNonlinearity(RANKS).fit(bad)
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    for method in (
        scorer.transform,
        scorer.score_samples,
        lambda X: scorer.reconstruct(X, 2),
    ):
        with pytest.raises(ValueError, match=message):
            method(bad)


@pytest.mark.parametrize("compression", ["pca", "ablation"])
def test_any_sign_is_taken_without_nmf(activations, compression):
    scorer = ActivationNonlinearity(RANKS, compression=compression, random_state=0)
    scorer.fit(activations - 1)
    assert np.isfinite(scorer.transform(activations - 1)).all()


def test_other_widths_are_refused(activations):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    for X in (activations[:, :9], torch.from_numpy(activations[:, :9])):
        with pytest.raises(ValueError, match=r"X has 9 features, but .* expecting 40"):
            scorer.transform(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "by_class=True.*requires y"),
        (np.ones(3), "inconsistent numbers of samples"),
        (np.linspace(0, 1, 60), "Unknown label type"),
    ],
)
def test_classes_are_checked(activations, y, message):
    with pytest.raises(ValueError, match=message):
        ActivationNonlinearity(RANKS, by_class=True).fit(activations, y)


@pytest.mark.parametrize("by_class", [False, True])
def test_ranks_that_fit_exactly_are_told(by_class):
    X, y = np.random.default_rng(0).random((40, 12)), np.repeat([0, 1], [33, 7])
    scorer = ActivationNonlinearity(ranks=[1, 2, 12, 20], by_class=by_class)
    with pytest.warns(UserWarning, match=r"ranks \[12, 20\].*below 12"):
        scorer.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ActivationNonlinearity(ranks=[1, 2, 8], by_class=by_class).fit(X, y)
        ActivationNonlinearity(by_class=by_class).fit(X, y)


def test_unknown_classes_and_ranks_list_the_known(labelled):
    X, y = labelled
    scorer = ActivationNonlinearity(RANKS, by_class=True).fit(X, y)
    with pytest.raises(ValueError, match=r"did not see: \[5, 10\].*\[4, 7, 9\]"):
        scorer.score_samples(X[:3], [5, 4, 10])
    with pytest.raises(ValueError, match=r"rank=3 was not fitted.*\[1, 2, 4, 8\]"):
        scorer.reconstruct(X, 3)


@pytest.mark.parametrize("rank", [[1, 2], [2], np.array([1, 2]), "2", None])
def test_rows_are_reconstructed_at_one_rank(activations, rank):
    scorer = ActivationNonlinearity(RANKS).fit(activations)
    with pytest.raises(ValueError, match=r"was not fitted; choose one of \[1, 2, 4, 8\]"):
        scorer.reconstruct(activations, rank)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ranks": "all"}, "ranks"),
        ({"ranks": [0]}, "at least 1"),
        ({"compression": "svd"}, "compression"),
        ({"by_class": "yes"}, "by_class"),
        ({"solver": "cd"}, "solver"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol"),
        ({"max_rows": 0}, "max_rows"),
        ({"n_draws": 0}, "n_draws"),
        ({"device": "cuda:99"}, "device='cuda:99'"),
    ],
)
def test_bad_parameters_are_named(activations, parameters, message):
    with pytest.raises(ValueError, match=message):
        ActivationNonlinearity(**parameters).fit(activations)
