"""What was said: events, the durable log that keeps them, receipts, and the join of feedback to completions.

Imports nothing of ours; loads without torch, vLLM or FastAPI.
"""
