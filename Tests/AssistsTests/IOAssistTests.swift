// IN, OUT, INS and OUTS: sizes, merging, REP in batches, directions, faults before any device access.

import Assists
import NVMM
import SoftBackend
import Testing

@Suite struct IOAssistTests {
    @Test(arguments: [
        (bytes: [0xEC] as [UInt8], count: 1, rax: 0xFFFF_FFFF_FFFF_FF78 as UInt64),  // in al, dx
        (bytes: [0x66, 0xED], count: 2, rax: 0xFFFF_FFFF_FFFF_5678),  // in ax, dx
        (bytes: [0xED], count: 4, rax: 0x1234_5678),  // in eax, dx
    ])
    func `IN merges bytes and words, zero-extends doublewords`(
        _ test: (bytes: [UInt8], count: Int, rax: UInt64)
    ) throws {
        let guest = try AssistedGuest(.long64, code: test.bytes)
        guest.vcpu.commPage.state[.rax] = .max
        guest.vcpu.commPage.state[.rdx] = 0x7B
        guest.device.input = [0x1234_5678]
        #expect(try guest.step() == 1)
        #expect(guest.vcpu.saveState()[.rax] == test.rax)
        #expect(guest.vcpu.saveState()[.rip] == 0x1000 + UInt64(test.bytes.count))
        #expect(guest.device.ioLog.map(\.byteCount) == [test.count])
        #expect(guest.device.ioLog.map(\.port) == [0x7B])
    }

    @Test func `OUT hands over only its operand`() throws {
        let guest = try AssistedGuest(.protected32, code: [0x66, 0xE7, 0x19])  // out 0x19, ax
        guest.vcpu.commPage.state[.rax] = 0xDEAD_BEEF
        #expect(try guest.step() == 1)
        #expect(
            guest.device.ioLog == [IOAccess(vcpu: 0, port: 0x19, isInput: false, byteCount: 2, value: 0xBEEF)])
    }

    @Test func `REP OUTSB goes in batches of 32 bytes, RIP staying until the last`() throws {
        let text = (0..<70).map { UInt8($0) }
        let guest = try AssistedGuest(.protected32, code: [0xF3, 0x6E], dataIsMemory: true, data: text)
        guest.vcpu.commPage.state[.rsi] = AssistedGuest.data
        guest.vcpu.commPage.state[.rcx] = 70
        guest.vcpu.commPage.state[.rdx] = 0x19
        #expect(try guest.step() == 3)
        #expect(guest.device.ioLog.map { UInt8($0.value) } == text)
        let state = guest.vcpu.saveState()
        #expect(state[.rcx] == 0)
        #expect(state[.rsi] == AssistedGuest.data + 70)
        #expect(state[.rip] == 0x1002)
    }

    @Test func `REP INSW backwards moves one element at a time`() throws {
        let guest = try AssistedGuest(.protected32, code: [0xF3, 0x66, 0x6D], dataIsMemory: true)
        guest.vcpu.commPage.state[.rdi] = AssistedGuest.data + 4
        guest.vcpu.commPage.state[.rcx] = 3
        guest.vcpu.commPage.state[.rdx] = 0x19
        guest.vcpu.commPage.state[.rflags] = 0x402
        guest.device.input = [0x1111, 0x2222, 0x3333]
        #expect(try guest.step() == 3)
        #expect(guest.dataBytes[0..<6] == [0x33, 0x33, 0x22, 0x22, 0x11, 0x11])
        #expect(guest.vcpu.saveState()[.rdi] == AssistedGuest.data - 2)
    }

    @Test func `16-bit string addresses wrap and keep the upper register`() throws {
        let guest = try AssistedGuest(.real, code: [0xF3, 0x6C], dataIsMemory: true)  // rep insb
        guest.vcpu.commPage.state[.rdi] = 0xABCD_1FFF
        guest.vcpu.commPage.state[.rcx] = 0x7777_0001
        guest.vcpu.commPage.state[.rdx] = 0x19
        guest.device.input = [0x5A]
        #expect(try guest.step() == 1)
        #expect(guest.dataBytes[0x1FFF] == 0x5A)
        #expect(guest.vcpu.saveState()[.rdi] == 0xABCD_2000)
        #expect(guest.vcpu.saveState()[.rcx] == 0x7777_0000)
    }

    @Test func `INS to a missing page takes nothing from the device`() throws {
        let guest = try AssistedGuest(.long64, code: [0x6C])  // insb
        guest.vcpu.commPage.state[.rdi] = 0x40_0000
        guest.vcpu.commPage.state[.rdx] = 0x19
        // The soft backend finds such faults before it exits; others do not.
        let exit = IOExit(
            isInput: true, port: 0x19, segment: .es, addressBytes: 8, operandBytes: 1, isString: true, npc: 0x1001)
        #expect(throws: AssistError.pageFault(address: GVA(0x40_0000), errorCode: 2)) {
            try assistIO(guest.vcpu, guest.machine, exit: exit, callbacks: guest.device)
        }
        #expect(guest.device.ioLog.isEmpty)
    }

    @Test func `OUTS outside its segment's limit is a segment violation`() throws {
        let guest = try AssistedGuest(.protected32, code: [0x6E])
        guest.vcpu.commPage.state[.rsi] = 0x5000
        guest.vcpu.commPage.state[.rdx] = 0x19
        let exit = IOExit(
            isInput: false, port: 0x19, segment: .ds, addressBytes: 4, operandBytes: 1, isString: true, npc: 0x1001)
        guest.vcpu.commPage.state[.ds].limit = 0x4FFF
        #expect(throws: AssistError.segmentViolation(.ds, offset: 0x5000)) {
            try assistIO(guest.vcpu, guest.machine, exit: exit, callbacks: guest.device)
        }
    }
}
