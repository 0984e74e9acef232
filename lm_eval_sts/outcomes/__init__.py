"""Measured transfer: fine-tuning, measuring, pairing, and the outcomes that ship."""

from lm_eval_sts.moved import watch

watch()
