// Room of SoftBackend: see ARCHITECTURE.md.
