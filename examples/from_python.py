"""Predict from Python, on the micro world: no lm-eval task, no download."""

from transformers import AutoModelForCausalLM, AutoTokenizer

import lm_eval_sts as sts
from lm_eval_sts.shipped import resolve

path = resolve("micro/model")
model = sts.Model(AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path))
sft = sts.load_sft_set("micro/sft/laws-home-long")
domains = sts.load_domains("sts_micro", limit=8)

evidence = sts.read(model, "micro/sae", sft, domains, predictors=["sts_icl", "tfidf_cosine"])
predictions = [sts.predict(evidence, name) for name in ("sts_icl", "tfidf_cosine")]
print(predictions[0].to_frame().sort_values("score", ascending=False).head().to_string())

found = sts.compare(predictions, [sts.load_outcome("micro/laws-home-long")], target="magnitude")
print(found.to_frame()[["predictor", "pearson", "pearson_low", "pearson_high", "pearson_ceiling"]].to_string())
