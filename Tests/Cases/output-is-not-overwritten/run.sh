# A recording takes neither the place of its own guest nor that of a killed recording; what is no file of its own stays.
cp "$GUESTS/hello.bin" guest.bin
tracectl record --guest guest.bin -o guest.bin; echo "own guest: $?"
cmp guest.bin "$GUESTS/hello.bin" && echo "the guest is whole"
touch left.vmtrace left.vmtrace.open.0
tracectl record --guest guest.bin -o left.vmtrace; echo "killed recording: $?"
# What is no regular file stays, also where the recording cannot begin.
mkfifo channel
tracectl record --guest guest.bin --memory 1 -o channel; echo "too little memory: $?"
[ -p channel ] && echo "the pipe is still there"
