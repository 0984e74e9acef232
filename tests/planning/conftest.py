"""A local hub cache, as the tests of features have it."""

from tests.features.conftest import hub_cache

__all__ = ["hub_cache"]
