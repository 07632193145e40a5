"""A page that tells a plan: one HTML file that needs no network and no other file. Research only, never bedside."""

from planners.report.html.pages import plan_page
from planners.report.html.story import Story, tell

__all__ = ["Story", "plan_page", "tell"]
