"""Speed, as ratios to what people would otherwise run: ``python -m tests.benchmarks --help``."""
