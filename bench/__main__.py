"""``python -m bench [question ...]`` measures, and prints Markdown tables with ratios.

Ratios are medians over rounds in which the peers run in turns, with the range from the 20th to
the 80th percentile; above 1 fastgd is the faster one.
"""

from __future__ import annotations

import argparse
import importlib
import warnings

from bench import peers
from bench.provenance import provenance
from bench.table import heading

QUESTIONS = (
    "training",
    "update_rules",
    "prediction",
    "short_fits",
    "gradient",
    "hessian_product",
    "lbfgs",
    "bfgs",
    "levenberg_marquardt",
    "cold_start",
    "scaling",
    "mnist",
    "many_fits",
    "memory",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=", ".join(QUESTIONS))
    chosen = parser.parse_args().questions or QUESTIONS
    unknown = set(chosen) - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}; try {', '.join(QUESTIONS)}")
    print(provenance())
    for reason in peers.absent():
        print(f"- {reason}")
    warnings.simplefilter("ignore")
    for name in chosen:
        question = importlib.import_module(f"bench.{name}")
        heading(str(question.__doc__).splitlines()[0])
        question.report()


if __name__ == "__main__":
    main()
