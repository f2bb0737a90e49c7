"""Out to the PACS: storing results, asking for their commitment, checking that a destination answers.

One thread owns each outgoing association from connection to release, so no response can go to somebody else.
"""
