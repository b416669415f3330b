"""Chaos: a running stack that is broken from outside, and what must hold all the same."""
