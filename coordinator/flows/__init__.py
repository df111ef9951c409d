"""What a node does, as generators that yield Call or Sleep and never touch I/O.

Two drivers run them (sync, async). Everything an incarnation knows is here: its lease, its memory of clients, what
its keeper has to do next. The keeper's own procedure is in keeper.py.
"""

from coordinator.flows.clients import ClientFlows
from coordinator.flows.core import Event, Flow, Sleep
from coordinator.flows.grace import GraceFlows
from coordinator.flows.locks import Grant, LockFlows

__all__ = ["Event", "Flow", "Grant", "Node", "Sleep"]


class Node(LockFlows, GraceFlows, ClientFlows):
    """One node of a scope: all its procedures."""
