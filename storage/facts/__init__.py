"""Frozen value types that every package speaks. No I/O; only the standard library."""
