// Room of Analysis: see ARCHITECTURE.md.
