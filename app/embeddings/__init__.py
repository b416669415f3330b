"""Embedders: texts become vectors of unit length. The settings choose one (choose.py), nothing else does."""
