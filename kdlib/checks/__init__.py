"""What a chapter checks: the reader's answers to its exercises, and its own claims."""

from kdlib.checks.claims import claim
from kdlib.checks.exercises import Feedback, check, exercise

__all__ = ["Feedback", "check", "claim", "exercise"]
