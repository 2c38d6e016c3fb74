"""Whom to believe: measures of raters, what their votes weigh, and when one is not to be heard for now.

Pure functions over standing votes, but for the `standing` of raters, which is folded from the control topic.
"""
