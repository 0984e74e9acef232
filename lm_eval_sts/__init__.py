"""SAE-based Transferability Score (STS) for lm-evaluation-harness.

Kept empty on purpose: importing the package must cost nothing (the start-up
hook imports it in every interpreter). Import what you need from its modules.
"""
