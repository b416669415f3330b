"""Acceptance: the real command line, and stacks that it starts."""
