"""Supervised fine-tuning with TRL and PEFT: what is trained, checked before and after, resumable."""
