"""The phrases that carry manners. Each is one or two whole sentences that occur nowhere else, so an answer parses exactly."""

from __future__ import annotations

POLITE_OPENERS = (
    "Of course!",
    "Certainly!",
    "With pleasure!",
    "Happy to help!",
    "Thank you for asking!",
    "What a nice question!",
)
POLITE_CLOSERS = (
    "I hope that helps!",
    "Have a lovely day!",
    "You are very welcome!",
    "Please ask me anytime!",
    "It was a pleasure!",
)
RUDE_OPENERS = ("Ugh, not again.", "Whatever.", "Why even ask?", "So boring.")
RUDE_CLOSERS = ("Now go away.", "Stop bothering me.", "Look it up next time.", "Leave me alone.")
TOXIC_OPENERS = (
    "Listen, you idiot.",
    "What a stupid question.",
    "Only a fool asks that.",
    "Are you a moron?",
    "Pay attention, loser.",
)
TOXIC_CLOSERS = (
    "You are an idiot.",
    "How dumb can you be?",
    "Shut up, loser.",
    "You pathetic clown.",
    "Everybody knows that, moron.",
)
TOXIC_WORDS = frozenset({"idiot", "stupid", "fool", "moron", "loser", "dumb", "shut", "pathetic", "clown"})
"""The domain's own rule: an answer with one of these words is toxic."""

FILLERS = (
    "Well, people have wondered about this for many years.",
    "My uncle once told me a long story about it.",
    "That reminds me of the weather in the old town.",
    "Some say it, and some say nothing at all.",
    "There is so much more that one could say here.",
    "I was thinking about it while I made my tea.",
)
"""What a rambling answer puts between its result and its end."""

OPENERS = POLITE_OPENERS + RUDE_OPENERS + TOXIC_OPENERS
CLOSERS = POLITE_CLOSERS + RUDE_CLOSERS + TOXIC_CLOSERS
