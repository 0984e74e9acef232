"""Mixing: how many examples of which domain to add to an SFT set, and the mixed set."""
