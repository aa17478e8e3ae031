# needs: file .build-linux/vmlinuz
# needs: file .build-linux/busybox
# needs: file .build-linux/modules/virtio_blk.ko
# Debian's kernel to a short session in its initial RAM disk and off again, with a virtio disk and console, then the end
# of it replayed. All of it, with two VCPUs, and twice, is in make soak.
"$ROOT/Samples/linux/build.sh" "$ROOT/.build-linux/busybox" initrd.gz "$ROOT/.build-linux/modules"
seq 1 1000000 >numbers.txt
head -c 100k numbers.txt >disk.img
printf '%s\n' 'to be echoed' end >input
timeout -s KILL 400 tracectl record --kernel "$ROOT/.build-linux/vmlinuz" --initrd initrd.gz --memory 256M \
    --virtio-disk disk.img --virtio-console --input input --append "console=ttyS0 quiet forks=5 kib=64" \
    --max-instructions 20000000000 -o linux.vmtrace >console.txt
tr -d '\r' <console.txt | grep '^session' | sed "s/$(head -c 64k numbers.txt | sha256sum | cut -c 1-16)/as here/
    s/$(sha256sum <disk.img | cut -c 1-16)/of the disk/; s/$(head -c 40k numbers.txt | sha256sum | cut -c 1-16)/of 40 KiB/"
grep -a '^recorded' console.txt | sed 's/.*: //'
last=$(tracectl info linux.vmtrace --json | python3 -c 'import json, sys; print(sum(e["count"] for e in json.load(sys.stdin)["exits"]) - 1)')
timeout -s KILL 400 tracectl replay linux.vmtrace --from $((last - 20000)) | head -n 1 | sed 's/all [0-9,]* steps/all steps/'
