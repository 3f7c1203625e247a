"""Learning-rate schedules: closed forms, PyTorch's one cycle, filling in, and any function."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd.optimizers import schedules
from fastgd.optimizers.schedules import (
    SCHEDULES,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    StepDecay,
    factors,
    over,
)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (StepDecay(0.5, 100), 0, 1.0),
        (StepDecay(0.5, 100), 99, 1.0),
        (StepDecay(0.5, 100), 100, 0.5),
        (StepDecay(0.5, 100), 350, 0.125),
        (ExponentialDecay(0.25, 10), 0, 1.0),
        (ExponentialDecay(0.25, 10), 5, 0.5),
        (ExponentialDecay(0.25, 10), 20, 0.0625),
        (CosineDecay(100), 0, 1.0),
        (CosineDecay(90), 30, 0.75),  # (1 + cos 60°) / 2
        (CosineDecay(100, final=0.2), 50, 0.6),
        (CosineDecay(100, final=0.2), 100, 0.2),
        (CosineDecay(100, final=0.2), 1000, 0.2),
        (LinearWarmup(4), 0, 0.25),
        (LinearWarmup(4), 2, 0.75),
        (LinearWarmup(4), 3, 1.0),
        (LinearWarmup(4), 50, 1.0),
        (LinearWarmup(4, StepDecay(0.5, 10)), 1, 0.5),
        (LinearWarmup(4, StepDecay(0.5, 10)), 13, 1.0),
        (LinearWarmup(4, StepDecay(0.5, 10)), 14, 0.5),  # the 10th step after the warmup
        (LinearWarmup(4, CosineDecay(90)), 34, 0.75),
        (OneCycle(10, rise=0.3, initial=0.04, final=0.01), 0, 0.04),
        (OneCycle(10, rise=0.3, initial=0.04, final=0.01), 2, 1.0),
        (OneCycle(10, rise=0.3, initial=0.04, final=0.01), 9, 0.01),
        (OneCycle(10, rise=0.3, initial=0.04, final=0.01), 500, 0.01),
    ],
)
def test_closed_forms(schedule, step, expected):
    assert math.isclose(schedule(step), expected, rel_tol=1e-14)


# The learning rates of
# torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=..., pct_start=...),
# torch 2.13, its defaults div_factor=25 and final_div_factor=1e4 being ours.
TORCH_ONE_CYCLE = {
    (10, 0.3): [
        0.040000000000000036, 0.52, 1.0, 0.9504846320134737, 0.8117456539497631,
        0.6112620219362893, 0.38874197806371075, 0.18825834605023697, 0.049519367986526286, 4e-6,
    ],
    # Here the top lies between two steps.
    (7, 0.5): [
        0.040000000000000036, 0.3716718427000253, 0.9083281572999747, 0.9504846320134737,
        0.6112620219362893, 0.18825834605023697, 4e-6,
    ],
    # Here it lies before the first.
    (3, 0.3): [0.9944154354509117, 0.46263710266697505, 4e-6],
}  # fmt: skip


@pytest.mark.parametrize(("total_steps", "rise"), TORCH_ONE_CYCLE)
def test_one_cycle_is_pytorchs(total_steps, rise):
    ours = OneCycle(total_steps, rise)(np.arange(total_steps))
    # The smallest one is the difference of numbers of size 1.
    np.testing.assert_allclose(
        ours, TORCH_ONE_CYCLE[total_steps, rise], rtol=1e-13, atol=np.finfo(float).eps
    )


@pytest.mark.parametrize("name", SCHEDULES)
@settings(deadline=None)
@given(
    steps=st.lists(st.integers(0, 5000), min_size=1, max_size=20),
    total_steps=st.integers(1, 3000),
)
def test_any_step_gives_a_factor_and_arrays_are_steps_one_by_one(name, steps, total_steps):
    schedule = over(SCHEDULES[name](), total_steps)
    together = factors(schedule, np.array(steps))
    assert together.shape == (len(steps),)
    assert ((together >= 0) & (together <= 1)).all()
    # NumPy's power of an array and of a number may differ in the last place.
    one_by_one = [schedule(step) for step in steps]
    np.testing.assert_array_max_ulp(together, np.array(one_by_one), maxulp=2)
    # A function of the user's is asked step by step.
    assert factors(lambda step: schedule(step), np.array(steps)).tolist() == one_by_one


@pytest.mark.parametrize("name", SCHEDULES)
def test_over_fills_in_what_is_open(name):
    schedule = SCHEDULES[name]()
    filled = over(schedule, 321)
    if hasattr(schedule, "total_steps"):
        assert filled.total_steps == 321
        assert schedule.total_steps is None, "the user's own object has to stay as it is"
        assert over(SCHEDULES[name](total_steps=77), 321).total_steps == 77
    else:
        assert filled == schedule
    # After a warmup there is less left to fill.
    assert over(LinearWarmup(21, then=schedule), 321).then == over(schedule, 300)
    nested = LinearWarmup(21, then=LinearWarmup(100, then=schedule))
    assert over(nested, 321).then.then == over(schedule, 200)


@pytest.mark.parametrize("name", ["cosine", "one-cycle"])
def test_length_of_the_training_is_asked_for(name):
    with pytest.raises(ValueError, match=r"(CosineDecay|OneCycle) needs total_steps outside"):
        SCHEDULES[name]()(3)


def test_cosine_after_a_warmup_ends_with_the_training():
    schedule = over(LinearWarmup(10, then=CosineDecay(final=0.1)), 110)
    steps = factors(schedule, np.arange(111))
    assert steps[9] == steps[10] == 1.0
    assert math.isclose(steps[60], 0.55, rel_tol=1e-14)
    assert math.isclose(steps[110], 0.1, rel_tol=1e-14)


def test_warmup_as_long_as_the_training():
    schedule = over(LinearWarmup(10, then=CosineDecay()), 10)
    assert factors(schedule, np.arange(10)).tolist() == [(i + 1) / 10 for i in range(10)]


def test_a_function_of_the_users_gets_integers():
    seen = []

    def schedule(step):
        seen.append(step)
        return 1 if step < 3 else 0

    result = factors(schedule, np.arange(2, 6))
    assert result.dtype == np.float64
    assert result.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert seen == [2, 3, 4, 5]
    assert {type(step) for step in seen} == {int}
    assert over(schedule, 10) is schedule
    # Inside of a warmup too.
    assert LinearWarmup(2, then=schedule)(np.array([0, 1, 4, 5])).tolist() == [0.5, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "value",
    [
        -1.0,
        math.nan,
        math.inf,
        None,
        "much",
        1j,
    ],
)
def test_bad_factors_are_refused(value):
    def my_own_schedule(step):
        return value if step == 7 else 1.0

    assert factors(my_own_schedule, np.arange(7)).tolist() == [1.0] * 7
    with pytest.raises(ValueError, match="schedule must return finite factors") as caught:
        factors(my_own_schedule, np.arange(10))
    assert "my_own_schedule" in str(caught.value)
    assert "for the steps 0 to 9" in str(caught.value)


def test_a_bad_factor_of_ours_is_refused_too():
    with pytest.raises(ValueError, match=r"StepDecay: factor must be in \[0, inf\], got -0\.5"):
        StepDecay(factor=-0.5)


@pytest.mark.parametrize("build", [
    lambda: StepDecay(every=0), lambda: LinearWarmup(0), lambda: OneCycle(rise=2.0),
    lambda: CosineDecay(total_steps=0), lambda: ExponentialDecay(factor=np.nan),
    lambda: OneCycle(initial=-1.0), lambda: OneCycle(final=np.nan), lambda: StepDecay(factor=True),
])  # fmt: skip
def test_fields_out_of_their_bounds_are_refused(build):
    with pytest.raises(ValueError, match=r": \w+ must be in \["):
        build()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_values(name):
    """GridSearchCV compares, copies and pickles them."""
    schedule = SCHEDULES[name]()
    for twin in (SCHEDULES[name](), copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
    assert all(schedule != other() for key, other in SCHEDULES.items() if key != name)
    field = next(iter(vars(schedule)))
    assert SCHEDULES[name](**{field: 7}) != schedule
    with pytest.raises(AttributeError):
        setattr(schedule, field, 7)


def test_table_holds_every_schedule():
    public = {
        cls
        for cls in vars(schedules).values()
        if isinstance(cls, type) and cls.__module__ == schedules.__name__
    }
    assert public == set(SCHEDULES.values())


def test_a_class_is_no_schedule():
    with pytest.raises(ValueError, match=r"schedule must be .* such as OneCycle\(\), got OneCycle"):
        schedules.over(schedules.OneCycle, 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.CosineDecay(total_steps="a"), "total_steps must be in .* got 'a'"),
        (lambda: schedules.LinearWarmup(2, then="cosine"), "then must be .* got 'cosine'"),
        (lambda: schedules.LinearWarmup(2, then=schedules.CosineDecay), "then must be .* got"),
    ],
)
def test_fields_that_are_no_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_schedules_of_no_length():
    for cls in (CosineDecay, OneCycle):
        with pytest.raises(ValueError, match="total_steps must be in"):
            cls(math.inf)


def test_an_own_schedule_with_a_field_of_that_name():
    class Mine:
        total_steps = None

        def __call__(self, step):
            return 1.0

    mine = Mine()
    assert schedules.over(mine, 10) is mine


def test_a_factor_beyond_all_numbers():
    with pytest.raises(ValueError, match="schedule must return finite factors"):
        schedules.factors(lambda step: 10**400, np.arange(2))


@dataclasses.dataclass(frozen=True)
class MyWarmup:
    steps: int = 2
    then: object = None

    def __call__(self, step):
        return 0.5 if step < self.steps else self.then(step - self.steps)


def test_an_own_warmup_before_a_schedule_of_unknown_length():
    schedule = schedules.over(MyWarmup(then=CosineDecay()), 10)
    assert schedule.then.total_steps == 8
    assert schedule(0) == 0.5
