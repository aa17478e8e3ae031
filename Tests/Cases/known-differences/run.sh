# A backend whose ADC forgets the carry, and rules that accept just that: each says what it swallowed.
printf '\xf9\xb8\x01\x00\x15\x02\x00\xe6\x80\xb0\x01\xe6\xf4' > adc.bin   # stc; mov ax, 1; adc ax, 2; out 0x80, al; ...
tracectl record --guest adc.bin --max-instructions 1000 -o adc.vmtrace >/dev/null
rule() { printf '[[difference]]\ninstruction = "%s"\nfield = "%s"\nreason = "%s"\nproof = "none: a test"\n' "$@"; }
{
    rule 'adc r16, imm16' rax 'the fault of this test'
    rule adc rflags.pf 'its parity'
    rule hlt rax 'never met'
} >known.toml
tracectl replay adc.vmtrace --fault adc-carry --known known.toml
echo "accepted: $?"
rule adc rflags.pf 'not all that differs' >part.toml
tracectl replay adc.vmtrace --fault adc-carry --known part.toml >part.txt
echo "in part: $?"
grep known: part.txt
rule 'adc r32, imm32' rax 'another form' >form.toml
tracectl replay adc.vmtrace --fault adc-carry --known form.toml >form.txt
echo "another form: $?"
echo 'difference = [{ instruction = "adc" }]' >lacking.toml
tracectl replay adc.vmtrace --known lacking.toml
echo "lacking: $?"
echo 'difference = ' >wrong.toml
tracectl replay adc.vmtrace --known wrong.toml
echo "no TOML: $?"
tracectl replay adc.vmtrace --known missing.toml
echo "missing: $?"
