"""What a chapter checks: its parameters, the reader's answers to its exercises, and its own claims."""

from kdlib.course.checks.claims import claim
from kdlib.course.checks.exercises import Feedback, check, exercise
from kdlib.course.checks.settings import parameters

__all__ = ["Feedback", "check", "claim", "exercise", "parameters"]
