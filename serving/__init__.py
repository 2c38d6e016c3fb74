"""The gateway: chat and feedback routes, the engine's client and keeper, adapter hot swap, keys, pages."""
