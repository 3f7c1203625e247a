"""Train a dense network on MNIST: at least 98.4 % on the test set.

    python examples/mnist.py

Two hidden layers of rectifiers with dropout (Srivastava et al. 2014), Adam with a one-cycle
learning rate (Smith & Topin 2018).
"""

import time

from fastgd import MLPClassifier
from fastgd.datasets import load_mnist
from fastgd.optimizers import Adam

X_train, y_train, X_test, y_test = load_mnist()

clf = MLPClassifier(
    hidden_layer_sizes=(512, 512),
    solver=Adam(learning_rate=0.002),
    schedule="one-cycle",
    init="he",
    dropout=(0.3, 0.4),
    batch_size=128,
    max_iter=20,
    n_iter_no_change=20,
    alpha=0.0,
    random_state=0,
    verbose=True,
)
started = time.perf_counter()
clf.fit(X_train, y_train)
seconds = time.perf_counter() - started
print(f"test accuracy {clf.score(X_test, y_test):.2%} after {seconds:.0f} s of training")
