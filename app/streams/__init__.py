"""Streams: what happens to several tasks, in one order, without a gap and without a repeat."""
