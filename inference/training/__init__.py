"""Trains the package phantom-nodule from nothing but a seed: the worked example of docs/training.md."""
