"""Studies: how well predictors do on SFT runs of one's own, from one file."""
