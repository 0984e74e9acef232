"""The commands of ``lm-eval-sts``, one module each."""
