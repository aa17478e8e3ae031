tracectl info --no-such-flag x.vmtrace
