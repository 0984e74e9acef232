"""The task files that lm-eval reads; a package so that the entry-point group lm_eval.tasks can name it."""
