"""Measurements, each as ratios of medians taken in one run on one machine. `make bench` runs them."""
