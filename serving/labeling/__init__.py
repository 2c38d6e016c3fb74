"""The labeling program: people who are asked to judge, and what of their judgements can be believed."""
