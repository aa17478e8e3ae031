// Who may go on: a VCPU into the guest, or a thread that stores into guest memory. One VCPU is in the guest at a time,
// and nobody stores while it is: what happened is then an order, and can be recorded as one.
//
// Whoever waits sends the VCPU that runs a signal until it has come out. It waits inside its KVM_RUN, which its client
// does not see return, and needs nothing that a client's thread could hold: a writer that holds the client's locks, and
// a guest that polls for what the writer is about to do, cannot block each other.
//
// The signal is SIGSEGV: a client's VCPU threads have most signals blocked, and this one is ours and never blocked
// (guest_memory_calls.c). Rules: recorder.h.
#ifndef RUN_GATE_H
#define RUN_GATE_H

#include <stdbool.h>

#pragma GCC visibility push(hidden)

/// From here on the gate is kept; before, everybody goes through.
void run_gate_close(void);
bool run_gate_is_closed(void);

/// Waits for this thread's turn to run its VCPU.
void run_gate_enter(void);
void run_gate_leave(void);

/// Whether the run that has just ended was ended for somebody who waits.
bool run_gate_was_stopped(void);

/// Between these no VCPU is in the guest. They may nest, and may be called in a signal handler.
void run_gate_begin_store(void);
void run_gate_end_store(void);

/// For the handler of SIGSEGV: whether the signal came from here.
bool run_gate_takes_signal(int code, int sender);

#pragma GCC visibility pop

#endif
