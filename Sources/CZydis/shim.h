// Zydis, and those of its macros that Swift cannot import, as constants.
#pragma once
#include <Zydis/Zydis.h>

static const ZyanU64 CZydisAttributeRex = ZYDIS_ATTRIB_HAS_REX;
static const ZyanU64 CZydisAttributeLock = ZYDIS_ATTRIB_HAS_LOCK;
static const ZyanU64 CZydisAttributeRep = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE;
static const ZyanU64 CZydisAttributeRepne = ZYDIS_ATTRIB_HAS_REPNE;
static const ZyanU64 CZydisAttributeSegment = ZYDIS_ATTRIB_HAS_SEGMENT;

static const ZyanStatus CZydisStatusNoMoreData = ZYDIS_STATUS_NO_MORE_DATA;
static const ZyanStatus CZydisStatusInstructionTooLong = ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
