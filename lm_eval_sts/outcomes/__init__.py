"""Measured transfer: fine-tuning, measuring, pairing, and the outcomes that ship."""
