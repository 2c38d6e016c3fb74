"""What is deployed and how it fares: settings, registry, assignment, evidence, rollout controller, metrics, CLI.

Imports ``feedback`` only; loads without torch, vLLM or FastAPI.
"""
