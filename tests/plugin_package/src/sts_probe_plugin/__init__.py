"""Tasks of an installed package that has nothing to do with lm_eval_sts."""
