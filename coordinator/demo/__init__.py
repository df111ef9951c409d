"""The demonstration: three nodes, a crash, reclaims, a disconnect that waits."""
