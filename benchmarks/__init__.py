"""Measurements: ratios against peers in the same run, with machine and versions. `make bench` runs them all."""
