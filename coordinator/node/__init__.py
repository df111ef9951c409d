"""What one node knows and does: its lease, its clients, its procedures as generators that never touch I/O.

The drivers of `coordinator.api` run them. The procedure that keeps a node alive is in keeper.py.
"""

from coordinator.node.grace import Grace
from coordinator.node.life import Event
from coordinator.node.locks import Grant, Locks
from coordinator.node.requests import Flow, Sleep, Wait

__all__ = ["Event", "Flow", "Grant", "Node", "Sleep", "Wait"]


class Node(Locks, Grace):
    """One node of a scope: all its procedures."""
