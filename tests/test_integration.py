"""Our estimators inside of scikit-learn's tools."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastgd import MLPClassifier, MLPRegressor
from fastgd.optimizers import SGD, AdamW

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def small(**parameters):
    defaults = {"hidden_layer_sizes": (8,), "max_iter": 30, "random_state": 0}
    return MLPClassifier(**defaults | parameters)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_grid_search_in_parallel(digits, backend):
    grid = {
        "mlpclassifier__solver": ["adam", SGD(0.1, momentum=0.9), AdamW(0.01)],
        "mlpclassifier__activation": ["relu", ("tanh",)],
    }
    pipeline = make_pipeline(StandardScaler(), small())
    alone = GridSearchCV(pipeline, grid, cv=2).fit(*digits)
    with joblib.parallel_config(backend, n_jobs=2):
        parallel = GridSearchCV(pipeline, grid, cv=2).fit(*digits)
    name = "mean_test_score"
    np.testing.assert_array_equal(alone.cv_results_[name], parallel.cv_results_[name])
    assert parallel.best_score_ > 0.8


def test_large_arrays_reach_workers_as_read_only_memory_maps(digits):
    X, y = np.tile(digits[0], (30, 1)), np.tile(digits[1], 30)
    # Above a megabyte joblib shares the data as memory maps.
    assert X.nbytes > 2**20
    alone = cross_validate(small(max_iter=2), X, y, cv=2, return_estimator=True)
    parallel = cross_validate(small(max_iter=2), X, y, cv=2, return_estimator=True, n_jobs=2)
    for a, b in zip(alone["estimator"], parallel["estimator"], strict=True):
        np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])


def test_many_fits_in_threads_equal_single_ones(digits):
    def fit(seed):
        return small(random_state=seed, max_iter=5).fit(*digits).coefs_[0]

    alone = [fit(seed) for seed in range(8)]
    together = joblib.Parallel(4, "threading")(joblib.delayed(fit)(seed) for seed in range(8))
    np.testing.assert_array_equal(alone, together)


def test_cross_val_predict_and_calibration(digits):
    X, y = digits
    proba = cross_val_predict(small(learning_rate_init=0.05), X, y, cv=3, method="predict_proba")
    assert (proba.argmax(axis=1) == y).mean() > 0.8
    calibrated = CalibratedClassifierCV(small(), cv=2).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)
    hinge = small(loss="hinge", learning_rate_init=0.01, batch_size=20)
    binary = y < 5
    assert CalibratedClassifierCV(hinge, cv=2).fit(X, binary).score(X, binary) > 0.9


def test_ensemble(regression):
    X, y = regression
    bag = BaggingRegressor(MLPRegressor(solver="lbfgs", max_iter=20), 3, random_state=0)
    assert bag.fit(X, y).score(X, y) > 0.8


def test_pandas_and_set_output():
    frame = pd.DataFrame({"a": np.arange(40.0), "b": list("xyzx") * 10})
    y = pd.Series(["no", "yes"] * 20, name="answer")
    columns = make_column_transformer((StandardScaler(), ["a"]), (OneHotEncoder(), ["b"]))
    columns.set_output(transform="default")
    model = make_pipeline(columns, small()).fit(frame, y)
    assert set(model.predict(frame)) <= {"no", "yes"}
    scaled = make_pipeline(StandardScaler(), small()).set_output(transform="pandas")
    scaled.fit(frame[["a"]], y)
    assert scaled[-1].feature_names_in_.tolist() == ["a"]
    with pytest.raises(ValueError, match="feature names"):
        scaled[-1].predict(frame[["a"]].rename(columns={"a": "c"}))


def test_metadata_routing_of_sample_weight(digits):
    X, y = digits
    weight = np.random.default_rng(0).uniform(0.1, 5.0, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = small().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, estimator).fit(X, y, sample_weight=weight)
        asked = estimator.get_metadata_routing()
    assert asked.fit.requests["sample_weight"] is True
    direct = small().fit(StandardScaler().fit_transform(X), y, sample_weight=weight)
    np.testing.assert_array_equal(routed[-1].coefs_[0], direct.coefs_[0])


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "adamw"])
def test_pickle_goes_on_where_it_was(digits, solver):
    X, y = digits
    clf = small(solver=solver).fit(X, y)
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))
    assert all(a.base is copy.coefs_[0].base for a in copy.coefs_)
    if solver != "lbfgs":
        clf.partial_fit(X, y)
        copy.partial_fit(X, y)
        np.testing.assert_array_equal(copy.coefs_[0], clf.coefs_[0])
