"""What is read from the frozen model."""

from lm_eval_sts.moved import watch

watch()
