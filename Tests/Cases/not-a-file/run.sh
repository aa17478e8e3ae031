mkdir folder
tracectl info folder; echo $?
tracectl record --guest "$GUESTS/hello.bin" -o folder; echo $?
tracectl record --guest "$GUESTS/hello.bin" -o no/such/folder/out.vmtrace; echo $?
