"""A model's text to a plan. What others use is named here; CODES and ERROR_CODES are what reading tells, by code."""

from .build import read_plan
from .coordinates import CHOICES as COORDINATES
from .notices import CODES, ERROR_CODES, ReplyError

__all__ = ["CODES", "COORDINATES", "ERROR_CODES", "ReplyError", "read_plan"]
