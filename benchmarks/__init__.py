"""What is promised about speed, measured: `./run bench` runs all of it on servers of its own."""
