/* The journal keeps the history of every GPU and machine; see feos-vmd's contract for the fields.
 */
#pragma once

#include "core/gpu.h"
#include "core/machine.h"

/* One entry each, with a MESSAGE_ID of its own. These ids are part of the contract. */
#define JOURNAL_GPU_STATE_ID     "d89a2011d6caacd2f6eb80e2ad238d55"
#define JOURNAL_MACHINE_STATE_ID "45e6f7f904d3a640224aa088a384d8f8"

void journal_gpu_state(const Gpu *gpu, GpuState old, const char *reason);
void journal_machine_state(const Machine *machine, MachineState old, const char *reason);
