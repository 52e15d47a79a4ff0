"""A model's text to a plan. What others use is named here; CODES and ERROR_CODES are what reading tells, by code."""

from .build import read_box, read_plan
from .notices import CODES, ERROR_CODES, ReplyError
from .pixels import COORDINATES
from .segments import read_words

__all__ = ["CODES", "COORDINATES", "ERROR_CODES", "ReplyError", "read_box", "read_plan", "read_words"]
