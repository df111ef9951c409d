"""Scripts for the people who work on this project; nothing here is shipped."""
