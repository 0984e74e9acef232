"""Predicts, before fine-tuning, where an SFT set will move a model's benchmark scores.

The Python API is exported here, each name imported when it is first used: the start-up hook imports this package in
every interpreter, and importing it must cost nothing.
"""

import sys

_API = (
    *("Comparison", "Evidence", "Explanation", "Model", "Outcome", "Prediction", "Question"),
    *("compare", "explain", "load_domains", "load_outcome", "load_prompts", "load_sae", "load_sft_set"),
    *("mix", "plan", "predict", "read", "sample", "score_errors"),
)


class _Moved:
    """The last finder of modules, asked for those that are not there: says where one went that was there before."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raises ImportError for a module that moved."""
        if name.startswith(f"{__name__}."):
            from lm_eval_sts.moved import check_module

            check_module(name)


sys.meta_path.append(_Moved)


def __getattr__(name: str) -> object:
    """A name of the API, or the installed version."""
    if name == "__version__":
        from lm_eval_sts.files import package_version

        return package_version("lm-eval-sts")
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module("lm_eval_sts.api"), name)
    return found


def __dir__() -> list[str]:
    """What a completion offers."""
    return [*globals(), *_API, "__version__"]
