# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# Machines of other processes are listed, and are gone with them; nvmm_ctl finds them too.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/waiting_client.c" waiting
tracectl nvmm list
mkfifo go
alone ./waiting <go >first.txt &
exec 3>go
while [ "$(tracectl nvmm list --json | grep -c '"id"')" != 2 ]; do sleep 0.05; done
# The width of the last columns follows the digits of the process.
tracectl nvmm list | sed -e 's/ *[0-9][0-9]*  [0-9-]* [0-9:]*$/ PROCESS TIME/' -e 's/ *process  *created$/ process created/'
echo | alone ./waiting 1 | sed 's/process [0-9]*/process N/'
exec 3>&-
wait
cat first.txt
tracectl nvmm list --json
tracectl nvmm identify
