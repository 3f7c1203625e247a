"""Fast neural networks on the CPU behind scikit-learn's interface."""
