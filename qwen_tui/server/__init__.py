"""One vLLM api_server: what to run (spec), who keeps it (keeper), how it is found again (registry)."""
