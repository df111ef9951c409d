"""Tests; tests/behaviour holds the scenarios by number."""
