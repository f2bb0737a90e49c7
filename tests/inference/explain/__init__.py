"""Tests of inference.explain."""
