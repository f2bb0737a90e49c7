"""Measures a package on studies whose truth is known, by the very code that runs in production."""
