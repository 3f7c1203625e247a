"""The parameters that both estimators have: what is allowed, and their documentation."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from fastgd.kernels.activations import ACTIVATIONS
from fastgd.neural_network.initialization import INITIALIZERS
from fastgd.optimizers import OPTIMIZERS
from fastgd.optimizers.schedules import SCHEDULES
from fastgd.solvers import SOLVERS

# What happens to the learning rate at the end of an epoch; scikit-learn's names.
POLICIES = frozenset({"constant", "invscaling", "adaptive"})

CONSTRAINTS: dict[str, Any] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
    "solver": [StrOptions(set(OPTIMIZERS) | set(SOLVERS)), HasMethods("step")],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions(set(POLICIES))],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "clip_value": [Interval(Real, 0, None, closed="neither"), None],
    "max_norm": [Interval(Real, 0, None, closed="neither"), None],
    "schedule": [StrOptions(set(POLICIES) | set(SCHEDULES)), callable, None],
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "init": [StrOptions(set(INITIALIZERS)), callable],
    "n_jobs": [
        Interval(Integral, None, -1, closed="right"),
        Interval(Integral, 1, None, closed="left"),
        None,
    ],
}

PARAMETERS = """
    hidden_layer_sizes : array-like of shape (n_layers - 2,), default=(100,)
        Number of units of each hidden layer; ``()`` for none: linear and logistic regression.
    activation : str or sequence of str, default='relu'
        One for all hidden layers, or one for each: 'identity', 'logistic', 'tanh', 'relu',
        'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu'.
    solver : str or update rule, default='adam'
        'sgd', 'adam' and 'lbfgs' are scikit-learn's, with its parameters.  Any other name of an
        update rule ('adagrad', 'rmsprop', 'adamw', …) stands for the rule with its own defaults,
        and an object such as ``fastgd.optimizers.RMSprop(learning_rate=0.01)`` for itself, a
        rule of one's own included.  Solvers that see the whole objective: 'bfgs' (ours; SciPy's
        steps in O(n²)), 'scipy-bfgs', 'newton-cg' and 'trust-krylov' (Hessian–vector products),
        'newton' and 'trust-exact' (the whole Hessian, small networks), 'levenberg-marquardt'
        (squared error), 'differential-evolution' and 'dual-annealing' (global search, very small
        networks).
    alpha : float, default=0.0001
        Strength of the L2 penalty, divided by the sum of the sample weights of the batch.
        Biases are not penalised.
    batch_size : int or 'auto', default='auto'
        Rows of a mini-batch; 'auto' is ``min(200, n_samples)``; 1 updates by single samples,
        ``n_samples`` by the full batch.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        For ``solver='sgd'``: 'invscaling' divides the rate by ``(t_ + 1) ** power_t``;
        'adaptive' divides it by 5 whenever ``n_iter_no_change`` epochs brought nothing.
    learning_rate_init : float, default=0.001
        Learning rate of 'sgd' and 'adam'; a rule object has its own.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Epochs, or iterations of a solver that sees the whole objective.
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance or None, default=None
        Decides initial weights, split, order of the batches and dropout masks.
    tol : float, default=1e-4
        Least improvement that counts.  For solvers that see the whole objective the bound of the
        gradient: of its largest element for 'lbfgs', 'bfgs', 'scipy-bfgs', 'newton' and
        'levenberg-marquardt', of its norm for 'trust-krylov' and 'trust-exact'; the mean change of
        a parameter for 'newton-cg' (in float32 at least 3.5e-4, which is as much as it resolves);
        the relative spread of the population for 'differential-evolution'; for 'dual-annealing'
        that of the gradient in its descents.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the parameters of the last one, with a new optimizer.
    momentum : float, default=0.9
        Momentum of 'sgd'.
    nesterovs_momentum : bool, default=True
        Whether the momentum of 'sgd' is Nesterov's.
    early_stopping : bool, default=False
        For update rules: whether to stop by the score on held-out samples, and to keep the
        parameters that were best by it.
    validation_fraction : float, default=0.1
        Share of the samples to hold out, where ``fit`` is given no ``X_val``.
    beta_1, beta_2 : float, default=0.9 and 0.999
        Smoothing of the moments of 'adam'.
    epsilon : float, default=1e-8
        Stability of 'adam'.
    n_iter_no_change : int, default=10
        Training ends after more than this many epochs without an improvement by ``tol``.
    max_fun : int, default=15000
        Most evaluations of the objective by 'lbfgs' and 'dual-annealing'."""

EXTENSIONS = """
    dropout : float or sequence of float, default=0
        Share of the units of each hidden layer that training sets to zero; one for all hidden
        layers, or one for each.
    clip_norm : float or None, default=None
        Bound of the norm of the whole gradient.
    clip_value : float or None, default=None
        Bound of each element of the gradient; applied before ``clip_norm``.
    max_norm : float or None, default=None
        Bound of the norm of the weights into each unit.
    schedule : str, callable or None, default=None
        Learning-rate schedule of any update rule: 'constant', 'invscaling', 'adaptive' as for
        ``learning_rate``; 'step', 'exponential', 'cosine', 'warmup', 'one-cycle' or an object of
        ``fastgd.optimizers.schedules``; or a function of the number of updates made that returns
        the factor of the learning rate.  Where a schedule has to know its length, it is
        ``max_iter`` epochs of the samples given; with ``partial_fit``, give it ``total_steps``.
    n_init : int, default=1
        Number of starts from different initial weights, of which the best is kept: the one with
        the best validation score, or else with the smallest loss.
    init : {'glorot', 'he', 'lecun', 'orthogonal'} or callable, default='glorot'
        Initial weights; 'glorot' draws scikit-learn's numbers.  A callable is given
        ``(fan_in, fan_out, random_state)`` and returns the weights of a layer.
    n_jobs : int or None, default=None
        Most threads that a fit or a prediction may use; -1: as many as there are processors.
        None: as many as are worth it, and as threadpoolctl or ``OMP_NUM_THREADS`` allow.  What
        is trained does not depend on it.  Fits that run at the same time share the processors."""

ATTRIBUTES = """
    loss_ : float
        Loss of the last epoch (mean over its batches), penalty included.
    best_loss_ : float or None
        Smallest loss; None with early stopping.
    loss_curve_ : list of float
        Loss after each epoch or iteration, for every solver; with 'dual-annealing' after each that
        found a lower one.
    validation_scores_ : list of float or None
        Accuracy or R² on the held-out samples after each epoch.
    validation_loss_curve_ : list of float or None
        Loss on the held-out samples after each epoch, without the penalty.
    best_validation_score_ : float or None
        Largest of ``validation_scores_``.
    grad_norm_curve_ : list of ndarray of shape (n_layers - 1,)
        Norm of the gradient by the weights of each layer, mean over the batches of each epoch:
        vanishing and exploding gradients are seen here.
    t_ : int
        Number of samples seen: with a solver that sees the whole objective, all in each iteration.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer; views of one flat vector.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where ``X`` has names that are all strings.
    n_iter_ : int
        Number of epochs or iterations of the last fit.
    n_passes_ : int
        Number of passes over the training data: one for a value with its gradient.
    stop_reason_ : str
        Why the last fit ended: the message of the solver, or of the training by epochs.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of outputs.
    out_activation_ : str
        Output activation, which the loss decides."""
