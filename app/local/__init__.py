"""The embedded stack: real engines and all of clawq's processes on one machine, under one supervisor."""
