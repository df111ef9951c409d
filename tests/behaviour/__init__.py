"""behaviour tests."""
