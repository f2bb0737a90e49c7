"""Tests of inference.monitor."""
