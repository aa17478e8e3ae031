# What a sample guest is recorded with. Usage: source guest-options.sh NAME     sets $options
# The bound is far above what any of them needs: a guest that has gone astray ends the case, not the test run.
options="--max-instructions 300000000"
case $1 in
    bootdisk) options="$options --firmware /usr/share/seabios/bios.bin --disk $GUESTS/$1.bin" ;;
    twocpus) options="$options --guest $GUESTS/$1.bin --cpus 2" ;;
    *) options="$options --guest $GUESTS/$1.bin" ;;
esac
