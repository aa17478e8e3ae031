// Room of Disassembly: see ARCHITECTURE.md.
