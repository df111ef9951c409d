"""The Prometheus families, and what one node feeds into them."""
