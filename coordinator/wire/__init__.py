"""Bytes to and from Redis: the only floor that imports redis."""
