// Room of Replay: see ARCHITECTURE.md.
