// Room of ReferenceVMM: see ARCHITECTURE.md.
