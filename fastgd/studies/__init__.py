"""The lessons of the textbooks as experiments that run, one file each, and a table of their names.

Each measures on real data and draws its conclusion from the numbers.
"""

from collections.abc import Callable

from fastgd.studies.batch_size import batch_size
from fastgd.studies.initialization import initialization
from fastgd.studies.learning_rate import learning_rate
from fastgd.studies.local_minima import local_minima
from fastgd.studies.memorising import memorising
from fastgd.studies.noise import noise
from fastgd.studies.optimizers import optimizers
from fastgd.studies.study import Study
from fastgd.studies.vanishing import vanishing

STUDIES: dict[str, Callable[[], Study]] = {
    "learning-rate": learning_rate,
    "batch-size": batch_size,
    "optimizers": optimizers,
    "initialization": initialization,
    "vanishing": vanishing,
    "local-minima": local_minima,
    "noise": noise,
    "memorising": memorising,
}

__all__ = ["STUDIES", "Study"]
