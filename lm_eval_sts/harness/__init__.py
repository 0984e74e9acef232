"""The door through lm-eval: tasks, runs, results."""

from lm_eval_sts.moved import watch

watch()
