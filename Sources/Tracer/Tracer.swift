// Room of Tracer: see ARCHITECTURE.md.
