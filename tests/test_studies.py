"""The studies: what they measure is what theory says, and their sentences follow their numbers."""

import functools
import io
import math
import re

import matplotlib
import numpy as np
import pytest
from rich.console import Console

from fastgd.neural_network import MLPRegressor
from fastgd.optimizers import OPTIMIZERS
from fastgd.studies import STUDIES
from fastgd.studies.learning_rate import largest_eigenvalue
from fastgd.studies.study import Study, diabetes
from fastgd.studies.table import study_table

matplotlib.use("Agg")


@functools.cache
def result(name):
    return STUDIES[name]()


def columns(study):
    return dict(zip(study.columns, zip(*study.rows, strict=True), strict=True))


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_a_table_a_sentence_and_a_picture(name):
    study = result(name)
    assert study.question.endswith("?")
    assert len(study.rows) >= 4
    assert all(len(row) == len(study.columns) for row in study.rows)
    assert study.conclusion.endswith(".")
    assert "nan" not in study.conclusion
    assert len(re.findall(r"\d", study.conclusion)) >= 3
    figure = study.plot()
    assert all(ax.has_data() and ax.get_xlabel() for ax in figure.axes)
    matplotlib.pyplot.close(figure)


def test_no_number_of_a_table_is_cut():
    rows = [("a rule of some length", 1.23456e-4, 123.4)] * 2
    columns = ("the first column", "a very long name of a column", "another one")
    table = study_table(Study("What?", columns, rows, "So.", lambda figure: None))
    console = Console(width=45, file=io.StringIO())
    console.print(table)
    told = console.file.getvalue()
    assert told.count("0.0001235") == told.count("123.4") == 2


def test_the_largest_eigenvalue_is_that_of_the_hessian():
    X, _, y, _ = diabetes()
    f = MLPRegressor(hidden_layer_sizes=(), alpha=1.0, random_state=0).objective(X, y)
    expected = np.linalg.eigvalsh(f.hess(f.x0))[-1]
    assert math.isclose(largest_eigenvalue(f, f.x0), expected, rel_tol=1e-6)


def test_the_edge_of_the_learning_rate_is_where_theory_says():
    of = columns(result("learning-rate"))
    for share, state, left in zip(
        of["rate / edge"], of["state"], of["share of the way left"], strict=True
    ):
        assert (state == "diverges") == (share > 1)
        assert (left < 1) == (share < 1)
    # Below the edge a larger rate is a faster one, until just before it.
    assert list(of["share of the way left"][:4]) == sorted(
        of["share of the way left"][:4], reverse=True
    )


def test_a_single_batch_learns_least():
    of = columns(result("batch-size"))
    accuracy = next(values for name, values in of.items() if "passes" in name)
    assert accuracy[-1] == min(accuracy)


def test_every_rule_has_a_rate_at_which_it_learns():
    of = columns(result("optimizers"))
    assert set(of["rule"]) == set(OPTIMIZERS)
    assert min(of["test accuracy"]) > 0.85
    assert dict(zip(of["rule"], of["state arrays"], strict=True))["sgd"] == 0


def test_gradients_shrink_and_explode_with_the_initial_weights():
    rows = {row[:2]: row[2:] for row in result("initialization").rows}
    deepest = max(depth for _, depth in rows)
    assert rows["zeros", deepest][0] == 0.0
    assert rows["small", deepest][0] < 1e-3 * rows["small", 1][0]
    assert rows["large", deepest][0] > 1e3 * rows["large", 1][0]
    assert 0.01 < rows["he", deepest][0] / rows["he", 1][0] < 100
    assert rows["glorot", deepest][2] > 0.8 > 0.2 > rows["small", deepest][2]


def test_gradients_vanish_with_sigmoid_units():
    rows = {row[:2]: row[4] for row in result("vanishing").rows}
    deepest = max(depth for _, depth in rows)
    assert rows["logistic", deepest] < 1e-4
    assert rows["relu", deepest] > 1e-1


def test_several_starts_are_never_worse():
    for one, several in np.reshape(np.array(result("local-minima").rows, object), (2, 2, 5)):
        assert one[0] == several[0]
        assert several[2] <= one[2]
        assert several[3] <= one[3]


def test_noise_is_recognised_by_who_has_seen_it():
    rows = {row[0]: row for row in result("noise").rows}
    assert rows["plain"][3] > 0.5
    assert rows["noise as a class of its own"][3] < 0.1
    assert rows["L2 penalty"][3] < rows["plain"][3]
    assert min(row[1] for row in rows.values()) > 0.85


def test_random_labels_are_learned_by_heart():
    rows = {row[:2]: row[2:] for row in result("memorising").rows}
    widest = max(width for _, width in rows)
    assert rows["random", widest][0] == 1.0
    assert rows["random", widest][1] < 0.2  # chance is 0.1
    assert rows["true", widest][1] > 0.9
