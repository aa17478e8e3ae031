tracectl record -o out.vmtrace
