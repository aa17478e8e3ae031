# Options that a sample guest is recorded with. Usage: source guest-options.sh NAME     sets $options
case $1 in
    twocpus) options="--cpus 2" ;;
    *) options="" ;;
esac
