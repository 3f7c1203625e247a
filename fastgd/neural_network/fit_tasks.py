"""scikit-learn's callback protocol: one task for each epoch or iteration of a fit."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastgd.kernels.layout import parameter_views


class TrainingInterrupted(UserWarning):
    """The user pressed Ctrl-C during a fit, which keeps what was learned."""


class FitTasks:
    """Tells the estimator's callbacks when a task begins and ends.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    context : sklearn.callback.CallbackContext or None
        Of the running fit; None: nobody is told.
    name : str
        What a task is: an epoch or an iteration.
    layers : record array of shape (L,)
        The layer table.
    X, y, sample_weight : array-like
        The training samples, as the user would pass them to ``score``.
    """

    def __init__(
        self,
        estimator: Any,
        context: Any,
        name: str,
        layers: NDArray[Any],
        X: Any,
        y: Any,
        sample_weight: Any,
    ) -> None:
        self._estimator, self._name, self._layers = estimator, name, layers
        self._context = context if getattr(estimator, "_skl_callbacks", None) else None
        self._task: Any = None
        self._told = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }

    def begin(self, w: NDArray[Any]) -> None:
        """A task begins with the parameters ``w``."""
        if self._context is not None:
            self._task = self._context.subcontext(task_name=self._name)
            self._task.call_on_fit_task_begin(**self._told, **self._snapshot(w))

    def end(self, w: NDArray[Any]) -> bool:
        """The task ends with the parameters ``w``; whether a callback asks to stop the fit."""
        if self._task is None:
            return False
        task, self._task = self._task, None
        return bool(task.call_on_fit_task_end(**self._told, **self._snapshot(w)))

    def _snapshot(self, w: NDArray[Any]) -> dict[str, Any]:
        def attributes() -> dict[str, Any]:
            # A copy: what a callback keeps must not change under it.
            coefs, intercepts = parameter_views(w.copy(), self._layers)
            return {"coefs_": coefs, "intercepts_": intercepts}

        return {"reconstruction_attributes": attributes}
