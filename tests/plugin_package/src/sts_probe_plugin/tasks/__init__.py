"""The folder that the entry point names."""
