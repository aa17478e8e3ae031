# A trace holds guest memory: nobody else reads it, whatever the umask and whatever stood there before.
umask 000
tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
stat -c %a hello.vmtrace
chmod 644 hello.vmtrace
tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
stat -c %a hello.vmtrace
# Nothing is left beside a trace that was closed.
ls
