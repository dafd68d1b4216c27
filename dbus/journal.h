/* The journal keeps the history of every GPU and machine; see feos-vmd's contract for the fields.
 */
#pragma once

#include "core/gpu.h"
#include "core/machine.h"

/* One entry each, with a MESSAGE_ID of its own. These ids are part of the contract, and
 * feos-vmd.catalog has a text for each. */
#define JOURNAL_GPU_STATE_ID         "d89a2011d6caacd2f6eb80e2ad238d55"
#define JOURNAL_GPU_FAULT_ID         "0b831afd7f844b349e811cb6ece5904e"
#define JOURNAL_GPU_FAULT_CLEARED_ID "3325824176264038b58c2fbc2b5497fc"
#define JOURNAL_MACHINE_STATE_ID     "45e6f7f904d3a640224aa088a384d8f8"
#define JOURNAL_AUTOSTART_FAILED_ID  "138804e4cde946b88bfb23720161760d"
#define JOURNAL_GPU_DRIFT_ID         "087c226db6ec19fd5e16179e7d689223"
#define JOURNAL_MACHINE_LOST_GPU_ID  "42325a5f7b70e6023a97730ed7348cd1"
#define JOURNAL_KEEP_FAILED_ID       "6a9c6e570add47a09a118945b08b13ae"

void journal_gpu_state(const Gpu *gpu, GpuState old, const char *reason);

/* The fault has changed from @old to what it is now: a new one, or the end of one. */
void journal_gpu_fault(const Gpu *gpu, GpuFault old);

/* Somebody else has changed the driver of one of the card's functions. */
void journal_gpu_drift(const Gpu *gpu, const GpuDrift *drift);

void journal_machine_state(const Machine *machine, MachineState old, const char *reason);
void journal_machine_lost_gpu(const Machine *machine, PciAddress gpu);
void journal_autostart_failed(const char *name, const Refusal *refusal);

/* A card that is kept for machines could not be taken. */
void journal_keep_failed(PciAddress gpu, const Refusal *refusal);
