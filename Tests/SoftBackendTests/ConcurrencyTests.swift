// VCPUs of one machine that run at the same time, each in a thread: what must be indivisible is.

import Glibc
import NVMM
import SoftBackend
import TestSupport
import Testing

/// Runs closures in threads of their own and waits for all of them.
private func inThreads(_ bodies: [@Sendable () -> Void]) {
    final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var threads: [pthread_t] = []
    for body in bodies {
        var thread = pthread_t()
        let work = unsafe Unmanaged.passRetained(Work(body)).toOpaque()
        let code = unsafe pthread_create(
            &thread, nil,
            { work in
                unsafe Unmanaged<Work>.fromOpaque(work.unsafelyUnwrapped).takeRetainedValue().body()
                return nil
            }, work)
        guard code == 0 else {
            Issue.record("no thread could be made")
            return
        }
        threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
}

/// A value that the tests hand to a thread, which then alone uses it.
private struct Handed<Value>: @unchecked Sendable {
    var value: Value
}

/// A machine in 64-bit mode whose VCPUs execute code of their own until each halts.
private final class TwoVCPUs {
    let guest: GuestMachine
    let vcpus: [any VCPU]

    /// - Parameter codes: one for each VCPU, at pages of their own from 0x20000 on.
    init(_ codes: [[UInt8]], sameCode: Bool = false) throws {
        guest = try GuestMachine(SoftBackend())
        try #require(guest.machine.runVCPUsConcurrently())
        try guest.enterLong()
        let start = guest.vcpu.commPage.state
        var vcpus: [any VCPU] = [guest.vcpu]
        for id in 1..<UInt32(codes.count) { vcpus.append(try guest.machine.createVCPU(id: id)) }
        for (number, vcpu) in vcpus.enumerated() {
            var state = start
            state[.rip] = Self.place(sameCode ? 0 : number)
            state[.rsp] = 0x3_0000 + UInt64(number) * 0x1000
            vcpu.commPage.state = state
            vcpu.setState(.all)
        }
        for (number, code) in codes.enumerated() { try guest.write(code, at: Self.place(number)) }
        self.vcpus = vcpus
    }

    static func place(_ number: Int) -> UInt64 { 0x2_0000 + UInt64(number) * 0x1000 }

    /// Runs all until they halt; other exits are recorded as issues.
    func run(beside other: @escaping @Sendable () -> Void = {}) {
        let runs = vcpus.map { vcpu in
            let vcpu = Handed(value: vcpu)
            let run: @Sendable () -> Void = {
                let reason = try? vcpu.value.run(budget: 2_000_000_000).exit.reason
                #expect(reason == .halted)
            }
            return run
        }
        inThreads(runs + [other])
    }
}

/// `body` `count` times, then HLT. RSI points to the counter at 0xE000; ECX counts.
private func loop(_ count: UInt32, _ body: [UInt8]) -> [UInt8] {
    let bytes = (0..<4).map { UInt8(truncatingIfNeeded: count >> ($0 * 8)) }
    let back = UInt8(bitPattern: Int8(-(body.count + 4)))
    return [0xBE, 0x00, 0xE0, 0, 0]  // mov esi, 0xE000
        + [0xB9] + bytes  // mov ecx, count
        + body
        + [0xFF, 0xC9, 0x75, back]  // dec ecx; jnz body
        + [0xF4]  // hlt
}

@Suite struct ConcurrencyTests {
    private static let rounds: UInt32 = 1_000_000

    struct Locked: CustomTestStringConvertible {
        var testDescription: String
        var body: [UInt8]
        var place: UInt64 = 0xE000
        init(_ description: String, _ body: [UInt8], at place: UInt64 = 0xE000) {
            testDescription = description
            self.body = body
            self.place = place
        }
    }

    @Test(arguments: [
        Locked("LOCK INC", [0xF0, 0x48, 0xFF, 0x06]),  // lock inc qword [rsi]
        Locked("LOCK ADD, 32 bits", [0xF0, 0x83, 0x06, 1]),  // lock add dword [rsi], 1
        Locked("LOCK ADC takes its carry once", [0xF9, 0xF0, 0x48, 0x83, 0x16, 0]),  // stc; lock adc qword [rsi], 0
        Locked("LOCK SBB takes its borrow once", [0xF9, 0xF0, 0x48, 0x83, 0x1E, 0xFE]),  // stc; lock sbb [rsi], -2
        Locked("LOCK XADD", [0xB8, 1, 0, 0, 0, 0xF0, 0x48, 0x0F, 0xC1, 0x06]),  // mov eax, 1; lock xadd [rsi], rax
        Locked(
            "LOCK CMPXCHG",
            [
                0x48, 0x8B, 0x06,  // again: mov rax, [rsi]
                0x48, 0x8D, 0x50, 1,  // lea rdx, [rax+1]
                0xF0, 0x48, 0x0F, 0xB1, 0x16,  // lock cmpxchg [rsi], rdx
                0x75, 0xF2,  // jne again
            ]),
        Locked(
            "LOCK CMPXCHG8B",
            [
                0x41, 0x89, 0xC8,  // mov r8d, ecx
                0x8B, 0x06,  // again: mov eax, [rsi]
                0x8B, 0x56, 4,  // mov edx, [rsi+4]
                0x89, 0xC3,  // mov ebx, eax
                0x89, 0xD1,  // mov ecx, edx
                0x83, 0xC3, 1,  // add ebx, 1
                0x83, 0xD1, 0,  // adc ecx, 0
                0xF0, 0x0F, 0xC7, 0x0E,  // lock cmpxchg8b [rsi]
                0x75, 0xEB,  // jne again
                0x44, 0x89, 0xC1,  // mov ecx, r8d
            ]),
        Locked(
            "LOCK CMPXCHG16B",
            [
                0x41, 0x89, 0xC8,  // mov r8d, ecx
                0x48, 0x8B, 0x06,  // again: mov rax, [rsi]
                0x48, 0x8B, 0x56, 8,  // mov rdx, [rsi+8]
                0x48, 0x89, 0xC3,  // mov rbx, rax
                0x48, 0x89, 0xD1,  // mov rcx, rdx
                0x48, 0x83, 0xC3, 1,  // add rbx, 1
                0x48, 0x83, 0xD1, 0,  // adc rcx, 0
                0xF0, 0x48, 0x0F, 0xC7, 0x0E,  // lock cmpxchg16b [rsi]
                0x75, 0xE4,  // jne again
                0x44, 0x89, 0xC1,  // mov ecx, r8d
            ]),
        Locked(
            "XCHG as a spin lock around an INC without LOCK",
            [
                0xB8, 1, 0, 0, 0,  // again: mov eax, 1
                0x87, 0x46, 0x40,  // xchg [rsi+0x40], eax
                0x85, 0xC0,  // test eax, eax
                0x75, 0xF4,  // jnz again
                0x48, 0xFF, 0x06,  // inc qword [rsi]
                0xC7, 0x46, 0x40, 0, 0, 0, 0,  // mov dword [rsi+0x40], 0
            ]),
        Locked(
            "LOCK BTS as a spin lock",
            [
                0xF0, 0x0F, 0xBA, 0x6E, 0x40, 7,  // again: lock bts dword [rsi+0x40], 7
                0x72, 0xF8,  // jc again
                0x48, 0xFF, 0x06,  // inc qword [rsi]
                0x80, 0x66, 0x40, 0x7F,  // and byte [rsi+0x40], 0x7F
            ]),
        Locked("LOCK INC, not aligned", [0xF0, 0x48, 0xFF, 0x46, 3], at: 0xE003),  // lock inc qword [rsi+3]
        Locked("LOCK INC across two pages", [0xF0, 0x48, 0xFF, 0x86, 0xFC, 0x0F, 0, 0], at: 0xEFFC),
    ])
    func `no locked increment of two VCPUs is lost`(_ locked: Locked) throws {
        let code = loop(Self.rounds, locked.body)
        let two = try TwoVCPUs([code, code])
        two.run()
        #expect(two.guest.read64(locked.place) == UInt64(Self.rounds) * 2)
    }

    @Test func `accessed and dirty bits do not overwrite what another VCPU puts into the entry`() throws {
        // VCPU 0 counts up and down in the ignored bits 52 and up of the entry of page 0x40000, and clears its accessed
        // and dirty bits; VCPU 1 has that page walked. An entry written back as it was read leaves a wrong count.
        let entry = 0x1_3000 + 0x40 * 8
        let counting =
            [0xBE] + (0..<4).map { UInt8(truncatingIfNeeded: entry >> ($0 * 8)) }  // mov esi, entry
            + [0xB9, 0x40, 0x42, 0x0F, 0]  // mov ecx, 1,000,000
            + [0x48, 0xB8, 0, 0, 0, 0, 0, 0, 0x10, 0]  // mov rax, 1 << 52
            + [
                0xF0, 0x48, 0x01, 0x06,  // again: lock add [rsi], rax
                0xF0, 0x48, 0x83, 0x26, 0x9F,  // lock and qword [rsi], ~0x60
                0xF0, 0x48, 0x29, 0x06,  // lock sub [rsi], rax
                0xFF, 0xC9, 0x75, 0xEF,  // dec ecx; jnz again
                0xC6, 0x04, 0x25, 0x00, 0xE0, 0, 0, 1,  // mov byte [0xE000], 1
                0xF4,
            ]
        let walking: [UInt8] = [
            0xBF, 0, 0, 4, 0,  // mov edi, 0x40000
            0x0F, 0x01, 0x3F,  // again: invlpg [rdi]
            0xC6, 0x07, 1,  // mov byte [rdi], 1
            0xA0, 0x00, 0xE0, 0, 0, 0, 0, 0, 0,  // mov al, [0xE000]
            0x84, 0xC0,  // test al, al
            0x74, 0xED,  // jz again
            0x0F, 0x01, 0x3F, 0xC6, 0x07, 1,  // once more
            0xF4,
        ]
        let two = try TwoVCPUs([counting, walking])
        two.run()
        #expect(two.guest.read64(UInt64(entry)) == 0x4_0067)
    }

    @Test func `code that another VCPU wrote is executed after a serializing instruction`() throws {
        // VCPU 0 writes the immediate at 0x23001 and then the number at 0xE000; VCPU 1 waits for the number,
        // serializes, calls the code, and checks what it returned.
        let writing: [UInt8] = [
            0xB9, 1, 0, 0, 0,  // mov ecx, 1
            0x89, 0x0C, 0x25, 0x01, 0x30, 2, 0,  // again: mov [0x23001], ecx
            0x89, 0x0C, 0x25, 0x00, 0xE0, 0, 0,  // mov [0xE000], ecx
            0x3B, 0x0C, 0x25, 0x08, 0xE0, 0, 0,  // wait: cmp ecx, [0xE008]
            0x75, 0xF7,  // jne wait
            0xFF, 0xC1,  // inc ecx
            0x81, 0xF9, 0xD0, 7, 0, 0,  // cmp ecx, 2000
            0x75, 0xDF,  // jne again
            0xF4,
        ]
        let calling: [UInt8] = [
            0xBF, 1, 0, 0, 0,  // mov edi, 1
            0x3B, 0x3C, 0x25, 0x00, 0xE0, 0, 0,  // again: cmp edi, [0xE000]
            0x75, 0xF7,  // jne again
            0x31, 0xC0, 0x0F, 0xA2,  // xor eax, eax; cpuid
            0xB8, 0, 0x30, 2, 0, 0xFF, 0xD0,  // mov eax, 0x23000; call rax
            0x39, 0xF8,  // cmp eax, edi
            0x74, 2,  // je right
            0x0F, 0x0B,  // ud2
            0x89, 0x3C, 0x25, 0x08, 0xE0, 0, 0,  // right: mov [0xE008], edi
            0xFF, 0xC7,  // inc edi
            0x81, 0xFF, 0xD0, 7, 0, 0,  // cmp edi, 2000
            0x75, 0xD5,  // jne again
            0xF4,
        ]
        let two = try TwoVCPUs([writing, calling])
        try two.guest.write([0xB8, 0, 0, 0, 0, 0xC3], at: 0x2_3000)  // mov eax, imm32; ret
        two.run()
        #expect(two.vcpus[1].saveState()[.rip] == TwoVCPUs.place(1) + UInt64(calling.count))
    }

    @Test func `memory is mapped and unmapped while VCPUs run`() throws {
        let code = loop(3_000_000, [0x48, 0xFF, 0x06])  // inc qword [rsi]
        let two = try TwoVCPUs([code, code])
        let machine = Handed(value: two.guest.machine)
        let mapped = Handed(value: try two.guest.machine.hvaMap(byteCount: pageBytes))
        two.run {
            for _ in 0..<200 {
                try? machine.value.gpaMap(
                    mapped.value, offset: 0, gpa: GPA(4 << 20), byteCount: pageBytes, protection: [.read])
                try? machine.value.gpaUnmap(gpa: GPA(4 << 20), byteCount: pageBytes)
            }
        }
        #expect(machine.value.gpaToHVA(GPA(4 << 20)) == nil)
        #expect(two.guest.read64(0xE000) > 0)
    }

    @Test func `more code than the cache holds is executed by both`() throws {
        // Each VCPU walks over 1.5 MiB of INC EAX, more than fits, and both come to the same sum.
        let count = 1_400_000 / 2
        let inc = [UInt8](repeating: 0, count: count * 2).indices.map { UInt8($0 % 2 == 0 ? 0xFF : 0xC0) }
        let two = try TwoVCPUs([[0x90], [0x90]])
        let start: UInt64 = 0x8_0000
        try two.guest.write(inc + [0xF4], at: start)
        for vcpu in two.vcpus {
            vcpu.commPage.state[.rip] = start
            vcpu.commPage.state[.rax] = 0
        }
        two.run()
        for vcpu in two.vcpus { #expect(vcpu.saveState()[.rax] == UInt64(count)) }
    }
}
