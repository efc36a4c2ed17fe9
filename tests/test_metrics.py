"""Scorers beside accuracy."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknonlin import MemorizationDetector
from sknonlin.metrics import memorization_scorer, neg_memorization_scorer

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


def mlp(**settings):
    return MLPClassifier((24, 24), max_iter=60, random_state=0, **settings)


def test_next_to_accuracy_in_one_call(digits):
    pipeline = make_pipeline(StandardScaler(), MemorizationDetector(mlp(), random_state=0))
    scores = cross_validate(
        pipeline,
        *digits,
        cv=2,
        scoring={"accuracy": "accuracy", "memorization": memorization_scorer},
        return_train_score=True,
        return_estimator=True,
        error_score="raise",
    )
    assert (scores["test_accuracy"] > 0.5).all()
    own = [found[-1].memorization_score_ for found in scores["estimator"]]
    np.testing.assert_allclose(scores["train_memorization"], own)
    assert ((scores["test_memorization"] > 0) & (scores["test_memorization"] < 1)).all()


def test_plain_networks_and_frozen_ones(digits):
    model = mlp().fit(*digits)
    score = memorization_scorer(model, *digits)
    assert memorization_scorer(FrozenEstimator(model), *digits) == score
    assert memorization_scorer(make_pipeline(model), *digits) == score
    assert neg_memorization_scorer(model, *digits) == -score
    scaler = StandardScaler().fit(digits[0])
    scaled = mlp().fit(scaler.transform(digits[0]), digits[1])
    pipeline = make_pipeline(FrozenEstimator(scaler), FrozenEstimator(scaled))
    expected = memorization_scorer(scaled, scaler.transform(digits[0]), digits[1])
    assert memorization_scorer(pipeline, *digits) == expected


def test_search_for_the_least(digits):
    search = GridSearchCV(
        mlp(), {"alpha": [1e-4, 10.0]}, scoring=neg_memorization_scorer, cv=2
    ).fit(*digits)
    results = search.cv_results_["mean_test_score"]
    assert search.best_score_ == results.max()
    assert (results < 0).all()
    expected = memorization_scorer(search.best_estimator_, *digits)
    assert memorization_scorer(search, *digits) == expected


def test_detector_inside_a_pipeline(digits):
    pipeline = make_pipeline(
        StandardScaler(), MemorizationDetector(mlp(), random_state=0), LogisticRegression()
    ).fit(*digits)
    own = pipeline[1].memorization_score_
    assert memorization_scorer(pipeline, *digits) == pytest.approx(own)


def test_no_network():
    with pytest.raises(TypeError, match="No step of the pipeline"):
        memorization_scorer(make_pipeline(StandardScaler()), [[1.0]], [0])
    with pytest.raises(TypeError, match="LogisticRegression"):
        memorization_scorer(LogisticRegression(), [[1.0]], [0])
