"""One tree of errors, branched by what the caller must do.

::

    NodeError
    ├── Transient       try the same thing again later (a PACS is down, a disk is full)
    ├── Rejected        this datum can never pass; fail the task with its reason
    ├── Misconfigured   stop, and tell the operator which setting to change
    └── Conflict        drop the work: somebody else owns it now
        ├── LeaseLost           the task was given to another worker
        └── IllegalTransition   the task's state does not allow this move

Messages speak to the person who can act and never carry a patient's name, ID or birth date; UIDs may appear.
"""

from __future__ import annotations


class NodeError(Exception):
    """Root of every error that the node raises on purpose."""


class Transient(NodeError):
    """The same work may succeed later: the stage retries it with back-off."""


class Rejected(NodeError):
    """This datum can never pass: the stage makes a dead letter with this reason."""


class Misconfigured(NodeError):
    """A setting, rule or package is wrong: only an operator can mend it."""


class Conflict(NodeError):
    """Somebody else owns the work now: drop it silently."""


class LeaseLost(Conflict):
    """The task was given to another worker after this one fell silent."""


class IllegalTransition(Conflict):
    """A task was asked to make a move that its state does not allow."""
