"""Sampling: SFT sets that have prompts only, and what tells whether an answer to one is right."""
