"""From evidence to one score a domain."""

from lm_eval_sts.moved import watch

watch()
