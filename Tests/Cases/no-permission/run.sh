# needs: unprivileged-user
tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
stat -c %a hello.vmtrace
chmod 000 hello.vmtrace
tracectl info hello.vmtrace; echo $?
mkdir closed
chmod 500 closed
tracectl record --guest "$GUESTS/hello.bin" -o closed/out.vmtrace; echo $?
