tracectl replay x.vmtrace --from 9 --to 3
