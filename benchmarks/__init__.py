"""Speed against named peers and limits; `python -m benchmarks --help`."""
