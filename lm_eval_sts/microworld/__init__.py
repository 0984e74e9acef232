"""The embedded default: a small synthetic world with a model, its SAE, domains and SFT sets."""

from lm_eval_sts.moved import watch

watch()
