# A guest that never ends: the bounds of instructions and of exits end the recording, and the trace is whole.
printf '\xe4\x60\xeb\xfc' > poll.bin   # in al, 0x60; jmp to it
tracectl record --guest poll.bin --max-exits 100 -o exits.vmtrace | grep -oE '^recorded [0-9,]+ exits.*'
tracectl record --guest poll.bin --max-instructions 100 -o instructions.vmtrace | grep -oE '[0-9,]+ instructions.*'
tracectl verify exits.vmtrace | grep -oE '^sound'
tracectl replay exits.vmtrace | head -n 1
# A guest that shuts down by a triple fault: trouble, and a trace that is whole.
printf '\x0f\x01\x1e\x08\x7c\x0f\x0b\x90\0\0\0\0\0\0' > ud2.bin   # lidt [0x7c08]: no vectors; ud2
tracectl record --guest ud2.bin --max-instructions 1000000 -o ud2.vmtrace | grep -oE 'triple fault.*'; echo "${PIPESTATUS[0]}"
tracectl record --guest poll.bin --memory 1000 -o x.vmtrace; echo $?
ls
