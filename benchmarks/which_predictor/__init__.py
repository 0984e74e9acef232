"""Which predictor to trust: the study behind docs/which-predictor.md."""
