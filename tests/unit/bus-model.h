/* What a client of the bus would know of machines: which path is whose. It fails the test when a
 * path is given twice, or taken from somebody who does not have it, and notes the rest. */
#pragma once

#include "core/manager.h"

typedef struct BusModel {
        GHashTable *paths; /* name -> uuid, owned */
        GString *said;     /* a line for each signal since bus_model_forget() */
} BusModel;

/* Becomes the manager's observer, and knows the machines that there are. */
BusModel *bus_model_new(Manager *manager);
void bus_model_free(BusModel *bus);

void bus_model_forget(BusModel *bus);

/* Fails the test unless what it knows is what the manager shows. */
void bus_model_check(const BusModel *bus, Manager *manager);
