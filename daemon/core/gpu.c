/* The record of one GPU: made and freed here, changed by the manager alone. */
#include "core/gpu.h"

Gpu *gpu_new(DeviceFacts *facts) {
        Gpu *gpu = g_new0(Gpu, 1);

        gpu->address = facts->function.address;
        gpu->facts = facts;
        gpu->fault_message = g_strdup("");
        gpu->host_driver = g_strdup("");
        gpu->machine_name = g_strdup("");
        gpu->link_speed = g_strdup("");
        return gpu;
}

void gpu_free(Gpu *gpu) {
        if (!gpu)
                return;
        device_facts_free(gpu->facts);
        card_record_free(gpu->record);
        card_record_free(gpu->written);
        g_free(gpu->fault_message);
        g_free(gpu->host_driver);
        g_free(gpu->machine_name);
        g_free(gpu->link_speed);
        g_free(gpu->keep_told);
        g_free(gpu);
}
