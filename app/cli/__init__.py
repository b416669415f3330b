"""The `clawq` command line."""
