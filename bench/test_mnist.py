"""How long does it take to reach the goal on MNIST, from one seed?"""

import pytest

from bench import mnist, peers
from bench.pairing import THREADS


@pytest.mark.parametrize("peer", peers.EVERYBODY)
def test_mnist(benchmark, peer):
    for reason in (mnist.data(), peers.module(peer)):
        if isinstance(reason, str):
            pytest.skip(reason)
    benchmark.group = f"MNIST to {mnist.GOAL:.1%}, accuracy measured within"
    with peers.threads(THREADS):
        racer = mnist.learner(peer)
        race = benchmark.pedantic(mnist.race, (racer, 0), rounds=1)
    benchmark.extra_info.update(zip(("seconds", "epochs", "accuracy"), race, strict=True))
