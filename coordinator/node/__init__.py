"""What a node does, as generators that yield Call or Sleep and never touch I/O.

Two drivers run them (sync, async). Everything an incarnation knows is here: its lease, its memory of clients, what
its keeper has to do next. The keeper's own procedure is in keeper.py.
"""

from coordinator.node.clients import ClientFlows
from coordinator.node.grace import GraceFlows
from coordinator.node.life import Event, Flow, Sleep
from coordinator.node.locks import Grant, LockFlows

__all__ = ["Event", "Flow", "Grant", "Node", "Sleep"]


class Node(LockFlows, GraceFlows, ClientFlows):
    """One node of a scope: all its procedures."""
