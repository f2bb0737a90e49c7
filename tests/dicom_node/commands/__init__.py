"""Tests of the command line: what it prints, what it changes, how it fails."""
