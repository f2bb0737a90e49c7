"""Tests of inference.training."""
