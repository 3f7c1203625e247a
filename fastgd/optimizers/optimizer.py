"""An update rule at work: its memory, its step count, one compiled update at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from fastgd._jit.cache import is_ours
from fastgd._record import checked
from fastgd._threads import allowed_threads, reserved
from fastgd.kernels.aligned import STATE, aligned_zeros, whole_lines
from fastgd.kernels.epoch import Memory, apply_step, rule_part, step_in_python
from fastgd.kernels.layout import CHUNK_PARAMETERS
from fastgd.kernels.parts import Part
from fastgd.kernels.plan import Plan
from fastgd.kernels.team import together
from fastgd.optimizers.users_rule import check_indices, names_of

# Bytes moved from which an update of a single vector is worth starting a thread.
WORTH_THREADS = 30_000_000


def is_rule(candidate: object) -> bool:
    """Whether an object is an update rule: a NamedTuple with a learning rate and a step."""
    return (
        isinstance(candidate, tuple)
        and "learning_rate" in getattr(candidate, "_fields", ())
        and callable(getattr(candidate, "step", None))
    )


class Optimizer:
    """An update rule at work on one parameter vector: the rule, its memory, its step count.

    Parameters
    ----------
    rule : NamedTuple
        An update rule.
    w : ndarray of shape (n,), float32 or float64
        The parameters that it will update; only shape and dtype are used.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optimizers import SGD, Optimizer
    >>> w = np.array([1.0, 2.0])
    >>> Optimizer(SGD(learning_rate=0.5), w).update(w, g=np.array([1.0, -1.0]))
    >>> w
    array([0.5, 2.5])
    """

    def __init__(self, rule: Any, w: NDArray[Any], chunks: NDArray[np.int64] | None = None) -> None:
        if not is_rule(rule):
            raise TypeError(
                "rule must be a NamedTuple with a field learning_rate and a method step,"
                f" got {rule!r}."
            )
        if not isinstance(w, np.ndarray) or w.dtype not in (np.float32, np.float64):
            found = w.dtype if isinstance(w, np.ndarray) else type(w).__name__
            raise ValueError(f"w must be an array of dtype float32 or float64, got {found}.")
        if w.ndim != 1:
            raise ValueError(f"w must be a vector, got an array of shape {w.shape}.")
        self.rule = checked(rule)
        solution = getattr(rule, "solution", None)
        names, scalar_names = names_of(rule, "state"), names_of(rule, "scalars")
        if solution is not None and solution not in names:
            raise ValueError(f"solution must be one of the rule's state {names}, got {solution!r}.")
        if not is_ours(type(rule)):
            check_indices(self.rule, w.size, w.dtype)
        self.learning_rate: float = self.rule.learning_rate
        self.n_updates = 0
        self._expects = w.size, w.dtype
        self._planned: tuple[Any, list[Plan]] = (None, [])
        self._kept_plan: list[tuple[Any, Plan]] = []
        if not getattr(self.rule, "elementwise", False):
            chunks = np.array([0, w.size])
        elif chunks is None:
            chunks = np.append(np.arange(0, max(w.size, 1), CHUNK_PARAMETERS), w.size)
        k, n_scalars = len(names), len(scalar_names)
        # An update reads gradient, parameters and state, and writes the latter two.
        self._bytes_moved = (3 + 2 * k) * w.nbytes
        n_chunks, row = chunks.size - 1, whole_lines(n_scalars)
        scalars = aligned_zeros(n_chunks * row, np.float64).reshape(n_chunks, row)
        arrays = aligned_zeros(k * w.size, w.dtype, STATE)
        self.memory = Memory(arrays, scalars, chunks, k, n_scalars)

    @property
    def part(self) -> Part:
        """What kernels call; not to be kept, since it holds an address in this process."""
        return rule_part(self.rule, self._expects[1])

    @property
    def state(self) -> NDArray[Any]:
        """A copy of the rule's state, one row for each name in its ``state``."""
        return self.memory.rows()

    @property
    def scalars(self) -> NDArray[np.float64]:
        """A copy of the rule's scalars: for each chunk, one for each name in its ``scalars``."""
        return self.memory.scalars[:, : self.memory.n_scalars].copy()

    def successor(
        self, rule: Any, w: NDArray[Any], chunks: NDArray[np.int64] | None = None
    ) -> Optimizer | None:
        """A copy that goes on with ``rule``'s parameters; None if its memory is of another kind."""
        fresh = Optimizer(rule, w, chunks)
        mine, its = self.memory, fresh.memory
        if type(rule) is not type(self.rule) or mine.chunks[-1] != its.chunks[-1]:
            return None
        if (mine.n_arrays, mine.n_scalars) != (its.n_arrays, its.n_scalars):
            return None
        fresh.rule, fresh.learning_rate = self.rule, self.learning_rate
        fresh.n_updates = self.n_updates
        its.take_over(mine)
        fresh._kept_plan, self._kept_plan = self._kept_plan, []
        return fresh

    def keep_plan(self, kind: Any, plan: Plan) -> None:
        """Keep a plan of a training, and what kind of training it is, for who goes on with it."""
        self._kept_plan = [(kind, plan)]

    def take_plan(self) -> tuple[Any, Plan | None]:
        """What was kept, which is then not there any more: nobody else may write to its buffers."""
        try:
            return self._kept_plan.pop()
        except IndexError:
            return None, None

    def update(self, w: NDArray[Any], g: NDArray[Any]) -> None:
        """Change ``w`` in place by one step with the gradient ``g``.

        Raises
        ------
        ValueError
            The arrays are not C-contiguous and of the shape and dtype that this was made for.
        """
        n, dtype = self._expects
        for name, a in (("w", w), ("g", g)):
            if not isinstance(a, np.ndarray):
                raise ValueError(f"{name} must be an array, got {type(a).__name__}.")
            if a.shape != (n,) or a.dtype != dtype or not a.flags.c_contiguous:
                raise ValueError(
                    f"{name} must be a contiguous array of shape ({n},) and dtype {dtype},"
                    f" got shape {a.shape}, dtype {a.dtype}, strides {a.strides}."
                )
        if not w.flags.writeable:
            raise ValueError("w must be writeable: it is changed in place.")
        self._update(w, g, self.n_updates + 1)
        self.n_updates += 1

    def _update(self, w: NDArray[Any], g: NDArray[Any], t: int) -> None:
        if config.DISABLE_JIT:
            step_in_python(self.rule, w, g, self.memory, t, self.learning_rate)
            return
        is_short = self._bytes_moved < WORTH_THREADS
        plans = self._ready_plans(1 if is_short else allowed_threads())
        # Numba would compile the kernel once more for arrays of other kinds.
        w, g = np.asarray(w), np.asarray(g)
        if not g.flags.writeable:
            g = g.copy()
        if len(plans) == 1:
            apply_step(plans[0].record, w, g, t, self.learning_rate)
            return
        with reserved(len(plans)) as n_threads:
            together(apply_step, plans, n_threads, w, g, t, self.learning_rate)

    def _ready_plans(self, n_threads: int) -> list[Plan]:
        """A plan for each thread, kept for the next update."""
        rule, plans = self._planned
        if rule is not self.rule or len(plans) != n_threads:
            entries = {"rule": self.part, **self.memory.entries()}
            plans = [Plan(self._expects[1]).set(**entries) for _ in range(n_threads)]
            self._planned = self.rule, plans
        return plans

    def __getstate__(self) -> dict[str, Any]:
        # Plans hold addresses in this process.
        return vars(self) | {"_planned": (None, []), "_kept_plan": []}

    def solution(self, w: NDArray[Any]) -> NDArray[Any]:
        """What the rule recommends after its last step: an average, or ``w`` itself."""
        name = getattr(self.rule, "solution", None)
        if name is None or self.n_updates == 0:
            return w
        return self.state[self.rule.state.index(name)]
