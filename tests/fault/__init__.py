"""Faults on a real server: processes that are stopped or killed."""
