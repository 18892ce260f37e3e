"""Universal representations on MNIST: one encoder, a decoder for every trade-off.

After Zhang et al. 2021 (arXiv 2106.10311) and Nguyen 2025 (arXiv 2504.13191). docs/universal.md
explains the experiments, and ``recipes/mnist_universal.yaml`` holds the settings.
"""
