"""Domains: what people ask, what an answer is, and simulated people with a hidden taste who judge it."""
