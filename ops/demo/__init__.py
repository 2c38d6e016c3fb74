"""The whole loop by itself: simulated people, a live table, a report."""
