"""Sandboxes: the only place where code of strangers runs. `choose()` picks the one this machine can offer."""
