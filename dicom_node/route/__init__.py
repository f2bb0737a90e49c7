"""Which model for which series: a small typed language, facts to ask it about, and why each rule did or did not match.

Everything here is pure: a header goes in, decisions come out.
"""
