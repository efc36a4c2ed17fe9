"""scikit-learn's own checks, with none expected to fail."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sknonlin import ActivationNonlinearity, MemorizationDetector

ESTIMATORS = [
    ActivationNonlinearity(),
    ActivationNonlinearity(by_class=True),
    ActivationNonlinearity(solver="mu"),
    ActivationNonlinearity(compression="pca"),
    ActivationNonlinearity(compression="ablation"),
    ActivationNonlinearity(compression="pca", by_class=True),
    MemorizationDetector(),
]

# These checks fit again and again, and ask nothing of the numbers.
QUICK = [
    *ESTIMATORS[:-1],
    MemorizationDetector(nonlinearity=ActivationNonlinearity([1, 4], max_iter=20)),
]

# Those that `check_estimator` leaves to the project that defines the estimator.
FURTHER_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_param_validation",
    "check_inplace_ensure_writeable",
]


@pytest.fixture(autouse=True)
def untouched_globals():
    """Override the fixture for all tests: the checks themselves seed NumPy."""


# The assertions of both tests are inside the checks that they call.
@pytest.mark.filterwarnings("ignore:The network fits")  # which are at random in some
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_compliance(estimator, check):
    check(estimator)


# The checks of `set_output` fit frames and transform arrays.
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
@pytest.mark.parametrize("check", FURTHER_CHECKS)
@pytest.mark.parametrize("estimator", QUICK, ids=str)
def test_further_compliance(estimator, check):
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)
