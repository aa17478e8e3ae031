// Room of Assists: see ARCHITECTURE.md.
